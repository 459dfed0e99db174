"""The wiring of the local cloud by themselves, between services that are moto's or made up."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.awslambda.models import LambdaFunction
from moto.cloudwatch.models import CloudWatchBackend
from moto.core.config import default_user_config
from moto.events.models import Rule
from moto.sns.models import Subscription

from infra.local.cloudwatch.clock import Clock
from infra.local.cloudwatch.metrics import Metrics
from infra.local.cloudwatch.service_metrics import ServiceMetrics
from infra.local.errors import LocalCloudError
from infra.local.eventbridge import events as events_module
from infra.local.lambda_.environment import FunctionSpec, Invocation
from infra.local.wiring import Wiring
from tests.conftest import ACCOUNT, REGION

Eventually = Callable[..., Any]

ROLE = f"arn:aws:iam::{ACCOUNT}:role/any"
Publish = Callable[..., list[str]]

MACHINE = '{"StartAt": "Pass", "States": {"Pass": {"Type": "Pass", "End": true}}}'


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Any]]:
    """Clients of moto in this process, each made once."""
    monkeypatch.setitem(default_user_config, "stepfunctions", {"execute_state_machine": True})
    made: dict[str, Any] = {}
    with mock_aws():
        factory: Any = boto3.client
        for service in ("stepfunctions", "events", "logs", "sqs", "sns"):
            made[service] = factory(service, region_name=REGION)

        def client(service: str, _role: str = "") -> Any:
            return made[service]

        yield client


@pytest.fixture
def make(clients: Callable[[str], Any]) -> Iterator[Callable[..., Wiring]]:
    """Wiring of moto's clients, closed at the end."""
    made: list[Wiring] = []

    def make(functions: Any = None, **changes: Any) -> Wiring:
        arguments: dict[str, Any] = {"on_mail": lambda _: None, **changes}
        service_metrics = ServiceMetrics(Metrics(CloudWatchBackend(REGION, ACCOUNT)), Clock())
        made.append(Wiring(clients, functions, service_metrics, **arguments))
        return made[-1]

    yield make
    for each in made:
        each.close()


def machine(clients: Callable[[str], Any], name: str) -> str:
    """A state machine that logs to a group of its name."""
    clients("logs").create_log_group(logGroupName=name)
    group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{name}:*"
    made = clients("stepfunctions").create_state_machine(
        name=name,
        definition=MACHINE,
        roleArn=ROLE,
        loggingConfiguration={
            "level": "ALL",
            "destinations": [{"cloudWatchLogsLogGroup": {"logGroupArn": group}}],
        },
    )
    return str(made["stateMachineArn"])


class FailingFunctions:
    """Lambda, where every function with the payload `fail` does so at once."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []

    def invoke(self, _: FunctionSpec, payload: bytes) -> Invocation:
        self.payloads.append(payload)
        return Invocation("id", b"{}", payload == b'"fail"', 1.0, None, 1.0, "")


def send(wiring: Wiring, payload: str) -> None:
    """An asynchronous invocation of a function with nothing configured."""
    function: Any = SimpleNamespace(
        event_invoke_config=[],
        function_name="any",
        function_arn="arn",
        role=ROLE,
        handler="app.any",
        run_time="python3.11",
        region=REGION,
        memory_size=128,
        timeout=30,
        environment_vars={},
        code_bytes=b"",
    )
    wiring.invocations.invoke(function, payload, {"X-Amz-Invocation-Type": "Event"}, {})


def test_failing_events_that_wait_for_a_retry_stall_no_other(
    make: Callable[..., Wiring], eventually: Eventually
) -> None:
    """More of them than the pool has workers."""
    functions = FailingFunctions()
    wiring = make(functions, async_retry_seconds=(86_400, 86_400))
    for _ in range(40):
        send(wiring, '"fail"')
    send(wiring, '"pass"')
    eventually(lambda: b'"pass"' in functions.payloads)


def test_a_failing_event_is_tried_three_times_and_is_pending_till_then(
    make: Callable[..., Wiring], eventually: Eventually
) -> None:
    functions = FailingFunctions()
    wiring = make(functions, async_retry_seconds=(0.3, 0.3))
    wiring.start()
    send(wiring, '"fail"')
    eventually(lambda: wiring.only_retries_left)
    assert not wiring.idle
    eventually(lambda: wiring.idle)
    assert len(functions.payloads) == 3


def test_closing_cancels_what_waits_for_a_retry(
    make: Callable[..., Wiring], eventually: Eventually
) -> None:
    functions = FailingFunctions()
    wiring = make(functions, async_retry_seconds=(0.5, 0.5))
    wiring.start()
    send(wiring, '"fail"')
    eventually(lambda: wiring.only_retries_left)
    wiring.close()
    assert wiring.idle
    time.sleep(1)
    assert len(functions.payloads) == 1


def test_the_log_of_executions_outlives_a_machine_whose_log_group_is_gone(
    make: Callable[..., Wiring], clients: Callable[[str], Any], eventually: Eventually
) -> None:
    sfn, logs = clients("stepfunctions"), clients("logs")
    broken, whole = machine(clients, "broken"), machine(clients, "whole")
    logs.delete_log_group(logGroupName="broken")
    sfn.start_execution(stateMachineArn=broken, name="first")
    make().start()
    eventually(lambda: sfn.list_executions(stateMachineArn=broken)["executions"])
    sfn.start_execution(stateMachineArn=whole, name="second")
    assert eventually(lambda: logs.describe_log_streams(logGroupName="whole")["logStreams"])


@pytest.fixture
def make_installed(
    make: Callable[..., Wiring], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], Wiring]:
    """Make wiring that are in the place of moto's own ends, until the test is over."""
    for owner, name in (
        (LambdaFunction, "invoke"),
        (Rule, "send_to_targets"),
        (Subscription, "publish"),
    ):
        monkeypatch.setattr(owner, name, getattr(owner, name))

    def make_installed() -> Wiring:
        wiring = make()
        wiring.install()
        return wiring

    return make_installed


@pytest.mark.parametrize(
    ("expression", "now", "due"),
    [
        ("rate(3 hours)", "2026-11-22T18:10:00", "2026-11-22T21:10:00"),
        ("cron(30 3 * * ? *)", "2026-11-22T03:29:59", "2026-11-22T03:30:00"),
        ("cron(30 3 * * ? *)", "2026-11-22T03:30:00", "2026-11-23T03:30:00"),
        ("cron(30 3 * * ? *)", "2026-12-31T18:00:00", "2027-01-01T03:30:00"),
    ],
)
def test_a_schedule_is_due_at_its_next_time(expression: str, now: str, due: str) -> None:
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
    assert events_module.next_after(expression, moment).isoformat() == f"{due}+00:00"


def test_a_schedule_that_is_not_known_is_refused() -> None:
    with pytest.raises(LocalCloudError, match="does not know cron"):
        events_module.next_after("cron(0 3 1 * ? *)", datetime.now(UTC))


def test_the_clock_outlives_a_rule_whose_target_is_gone(
    make_installed: Callable[[], Wiring],
    clients: Callable[[str], Any],
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events_module, "rate_interval", lambda _: timedelta(seconds=1))
    events, sfn = clients("events"), clients("stepfunctions")
    whole = machine(clients, "whole")
    for name, target in (("a-broken", whole.replace("whole", "deleted")), ("b-whole", whole)):
        events.put_rule(Name=name, ScheduleExpression="rate(1 minute)")
        events.put_targets(Rule=name, Targets=[{"Id": "1", "Arn": target, "RoleArn": ROLE}])
    make_installed().start()
    assert eventually(lambda: sfn.list_executions(stateMachineArn=whole)["executions"])


@pytest.fixture
def rule(
    make_installed: Callable[[], Wiring], clients: Callable[[str], Any]
) -> Callable[..., list[str]]:
    """Make a rule on two queues and a log group, put an event, and say where it arrived."""
    make_installed()  # an earlier cloud of the same process
    make_installed()
    events, sqs, logs = clients("events"), clients("sqs"), clients("logs")

    def try_out(**rule: str) -> list[str]:
        events.put_rule(Name="rule", **rule)
        urls = [sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("one", "two")]
        logs.create_log_group(logGroupName="three")
        targets = [f"sqs:{REGION}:{ACCOUNT}:{name}" for name in ("one", "two")]
        targets.append(f"logs:{REGION}:{ACCOUNT}:log-group:three")
        events.put_targets(
            Rule="rule",
            Targets=[{"Id": arn[-3:], "Arn": f"arn:aws:{arn}"} for arn in targets],
        )
        events.put_events(
            Entries=[{"Source": "tests", "DetailType": "Tried", "Detail": '{"reason": "any"}'}]
        )
        arrived = [
            json.loads(message["Body"])["detail-type"]
            for url in urls
            for message in sqs.receive_message(QueueUrl=url).get("Messages", [])
        ]
        logged = logs.filter_log_events(logGroupName="three")["events"]
        return arrived + [json.loads(event["message"])["detail-type"] for event in logged]

    return try_out


def test_a_rule_still_reaches_the_targets_that_moto_serves(rule: Callable[..., list[str]]) -> None:
    assert rule(EventPattern='{"source": ["tests"]}') == ["Tried", "Tried", "Tried"]


@pytest.mark.parametrize(
    "silent",
    [
        {"EventPattern": '{"source": ["others"]}'},
        {"EventPattern": '{"source": ["tests"]}', "State": "DISABLED"},
        {"ScheduleExpression": "rate(3 hours)"},
    ],
    ids=["others'", "disabled", "on the clock"],
)
def test_a_rule_that_does_not_match_reaches_none_of_them(
    silent: dict[str, str], rule: Callable[..., list[str]]
) -> None:
    assert rule(**silent) == []


@pytest.fixture
def publish(
    clients: Callable[[str], Any], make: Callable[..., Wiring], monkeypatch: pytest.MonkeyPatch
) -> Publish:
    """Publishes to a topic with a mail box; the bodies of the mails that came of it."""
    monkeypatch.setattr(Subscription, "publish", Subscription.publish)
    monkeypatch.setattr(LambdaFunction, "invoke", LambdaFunction.invoke)
    monkeypatch.setattr(Rule, "send_to_targets", Rule.send_to_targets)
    wiring, sns = make(), clients("sns")
    wiring.install()
    topic = sns.create_topic(Name="any")["TopicArn"]

    def publish(policy: dict[str, Any] | None, message: str, **arguments: Any) -> list[str]:
        attributes = {"FilterPolicy": json.dumps(policy)} if policy else {}
        sns.subscribe(
            TopicArn=topic, Protocol="email", Endpoint="a@example.com", Attributes=attributes
        )
        sns.publish(TopicArn=topic, Message=message, **arguments)
        return [mail.body for mail in wiring.mails]

    return publish


def attribute(value: str) -> dict[str, Any]:
    return {"severity": {"DataType": "String", "StringValue": value}}


def test_a_mail_is_the_text_that_is_meant_for_mail_boxes(publish: Publish) -> None:
    texts = json.dumps({"default": "for all", "email": "for people", "sqs": "{}"})
    assert publish(None, texts, MessageStructure="json") == ["for people"]


def test_a_mail_box_gets_the_text_for_all_where_there_is_none_for_it(publish: Publish) -> None:
    texts = json.dumps({"default": "for all", "sqs": "{}"})
    assert publish(None, texts, MessageStructure="json") == ["for all"]


@pytest.mark.parametrize(("severity", "mails"), [("page", []), ("ok", ["text"])])
def test_a_mail_box_gets_what_its_filter_policy_lets_through(
    severity: str, mails: list[str], publish: Publish
) -> None:
    policy = {"severity": [{"anything-but": ["page"]}]}
    assert publish(policy, "text", MessageAttributes=attribute(severity)) == mails


def test_a_message_without_attributes_passes_no_filter_policy(publish: Publish) -> None:
    """As on AWS, even where the policy asks for an attribute not to be there."""
    assert publish({"severity": [{"exists": False}]}, "text") == []
