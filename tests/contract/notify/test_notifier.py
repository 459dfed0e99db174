"""The notifier with a table, a state machine and topics on moto."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from chalicelib.aws.notifier_ports import AwsNotifierPorts
from chalicelib.model.errors import InvalidEventError, SettingsError, StorageError
from chalicelib.model.items import raw_item
from chalicelib.model.records import Measurement
from chalicelib.model.settings import NotifierSettings
from chalicelib.notify.notifier import notify
from tests.conftest import (
    ACCOUNT,
    REGION,
    ROOT,
    SETTINGS,
    WINDOW_END,
    load_template,
    make_record,
    point,
)
from tests.unit.notify.test_messages import GOOD, RESOLVED, RUN, alarm_event, failed

TABLE = load_template(ROOT / "infra" / "storage.yaml")["Resources"]["MetricsTable"]["Properties"]
PIPELINE = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:InfraMonitoring-Pipeline-Orch"
NOW = WINDOW_END + timedelta(minutes=1)
MORNING = NOW.replace(hour=3)


class Aws:
    """On moto a table and two topics with a queue each; a test sets `executions`."""

    def __init__(self) -> None:
        factory: Any = boto3.client
        self.dynamodb = factory("dynamodb")
        names = ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes", "BillingMode")
        self.dynamodb.create_table(
            TableName="InfraMetrics", **{name: TABLE[name] for name in names}
        )
        self.sns, self.sqs = factory("sns"), factory("sqs")
        self.queues = {name: self._topic(name) for name in ("alarms", "pages")}
        self.executions: list[tuple[datetime, str]] = []
        stepfunctions = SimpleNamespace(list_executions=self._list)
        clients = {"dynamodb": self.dynamodb, "sns": self.sns, "stepfunctions": stepfunctions}
        self.ports = AwsNotifierPorts("InfraMetrics", clients.__getitem__)
        self.notifier_settings = NotifierSettings(
            stage="prod",
            topic=f"arn:aws:sns:{REGION}:{ACCOUNT}:alarms",
            pages=f"arn:aws:sns:{REGION}:{ACCOUNT}:pages",
            runbooks="docs/runbooks",
            digest="EveryRun",
            pipeline=PIPELINE,
        )

    def _topic(self, name: str) -> str:
        topic = self.sns.create_topic(Name=name)["TopicArn"]
        queue = str(self.sqs.create_queue(QueueName=name)["QueueUrl"])
        arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"
        self.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
        return queue

    def _list(self, **request: Any) -> dict[str, Any]:
        """Pages of two, newest first, as in Step Functions; moto cannot have past executions."""
        start = int(request.get("nextToken", 0))
        newest_first = sorted(self.executions, reverse=True)[start : start + 2]
        response: dict[str, Any] = {
            "executions": [{"startDate": at, "status": status} for at, status in newest_first]
        }
        more = start + 2 < len(self.executions)
        return response | ({"nextToken": str(start + 2)} if more else {})

    def store(self, host: str, windows_ago: int = 0, status: str = "", **changes: Any) -> None:
        at = WINDOW_END - timedelta(hours=3 * windows_ago)
        record = make_record(resource_id=host, timestamp=at, **changes)
        item = raw_item(record, retention_days=90)
        if status:
            item["status"] = {"S": status}
        self.dynamodb.put_item(TableName="InfraMetrics", Item=item)

    def notify(self, event: dict[str, Any], **changes: Any) -> dict[str, Any]:
        return notify(
            event,
            settings=SETTINGS,
            notifier_settings=replace(self.notifier_settings, **changes),
            ports=self.ports,
            now=lambda: NOW,
        )

    def received(self, topic: str) -> list[dict[str, Any]]:
        response = self.sqs.receive_message(QueueUrl=self.queues[topic], MaxNumberOfMessages=10)
        return [json.loads(each["Body"]) for each in response.get("Messages", [])]


@pytest.fixture
def aws() -> Iterator[Aws]:
    with mock_aws():
        yield Aws()


def busy(minutes: float) -> dict[str, Measurement]:
    cpu = Measurement(unit="percent", last=9, max=97, samples=36, breach_seconds=60 * minutes)
    return {"utilization": cpu}


def run_event(*results: dict[str, Any]) -> dict[str, Any]:
    kind = "Run Failed" if any(each["status"] == "FAILED" for each in results) else "Run Succeeded"
    return alarm_event() | {
        "detail-type": kind,
        "time": "2026-11-22T18:00:10Z",
        "detail": {"execution": RUN, "results": list(results)},
    }


def test_an_alarm_names_the_affected_hosts_in_the_table(aws: Aws) -> None:
    aws.store("web-1", measurements=busy(45))
    aws.store("web-1", 1, "critical", measurements=busy(30))
    aws.store("calm", 0, "ok", measurements=busy(0))
    aws.notify(alarm_event())
    (message,) = aws.received("alarms")
    assert [each["name"] for each in json.loads(message["Message"])["hosts"]] == ["web-1"]
    assert json.loads(message["Message"])["hosts"][0]["since"] == "2026-11-22T12:00:00Z"


def test_programs_receive_json_and_attributes(aws: Aws) -> None:
    notification = aws.notify(alarm_event())
    (message,) = aws.received("alarms")
    attributes = {name: each["Value"] for name, each in message["MessageAttributes"].items()}
    assert notification == {"published": True, **attributes}
    assert json.loads(message["Message"])["alarm"] == "InfraMonitoring-HighCPU"


def test_the_composite_alarm_goes_to_the_pager_topic_only(aws: Aws) -> None:
    aws.notify(alarm_event("InfraMonitoring-Page"))
    aws.notify(alarm_event("InfraMonitoring-Page", **RESOLVED))
    states = [each["MessageAttributes"]["state"]["Value"] for each in aws.received("pages")]
    assert states == ["ALARM", "OK"]
    assert aws.received("alarms") == []


@pytest.mark.parametrize(
    "event",
    [
        alarm_event(state={"value": "INSUFFICIENT_DATA"}),
        alarm_event(state={"value": "OK"}, previous={"value": "INSUFFICIENT_DATA"}),
        alarm_event("InfraMonitoring-HighCPU-dev"),
    ],
    ids=["no data", "just created", "another stage"],
)
def test_other_changes_of_state_are_not_published(event: dict[str, Any], aws: Aws) -> None:
    assert aws.notify(event) == {"published": False}
    assert aws.received("alarms") == []


def test_a_message_is_published_even_if_the_table_cannot_be_read(aws: Aws) -> None:
    aws.dynamodb.delete_table(TableName="InfraMetrics")
    aws.notify(alarm_event())
    aws.notify(run_event(*GOOD))
    assert len(aws.received("alarms")) == 2


def test_a_rejected_message_is_an_error(aws: Aws) -> None:
    with pytest.raises(StorageError, match="publish to"):
        aws.notify(alarm_event(), topic=f"{aws.notifier_settings.topic}-gone")


def test_a_run_is_published_with_its_worst_hosts(aws: Aws) -> None:
    aws.store("web-1", measurements={"utilization": point("percent", 93)})
    aws.store("web-1", metric_type="memory", measurements={"percent": point("percent", 10)})
    aws.store("old", 1, measurements={"utilization": point("percent", 99)})
    aws.notify(run_event(*GOOD))
    (message,) = aws.received("alarms")
    hosts = json.loads(message["Message"])["hosts"]
    assert [each["what"] for each in hosts] == ["cpu 93.0 % (critical from 80 %), memory 10.0 %"]


def test_the_first_successful_run_of_the_day_sends_the_digest(aws: Aws) -> None:
    yesterday = [NOW - timedelta(hours=hours) for hours in (20, 22, 23, 30)]
    statuses = ("FAILED", "SUCCEEDED", "TIMED_OUT", "FAILED")
    aws.executions = [*zip(yesterday, statuses, strict=True), (NOW, "RUNNING")]
    aws.notify(run_event(*GOOD), digest="Daily")
    (message,) = aws.received("alarms")
    assert json.loads(message["Message"])["runs"] == {
        "succeeded": 2,  # that run and the current one
        "failed": ["2026-11-21T22:01:00Z", "2026-11-21T19:01:00Z"],
    }
    assert message["MessageAttributes"]["kind"]["Value"] == "digest"


def test_a_later_successful_run_of_the_day_sends_no_digest(aws: Aws) -> None:
    aws.executions = [(MORNING, "SUCCEEDED"), (NOW, "RUNNING")]
    assert aws.notify(run_event(*GOOD), digest="Daily") == {"published": False}


def test_the_digest_is_sent_on_a_day_that_started_with_a_failed_run(aws: Aws) -> None:
    aws.executions = [(MORNING, "FAILED"), (NOW, "RUNNING")]
    assert aws.notify(run_event(*GOOD), digest="Daily")["published"]


@pytest.mark.parametrize("digest", ["EveryRun", "Daily", "Never"])
def test_a_failed_run_is_published_with_every_digest_setting(digest: str, aws: Aws) -> None:
    notification = aws.notify(run_event(*GOOD[:3], failed("network", "no")), digest=digest)
    assert notification["severity"] == "alarm"


def test_a_successful_run_is_not_published_with_digest_never(aws: Aws) -> None:
    assert aws.notify(run_event(*GOOD), digest="Never") == {"published": False}


def test_another_event_is_rejected(aws: Aws) -> None:
    with pytest.raises(InvalidEventError):
        aws.notify(alarm_event() | {"detail-type": "Object Created"})


def test_a_search_reads_every_page(aws: Aws) -> None:
    for number in range(12):
        aws.store(f"host-{number}")
    expected = {f"host-{number}" for number in range(12)}
    requests = []

    def query(**request: Any) -> Any:
        requests.append(request)
        return aws.dynamodb.query(**request | {"Limit": 5})

    ports = AwsNotifierPorts("InfraMetrics", lambda _: SimpleNamespace(query=query))
    items = ports.recent("cpu", WINDOW_END, unhealthy=False)
    assert {item["resource_id"]["S"] for item in items} == expected
    assert len(requests) == 3


def test_only_the_attributes_that_messages_use_are_read(aws: Aws) -> None:
    more = {"utilization": point("percent", 1), "load_average": point("count", 1)}
    aws.store("web-1", measurements=more)
    (item,) = aws.ports.recent("cpu", WINDOW_END, unhealthy=False)
    assert set(item["measurements"]["M"]) == {"utilization"}
    assert "expires_at" not in item


def test_an_error_names_every_missing_or_invalid_setting() -> None:
    with pytest.raises(SettingsError) as caught:
        NotifierSettings.from_environ({"SUCCESS_DIGEST": "Sometimes", "TOPIC_ARN": ""})
    assert len(caught.value.problems) == 5
    assert (
        "SUCCESS_DIGEST='Sometimes': expected one of EveryRun, Daily, Never"
        in caught.value.problems
    )
