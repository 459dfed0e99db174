"""What failed for good on a running local cloud: seen, sent again, and then gone."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.__main__ import main
from infra.local.stepfunctions.executions import status_change
from infra.operate.dead_letters import Letters
from infra.operate.deployment import Stage
from infra.operate.redrive import cases_of
from tests.conftest import (
    BUCKET,
    RunningCloud,
    start_cloud,
    stop_cloud,
)
from tests.local_cloud.test_pipeline import machine_arn
from tests.local_cloud.test_reconciliation import (
    Capture,
    CloudDay,
    Eventually,
    jsonl,
)
from tests.local_cloud.test_replay import setting

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


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table whose reasons are on one line."""
    monkeypatch.setenv("COLUMNS", "400")


@pytest.fixture
def cloud_day(cloud: RunningCloud, capfd: Capture, eventually: Eventually) -> CloudDay:
    return CloudDay(cloud, datetime.now(UTC).date() - timedelta(days=5), capfd, eventually)


def redrive(cloud_day: CloudDay, *more: str) -> tuple[int, str]:
    cloud_day.capture.readouterr()
    status = main(["redrive", *more, "--endpoint", cloud_day.cloud.endpoint])
    return status, "".join(cloud_day.capture.readouterr())


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
def failed(cloud_day: CloudDay) -> CloudDay:
    """An object that the processor could not process: somebody had spoilt its settings."""
    with setting(cloud_day.cloud, CPU_THRESHOLDS="90,80"):
        cloud_day.put(jsonl(cloud_day.record()) + b"{broken\n")
        cloud_day.eventually(lambda: waiting(cloud_day.cloud) == 1)
    return cloud_day


def test_an_object_that_failed_is_listed_sent_again_and_then_exact(failed: CloudDay) -> None:
    status, told = redrive(failed, "--list")
    assert status == 0
    assert "log-processor" in told
    assert "SettingsError" in told
    assert f"{datetime.now(UTC):%Y-%m-%d}T" in told
    assert "events 1, executions 0" in told
    assert waiting(failed.cloud) == 1
    assert not failed.verify()["exact"]

    status, told = redrive(failed)
    assert (status, waiting(failed.cloud)) == (0, 0)
    assert f"sent again: {failed.key()}" in told
    failed.eventually(lambda: failed.verify()["exact"])

    assert "0 sent again, 0 left" in redrive(failed)[1]


def test_what_fails_again_comes_back(failed: CloudDay) -> None:
    with setting(failed.cloud, CPU_THRESHOLDS="90,80"):
        assert redrive(failed)[0] == 0
        failed.eventually(lambda: waiting(failed.cloud) == 1)
    redrive(failed)
    failed.eventually(lambda: failed.verify()["exact"])


def test_an_event_that_eventbridge_could_not_deliver_is_sent_to_its_target(
    cloud_day: CloudDay,
) -> None:
    """In EventBridge's form: the local cloud delivers whatever there is."""
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
    told = {"ERROR_CODE": "NO_PERMISSIONS", "ERROR_MESSAGE": "Lambda said no", "RULE_ARN": "any"}
    target = arn["Configuration"]["FunctionArn"]
    put_letter(cloud_day.cloud, json.dumps(event), TARGET_ARN=target, **told)
    assert "NO_PERMISSIONS" in redrive(cloud_day, "--list")[1]
    assert f"sent again: {key}" in redrive(cloud_day)[1]
    assert waiting(cloud_day.cloud) == 0


def executions(cloud: RunningCloud) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cloud.client("stepfunctions").list_executions(
        stateMachineArn=machine_arn(cloud)
    )["executions"]
    return found


def tick(name: str) -> dict[str, Any]:
    return {"id": name, "time": "2026-11-22T18:00:00Z", "detail-type": "Scheduled Event"}


def test_a_tick_that_was_not_delivered_starts_the_state_machine_once(cloud_day: CloudDay) -> None:
    arn = machine_arn(cloud_day.cloud)
    for _ in range(2):
        put_letter(cloud_day.cloud, json.dumps(tick("lost-tick")), TARGET_ARN=arn, ERROR_CODE="any")
    assert redrive(cloud_day, "--hours", "0")[0] == 0
    assert waiting(cloud_day.cloud) == 0
    assert [run["name"] for run in executions(cloud_day.cloud)].count("lost-tick") == 1


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
    cloud_day: CloudDay, body: str, attributes: dict[str, str], why: str
) -> None:
    put_letter(cloud_day.cloud, body, **attributes)
    status, told = redrive(cloud_day)
    assert (status, waiting(cloud_day.cloud)) == (1, 1)
    assert why in told
    assert redrive(cloud_day)[0] == 1, "it is seen again at once"
    take_out_a_letter(cloud_day.cloud)


MACHINE = (":stateMachine:", ":execution:")


def start(cloud_day: CloudDay, name: str, machine: str, document: Any) -> str:
    """An execution's ARN."""
    started = cloud_day.cloud.client("stepfunctions").start_execution(
        stateMachineArn=machine, name=name, input=json.dumps(document)
    )
    return str(started["executionArn"])


def start_and_stop(cloud_day: CloudDay, name: str, machine: str, document: Any) -> None:
    sfn = cloud_day.cloud.client("stepfunctions")
    arn = start(cloud_day, name, machine, document)
    # moto cannot stop what has not begun.
    cloud_day.eventually(lambda: sfn.get_execution_history(executionArn=arn)["events"][2:])
    sfn.stop_execution(executionArn=arn, error="Operator", cause=f"{name} was started by mistake")


def succeeds(cloud_day: CloudDay, name: str, machine: str) -> bool:
    arn = f"{machine}:{name}".replace(*MACHINE)
    sfn = cloud_day.cloud.client("stepfunctions")
    return bool(
        cloud_day.eventually(
            lambda: sfn.describe_execution(executionArn=arn)["status"] == "SUCCEEDED"
        )
    )


def names(cloud_day: CloudDay, root: str) -> list[str]:
    """The executions of the pipeline with this root."""
    return sorted(each["name"] for each in executions(cloud_day.cloud) if root in each["name"])


@contextmanager
def forbidden(cloud: RunningCloud, role: str, **actions: str) -> Iterator[None]:
    """What a state machine may not do, it fails at for good: `service="Action resource"`."""
    iam = cloud.client("iam")
    denied = [
        {"Effect": "Deny", "Action": f"{service}:{action}", "Resource": resource}
        for service, (action, resource) in ((s, a.split()) for s, a in actions.items())
    ]
    document = json.dumps({"Version": "2012-10-17", "Statement": denied})
    iam.put_role_policy(RoleName=role, PolicyName="forbidden", PolicyDocument=document)
    try:
        yield
    finally:
        iam.delete_role_policy(RoleName=role, PolicyName="forbidden")


def test_a_run_that_fails_is_one_letter_with_its_reason_and_is_started_again(
    cloud_day: CloudDay,
) -> None:
    machine = machine_arn(cloud_day.cloud)
    role = "InfraMonitoring-Pipeline-Orch"
    notifier = "InvokeFunction arn:aws:lambda:*:*:function:notifier*"
    with forbidden(cloud_day.cloud, role, sns="Publish *", **{"lambda": notifier}):
        start(cloud_day, "unmailed", machine, tick("unmailed"))
        cloud_day.eventually(lambda: waiting(cloud_day.cloud) == 1, seconds=60)
    told = redrive(cloud_day, "--list")[1]
    assert "events 0, executions 1" in told, "it has a letter and is listed: once"
    assert "FAILED: SNS." in told
    assert "not authorized to perform: sns:Publish" in told

    assert "1 sent again, 0 left" in redrive(cloud_day)[1]
    assert succeeds(cloud_day, "unmailed-redrive-1", machine)
    assert waiting(cloud_day.cloud) == 0
    assert "0 sent again, 0 left" in redrive(cloud_day)[1]
    assert names(cloud_day, "unmailed") == ["unmailed", "unmailed-redrive-1"]


def test_runs_that_were_stopped_are_started_again_for_the_same_tick(cloud_day: CloudDay) -> None:
    machine = machine_arn(cloud_day.cloud)
    start_and_stop(cloud_day, "spoilt", machine, tick("spoilt"))
    start_and_stop(cloud_day, "by-hand", machine, {})
    cloud_day.eventually(lambda: waiting(cloud_day.cloud) == 2)
    told = redrive(cloud_day, "--list")[1]
    assert "events 0, executions 2" in told
    assert "ABORTED: Operator: spoilt was started by mistake" in told

    status, told = redrive(cloud_day)
    assert (status, "2 sent again, 0 left" in told) == (0, True)
    assert waiting(cloud_day.cloud) == 0
    sfn = cloud_day.cloud.client("stepfunctions")
    described = {
        name: sfn.describe_execution(executionArn=f"{machine}:{name}-redrive-1".replace(*MACHINE))
        for name in ("spoilt", "by-hand")
    }
    assert json.loads(described["spoilt"]["input"]) == tick("spoilt")
    asked = json.loads(described["by-hand"]["input"])
    assert list(asked) == ["time"], "the time at which it was started by hand"

    assert succeeds(cloud_day, "spoilt-redrive-1", machine)
    assert succeeds(cloud_day, "by-hand-redrive-1", machine)
    assert "0 sent again, 0 left" in redrive(cloud_day)[1]
    assert names(cloud_day, "spoilt") == ["spoilt", "spoilt-redrive-1"]


def test_a_run_that_failed_twice_has_two_letters_and_is_started_once(cloud_day: CloudDay) -> None:
    machine = machine_arn(cloud_day.cloud)
    for name in ("twice", "twice-redrive-1"):
        start_and_stop(cloud_day, name, machine, tick("twice"))
    cloud_day.eventually(lambda: waiting(cloud_day.cloud) == 2)
    assert "events 0, executions 1" in redrive(cloud_day, "--list")[1]
    stage = Stage("local", BUCKET, "InfraMetrics", cloud_day.cloud.endpoint)
    with Letters(stage) as letters:
        found = list(letters)
        for order in (found, found[::-1]):  # the queue promises none
            (case,) = cases_of(stage, order, timedelta(hours=1))
            assert "twice-redrive-1 was started by mistake" in case.why
    assert "1 sent again, 0 left" in redrive(cloud_day)[1]
    assert succeeds(cloud_day, "twice-redrive-2", machine)
    assert waiting(cloud_day.cloud) == 0
    assert names(cloud_day, "twice") == ["twice", "twice-redrive-1", "twice-redrive-2"]


def test_a_replay_that_fails_is_a_letter_and_goes_on_with_what_is_left(cloud_day: CloudDay) -> None:
    machine = machine_arn(cloud_day.cloud).replace("Pipeline-Orch", "Replay")
    prefixes = {"prefixes": [{"prefix": "raw-metrics/2020/01/01/"}]}
    with forbidden(cloud_day.cloud, "InfraMonitoring-Replay", s3="ListBucket *"):
        start(cloud_day, "replay-forbidden-1", machine, prefixes)
        cloud_day.eventually(lambda: waiting(cloud_day.cloud) == 1)
    assert "FAILED: ReplayIncomplete: Some objects failed" in redrive(cloud_day, "--list")[1]
    assert "1 sent again, 0 left" in redrive(cloud_day)[1]
    assert succeeds(cloud_day, "replay-forbidden-2", machine)
    arn = f"{machine}:replay-forbidden-2".replace(*MACHINE)
    again = cloud_day.cloud.client("stepfunctions").describe_execution(executionArn=arn)
    assert json.loads(again["input"]) == prefixes
    assert waiting(cloud_day.cloud) == 0
    assert "0 sent again, 0 left" in redrive(cloud_day)[1]


def test_a_compaction_that_was_stopped_is_a_letter_and_writes_the_same_days_again(
    cloud_day: CloudDay,
) -> None:
    machine = machine_arn(cloud_day.cloud).replace("Pipeline-Orch", "Compaction")
    days = {"days": [f"2020-01-{day:02d}" for day in range(1, 15)]}
    start_and_stop(cloud_day, "cut-off", machine, days)
    cloud_day.eventually(lambda: waiting(cloud_day.cloud) == 1)
    assert "ABORTED: Operator: cut-off" in redrive(cloud_day, "--list")[1]
    assert "1 sent again, 0 left" in redrive(cloud_day)[1]
    assert succeeds(cloud_day, "cut-off-redrive-1", machine)
    arn = f"{machine}:cut-off-redrive-1".replace(*MACHINE)
    again = cloud_day.cloud.client("stepfunctions").describe_execution(executionArn=arn)
    assert json.loads(again["input"])["days"] == days["days"]
    assert waiting(cloud_day.cloud) == 0


def test_a_compaction_that_was_not_delivered_is_started_once(cloud_day: CloudDay) -> None:
    arn = machine_arn(cloud_day.cloud, "InfraMonitoring-Compaction")
    for _ in range(2):
        event = tick("lost-compaction")
        put_letter(cloud_day.cloud, json.dumps(event), TARGET_ARN=arn, ERROR_CODE="any")
    assert redrive(cloud_day, "--hours", "0")[0] == 0
    assert waiting(cloud_day.cloud) == 0
    sfn = cloud_day.cloud.client("stepfunctions")
    started = sfn.list_executions(stateMachineArn=arn)["executions"]
    assert [each["name"] for each in started].count("lost-compaction") == 1


def test_a_run_whose_letter_was_lost_is_found_all_the_same(cloud_day: CloudDay) -> None:
    """Step Functions sends its events as best it can; and a rule may be younger than a failure."""
    machine, events = machine_arn(cloud_day.cloud), cloud_day.cloud.client("events")
    events.disable_rule(Name="InfraMonitoring-Failures")
    start_and_stop(cloud_day, "unheard", machine, tick("unheard"))
    # The local cloud sends the event, then writes the log.
    cloud_day.eventually(lambda: logged(cloud_day.cloud, "unheard"))
    events.enable_rule(Name="InfraMonitoring-Failures")

    assert waiting(cloud_day.cloud) == 0
    assert "ABORTED: Operator: unheard was started" in redrive(cloud_day, "--list")[1]
    assert "0 sent again" in redrive(cloud_day, "--hours", "0")[1]
    assert "1 sent again, 0 left" in redrive(cloud_day)[1]
    assert succeeds(cloud_day, "unheard-redrive-1", machine)


def logged(cloud: RunningCloud, name: str) -> list[Any]:
    found: list[Any] = cloud.client("logs").describe_log_streams(
        logGroupName="/aws/states/pipeline", logStreamNamePrefix=f"states/{name}/"
    )["logStreams"]
    return found


def test_the_letter_of_a_run_that_was_made_good_meanwhile_is_taken_off(cloud_day: CloudDay) -> None:
    machine = machine_arn(cloud_day.cloud)
    start_and_stop(cloud_day, "mended", machine, tick("mended"))
    cloud_day.eventually(lambda: waiting(cloud_day.cloud) == 1)
    start(cloud_day, "mended-redrive-1", machine, tick("mended"))
    assert succeeds(cloud_day, "mended-redrive-1", machine)
    said = "mended was started again: mended-redrive-1 is SUCCEEDED"
    for more in ((), ("--hours", "0")):
        told = redrive(cloud_day, "--list", *more)[1]
        assert "executions 0" in told
        assert said in told

    status, told = redrive(cloud_day)
    assert (status, waiting(cloud_day.cloud)) == (0, 0)
    assert f"no longer to be sent: {said}" in told
    assert "0 sent again, 0 left" in told
    assert names(cloud_day, "mended") == ["mended", "mended-redrive-1"]


def put_failure(cloud_day: CloudDay, machine: str, name: str) -> None:
    """The event of an execution that Step Functions does not know."""
    now = datetime.now(UTC)
    failed = {
        "executionArn": f"{machine}:{name}".replace(*MACHINE),
        "stateMachineArn": machine,
        "name": name,
        "status": "FAILED",
        "startDate": now,
        "stopDate": now,
    }
    cloud_day.cloud.client("events").put_events(Entries=[status_change(failed)])


def test_a_child_execution_of_a_map_run_has_no_letter_of_its_own(cloud_day: CloudDay) -> None:
    """In Step Functions' form, `NAME/Label`: moto's map runs have no executions."""
    put_failure(cloud_day, f"{machine_arn(cloud_day.cloud)}/Chunks", "child")
    assert waiting(cloud_day.cloud) == 0
    put_failure(cloud_day, machine_arn(cloud_day.cloud), "parent")
    assert waiting(cloud_day.cloud) == 1
    take_out_a_letter(cloud_day.cloud)


def test_the_letter_of_an_execution_that_is_not_there_is_left_and_named(
    cloud_day: CloudDay,
) -> None:
    put_failure(cloud_day, machine_arn(cloud_day.cloud), "gone")
    status, told = redrive(cloud_day)
    assert (status, waiting(cloud_day.cloud)) == (1, 1)
    assert "not sent: gone: DescribeExecution: ExecutionDoesNotExist" in told
    take_out_a_letter(cloud_day.cloud)
