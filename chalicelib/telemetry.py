"""What CloudWatch counts: metrics in embedded metric format, which travel as log lines.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""

from collections.abc import Mapping

from aws_lambda_powertools.metrics import EphemeralMetrics, MetricUnit

NAMESPACE = "InfraMonitoring"


def emit_counts(service: str, counts: Mapping[str, int]) -> None:
    """Print counts as metrics; the function's name, as `service`, is their only dimension."""
    metrics = EphemeralMetrics(namespace=NAMESPACE, service=service)
    for name, count in counts.items():
        metrics.add_metric(name=name, unit=MetricUnit.Count, value=count)
    metrics.flush_metrics()
