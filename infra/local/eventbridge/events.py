"""EventBridge: rules on a pattern and on a rate, to functions and state machines."""

import json
import threading
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.events.models import Rule

from chalicelib.model.windows import format_utc

from ..errors import LocalCloudError
from ..shared import Clients, log_and_continue

# What moto's rules do not reach.
_OUR_TARGETS = ("lambda", "states")


class Events:
    """Delivers what moto's rules do not, and lets the scheduled ones fire."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

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
            if is_ours(target):
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
            if not is_ours(target):
                raise LocalCloudError(f"the clock of the local cloud cannot reach {target['Arn']}")
            self._deliver(target, event)
        return str(event["id"])

    def scheduled_rules(self) -> list[dict[str, Any]]:
        """The enabled rules with a rate."""
        return self._enabled("rate(")

    def _enabled(self, *schedules: str) -> list[dict[str, Any]]:
        rules = self._clients("events").list_rules()["Rules"]
        return [
            rule
            for rule in rules
            if rule["State"] == "ENABLED"
            and rule.get("ScheduleExpression", "").startswith(schedules)
        ]

    def trigger_all(self) -> list[str]:
        """Let every enabled rule with a rate fire now; the events' IDs."""
        return [self.fire(rule) for rule in self.scheduled_rules()]

    def fire_named(self, name: str) -> str:
        """Let one rule fire now, whatever its schedule; the event's ID."""
        return self.fire(self._clients("events").describe_rule(Name=name))

    def run_clock(self, stopping: threading.Event) -> None:
        """Fire every scheduled rule when it is due, until it is time to stop."""
        due: dict[str, datetime] = {}
        while not stopping.wait(1):
            now = datetime.now(UTC)
            for rule in self._enabled("rate(", "cron("):
                expression = rule["ScheduleExpression"]
                if due.setdefault(rule["Arn"], next_after(expression, now)) <= now:
                    due[rule["Arn"]] = next_after(expression, due[rule["Arn"]])
                    with log_and_continue(rule["Name"]):
                        self.fire(rule)


def is_ours(target: Mapping[str, Any]) -> bool:
    """Whether a rule's target is one that moto does not reach."""
    return _service(target) in _OUR_TARGETS


def next_after(expression: str, moment: datetime) -> datetime:
    """When a schedule is due next: `rate(value unit)`, or daily `cron(minute hour * * ? *)`."""
    if expression.startswith("rate("):
        return moment + rate_interval(expression)
    minute, hour, *rest = expression.removeprefix("cron(").removesuffix(")").split()
    if rest != ["*", "*", "?", "*"]:
        raise LocalCloudError(f"the clock of the local cloud does not know {expression}")
    due = moment.replace(hour=int(hour), minute=int(minute), second=0, microsecond=0)
    return due if due > moment else due + timedelta(days=1)


def rate_interval(expression: str) -> timedelta:
    """The span of `rate(value unit)`."""
    value, unit = expression.removeprefix("rate(").removesuffix(")").split()
    return timedelta(**{f"{unit.rstrip('s')}s": int(value)})


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
