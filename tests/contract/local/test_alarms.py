"""Alarms of the local cloud: moto keeps them, our loop moves their states and tells of it."""

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
OF_A_FUNCTION = {"FunctionName": "log-processor"}
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


class World:
    """CloudWatch on moto, its alarms, and a clock that is set by hand."""

    def __init__(self) -> None:
        self.now = NOW
        self.told: list[AlarmChange] = []
        self.cloudwatch: Any = client("cloudwatch")
        backend: CloudWatchBackend = cloudwatch_backends[ACCOUNT][REGION]
        self.metrics = Metrics(backend)
        self.alarms = Alarms(
            backend, self.metrics, on_change=self.told.append, now=lambda: self.now
        )

    def put_errors(self, count: float) -> None:
        self.metrics.put("AWS/Lambda", "Errors", OF_A_FUNCTION, [count], "Count", self.now)

    def described(self, name: str) -> Any:
        answer = self.cloudwatch.describe_alarms(AlarmNames=[name])
        (alarm,) = answer["MetricAlarms"] + answer["CompositeAlarms"]
        return alarm

    def state(self, name: str) -> str:
        return str(self.described(name)["StateValue"])


def client(service: str) -> Any:
    factory: Any = boto3.client
    return factory(service, region_name=REGION)


@pytest.fixture
def world() -> Iterator[World]:
    metric_index.install()
    alarms_module.install()
    with mock_aws():
        yield World()


def test_a_new_alarm_has_insufficient_data(world: World) -> None:
    world.cloudwatch.put_metric_alarm(**ERRORS)
    assert world.state("errors") == "INSUFFICIENT_DATA"


def test_an_alarm_goes_to_alarm_and_back(world: World) -> None:
    world.cloudwatch.put_metric_alarm(**ERRORS)
    world.put_errors(2)
    world.alarms.evaluate()
    alarm = world.described("errors")
    assert alarm["StateValue"] == "ALARM"
    assert alarm["StateReason"].startswith("Threshold Crossed: 1 out of the last 1 datapoints [2.0")
    world.now += timedelta(minutes=10)
    world.put_errors(0)
    world.alarms.evaluate()
    assert world.state("errors") == "OK"
    assert [change.state for change in world.told] == ["ALARM", "OK"]


def test_a_state_that_stays_is_told_once(world: World) -> None:
    world.cloudwatch.put_metric_alarm(**ERRORS)
    world.put_errors(2)
    world.alarms.evaluate()
    world.alarms.evaluate()
    assert len(world.told) == 1


def test_an_update_leaves_the_state_as_it_is(world: World) -> None:
    world.cloudwatch.put_metric_alarm(**ERRORS)
    world.put_errors(2)
    world.alarms.evaluate()
    world.cloudwatch.put_metric_alarm(**{**ERRORS, "Threshold": 5.0})
    assert world.state("errors") == "ALARM"


def test_the_event_has_the_documented_shape(world: World) -> None:
    world.cloudwatch.put_metric_alarm(**ERRORS)
    world.put_errors(2)
    (change,) = world.alarms.evaluate()
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
        "metric": {"namespace": "AWS/Lambda", "name": "Errors", "dimensions": OF_A_FUNCTION},
        "period": 300,
        "stat": "Sum",
    }


@pytest.fixture
def queues(world: World) -> Callable[[], dict[str, list[Any]]]:
    """What reached a queue behind a rule for alarms, and one behind a topic."""
    sqs, events, sns = client("sqs"), client("events"), client("sns")
    urls = {name: sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("events", "messages")}
    arns = {name: f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}" for name in urls}
    pattern = {"source": ["aws.cloudwatch"], "detail": {"alarmName": [{"prefix": "err"}]}}
    events.put_rule(Name="alarms", EventPattern=json.dumps(pattern))
    events.put_targets(Rule="alarms", Targets=[{"Id": "queue", "Arn": arns["events"]}])
    sns.create_topic(Name="InfraMonitoring-Alarms")
    sns.subscribe(TopicArn=TOPIC, Protocol="sqs", Endpoint=arns["messages"])
    clients = {"events": events, "sns": sns}
    world.alarms = Alarms(
        cloudwatch_backends[ACCOUNT][REGION],
        world.metrics,
        on_change=change_publisher(lambda service: clients[service]),
        now=lambda: world.now,
    )

    def received() -> dict[str, list[Any]]:
        found = {
            name: sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
            for name, url in urls.items()
        }
        return {name: [json.loads(each["Body"]) for each in found[name]] for name in found}

    return received


def test_a_change_is_an_event_on_the_default_bus(
    world: World, queues: Callable[[], dict[str, list[Any]]]
) -> None:
    world.cloudwatch.put_metric_alarm(**ERRORS)
    world.put_errors(2)
    world.alarms.evaluate()
    (event,) = queues()["events"]
    assert event["detail"]["state"]["value"] == "ALARM"
    assert event["resources"] == [f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:errors"]


def test_the_actions_of_the_new_state_get_a_message(
    world: World, queues: Callable[[], dict[str, list[Any]]]
) -> None:
    world.cloudwatch.put_metric_alarm(**ERRORS, AlarmActions=[TOPIC])
    world.put_errors(2)
    world.alarms.evaluate()
    (message,) = queues()["messages"]
    assert message["Subject"] == 'ALARM: "errors" in EU (Ireland)'
    body = json.loads(message["Message"])
    assert (body["OldStateValue"], body["NewStateValue"]) == ("INSUFFICIENT_DATA", "ALARM")
    assert body["Trigger"]["MetricName"] == "Errors"


def test_actions_that_are_not_enabled_get_nothing(
    world: World, queues: Callable[[], dict[str, list[Any]]]
) -> None:
    world.cloudwatch.put_metric_alarm(**ERRORS, AlarmActions=[TOPIC], ActionsEnabled=False)
    world.put_errors(2)
    world.alarms.evaluate()
    assert queues()["messages"] == []


def test_a_composite_alarm_follows_its_parts_in_the_same_evaluation(world: World) -> None:
    world.cloudwatch.put_metric_alarm(**ERRORS)
    world.cloudwatch.put_composite_alarm(AlarmName="inner", AlarmRule='ALARM("errors")')
    world.cloudwatch.put_composite_alarm(AlarmName="outer", AlarmRule="ALARM(inner) AND TRUE")
    world.alarms.evaluate()
    assert (world.state("inner"), world.state("outer")) == ("OK", "OK")
    world.now += timedelta(minutes=20)
    world.put_errors(2)
    world.alarms.evaluate()
    assert (world.state("inner"), world.state("outer")) == ("ALARM", "ALARM")


def test_a_composite_alarms_event_names_what_triggered_it(world: World) -> None:
    world.cloudwatch.put_metric_alarm(**ERRORS)
    world.cloudwatch.put_composite_alarm(AlarmName="page", AlarmRule='ALARM("errors")')
    world.alarms.evaluate()
    world.now += timedelta(minutes=20)
    world.put_errors(2)
    detail = world.alarms.evaluate()[-1].event["detail"]
    assert detail["alarmName"] == "page"
    assert detail["configuration"] == {"alarmRule": 'ALARM("errors")'}
    arn = f"arn:aws:cloudwatch:{REGION}:{ACCOUNT}:alarm:errors"
    assert detail["state"]["reason"] == (
        f"{arn} transitioned to ALARM at Sunday 22 November, 2026 18:20:30 UTC"
    )
    (triggering,) = json.loads(detail["state"]["reasonData"])["triggeringAlarms"]
    assert triggering["arn"] == arn


def test_an_alarm_on_a_metric_of_dynamodb_ignores_missing_data_whatever_it_says(
    world: World,
) -> None:
    of_table = {"TableName": "InfraMetrics"}
    changes = {
        "Namespace": "AWS/DynamoDB",
        "MetricName": "WriteThrottleEvents",
        "Dimensions": [{"Name": "TableName", "Value": "InfraMetrics"}],
    }
    world.cloudwatch.put_metric_alarm(**{**ERRORS, **changes})
    world.metrics.put("AWS/DynamoDB", "WriteThrottleEvents", of_table, [1], "Count", world.now)
    world.alarms.evaluate()
    world.now += timedelta(days=1)
    world.alarms.evaluate()
    assert world.state("errors") == "ALARM"


def test_metric_maths_is_evaluated(world: World) -> None:
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
    world.cloudwatch.put_metric_alarm(**rest, Metrics=queries)
    world.alarms.evaluate()
    assert world.state("errors") == "OK"
    world.metrics.put("AWS/States", "ExecutionsAborted", {}, [1], "Count", world.now)
    world.alarms.evaluate()
    assert world.state("errors") == "ALARM"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"EvaluationPeriods": 289}, "more than a day"),
        ({"Period": 86_400, "EvaluationPeriods": 8}, "more than a week"),
        ({"DatapointsToAlarm": 2}, "less than or equal to EvaluationPeriods"),
    ],
)
def test_what_cloudwatch_refuses_is_refused(
    world: World, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ClientError, match=words) as caught:
        world.cloudwatch.put_metric_alarm(**{**ERRORS, **changes})
    assert caught.value.response["Error"]["Code"] == "ValidationError"
    assert world.cloudwatch.describe_alarms()["MetricAlarms"] == []


def test_a_composite_alarm_of_what_is_not_there_is_refused(world: World) -> None:
    with pytest.raises(ClientError, match="do not exist"):
        world.cloudwatch.put_composite_alarm(AlarmName="page", AlarmRule="ALARM(nowhere)")


def test_an_alarm_that_cannot_be_evaluated_keeps_no_other_from_it(world: World) -> None:
    plain = {"Namespace", "MetricName", "Dimensions", "Statistic", "Period"}
    rest = {name: value for name, value in ERRORS.items() if name not in plain}
    stat = {"Metric": {"Namespace": "Test", "MetricName": "Any"}, "Stat": "Sum", "Period": 300}
    queries = [
        {"Id": "rate", "Expression": "RATE(any)"},
        {"Id": "any", "ReturnData": False, "MetricStat": stat},
    ]
    world.cloudwatch.put_metric_alarm(**{**rest, "AlarmName": "a-rate"}, Metrics=queries)
    world.cloudwatch.put_metric_alarm(**ERRORS)
    world.put_errors(1)
    world.alarms.evaluate()
    assert (world.state("a-rate"), world.state("errors")) == ("INSUFFICIENT_DATA", "ALARM")


def test_a_part_that_is_deleted_stops_only_its_composite_alarm(world: World) -> None:
    world.cloudwatch.put_metric_alarm(**ERRORS)
    world.cloudwatch.put_composite_alarm(AlarmName="page", AlarmRule="ALARM(errors)")
    world.cloudwatch.delete_alarms(AlarmNames=["errors"])
    world.cloudwatch.put_metric_alarm(**{**ERRORS, "AlarmName": "others"})
    world.put_errors(1)
    assert [change.name for change in world.alarms.evaluate()] == ["others"]


def test_the_loop_evaluates_again_and_again(world: World, eventually: Callable[..., Any]) -> None:
    world.cloudwatch.put_metric_alarm(**ERRORS)
    world.alarms.start(0.01)
    try:
        eventually(lambda: world.state("errors") == "OK")
        world.put_errors(1)
        eventually(lambda: world.state("errors") == "ALARM")
    finally:
        world.alarms.close()
