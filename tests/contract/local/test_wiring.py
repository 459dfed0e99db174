"""The wiring connects moto's services; Lambda is a fake."""

import json
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
    """Clients of moto in this process."""
    monkeypatch.setitem(default_user_config, "stepfunctions", {"execute_state_machine": True})
    created: dict[str, Any] = {}
    with mock_aws():
        factory: Any = boto3.client
        for service in ("stepfunctions", "events", "logs", "sqs", "sns"):
            created[service] = factory(service, region_name=REGION)

        def client(service: str, _role: str = "") -> Any:
            return created[service]

        yield client


@pytest.fixture
def make(clients: Callable[[str], Any]) -> Iterator[Callable[..., Wiring]]:
    """Create wiring with moto's clients; it is closed after the test."""
    created: list[Wiring] = []

    def make(functions: Any = None, **changes: Any) -> Wiring:
        arguments: dict[str, Any] = {"on_mail": lambda _: None, **changes}
        service_metrics = ServiceMetrics(Metrics(CloudWatchBackend(REGION, ACCOUNT)), Clock())
        created.append(Wiring(clients, functions, service_metrics, **arguments))
        return created[-1]

    yield make
    for each in created:
        each.close()


def machine(clients: Callable[[str], Any], name: str) -> str:
    """Create a state machine that logs to a log group with its name."""
    clients("logs").create_log_group(logGroupName=name)
    group = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{name}:*"
    response = clients("stepfunctions").create_state_machine(
        name=name,
        definition=MACHINE,
        roleArn=ROLE,
        loggingConfiguration={
            "level": "ALL",
            "destinations": [{"cloudWatchLogsLogGroup": {"logGroupArn": group}}],
        },
    )
    return str(response["stateMachineArn"])


class FailingFunctions:
    """A fake of Lambda: an invocation with the payload "fail" fails."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []

    def invoke(self, _: FunctionSpec, payload: bytes) -> Invocation:
        self.payloads.append(payload)
        return Invocation("id", b"{}", payload == b'"fail"', 1.0, None, 1.0, "")


def send(wiring: Wiring, payload: str) -> None:
    """Invoke a function asynchronously, with the default configuration."""
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


def test_events_that_wait_for_a_retry_do_not_block_others(
    make: Callable[..., Wiring], eventually: Eventually
) -> None:
    """There are more waiting events than threads in the pool."""
    functions = FailingFunctions()
    wiring = make(functions, async_retry_seconds=(86_400, 86_400))
    for _ in range(40):
        send(wiring, '"fail"')
    send(wiring, '"pass"')
    eventually(lambda: b'"pass"' in functions.payloads)


def test_a_failing_event_is_attempted_three_times_and_is_pending_until_then(
    make: Callable[..., Wiring], eventually: Eventually
) -> None:
    functions = FailingFunctions()
    wiring = make(functions, async_retry_seconds=(0, 0))
    send(wiring, '"fail"')
    eventually(lambda: wiring.only_retries_left)
    assert not wiring.idle
    wiring.start()  # starts the retries
    eventually(lambda: wiring.idle)
    assert len(functions.payloads) == 3


def test_close_discards_the_pending_retries(
    make: Callable[..., Wiring], eventually: Eventually
) -> None:
    functions = FailingFunctions()
    wiring = make(functions, async_retry_seconds=(0, 0))
    send(wiring, '"fail"')
    eventually(lambda: wiring.only_retries_left)
    wiring.close()
    assert wiring.idle
    wiring.invocations.run_due_retries()
    assert len(functions.payloads) == 1


def test_executions_are_logged_after_an_error_about_another_machines_log_group(
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
    """Create installed wiring; moto's methods are restored after the test."""
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
def test_a_schedule_is_next_due_after_a_time(expression: str, now: str, due: str) -> None:
    moment = datetime.fromisoformat(now).replace(tzinfo=UTC)
    assert events_module.next_due(expression, moment).isoformat() == f"{due}+00:00"


def test_an_unsupported_schedule_is_an_error() -> None:
    with pytest.raises(LocalCloudError, match="supports only daily cron"):
        events_module.next_due("cron(0 3 1 * ? *)", datetime.now(UTC))


def test_scheduled_rules_are_triggered_after_an_error_about_another_rules_target(
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
    """Create a rule for two queues and a log group, put an event, return the received types."""
    make_installed()  # an earlier cloud in the same process
    make_installed()
    events, sqs, logs = clients("events"), clients("sqs"), clients("logs")

    def put_event(**rule: str) -> list[str]:
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
        received = [
            json.loads(message["Body"])["detail-type"]
            for url in urls
            for message in sqs.receive_message(QueueUrl=url).get("Messages", [])
        ]
        logged = logs.filter_log_events(logGroupName="three")["events"]
        return received + [json.loads(event["message"])["detail-type"] for event in logged]

    return put_event


def test_a_rule_reaches_the_targets_that_moto_supports(rule: Callable[..., list[str]]) -> None:
    assert rule(EventPattern='{"source": ["tests"]}') == ["Tried", "Tried", "Tried"]


@pytest.mark.parametrize(
    "changes",
    [
        {"EventPattern": '{"source": ["others"]}'},
        {"EventPattern": '{"source": ["tests"]}', "State": "DISABLED"},
        {"ScheduleExpression": "rate(3 hours)"},
    ],
    ids=["other source", "disabled", "scheduled"],
)
def test_a_rule_that_does_not_match_reaches_no_target(
    changes: dict[str, str], rule: Callable[..., list[str]]
) -> None:
    assert rule(**changes) == []


@pytest.fixture
def publish(
    clients: Callable[[str], Any], make: Callable[..., Wiring], monkeypatch: pytest.MonkeyPatch
) -> Publish:
    """Return a function that publishes to a topic and returns the bodies of the e-mails."""
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


def test_an_email_has_the_text_for_the_email_protocol(publish: Publish) -> None:
    texts = json.dumps({"default": "for all", "email": "for people", "sqs": "{}"})
    assert publish(None, texts, MessageStructure="json") == ["for people"]


def test_an_email_has_the_default_text_without_a_text_for_its_protocol(publish: Publish) -> None:
    texts = json.dumps({"default": "for all", "sqs": "{}"})
    assert publish(None, texts, MessageStructure="json") == ["for all"]


@pytest.mark.parametrize(("severity", "mails"), [("page", []), ("ok", ["text"])])
def test_an_email_subscription_gets_messages_that_match_its_filter_policy(
    severity: str, mails: list[str], publish: Publish
) -> None:
    policy = {"severity": [{"anything-but": ["page"]}]}
    assert publish(policy, "text", MessageAttributes=attribute(severity)) == mails


def test_a_message_without_attributes_matches_no_filter_policy(publish: Publish) -> None:
    """As on AWS, this includes a policy that requires an attribute to be absent."""
    assert publish({"severity": [{"exists": False}]}, "text") == []
