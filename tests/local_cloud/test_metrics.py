"""Metrics and log lines of the whole pipeline in the local cloud's CloudWatch."""

import gzip
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from botocore.exceptions import ClientError

from tests.conftest import BUCKET, ROOT, RunningCloud, point, start_cloud, stop_cloud
from tests.local_cloud.test_pipeline import control, execute, machine_arn
from tests.support.pipeline_modes import arrival
from tests.support.waiting import wait_until

Eventually = Callable[..., Any]

WINDOW = timedelta(hours=3)
END = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)

# A row of the tables in docs/metrics.md: | `CPUUtilization` … | Percent | none |
ROW = re.compile(r"^\| ((?:`\w+`(?:, )?)+) \| ([\w/]+) \| (none|`\w+`) \|", re.MULTILINE)


def documented() -> set[tuple[str, str]]:
    """Each metric of docs/metrics.md and its dimension."""
    rows = ROW.findall((ROOT / "docs" / "metrics.md").read_text())
    return {
        (name, dimension.strip("`").replace("none", ""))
        for names, _, dimension in rows
        for name in re.findall(r"\w+", names)
    }


class Observed:
    """A cloud with a run, pushed records, a growing disk, a failed function and throttling."""

    def __init__(self, cloud: RunningCloud) -> None:
        self.cloud = cloud
        self.started_at = datetime.now(UTC)
        self.execution = execute(cloud, machine_arn(cloud), {})
        self.settle()
        for end, used in ((END - WINDOW, 100.0), (END, 200.0)):
            self.push(end, used)
        # Most of its entries are rejected, and they are larger in quarantine than the object is.
        junk = gzip.compress((b"x" * 1_000_000 + b"\n") * 18)
        self.put("raw-metrics/2026/11/22/junk.json.gz", junk)
        self.fail()
        self.throttle()

    def settle(self) -> None:
        wait_until(lambda: control(self.cloud, "idle"))

    def push(self, end: datetime, used: float) -> None:
        breach = {"last": 95.0, "avg": 85.0, "max": 99.0, "samples": 36, "breach_seconds": 1800.0}
        windows: dict[str, dict[str, Any]] = {
            "cpu": {"utilization": {"unit": "percent", **breach}},
            "memory": {"percent": {"unit": "percent", **breach}},
            "disk": {
                "percent": {"unit": "percent", **breach},
                "used": point("bytes", used),
                "free": point("bytes", 1_000 - used),
            },
            "network": {
                "bytes_sent": point("bytes", 10 * used),
                "bytes_received": point("bytes", 10 * used),
            },
        }
        lines = [
            msgspec.json.encode(
                {
                    "schema_version": 1,
                    "timestamp": end,
                    "metric_type": metric_type,
                    "resource_id": "pushes",
                    "window_seconds": 10_800,
                    "measurements": measurements,
                }
            )
            for metric_type, measurements in windows.items()
        ]
        self.put(f"raw-metrics/{end:%Y/%m/%d}/pushed-{end:%H}.json", b"\n".join(lines))

    def put(self, key: str, body: bytes) -> None:
        """Store an object and wait until it is processed, so that windows arrive in order."""
        self.cloud.client("s3").put_object(Bucket=BUCKET, Key=key, Body=body)
        self.settle()

    def fail(self) -> None:
        event = json.dumps(arrival("") | {"detail": {}})
        response = self.cloud.client("lambda").invoke(FunctionName="log-processor", Payload=event)
        assert response["FunctionError"] == "Unhandled"

    def throttle(self) -> None:
        """Write more than the capacity of the table allows."""
        dynamodb = self.cloud.client("dynamodb")
        throughput = {"ReadCapacityUnits": 1, "WriteCapacityUnits": 1}
        dynamodb.update_table(
            TableName="InfraMetrics", BillingMode="PROVISIONED", ProvisionedThroughput=throughput
        )
        for number in range(100):
            item = {"metric_id": {"S": str(number)}, "timestamp": {"S": "2026"}}
            try:
                dynamodb.put_item(TableName="InfraMetrics", Item=item)
            except ClientError as error:
                self.throttle_error = error.response["Error"]["Code"]
                break
        dynamodb.update_table(TableName="InfraMetrics", BillingMode="PAY_PER_REQUEST")

    def statistic(
        self, namespace: str, name: str, statistic: str, **dimensions: str
    ) -> float | None:
        """A statistic over the time of all tests; None without data."""
        (result,) = self.cloud.client("cloudwatch").get_metric_data(
            MetricDataQueries=[
                {
                    "Id": "q",
                    "MetricStat": {
                        "Metric": {
                            "Namespace": namespace,
                            "MetricName": name,
                            "Dimensions": [
                                {"Name": key, "Value": value} for key, value in dimensions.items()
                            ],
                        },
                        "Period": 86_400,
                        "Stat": statistic,
                    },
                }
            ],
            StartTime=self.started_at - timedelta(hours=8),
            EndTime=self.started_at + timedelta(hours=2),
        )["MetricDataResults"]
        return result["Values"][0] if result["Values"] else None

    def lines(self, function: str) -> list[str]:
        pages = (
            self.cloud.client("logs")
            .get_paginator("filter_log_events")
            .paginate(logGroupName=f"/aws/lambda/{function}")
        )
        return [event["message"] for page in pages for event in page["events"]]


@pytest.fixture(scope="module")
def observed() -> Iterator[Observed]:
    cloud = start_cloud("--no-tick")
    try:
        yield Observed(cloud)
    finally:
        stop_cloud(cloud)


def test_exactly_the_documented_metrics_exist(observed: Observed) -> None:
    pages = observed.cloud.client("cloudwatch").get_paginator("list_metrics")
    found = {
        (each["MetricName"], ",".join(sorted(one["Name"] for one in each["Dimensions"])))
        for page in pages.paginate(Namespace="InfraMonitoring")
        for each in page["Metrics"]
    }
    assert found == documented()


def test_no_metric_line_of_the_functions_is_rejected(observed: Observed) -> None:
    listed = observed.cloud.client("cloudwatch").list_metrics(Namespace="AWS/Logs")
    assert listed["Metrics"] == []


@pytest.mark.parametrize(
    ("name", "statistic", "value"),
    [
        ("CPUBreachMinutes", "Maximum", 30),
        ("DiskUsageMaximum", "p100", 99),
        ("DiskHoursToFull", "Minimum", 24),
        ("NetworkTraffic", "Maximum", 2_000 / 10_800),
        ("HostsExpected", "Maximum", 1),
        ("HostsExpected", "SampleCount", 4),
        ("HostsMissing", "Maximum", 0),
    ],
)
def test_the_fleet_metrics_have_these_statistics(
    name: str, statistic: str, value: float, observed: Observed
) -> None:
    found = observed.statistic("InfraMonitoring", name, statistic)
    assert found == pytest.approx(value, abs=1e-5)


def test_a_failed_invocation_is_an_error_in_both_namespaces(observed: Observed) -> None:
    pipeline = observed.statistic("InfraMonitoring", "LambdaErrors", "Sum", service="log-processor")
    lambda_service = observed.statistic("AWS/Lambda", "Errors", "Sum", FunctionName="log-processor")
    assert (pipeline, lambda_service) == (1, 1)


def test_every_invocation_has_metrics(observed: Observed) -> None:
    for function in ("data-collector", "log-processor"):
        pipeline = observed.statistic(
            "InfraMonitoring", "LambdaDuration", "SampleCount", service=function
        )
        lambda_service = observed.statistic(
            "AWS/Lambda", "Duration", "SampleCount", FunctionName=function
        )
        invoked = observed.statistic("AWS/Lambda", "Invocations", "Sum", FunctionName=function)
        assert pipeline == lambda_service == invoked
        assert pipeline


def test_a_function_stays_within_its_memory_budget(observed: Observed) -> None:
    for function in ("data-collector", "log-processor"):
        peak = observed.statistic(
            "InfraMonitoring", "LambdaMemoryUsed", "Maximum", service=function
        )
        assert peak is not None
        assert 20 < peak < 100


def test_step_functions_counts_executions(observed: Observed, eventually: Eventually) -> None:
    arn = machine_arn(observed.cloud)

    def count(name: str) -> float | None:
        return observed.statistic("AWS/States", name, "Sum", StateMachineArn=arn)

    assert eventually(lambda: count("ExecutionsSucceeded")) == 1
    assert count("ExecutionsStarted") == 1
    assert count("ExecutionsFailed") is None


def test_sqs_counts_the_waiting_messages(observed: Observed, eventually: Eventually) -> None:
    sqs = observed.cloud.client("sqs")
    url = sqs.get_queue_url(QueueName="InfraMonitoring-DeadLetters")["QueueUrl"]

    def waiting(statistic: str) -> float | None:
        name = "ApproximateNumberOfMessagesVisible"
        queue = {"QueueName": "InfraMonitoring-DeadLetters"}
        return observed.statistic("AWS/SQS", name, statistic, **queue)

    assert eventually(lambda: waiting("SampleCount")) == 1
    assert waiting("Maximum") == 0
    sqs.send_message(QueueUrl=url, MessageBody="{}")
    assert eventually(lambda: waiting("Maximum")) == 1


def test_dynamodb_counts_throttled_writes(observed: Observed) -> None:
    assert observed.throttle_error == "ProvisionedThroughputExceededException"
    table = {"TableName": "InfraMetrics"}
    events = observed.statistic("AWS/DynamoDB", "WriteThrottleEvents", "Sum", **table)
    requests = observed.statistic(
        "AWS/DynamoDB", "ThrottledRequests", "Sum", **table, Operation="PutItem"
    )
    assert (events, requests) == (1, 1)


def test_every_log_line_of_the_app_has_execution_and_request_ids(observed: Observed) -> None:
    run = observed.execution["executionArn"].rpartition(":")[2]
    for function in ("data-collector", "log-processor"):
        logged = [json.loads(line) for line in observed.lines(function) if line.startswith("{")]
        of_app = [each for each in logged if "_aws" not in each]
        requests = {line.split()[2] for line in observed.lines(function) if "START" in line}
        assert {each["function_request_id"] for each in of_app} == requests
        assert len([each for each in of_app if each["execution_id"] == run]) == 4
        assert all(each["execution_id"] for each in of_app)
        assert {each["service"] for each in of_app} == {function}


def test_the_state_machine_is_traced(observed: Observed) -> None:
    sfn = observed.cloud.client("stepfunctions")
    machine = sfn.describe_state_machine(stateMachineArn=machine_arn(observed.cloud))
    assert machine["tracingConfiguration"] == {"enabled": True}
