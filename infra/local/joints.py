"""The joints between services that moto lacks.

Lambda invocations go to `functions`; EventBridge rules reach Lambda and Step Functions;
rules with a rate fire; SNS e-mails are kept; executions of state machines are logged. Each
replaces one method of moto's, named in `install`.
"""

import contextlib
import copy
import json
import logging
import sched
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError
from moto.awslambda.models import LambdaFunction
from moto.events.models import EventPattern, Rule
from moto.sns.models import Subscription

from chalicelib.windows import format_utc

from .errors import LocalCloudError
from .functions import Functions, FunctionSpec, Invocation, log_tail_header

# Waits before the retries of an asynchronous invocation, as on AWS.
ASYNC_RETRY_SECONDS = (60.0, 120.0)
_RETRY_POLL_SECONDS = 0.05

# What moto's rules do not reach.
_OUR_TARGETS = ("lambda", "states")

# (service) -> the administrator's client; (service, role ARN) -> one under a role
Clients = Callable[..., Any]

_LOG = logging.getLogger(__name__)


# Taken before anything is replaced: a second cloud in one process must not call the first's.
_MOTO_SEND_TO_TARGETS = Rule.send_to_targets
_MOTO_PUBLISH = Subscription.publish


@dataclass(frozen=True, slots=True)
class Mail:
    """An e-mail that SNS would have sent."""

    to: str
    subject: str
    body: str
    sent_at: str


class Joints:
    """Everything that moves between the services; one for each local cloud."""

    def __init__(
        self,
        clients: Clients,
        functions: Functions,
        *,
        on_mail: Callable[[Mail], None],
        async_retry_seconds: Sequence[float] = ASYNC_RETRY_SECONDS,
    ) -> None:
        self._clients = clients
        self._functions = functions
        self._on_mail = on_mail
        self._async_retry_seconds = async_retry_seconds
        self._pool = ThreadPoolExecutor(max_workers=32, thread_name_prefix="event")
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._pending = 0
        self._retries = sched.scheduler()
        self._logged: set[str] = set()
        self.mails: list[Mail] = []

    def install(self) -> None:
        """Put this in the place of moto's own ends."""
        joints = self

        def invoke(
            function: LambdaFunction, body: Any, request_headers: Any, response_headers: Any
        ) -> bytes:
            return joints.invoke(function, body, request_headers, response_headers)

        def send_to_targets(rule: Rule, event: Any, *args: Any, **kwargs: Any) -> None:
            if not joints.send(rule, event):
                return
            for target in rule.targets:
                if _service(target) not in _OUR_TARGETS:
                    # Each with an event of its own, for moto rewrites it for some targets.
                    alone = copy.copy(rule)
                    alone.targets = [target]
                    alone.event_pattern = EventPattern.load(None)  # matched it has already
                    _MOTO_SEND_TO_TARGETS(alone, copy.deepcopy(event), *args, **kwargs)

        def publish(subscription: Subscription, message: str, *args: Any, **kwargs: Any) -> None:
            if subscription.protocol == "email":
                joints._mail_if_wanted(subscription, message, **kwargs)
            else:
                _MOTO_PUBLISH(subscription, message, *args, **kwargs)

        LambdaFunction.invoke = invoke  # type: ignore[method-assign, assignment]
        Rule.send_to_targets = send_to_targets  # type: ignore[method-assign, assignment]
        Subscription.publish = publish  # type: ignore[method-assign, assignment]

    def start(self) -> None:
        """Start the clock, the log of executions and the retries of asynchronous invocations."""
        for work in (self._run_clock, self._log_executions, self._run_retries):
            thread = threading.Thread(target=work, daemon=True, name=work.__name__)
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=5)
        for waiting in self._retries.queue:
            self._retries.cancel(waiting)
            self._end()
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def idle(self) -> bool:
        """Whether no asynchronous invocation is waiting or under way."""
        with self._lock:
            return self._pending == 0

    @property
    def only_retries_left(self) -> bool:
        """Whether no asynchronous invocation is under way; some may wait to be tried again."""
        with self._lock:
            return self._pending == len(self._retries.queue)

    # --- Lambda ---------------------------------------------------------------------------

    def invoke(
        self, function: LambdaFunction, body: Any, headers: Any, response_headers: dict[str, str]
    ) -> bytes:
        """What Lambda's Invoke does with a function of moto's."""
        payload = body.encode() if isinstance(body, str) else body or b"{}"
        if headers.get("X-Amz-Invocation-Type") == "Event":
            self._submit(function, payload)
            return b""
        invocation = self._functions.invoke(spec_of(function), payload)
        if invocation.error:
            response_headers["x-amz-function-error"] = "Unhandled"
        response_headers["x-amz-log-result"] = log_tail_header(invocation)
        return invocation.payload

    def _submit(self, function: LambdaFunction, payload: bytes) -> None:
        with self._lock:
            self._pending += 1
        self._pool.submit(self._try, function, payload, 0)

    def _try(self, function: LambdaFunction, payload: bytes, tried: int) -> None:
        """One try of an asynchronous invocation; the next one waits outside of the pool."""
        again = False
        try:
            config: Mapping[str, Any] = {}
            if function.event_invoke_config:
                # moto keeps what was configured before, too.
                config = function.event_invoke_config[-1].response()
            retries = int(config.get("MaximumRetryAttempts", 2))
            invocation = self._functions.invoke(spec_of(function), payload)
            if not invocation.error:
                return
            if again := tried < retries:
                self._retry_later(function, payload, tried)
                return
            destination = (
                config.get("DestinationConfig", {}).get("OnFailure", {}).get("Destination")
            )
            if destination:
                self._dead_letter(destination, function, payload, invocation, tried + 1)
        finally:
            if not again:
                self._end()

    def _end(self) -> None:
        with self._lock:
            self._pending -= 1

    def _retry_later(self, function: LambdaFunction, payload: bytes, tried: int) -> None:
        arguments = (self._try, function, payload, tried + 1)
        self._retries.enter(self._async_retry_seconds[tried], 0, self._pool.submit, arguments)

    def _run_retries(self) -> None:
        while not self._stopping.wait(_RETRY_POLL_SECONDS):
            self._retries.run(blocking=False)

    def _dead_letter(
        self,
        queue_arn: str,
        function: LambdaFunction,
        payload: bytes,
        invocation: Invocation,
        attempts: int,
    ) -> None:
        # Lambda sends under the function's role; it knows where the queue is by itself.
        url = self._clients("sqs").get_queue_url(QueueName=queue_arn.rpartition(":")[2])["QueueUrl"]
        sqs = self._clients("sqs", function.role)
        record = {
            "version": "1.0",
            "timestamp": format_utc(datetime.now(UTC)),
            "requestContext": {
                "requestId": invocation.request_id,
                "functionArn": f"{function.function_arn}:$LATEST",
                "condition": "RetriesExhausted",
                "approximateInvokeCount": attempts,
            },
            "requestPayload": json.loads(payload),
            "responseContext": {
                "statusCode": 200,
                "executedVersion": "$LATEST",
                "functionError": "Unhandled",
            },
            "responsePayload": json.loads(invocation.payload),
        }
        sqs.send_message(QueueUrl=url, MessageBody=json.dumps(record))

    # --- EventBridge ----------------------------------------------------------------------

    def send(self, rule: Rule, event: Any) -> bool:
        """Send an event to the functions and state machines of a rule that matches it.

        Returns whether the rule matches; its other targets are moto's to serve.
        """
        # moto takes a rule without a pattern, one on the clock, to match every event.
        if rule.state != "ENABLED" or not rule.event_pattern.get_pattern():
            return False
        event = _as_on_aws(event)
        if not rule.event_pattern.matches_event(event):
            return False
        for target in rule.targets:
            if _service(target) in _OUR_TARGETS:
                self._deliver(target, event)
        return True

    def _deliver(self, target: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        payload = json.dumps(event)
        if _service(target) == "states":
            self._clients("stepfunctions", target["RoleArn"]).start_execution(
                stateMachineArn=target["Arn"], name=event["id"], input=payload
            )
        else:
            # Through the API, so that what is not there fails as it would on AWS.
            self._clients("lambda").invoke(
                FunctionName=target["Arn"], InvocationType="Event", Payload=payload
            )

    def fire(self, rule: Mapping[str, Any]) -> str:
        """Let a scheduled rule fire now; the event's ID."""
        event = {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": "Scheduled Event",
            "source": "aws.events",
            "account": rule["Arn"].split(":")[4],
            "time": format_utc(datetime.now(UTC)),
            "region": rule["Arn"].split(":")[3],
            "resources": [rule["Arn"]],
            "detail": {},
        }
        for target in self._clients("events").list_targets_by_rule(Rule=rule["Name"])["Targets"]:
            if _service(target) not in _OUR_TARGETS:
                raise LocalCloudError(f"the clock of the local cloud cannot reach {target['Arn']}")
            self._deliver(target, event)
        return str(event["id"])

    def scheduled_rules(self) -> list[dict[str, Any]]:
        """The enabled rules with a rate."""
        rules = self._clients("events").list_rules()["Rules"]
        return [
            rule
            for rule in rules
            if rule["State"] == "ENABLED" and rule.get("ScheduleExpression", "").startswith("rate(")
        ]

    def fire_all(self) -> list[str]:
        """Let every enabled rule with a rate fire now; the events' IDs."""
        return [self.fire(rule) for rule in self.scheduled_rules()]

    def _run_clock(self) -> None:
        due: dict[str, datetime] = {}
        while not self._stopping.wait(1):
            now = datetime.now(UTC)
            for rule in self.scheduled_rules():
                interval = rate_interval(rule["ScheduleExpression"])
                if due.setdefault(rule["Arn"], now + interval) <= now:
                    due[rule["Arn"]] += interval
                    with _going_on(rule["Name"]):
                        self.fire(rule)

    # --- SNS and Step Functions -----------------------------------------------------------

    def _mail_if_wanted(self, subscription: Subscription, message: str, **sent: Any) -> None:
        """An e-mail, unless the subscription's filter policy is against it."""
        matcher = subscription._filter_policy_matcher
        attributes = sent.get("message_attributes")
        # To moto `"exists": false` holds without any attribute, too; to AWS nothing does then:
        # https://docs.aws.amazon.com/sns/latest/dg/attribute-key-matching.html
        if matcher and not (attributes and matcher.matches(attributes, message)):
            return
        if sent.get("message_structure") == "json":
            texts = json.loads(message)
            message = texts.get("email", texts["default"])
        self._mail(subscription.endpoint, sent.get("subject"), message)

    def _mail(self, to: str, subject: str | None, body: str) -> None:
        mail = Mail(to, subject or "AWS Notification Message", body, format_utc(datetime.now(UTC)))
        self.mails.append(mail)
        self._on_mail(mail)

    def mails_as_dicts(self) -> list[dict[str, str]]:
        return [asdict(mail) for mail in self.mails]

    def _log_executions(self) -> None:
        """The history of each finished execution, in the state machine's log group."""
        while not self._stopping.wait(0.5):
            sfn = self._clients("stepfunctions")
            for machine in sfn.list_state_machines()["stateMachines"]:
                with _going_on(machine["name"]):
                    self._log_executions_of(machine["stateMachineArn"])

    def _log_executions_of(self, machine_arn: str) -> None:
        sfn, logs = self._clients("stepfunctions"), self._clients("logs")
        for execution in sfn.list_executions(stateMachineArn=machine_arn)["executions"]:
            arn = execution["executionArn"]
            if arn in self._logged or execution["status"] == "RUNNING":
                continue
            self._logged.add(arn)
            machine = sfn.describe_state_machine(stateMachineArn=machine_arn)
            stream = f"states/{execution['name']}/{int(time.time())}"
            history = sfn.get_execution_history(executionArn=arn)["events"]
            events = [
                {
                    "timestamp": int(event["timestamp"].timestamp() * 1000),
                    "message": json.dumps(
                        {
                            "id": str(event["id"]),
                            "type": event["type"],
                            "execution_arn": arn,
                            "previous_event_id": str(event.get("previousEventId", 0)),
                        }
                    ),
                }
                for event in history
            ]
            configuration = machine.get("loggingConfiguration", {})
            for destination in configuration.get("destinations", []):
                group = destination["cloudWatchLogsLogGroup"]["logGroupArn"].split(":")[6]
                logs.create_log_stream(logGroupName=group, logStreamName=stream)
                logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)


@contextlib.contextmanager
def _going_on(name: str) -> Iterator[None]:
    """What is deleted meanwhile fails alone: the loop that came by it has others to serve."""
    try:
        yield
    except (ClientError, LocalCloudError) as error:
        _LOG.warning("%s: %s", name, error)


def rate_interval(expression: str) -> timedelta:
    """The span of `rate(value unit)`."""
    value, unit = expression.removeprefix("rate(").removesuffix(")").split()
    return timedelta(**{f"{unit.rstrip('s')}s": int(value)})


def spec_of(function: LambdaFunction) -> FunctionSpec:
    """What moto keeps of a deployed function."""
    return FunctionSpec(
        name=function.function_name,
        arn=function.function_arn,
        role=function.role,
        handler=str(function.handler),
        runtime=str(function.run_time),
        region=function.region,
        memory_mb=int(function.memory_size),
        timeout=float(function.timeout),
        environment=dict(function.environment_vars),
        code=function.code_bytes,
    )


def _service(target: Mapping[str, Any]) -> str:
    return str(target["Arn"].split(":")[2])


def _as_on_aws(event: Mapping[str, Any]) -> dict[str, Any]:
    """An event in the form that EventBridge delivers; moto's differs in small ways."""
    form: dict[str, Any] = json.loads(json.dumps(event))
    if isinstance(form["time"], int | float):
        form["time"] = format_utc(datetime.fromtimestamp(form["time"], UTC))
    form["id"] = str(uuid.uuid4())
    reason = str(form["detail"].get("reason", ""))
    if reason.startswith("ObjectCreated:"):
        form["detail"]["reason"] = f"{reason.partition(':')[2]}Object"
    return form
