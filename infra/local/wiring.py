"""The wiring between services that moto lacks.

Lambda invocations go to `functions`; EventBridge rules reach Lambda and Step Functions;
rules with a rate fire; SNS e-mails are kept; executions of state machines are logged, and
EventBridge hears of their end. What replaces a method of moto's is named in `install`.
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

from .cloudwatch.service_metrics import ServiceMetrics
from .eventbridge.events import Events, is_ours
from .lambda_.functions import Functions
from .lambda_.invocations import ASYNC_RETRY_SECONDS, Invocations
from .shared import Clients
from .sqs.queues import Queues
from .stepfunctions.executions import Executions

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


class Wiring:
    """Everything that moves between the services; one for each local cloud."""

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
        """Put this in the place of moto's own ends."""
        wiring = self

        def invoke(
            function: LambdaFunction, body: Any, request_headers: Any, response_headers: Any
        ) -> bytes:
            return wiring.invocations.invoke(function, body, request_headers, response_headers)

        def send_to_targets(rule: Rule, event: Any, *args: Any, **kwargs: Any) -> None:
            if not wiring.events.send(rule, event):
                return
            for target in rule.targets:
                if not is_ours(target):
                    # Each with an event of its own, for moto rewrites it for some targets.
                    alone = copy.copy(rule)
                    alone.targets = [target]
                    alone.event_pattern = EventPattern.load(None)  # matched it has already
                    _MOTO_SEND_TO_TARGETS(alone, copy.deepcopy(event), *args, **kwargs)

        def publish(subscription: Subscription, message: str, *args: Any, **kwargs: Any) -> None:
            if subscription.protocol == "email":
                wiring._mail_if_wanted(subscription, message, **kwargs)
            else:
                _MOTO_PUBLISH(subscription, message, *args, **kwargs)

        LambdaFunction.invoke = invoke  # type: ignore[method-assign, assignment]  # in the place of moto's
        Rule.send_to_targets = send_to_targets  # type: ignore[method-assign, assignment]  # in the place of moto's
        Subscription.publish = publish  # type: ignore[method-assign, assignment]  # in the place of moto's

    def start(self) -> None:
        """Start the clock, what tells of executions and queues, and the retries."""
        for work in (
            self.events.run_clock,
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
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=5)
        self.invocations.close()

    @property
    def idle(self) -> bool:
        """Whether no asynchronous invocation is waiting or under way."""
        return self.invocations.idle

    @property
    def only_retries_left(self) -> bool:
        """Whether no asynchronous invocation is under way; some may wait to be tried again."""
        return self.invocations.only_retries_left

    def trigger_all(self) -> list[str]:
        """Let every enabled rule with a rate fire now; the events' IDs."""
        return self.events.trigger_all()

    def fire(self, rule: str) -> str:
        """Let one scheduled rule fire now; the event's ID."""
        return self.events.fire_named(rule)

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
