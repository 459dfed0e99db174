"""What failed for good on a running local cloud: seen, sent again, and then gone."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.__main__ import main

from .conftest import BUCKET, RunningCloud, start_cloud, stop_cloud
from .test_ledger import Capture, Eventually, Ledger, jsonl
from .test_local_cloud import machine_arn
from .test_replay import setting

NAME = "InfraMonitoring-DeadLetters"


@pytest.fixture(scope="module")
def cloud() -> Iterator[RunningCloud]:
    """Asynchronous invocations are tried once only: the waits in between take minutes."""
    running = start_cloud("--no-tick")
    functions = running.client("lambda")
    before = functions.get_function_event_invoke_config(FunctionName="log-processor")
    functions.delete_function_event_invoke_config(FunctionName="log-processor")
    functions.put_function_event_invoke_config(
        FunctionName="log-processor",
        MaximumRetryAttempts=0,
        DestinationConfig=before["DestinationConfig"],
    )
    yield running
    stop_cloud(running)


@pytest.fixture
def ledger(cloud: RunningCloud, capfd: Capture, eventually: Eventually) -> Ledger:
    return Ledger(cloud, datetime.now(UTC).date() - timedelta(days=5), capfd, eventually)


def redrive(ledger: Ledger, *more: str) -> tuple[int, str]:
    ledger.capture.readouterr()
    status = main(["redrive", *more, "--endpoint", ledger.cloud.endpoint])
    return status, "".join(ledger.capture.readouterr())


def waiting(cloud: RunningCloud) -> int:
    """How many messages there are, seen or not."""
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName=NAME)["QueueUrl"]
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(map(int, found.values()))


def put_letter(cloud: RunningCloud, body: str, **attributes: str) -> None:
    sqs = cloud.client("sqs")
    sqs.send_message(
        QueueUrl=sqs.get_queue_url(QueueName=NAME)["QueueUrl"],
        MessageBody=body,
        MessageAttributes={
            name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
        },
    )


def take_out_a_letter(cloud: RunningCloud) -> None:
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName=NAME)["QueueUrl"]
    (letter,) = sqs.receive_message(QueueUrl=url)["Messages"]
    sqs.delete_message(QueueUrl=url, ReceiptHandle=letter["ReceiptHandle"])


@pytest.fixture
def failed(ledger: Ledger) -> Ledger:
    """An object that the processor could not process: somebody had spoilt its settings."""
    with setting(ledger.cloud, CPU_THRESHOLDS="90,80"):
        ledger.put(jsonl(ledger.record()) + b"{broken\n")
        ledger.eventually(lambda: waiting(ledger.cloud) == 1)
    return ledger


def test_an_object_that_failed_is_listed_sent_again_and_then_exact(failed: Ledger) -> None:
    status, told = redrive(failed, "--list")
    assert status == 0
    assert "log-processor" in told
    assert "SettingsError" in told
    assert f"{datetime.now(UTC):%Y-%m-%d}T" in told
    assert "1 dead letters, 0 executions" in told
    assert waiting(failed.cloud) == 1
    assert not failed.verify()["exact"]

    status, told = redrive(failed)
    assert (status, waiting(failed.cloud)) == (0, 0)
    assert f"sent again: {failed.key()}" in told
    failed.eventually(lambda: failed.verify()["exact"])

    assert "0 sent again, 0 left" in redrive(failed)[1]


def test_what_fails_again_comes_back(failed: Ledger) -> None:
    with setting(failed.cloud, CPU_THRESHOLDS="90,80"):
        assert redrive(failed)[0] == 0
        failed.eventually(lambda: waiting(failed.cloud) == 1)
    redrive(failed)
    failed.eventually(lambda: failed.verify()["exact"])


def test_an_event_that_eventbridge_could_not_deliver_is_sent_to_its_target(
    ledger: Ledger,
) -> None:
    """In EventBridge's form: the local cloud delivers whatever there is."""
    key = ledger.key("undelivered.json")
    event = {
        "version": "0",
        "id": "undelivered",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": "123456789012",
        "time": "2026-11-22T18:00:00Z",
        "region": "eu-west-1",
        "resources": [],
        "detail": {"bucket": {"name": BUCKET}, "object": {"key": key}},
    }
    arn = ledger.cloud.client("lambda").get_function(FunctionName="log-processor")
    told = {"ERROR_CODE": "NO_PERMISSIONS", "ERROR_MESSAGE": "Lambda said no", "RULE_ARN": "any"}
    target = arn["Configuration"]["FunctionArn"]
    put_letter(ledger.cloud, json.dumps(event), TARGET_ARN=target, **told)
    assert "NO_PERMISSIONS" in redrive(ledger, "--list")[1]
    assert f"sent again: {key}" in redrive(ledger)[1]
    assert waiting(ledger.cloud) == 0


def executions(cloud: RunningCloud) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cloud.client("stepfunctions").list_executions(
        stateMachineArn=machine_arn(cloud)
    )["executions"]
    return found


def tick(name: str) -> dict[str, Any]:
    return {"id": name, "time": "2026-11-22T18:00:00Z", "detail-type": "Scheduled Event"}


def test_a_tick_that_was_not_delivered_starts_the_state_machine_once(ledger: Ledger) -> None:
    arn = machine_arn(ledger.cloud)
    for _ in range(2):
        put_letter(ledger.cloud, json.dumps(tick("lost-tick")), TARGET_ARN=arn, ERROR_CODE="any")
    assert redrive(ledger, "--hours", "0")[0] == 0
    assert waiting(ledger.cloud) == 0
    assert [run["name"] for run in executions(ledger.cloud)].count("lost-tick") == 1


@pytest.mark.parametrize(
    ("body", "attributes", "why"),
    [
        ("no JSON", {}, "neither of Lambda nor of EventBridge"),
        ('{"any": 1}', {}, "neither of Lambda nor of EventBridge"),
        (
            json.dumps(tick("x")),
            {"TARGET_ARN": "arn:aws:lambda:eu-west-1:123456789012:function:other"},
            "which is not of stage local",
        ),
    ],
    ids=["text", "JSON", "another's"],
)
def test_a_message_that_is_unknown_is_left_and_named(
    ledger: Ledger, body: str, attributes: dict[str, str], why: str
) -> None:
    put_letter(ledger.cloud, body, **attributes)
    status, told = redrive(ledger)
    assert (status, waiting(ledger.cloud)) == (1, 1)
    assert why in told
    assert redrive(ledger)[0] == 1, "it is seen again at once"
    take_out_a_letter(ledger.cloud)


def test_an_execution_that_failed_is_started_again_for_the_same_tick_until_it_succeeds(
    ledger: Ledger,
) -> None:
    sfn, arn = ledger.cloud.client("stepfunctions"), machine_arn(ledger.cloud)
    for name, document in (("spoilt", tick("spoilt")), ("by-hand", {})):
        started = sfn.start_execution(stateMachineArn=arn, name=name, input=json.dumps(document))
        execution = {"executionArn": started["executionArn"]}
        # moto cannot stop what has not begun.
        ledger.eventually(lambda of=execution: sfn.get_execution_history(**of)["events"][2:])
        sfn.stop_execution(**execution)
    ledger.eventually(lambda: "0 dead letters, 2 executions" in redrive(ledger, "--list")[1])

    status, told = redrive(ledger)
    assert (status, "2 sent again, 0 left" in told) == (0, True)
    described = {
        name: sfn.describe_execution(executionArn=f"{arn}:{name}-redrive-1".replace(*MACHINE))
        for name in ("spoilt", "by-hand")
    }
    assert json.loads(described["spoilt"]["input"]) == tick("spoilt")
    asked = json.loads(described["by-hand"]["input"])
    assert list(asked) == ["time"], "the time at which it was started by hand"

    ledger.eventually(lambda: "0 executions" in redrive(ledger, "--list")[1])
    assert "0 sent again, 0 left" in redrive(ledger)[1]


MACHINE = (":stateMachine:", ":execution:")
