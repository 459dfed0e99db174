"""Wiring between the services of the local cloud, where moto has none or a different one.

Lambda invocations run in `lambda_`. EventBridge rules reach Lambda functions and state machines,
and scheduled rules are triggered. E-mails that SNS would send are captured. Executions of state
machines are logged, and their ends become EventBridge events. Queue depths become metrics.
"""

import copy
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from moto.awslambda.models import LambdaFunction
from moto.events.models import EventPattern, Rule
from moto.sns.models import Subscription

from chalicelib.model.windows import format_utc

from .clients import Clients
from .cloudwatch.service_metrics import ServiceMetrics
from .eventbridge.events import Events, is_delivered_here
from .lambda_.functions import Functions
from .lambda_.invocations import ASYNC_RETRY_SECONDS, Invocations
from .patching import original, patch
from .sqs.queues import Queues
from .stepfunctions.executions import Executions


@dataclass(frozen=True, slots=True)
class Mail:
    """An e-mail that SNS would send."""

    to: str
    subject: str
    body: str
    sent_at: str


class Wiring:
    """The connections between the services of one local cloud, and their background threads."""

    def __init__(
        self,
        clients: Clients,
        functions: Functions,
        service_metrics: ServiceMetrics,
        *,
        on_mail: Callable[[Mail], None],
        async_retry_seconds: Sequence[float] = ASYNC_RETRY_SECONDS,
    ) -> None:
        self.invocations = Invocations(clients, functions, async_retry_seconds)
        self.events = Events(clients)
        self._executions = Executions(clients, service_metrics)
        self._queues = Queues(clients, service_metrics)
        self._on_mail = on_mail
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self.mails: list[Mail] = []

    def install(self) -> None:
        """Replace moto's Lambda invocation, its event delivery and its SNS delivery."""
        wiring = self

        def invoke(
            function: LambdaFunction, body: Any, request_headers: Any, response_headers: Any
        ) -> bytes:
            return wiring.invocations.invoke(function, body, request_headers, response_headers)

        def send_to_targets(rule: Rule, event: Any, *args: Any, **kwargs: Any) -> None:
            if not wiring.events.send(rule, event):
                return
            for target in rule.targets:
                if not is_delivered_here(target):
                    # One copy of the event for each target: moto modifies it for some targets.
                    single = copy.copy(rule)
                    single.targets = [target]
                    single.event_pattern = EventPattern.load(None)  # the event already matched
                    original(Rule, "send_to_targets")(single, copy.deepcopy(event), *args, **kwargs)

        def publish(subscription: Subscription, message: str, *args: Any, **kwargs: Any) -> None:
            if subscription.protocol == "email":
                wiring._deliver_mail(subscription, message, **kwargs)
            else:
                original(Subscription, "publish")(subscription, message, *args, **kwargs)

        patch(LambdaFunction, "invoke", invoke)
        patch(Rule, "send_to_targets", send_to_targets)
        patch(Subscription, "publish", publish)

    def start(self) -> None:
        """Start the threads for schedules, executions, queues and asynchronous retries."""
        for work in (
            self.events.run_schedules,
            self._executions.run,
            self._queues.run,
            self.invocations.run_retries,
        ):
            thread = threading.Thread(
                target=work, args=(self._stopping,), daemon=True, name=work.__qualname__
            )
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """Stop the threads and discard pending retries."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=5)
        self.invocations.close()

    @property
    def idle(self) -> bool:
        """Whether no asynchronous invocation is pending or running."""
        return self.invocations.idle

    @property
    def only_retries_left(self) -> bool:
        """Whether every pending asynchronous invocation is waiting for its next retry."""
        return self.invocations.only_retries_left

    def trigger_all(self) -> list[str]:
        """Trigger every enabled rule with a rate now; return the IDs of the events."""
        return self.events.trigger_all()

    def trigger(self, rule: str) -> str:
        """Trigger one scheduled rule by name now; return the ID of the event."""
        return self.events.trigger(rule)

    def _deliver_mail(self, subscription: Subscription, message: str, **kwargs: Any) -> None:
        """Capture an e-mail if the message matches the subscription's filter policy."""
        matcher = subscription._filter_policy_matcher
        attributes = kwargs.get("message_attributes")
        # In moto, `"exists": false` matches a message without attributes. On AWS, a message
        # without attributes matches no filter policy:
        # https://docs.aws.amazon.com/sns/latest/dg/attribute-key-matching.html
        if matcher and not (attributes and matcher.matches(attributes, message)):
            return
        if kwargs.get("message_structure") == "json":
            texts = json.loads(message)
            message = texts.get("email", texts["default"])
        self._capture(subscription.endpoint, kwargs.get("subject"), message)

    def _capture(self, to: str, subject: str | None, body: str) -> None:
        mail = Mail(to, subject or "AWS Notification Message", body, format_utc(datetime.now(UTC)))
        self.mails.append(mail)
        self._on_mail(mail)

    def mails_as_dicts(self) -> list[dict[str, str]]:
        return [asdict(mail) for mail in self.mails]
