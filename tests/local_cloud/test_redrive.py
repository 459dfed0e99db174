"""`python -m infra redrive` on a running local cloud."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.__main__ import main
from infra.local.stepfunctions.executions import status_change
from infra.operate.dead_letters import DeadLetterQueue
from infra.operate.deployment import Stage
from infra.operate.redrive import group_attempts
from tests.conftest import BUCKET, RunningCloud, start_cloud, stop_cloud
from tests.local_cloud.test_pipeline import machine_arn
from tests.local_cloud.test_reconciliation import Capture, CloudDay, Eventually, jsonl
from tests.local_cloud.test_replay import setting

NAME = "InfraMonitoring-DeadLetters"


@pytest.fixture(scope="module")
def cloud() -> Iterator[RunningCloud]:
    """Asynchronous invocations are not retried, because the retries take minutes."""
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


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print each reason on one line."""
    monkeypatch.setenv("COLUMNS", "400")


@pytest.fixture
def cloud_day(cloud: RunningCloud, capfd: Capture, eventually: Eventually) -> CloudDay:
    return CloudDay(cloud, datetime.now(UTC).date() - timedelta(days=5), capfd, eventually)


def redrive(cloud_day: CloudDay, *more: str) -> tuple[int, str]:
    cloud_day.capture.readouterr()
    status = main(["redrive", *more, "--endpoint", cloud_day.cloud.endpoint])
    return status, "".join(cloud_day.capture.readouterr())


def message_count(cloud: RunningCloud) -> int:
    """The number of messages in the queue, visible or not."""
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName=NAME)["QueueUrl"]
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return sum(map(int, found.values()))


def put_dead_letter(cloud: RunningCloud, body: str, **attributes: str) -> None:
    sqs = cloud.client("sqs")
    sqs.send_message(
        QueueUrl=sqs.get_queue_url(QueueName=NAME)["QueueUrl"],
        MessageBody=body,
        MessageAttributes={
            name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()
        },
    )


def remove_dead_letter(cloud: RunningCloud) -> None:
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName=NAME)["QueueUrl"]
    (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


@pytest.fixture
def failed(cloud_day: CloudDay) -> CloudDay:
    """A raw object that failed in log-processor, because a setting was invalid."""
    with setting(cloud_day.cloud, CPU_THRESHOLDS="90,80"):
        cloud_day.put(jsonl(cloud_day.record()) + b"{broken\n")
        cloud_day.eventually(lambda: message_count(cloud_day.cloud) == 1)
    return cloud_day


def test_a_failed_object_is_listed_and_sent_again(failed: CloudDay) -> None:
    status, output = redrive(failed, "--list")
    assert status == 0
    assert "log-processor" in output
    assert "SettingsError" in output
    assert f"{datetime.now(UTC):%Y-%m-%d}T" in output
    assert "events 1, executions 0" in output
    assert message_count(failed.cloud) == 1
    assert not failed.verify()["exact"]

    status, output = redrive(failed)
    assert (status, message_count(failed.cloud)) == (0, 0)
    assert f"sent again: {failed.key()}" in output
    failed.eventually(lambda: failed.verify()["exact"])

    assert "0 sent again, 0 left" in redrive(failed)[1]


def test_an_event_that_fails_again_returns_to_the_queue(failed: CloudDay) -> None:
    with setting(failed.cloud, CPU_THRESHOLDS="90,80"):
        assert redrive(failed)[0] == 0
        failed.eventually(lambda: message_count(failed.cloud) == 1)
    redrive(failed)
    failed.eventually(lambda: failed.verify()["exact"])


def test_an_event_that_was_not_delivered_is_sent_to_its_target(
    cloud_day: CloudDay,
) -> None:
    """A message as EventBridge writes it; the local cloud never fails to deliver an event."""
    key = cloud_day.key("undelivered.json")
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
    arn = cloud_day.cloud.client("lambda").get_function(FunctionName="log-processor")
    error = {"ERROR_CODE": "NO_PERMISSIONS", "ERROR_MESSAGE": "not authorized", "RULE_ARN": "any"}
    target = arn["Configuration"]["FunctionArn"]
    put_dead_letter(cloud_day.cloud, json.dumps(event), TARGET_ARN=target, **error)
    assert "NO_PERMISSIONS" in redrive(cloud_day, "--list")[1]
    assert f"sent again: {key}" in redrive(cloud_day)[1]
    assert message_count(cloud_day.cloud) == 0


def executions(cloud: RunningCloud) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cloud.client("stepfunctions").list_executions(
        stateMachineArn=machine_arn(cloud)
    )["executions"]
    return found


def scheduled_event(name: str) -> dict[str, Any]:
    return {"id": name, "time": "2026-11-22T18:00:00Z", "detail-type": "Scheduled Event"}


def test_a_scheduled_event_that_was_not_delivered_starts_one_execution(cloud_day: CloudDay) -> None:
    arn = machine_arn(cloud_day.cloud)
    for _ in range(2):
        put_dead_letter(
            cloud_day.cloud,
            json.dumps(scheduled_event("lost-event")),
            TARGET_ARN=arn,
            ERROR_CODE="any",
        )
    assert redrive(cloud_day, "--hours", "0")[0] == 0
    assert message_count(cloud_day.cloud) == 0
    assert [run["name"] for run in executions(cloud_day.cloud)].count("lost-event") == 1


@pytest.mark.parametrize(
    ("body", "attributes", "reason"),
    [
        ("no JSON", {}, "neither from Lambda nor from EventBridge"),
        ('{"any": 1}', {}, "neither from Lambda nor from EventBridge"),
        (
            json.dumps(scheduled_event("x")),
            {"TARGET_ARN": "arn:aws:lambda:eu-west-1:123456789012:function:other"},
            "is not part of stage local",
        ),
    ],
    ids=["text", "JSON", "other function"],
)
def test_an_unknown_message_is_left_and_reported(
    cloud_day: CloudDay, body: str, attributes: dict[str, str], reason: str
) -> None:
    put_dead_letter(cloud_day.cloud, body, **attributes)
    status, output = redrive(cloud_day)
    assert (status, message_count(cloud_day.cloud)) == (1, 1)
    assert reason in output
    assert redrive(cloud_day)[0] == 1, "it is visible again immediately"
    remove_dead_letter(cloud_day.cloud)


STATE_MACHINE_TO_EXECUTION = (":stateMachine:", ":execution:")


def start(cloud_day: CloudDay, name: str, state_machine: str, document: Any) -> str:
    """Start an execution and return its ARN."""
    started = cloud_day.cloud.client("stepfunctions").start_execution(
        stateMachineArn=state_machine, name=name, input=json.dumps(document)
    )
    return str(started["executionArn"])


def start_and_stop(cloud_day: CloudDay, name: str, state_machine: str, document: Any) -> None:
    sfn = cloud_day.cloud.client("stepfunctions")
    arn = start(cloud_day, name, state_machine, document)
    # moto cannot stop an execution before its first state.
    cloud_day.eventually(lambda: sfn.get_execution_history(executionArn=arn)["events"][2:])
    sfn.stop_execution(executionArn=arn, error="Operator", cause=f"{name} was started by mistake")


def succeeds(cloud_day: CloudDay, name: str, state_machine: str) -> bool:
    arn = f"{state_machine}:{name}".replace(*STATE_MACHINE_TO_EXECUTION)
    sfn = cloud_day.cloud.client("stepfunctions")
    return bool(
        cloud_day.eventually(
            lambda: sfn.describe_execution(executionArn=arn)["status"] == "SUCCEEDED"
        )
    )


def names(cloud_day: CloudDay, original: str) -> list[str]:
    """Names of the pipeline's executions that contain this name."""
    return sorted(each["name"] for each in executions(cloud_day.cloud) if original in each["name"])


@contextmanager
def denied(cloud: RunningCloud, role: str, **actions: str) -> Iterator[None]:
    """Deny a role actions, given as `service="Action resource"`, so that executions fail."""
    iam = cloud.client("iam")
    statements = [
        {"Effect": "Deny", "Action": f"{service}:{action}", "Resource": resource}
        for service, (action, resource) in ((s, a.split()) for s, a in actions.items())
    ]
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    iam.put_role_policy(RoleName=role, PolicyName="denied", PolicyDocument=document)
    try:
        yield
    finally:
        iam.delete_role_policy(RoleName=role, PolicyName="denied")


def test_a_failed_run_has_one_dead_letter_with_the_reason_and_is_started_again(
    cloud_day: CloudDay,
) -> None:
    state_machine = machine_arn(cloud_day.cloud)
    role = "InfraMonitoring-Pipeline-Orch"
    notifier = "InvokeFunction arn:aws:lambda:*:*:function:notifier*"
    with denied(cloud_day.cloud, role, sns="Publish *", **{"lambda": notifier}):
        start(cloud_day, "no-mail", state_machine, scheduled_event("no-mail"))
        cloud_day.eventually(lambda: message_count(cloud_day.cloud) == 1)
    output = redrive(cloud_day, "--list")[1]
    assert "events 0, executions 1" in output, "the dead letter and the listed execution are one"
    assert "FAILED: SNS." in output
    assert "not authorized to perform: sns:Publish" in output

    assert "1 sent again, 0 left" in redrive(cloud_day)[1]
    assert succeeds(cloud_day, "no-mail-redrive-1", state_machine)
    assert message_count(cloud_day.cloud) == 0
    assert "0 sent again, 0 left" in redrive(cloud_day)[1]
    assert names(cloud_day, "no-mail") == ["no-mail", "no-mail-redrive-1"]


def test_stopped_runs_are_started_again_for_the_same_scheduled_time(cloud_day: CloudDay) -> None:
    state_machine = machine_arn(cloud_day.cloud)
    start_and_stop(cloud_day, "stopped", state_machine, scheduled_event("stopped"))
    start_and_stop(cloud_day, "by-hand", state_machine, {})
    cloud_day.eventually(lambda: message_count(cloud_day.cloud) == 2)
    output = redrive(cloud_day, "--list")[1]
    assert "events 0, executions 2" in output
    assert "ABORTED: Operator: stopped was started by mistake" in output

    status, output = redrive(cloud_day)
    assert (status, "2 sent again, 0 left" in output) == (0, True)
    assert message_count(cloud_day.cloud) == 0
    sfn = cloud_day.cloud.client("stepfunctions")
    described = {
        name: sfn.describe_execution(
            executionArn=f"{state_machine}:{name}-redrive-1".replace(*STATE_MACHINE_TO_EXECUTION)
        )
        for name in ("stopped", "by-hand")
    }
    assert json.loads(described["stopped"]["input"]) == scheduled_event("stopped")
    document = json.loads(described["by-hand"]["input"])
    assert list(document) == ["time"], "the start of the execution without a time"

    assert succeeds(cloud_day, "stopped-redrive-1", state_machine)
    assert succeeds(cloud_day, "by-hand-redrive-1", state_machine)
    assert "0 sent again, 0 left" in redrive(cloud_day)[1]
    assert names(cloud_day, "stopped") == ["stopped", "stopped-redrive-1"]


def test_a_run_that_failed_twice_is_started_once(cloud_day: CloudDay) -> None:
    state_machine = machine_arn(cloud_day.cloud)
    for name in ("twice", "twice-redrive-1"):
        start_and_stop(cloud_day, name, state_machine, scheduled_event("twice"))
    cloud_day.eventually(lambda: message_count(cloud_day.cloud) == 2)
    assert "events 0, executions 1" in redrive(cloud_day, "--list")[1]
    stage = Stage("local", BUCKET, "InfraMetrics", cloud_day.cloud.endpoint)
    with DeadLetterQueue(stage) as queue:
        found = list(queue)
        for order in (found, found[::-1]):  # the queue is not ordered
            (attempts,) = group_attempts(stage, order, timedelta(hours=1))
            assert "twice-redrive-1 was started by mistake" in attempts.reason
    assert "1 sent again, 0 left" in redrive(cloud_day)[1]
    assert succeeds(cloud_day, "twice-redrive-2", state_machine)
    assert message_count(cloud_day.cloud) == 0
    assert names(cloud_day, "twice") == ["twice", "twice-redrive-1", "twice-redrive-2"]


def test_a_failed_replay_continues_with_the_remaining_prefixes(cloud_day: CloudDay) -> None:
    state_machine = machine_arn(cloud_day.cloud).replace("Pipeline-Orch", "Replay")
    prefixes = {"prefixes": [{"prefix": "raw-metrics/2020/01/01/"}]}
    with denied(cloud_day.cloud, "InfraMonitoring-Replay", s3="ListBucket *"):
        start(cloud_day, "replay-denied-1", state_machine, prefixes)
        cloud_day.eventually(lambda: message_count(cloud_day.cloud) == 1)
    assert "FAILED: ReplayIncomplete: Some objects failed" in redrive(cloud_day, "--list")[1]
    assert "1 sent again, 0 left" in redrive(cloud_day)[1]
    assert succeeds(cloud_day, "replay-denied-2", state_machine)
    arn = f"{state_machine}:replay-denied-2".replace(*STATE_MACHINE_TO_EXECUTION)
    again = cloud_day.cloud.client("stepfunctions").describe_execution(executionArn=arn)
    assert json.loads(again["input"]) == prefixes
    assert message_count(cloud_day.cloud) == 0
    assert "0 sent again, 0 left" in redrive(cloud_day)[1]


def test_a_stopped_compaction_is_started_again_for_the_same_days(
    cloud_day: CloudDay,
) -> None:
    state_machine = machine_arn(cloud_day.cloud).replace("Pipeline-Orch", "Compaction")
    days = {"days": [f"2020-01-{day:02d}" for day in range(1, 15)]}
    start_and_stop(cloud_day, "cut-off", state_machine, days)
    cloud_day.eventually(lambda: message_count(cloud_day.cloud) == 1)
    assert "ABORTED: Operator: cut-off" in redrive(cloud_day, "--list")[1]
    assert "1 sent again, 0 left" in redrive(cloud_day)[1]
    assert succeeds(cloud_day, "cut-off-redrive-1", state_machine)
    arn = f"{state_machine}:cut-off-redrive-1".replace(*STATE_MACHINE_TO_EXECUTION)
    again = cloud_day.cloud.client("stepfunctions").describe_execution(executionArn=arn)
    assert json.loads(again["input"])["days"] == days["days"]
    assert message_count(cloud_day.cloud) == 0


def test_a_compaction_event_that_was_not_delivered_starts_one_execution(
    cloud_day: CloudDay,
) -> None:
    arn = machine_arn(cloud_day.cloud, "InfraMonitoring-Compaction")
    for _ in range(2):
        event = scheduled_event("lost-compaction")
        put_dead_letter(cloud_day.cloud, json.dumps(event), TARGET_ARN=arn, ERROR_CODE="any")
    assert redrive(cloud_day, "--hours", "0")[0] == 0
    assert message_count(cloud_day.cloud) == 0
    sfn = cloud_day.cloud.client("stepfunctions")
    started = sfn.list_executions(stateMachineArn=arn)["executions"]
    assert [each["name"] for each in started].count("lost-compaction") == 1


def test_a_failed_run_without_a_dead_letter_is_found(cloud_day: CloudDay) -> None:
    """Step Functions sends events at best effort, and the rule may be newer than the failure."""
    state_machine, events = machine_arn(cloud_day.cloud), cloud_day.cloud.client("events")
    events.disable_rule(Name="InfraMonitoring-Failures")
    start_and_stop(cloud_day, "no-event", state_machine, scheduled_event("no-event"))
    # The local cloud writes the log after it has sent the event.
    cloud_day.eventually(lambda: logged(cloud_day.cloud, "no-event"))
    events.enable_rule(Name="InfraMonitoring-Failures")

    assert message_count(cloud_day.cloud) == 0
    assert "ABORTED: Operator: no-event was started" in redrive(cloud_day, "--list")[1]
    assert "0 sent again" in redrive(cloud_day, "--hours", "0")[1]
    assert "1 sent again, 0 left" in redrive(cloud_day)[1]
    assert succeeds(cloud_day, "no-event-redrive-1", state_machine)


def logged(cloud: RunningCloud, name: str) -> list[Any]:
    found: list[Any] = cloud.client("logs").describe_log_streams(
        logGroupName="/aws/states/pipeline", logStreamNamePrefix=f"states/{name}/"
    )["logStreams"]
    return found


def test_the_dead_letter_of_a_run_that_has_succeeded_since_is_deleted(cloud_day: CloudDay) -> None:
    state_machine = machine_arn(cloud_day.cloud)
    start_and_stop(cloud_day, "succeeded-later", state_machine, scheduled_event("succeeded-later"))
    cloud_day.eventually(lambda: message_count(cloud_day.cloud) == 1)
    start(cloud_day, "succeeded-later-redrive-1", state_machine, scheduled_event("succeeded-later"))
    assert succeeds(cloud_day, "succeeded-later-redrive-1", state_machine)
    message = "succeeded-later was started again: succeeded-later-redrive-1 is SUCCEEDED"
    for more in ((), ("--hours", "0")):
        output = redrive(cloud_day, "--list", *more)[1]
        assert "executions 0" in output
        assert message in output

    status, output = redrive(cloud_day)
    assert (status, message_count(cloud_day.cloud)) == (0, 0)
    assert f"no longer to be sent: {message}" in output
    assert "0 sent again, 0 left" in output
    assert names(cloud_day, "succeeded-later") == ["succeeded-later", "succeeded-later-redrive-1"]


def put_failure(cloud_day: CloudDay, state_machine: str, name: str) -> None:
    """Send the status change event of an execution that does not exist."""
    now = datetime.now(UTC)
    failed = {
        "executionArn": f"{state_machine}:{name}".replace(*STATE_MACHINE_TO_EXECUTION),
        "stateMachineArn": state_machine,
        "name": name,
        "status": "FAILED",
        "startDate": now,
        "stopDate": now,
    }
    cloud_day.cloud.client("events").put_events(Entries=[status_change(failed)])


def test_a_child_execution_of_a_map_run_has_no_dead_letter(cloud_day: CloudDay) -> None:
    """The ARN has the form `NAME/Label`; map runs in moto have no child executions."""
    put_failure(cloud_day, f"{machine_arn(cloud_day.cloud)}/Chunks", "child")
    assert message_count(cloud_day.cloud) == 0
    put_failure(cloud_day, machine_arn(cloud_day.cloud), "parent")
    assert message_count(cloud_day.cloud) == 1
    remove_dead_letter(cloud_day.cloud)


def test_the_dead_letter_of_an_unknown_execution_is_left_and_reported(
    cloud_day: CloudDay,
) -> None:
    put_failure(cloud_day, machine_arn(cloud_day.cloud), "gone")
    status, output = redrive(cloud_day)
    assert (status, message_count(cloud_day.cloud)) == (1, 1)
    assert "not sent: gone: DescribeExecution: ExecutionDoesNotExist" in output
    remove_dead_letter(cloud_day.cloud)
