"""Alarms are evaluated, and their changes are published, on moto's CloudWatch."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.cloudwatch.models import CloudWatchBackend, cloudwatch_backends

from infra.local.cloudwatch import alarms as alarms_module
from infra.local.cloudwatch import metric_index
from infra.local.cloudwatch.alarm_changes import AlarmChange, change_publisher
from infra.local.cloudwatch.alarms import Alarms
from infra.local.cloudwatch.metrics import Metrics
from tests.conftest import ACCOUNT, REGION

NOW = datetime(2026, 11, 22, 18, 0, 30, tzinfo=UTC)
TOPIC = f"arn:aws:sns:{REGION}:{ACCOUNT}:InfraMonitoring-Alarms"
DIMENSIONS = {"FunctionName": "log-processor"}
ERRORS = {
    "AlarmName": "errors",
    "AlarmDescription": "It failed",
    "Namespace": "AWS/Lambda",
    "MetricName": "Errors",
    "Dimensions": [{"Name": "FunctionName", "Value": "log-processor"}],
    "Statistic": "Sum",
    "Period": 300,
    "EvaluationPeriods": 1,
    "DatapointsToAlarm": 1,
    "Threshold": 1.0,
    "ComparisonOperator": "GreaterThanOrEqualToThreshold",
    "TreatMissingData": "notBreaching",
}


class CloudWatch:
    """moto's CloudWatch with alarms and a manual clock."""

    def __init__(self) -> None:
        self.now = NOW
        self.changes: list[AlarmChange] = []
        self.client: Any = client("cloudwatch")
        backend: CloudWatchBackend = cloudwatch_backends[ACCOUNT][REGION]
        self.metrics = Metrics(backend)
        self.alarms = Alarms(
            backend, self.metrics, on_change=self.changes.append, now=lambda: self.now
        )

    def put_errors(self, count: float) -> None:
        self.metrics.put("AWS/Lambda", "Errors", DIMENSIONS, [count], "Count", self.now)

    def describe(self, name: str) -> Any:
        response = self.client.describe_alarms(AlarmNames=[name])
        (alarm,) = response["MetricAlarms"] + response["CompositeAlarms"]
        return alarm

    def state(self, name: str) -> str:
        return str(self.describe(name)["StateValue"])


def client(service: str) -> Any:
    factory: Any = boto3.client
    return factory(service, region_name=REGION)


@pytest.fixture
def cloudwatch() -> Iterator[CloudWatch]:
    metric_index.install()
    alarms_module.install()
    with mock_aws():
        yield CloudWatch()


def test_a_new_alarm_has_insufficient_data(cloudwatch: CloudWatch) -> None:
    cloudwatch.client.put_metric_alarm(**ERRORS)
    assert cloudwatch.state("errors") == "INSUFFICIENT_DATA"


def test_an_alarm_changes_to_alarm_and_back(cloudwatch: CloudWatch) -> None:
    cloudwatch.client.put_metric_alarm(**ERRORS)
    cloudwatch.put_errors(2)
    cloudwatch.alarms.evaluate()
    alarm = cloudwatch.describe("errors")
    assert alarm["StateValue"] == "ALARM"
    assert alarm["StateReason"].startswith("Threshold Crossed: 1 out of the last 1 datapoints [2.0")
    cloudwatch.now += timedelta(minutes=10)
    cloudwatch.put_errors(0)
    cloudwatch.alarms.evaluate()
    assert cloudwatch.state("errors") == "OK"
    assert [change.state for change in cloudwatch.changes] == ["ALARM", "OK"]


def test_a_state_is_published_once(cloudwatch: CloudWatch) -> None:
    cloudwatch.client.put_metric_alarm(**ERRORS)
    cloudwatch.put_errors(2)
    cloudwatch.alarms.evaluate()
    cloudwatch.alarms.evaluate()
    assert len(cloudwatch.changes) == 1


def test_an_update_keeps_the_state(cloudwatch: CloudWatch) -> None:
    cloudwatch.client.put_metric_alarm(**ERRORS)
    cloudwatch.put_errors(2)
    cloudwatch.alarms.evaluate()
    cloudwatch.client.put_metric_alarm(**{**ERRORS, "Threshold": 5.0})
    assert cloudwatch.state("errors") == "ALARM"


def test_the_event_has_the_documented_form(cloudwatch: CloudWatch) -> None:
    cloudwatch.client.put_metric_alarm(**ERRORS)
    cloudwatch.put_errors(2)
    (change,) = cloudwatch.alarms.evaluate()
    event = change.event
    assert (event["source"], event["detail-type"]) == (
        "aws.cloudwatch",
        "CloudWatch Alarm State Change",
    )
    assert event["time"] == "2026-11-22T18:00:30Z"
    assert event["resources"] == [f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:errors"]
    detail = event["detail"]
    assert detail["alarmName"] == "errors"
    assert detail["state"]["value"] == "ALARM"
    assert detail["state"]["timestamp"] == "2026-11-22T18:00:30.000+0000"
    assert json.loads(detail["state"]["reasonData"])["recentDatapoints"] == [2.0]
    assert detail["previousState"]["value"] == "INSUFFICIENT_DATA"
    assert detail["configuration"]["description"] == "It failed"
    (metric,) = detail["configuration"]["metrics"]
    assert metric["returnData"] is True
    assert metric["metricStat"] == {
        "metric": {"namespace": "AWS/Lambda", "name": "Errors", "dimensions": DIMENSIONS},
        "period": 300,
        "stat": "Sum",
    }


@pytest.fixture
def queues(cloudwatch: CloudWatch) -> Callable[[], dict[str, list[Any]]]:
    """Return a function that receives the messages from a queue of a rule and one of a topic."""
    sqs, events, sns = client("sqs"), client("events"), client("sns")
    urls = {name: sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("events", "messages")}
    arns = {name: f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}" for name in urls}
    pattern = {"source": ["aws.cloudwatch"], "detail": {"alarmName": [{"prefix": "err"}]}}
    events.put_rule(Name="alarms", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="alarms", Targets=[{"Id": "queue", "Arn": arns["events"]}])
    sns.create_topic(Name="InfraMonitoring-Alarms")
    sns.subscribe(TopicArn=TOPIC, Protocol="sqs", Endpoint=arns["messages"])
    clients = {"events": events, "sns": sns}
    cloudwatch.alarms = Alarms(
        cloudwatch_backends[ACCOUNT][REGION],
        cloudwatch.metrics,
        on_change=change_publisher(lambda service: clients[service]),
        now=lambda: cloudwatch.now,
    )

    def received() -> dict[str, list[Any]]:
        found = {
            name: sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
            for name, url in urls.items()
        }
        return {name: [json.loads(each["Body"]) for each in found[name]] for name in found}

    return received


def test_a_change_is_published_on_the_default_event_bus(
    cloudwatch: CloudWatch, queues: Callable[[], dict[str, list[Any]]]
) -> None:
    cloudwatch.client.put_metric_alarm(**ERRORS)
    cloudwatch.put_errors(2)
    cloudwatch.alarms.evaluate()
    (event,) = queues()["events"]
    assert event["detail"]["state"]["value"] == "ALARM"
    assert event["resources"] == [f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:errors"]


def test_the_topics_of_the_new_state_receive_a_message(
    cloudwatch: CloudWatch, queues: Callable[[], dict[str, list[Any]]]
) -> None:
    cloudwatch.client.put_metric_alarm(**ERRORS, AlarmActions=[TOPIC])
    cloudwatch.put_errors(2)
    cloudwatch.alarms.evaluate()
    (message,) = queues()["messages"]
    assert message["Subject"] == 'ALARM: "errors" in EU (Ireland)'
    body = json.loads(message["Message"])
    assert (body["OldStateValue"], body["NewStateValue"]) == ("INSUFFICIENT_DATA", "ALARM")
    assert body["Trigger"]["MetricName"] == "Errors"


def test_disabled_actions_receive_nothing(
    cloudwatch: CloudWatch, queues: Callable[[], dict[str, list[Any]]]
) -> None:
    cloudwatch.client.put_metric_alarm(**ERRORS, AlarmActions=[TOPIC], ActionsEnabled=False)
    cloudwatch.put_errors(2)
    cloudwatch.alarms.evaluate()
    assert queues()["messages"] == []


def test_a_composite_alarm_follows_its_children_in_the_same_evaluation(
    cloudwatch: CloudWatch,
) -> None:
    cloudwatch.client.put_metric_alarm(**ERRORS)
    cloudwatch.client.put_composite_alarm(AlarmName="inner", AlarmRule='ALARM("errors")')
    cloudwatch.client.put_composite_alarm(AlarmName="outer", AlarmRule="ALARM(inner) AND TRUE")
    cloudwatch.alarms.evaluate()
    assert (cloudwatch.state("inner"), cloudwatch.state("outer")) == ("OK", "OK")
    cloudwatch.now += timedelta(minutes=20)
    cloudwatch.put_errors(2)
    cloudwatch.alarms.evaluate()
    assert (cloudwatch.state("inner"), cloudwatch.state("outer")) == ("ALARM", "ALARM")


def test_a_composite_alarms_event_names_the_triggering_alarm(cloudwatch: CloudWatch) -> None:
    cloudwatch.client.put_metric_alarm(**ERRORS)
    cloudwatch.client.put_composite_alarm(AlarmName="page", AlarmRule='ALARM("errors")')
    cloudwatch.alarms.evaluate()
    cloudwatch.now += timedelta(minutes=20)
    cloudwatch.put_errors(2)
    detail = cloudwatch.alarms.evaluate()[-1].event["detail"]
    assert detail["alarmName"] == "page"
    assert detail["configuration"] == {"alarmRule": 'ALARM("errors")'}
    arn = f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:errors"
    assert detail["state"]["reason"] == (
        f"{arn} transitioned to ALARM at Sunday 22 November, 2026 18:20:30 UTC"
    )
    (triggering,) = json.loads(detail["state"]["reasonData"])["triggeringAlarms"]
    assert triggering["arn"] == arn


def test_an_alarm_on_a_dynamodb_metric_always_ignores_missing_data(
    cloudwatch: CloudWatch,
) -> None:
    dimensions = {"TableName": "InfraMetrics"}
    changes = {
        "Namespace": "AWS/DynamoDB",
        "MetricName": "WriteThrottleEvents",
        "Dimensions": [{"Name": "TableName", "Value": "InfraMetrics"}],
    }
    cloudwatch.client.put_metric_alarm(**{**ERRORS, **changes})
    cloudwatch.metrics.put(
        "AWS/DynamoDB", "WriteThrottleEvents", dimensions, [1], "Count", cloudwatch.now
    )
    cloudwatch.alarms.evaluate()
    cloudwatch.now += timedelta(days=1)
    cloudwatch.alarms.evaluate()
    assert cloudwatch.state("errors") == "ALARM"


def test_a_metric_math_alarm_is_evaluated(cloudwatch: CloudWatch) -> None:
    def query(name: str, metric: str) -> dict[str, Any]:
        stat = {"Metric": {"Namespace": "AWS/States", "MetricName": metric}, "Stat": "Sum"}
        return {"Id": name, "ReturnData": False, "MetricStat": {**stat, "Period": 300}}

    queries = [
        {"Id": "both", "Expression": "FILL(failed, 0) + FILL(aborted, 0)"},
        query("failed", "ExecutionsFailed"),
        query("aborted", "ExecutionsAborted"),
    ]
    plain = {"Namespace", "MetricName", "Dimensions", "Statistic", "Period"}
    rest = {name: value for name, value in ERRORS.items() if name not in plain}
    cloudwatch.client.put_metric_alarm(**rest, Metrics=queries)
    cloudwatch.alarms.evaluate()
    assert cloudwatch.state("errors") == "OK"
    cloudwatch.metrics.put("AWS/States", "ExecutionsAborted", {}, [1], "Count", cloudwatch.now)
    cloudwatch.alarms.evaluate()
    assert cloudwatch.state("errors") == "ALARM"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"EvaluationPeriods": 289}, "more than a day"),
        ({"Period": 86_400, "EvaluationPeriods": 8}, "more than a week"),
        ({"DatapointsToAlarm": 2}, "less than or equal to EvaluationPeriods"),
    ],
)
def test_an_invalid_alarm_is_rejected(
    cloudwatch: CloudWatch, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ClientError, match=message) as caught:
        cloudwatch.client.put_metric_alarm(**{**ERRORS, **changes})
    assert caught.value.response["Error"]["Code"] == "ValidationError"
    assert cloudwatch.client.describe_alarms()["MetricAlarms"] == []


def test_a_composite_alarm_of_a_missing_child_is_rejected(cloudwatch: CloudWatch) -> None:
    with pytest.raises(ClientError, match="do not exist"):
        cloudwatch.client.put_composite_alarm(AlarmName="page", AlarmRule="ALARM(unknown)")


def test_an_evaluation_error_does_not_affect_other_alarms(cloudwatch: CloudWatch) -> None:
    plain = {"Namespace", "MetricName", "Dimensions", "Statistic", "Period"}
    rest = {name: value for name, value in ERRORS.items() if name not in plain}
    stat = {"Metric": {"Namespace": "Test", "MetricName": "Any"}, "Stat": "Sum", "Period": 300}
    queries = [
        {"Id": "rate", "Expression": "RATE(any)"},
        {"Id": "any", "ReturnData": False, "MetricStat": stat},
    ]
    cloudwatch.client.put_metric_alarm(**{**rest, "AlarmName": "a-rate"}, Metrics=queries)
    cloudwatch.client.put_metric_alarm(**ERRORS)
    cloudwatch.put_errors(1)
    cloudwatch.alarms.evaluate()
    assert (cloudwatch.state("a-rate"), cloudwatch.state("errors")) == (
        "INSUFFICIENT_DATA",
        "ALARM",
    )


def test_a_deleted_child_affects_only_its_composite_alarm(cloudwatch: CloudWatch) -> None:
    cloudwatch.client.put_metric_alarm(**ERRORS)
    cloudwatch.client.put_composite_alarm(AlarmName="page", AlarmRule="ALARM(errors)")
    cloudwatch.client.delete_alarms(AlarmNames=["errors"])
    cloudwatch.client.put_metric_alarm(**{**ERRORS, "AlarmName": "others"})
    cloudwatch.put_errors(1)
    assert [change.name for change in cloudwatch.alarms.evaluate()] == ["others"]


def test_the_thread_evaluates_the_alarms_repeatedly(
    cloudwatch: CloudWatch, eventually: Callable[..., Any]
) -> None:
    cloudwatch.client.put_metric_alarm(**ERRORS)
    cloudwatch.alarms.start(0.01)
    try:
        eventually(lambda: cloudwatch.state("errors") == "OK")
        cloudwatch.put_errors(1)
        eventually(lambda: cloudwatch.state("errors") == "ALARM")
    finally:
        cloudwatch.alarms.close()
