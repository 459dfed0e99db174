"""CloudWatch's metrics of the local cloud: what is put, and statistics of it.

They are in moto's CloudWatch, so GetMetricData and ListMetrics answer with them too, and what
anybody puts through the API counts here.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from moto.cloudwatch.models import CloudWatchBackend

from . import metric_index


class Metrics:
    """The metrics of one account and region."""

    def __init__(self, backend: CloudWatchBackend) -> None:
        self._backend = backend

    def put(  # noqa: PLR0917 - what a datum of PutMetricData has
        self,
        namespace: str,
        name: str,
        dimensions: Mapping[str, str],
        values: Sequence[float],
        unit: str,
        at: datetime,
    ) -> None:
        """Put one datum for each value; `unit` is one of CloudWatch's, such as Count."""
        datum = {
            "MetricName": name,
            "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
            "Unit": unit,
            # moto compares it with what the API's calls bring, which have no zone.
            "Timestamp": at.astimezone(UTC).replace(tzinfo=None),
        }
        if values:
            self._backend.put_metric_data(namespace, [{**datum, "Values": list(values)}])

    def statistic(
        self,
        namespace: str,
        name: str,
        dimensions: Mapping[str, str],
        statistic: str,
        *,
        start: datetime,
        period: int,
        periods: int,
    ) -> list[float | None]:
        """The statistic of each period (of `period` seconds) from `start` on, oldest first.

        `statistic` is Sum, Average, Minimum, Maximum, SampleCount or a percentile such as p95.
        None is a period without data.
        """
        return metric_index.statistics(
            self._backend,
            (namespace, name, tuple(sorted(dimensions.items()))),
            statistic,
            start=start.timestamp(),
            period=period,
            periods=periods,
        )
