"""Delivery of EventBridge events to Lambda functions and state machines; scheduled rules."""

import json
import threading
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.events.models import Rule

from chalicelib.model.windows import format_utc

from ..background import log_and_continue
from ..clients import Clients
from ..errors import LocalCloudError

# Services of targets to which moto delivers no events.
_TARGET_SERVICES = ("lambda", "states")


class Events:
    """Delivers events to the targets that moto does not support, and triggers scheduled rules."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients

    def send(self, rule: Rule, event: Any) -> bool:
        """Send a matching event to the functions and state machines among a rule's targets.

        Returns whether the event matches the rule. moto delivers to the other targets.
        """
        # In moto, a rule without a pattern (a scheduled rule) matches every event.
        if rule.state != "ENABLED" or not rule.event_pattern.get_pattern():
            return False
        event = _as_on_aws(event)
        if not rule.event_pattern.matches_event(event):
            return False
        for target in rule.targets:
            if is_delivered_here(target):
                self._deliver(target, event)
        return True

    def _deliver(self, target: Mapping[str, Any], event: Mapping[str, Any]) -> None:
        payload = json.dumps(event)
        if _service(target) == "states":
            self._clients("stepfunctions", target["RoleArn"]).start_execution(
                stateMachineArn=target["Arn"], name=event["id"], input=payload
            )
        else:
            # Through the API, so that a missing function fails as on AWS.
            self._clients("lambda").invoke(
                FunctionName=target["Arn"], InvocationType="Event", Payload=payload
            )

    def _send_scheduled_event(self, rule: Mapping[str, Any]) -> str:
        """Send a scheduled event to a rule's targets; return the ID of the event."""
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
            if not is_delivered_here(target):
                raise LocalCloudError(
                    f"{target['Arn']}: the local cloud cannot send scheduled events to this target"
                )
            self._deliver(target, event)
        return str(event["id"])

    def _scheduled_rules(self, *schedules: str) -> list[dict[str, Any]]:
        """Return the enabled rules whose schedule expression starts with one of `schedules`."""
        rules = self._clients("events").list_rules()["Rules"]
        return [
            rule
            for rule in rules
            if rule["State"] == "ENABLED"
            and rule.get("ScheduleExpression", "").startswith(schedules)
        ]

    def trigger_all(self) -> list[str]:
        """Trigger every enabled rule with a rate now; return the IDs of the events."""
        return [self._send_scheduled_event(rule) for rule in self._scheduled_rules("rate(")]

    def trigger(self, name: str) -> str:
        """Trigger one rule now, whatever its schedule; return the ID of the event."""
        return self._send_scheduled_event(self._clients("events").describe_rule(Name=name))

    def run_schedules(self, stopping: threading.Event) -> None:
        """Trigger every scheduled rule when it is due, until `stopping` is set."""
        due: dict[str, datetime] = {}
        while not stopping.wait(1):
            now = datetime.now(UTC)
            for rule in self._scheduled_rules("rate(", "cron("):
                expression = rule["ScheduleExpression"]
                if due.setdefault(rule["Arn"], next_due(expression, now)) <= now:
                    due[rule["Arn"]] = next_due(expression, due[rule["Arn"]])
                    with log_and_continue(rule["Name"]):
                        self._send_scheduled_event(rule)


def is_delivered_here(target: Mapping[str, Any]) -> bool:
    """Whether events for a rule's target are delivered by this module, not by moto."""
    return _service(target) in _TARGET_SERVICES


def next_due(expression: str, after: datetime) -> datetime:
    """Return the next time of a schedule: `rate(value unit)` or `cron(minute hour * * ? *)`."""
    if expression.startswith("rate("):
        return after + rate_interval(expression)
    minute, hour, *rest = expression.removeprefix("cron(").removesuffix(")").split()
    if rest != ["*", "*", "?", "*"]:
        raise LocalCloudError(f"{expression}: the local cloud supports only daily cron schedules")
    due = after.replace(hour=int(hour), minute=int(minute), second=0, microsecond=0)
    return due if due > after else due + timedelta(days=1)


def rate_interval(expression: str) -> timedelta:
    """Return the interval of `rate(value unit)`."""
    value, unit = expression.removeprefix("rate(").removesuffix(")").split()
    return timedelta(**{f"{unit.rstrip('s')}s": int(value)})


def _service(target: Mapping[str, Any]) -> str:
    return str(target["Arn"].split(":")[2])


def _as_on_aws(event: Mapping[str, Any]) -> dict[str, Any]:
    """Convert moto's event to the form that EventBridge delivers."""
    converted: dict[str, Any] = json.loads(json.dumps(event))
    if isinstance(converted["time"], int | float):
        converted["time"] = format_utc(datetime.fromtimestamp(converted["time"], UTC))
    converted["id"] = str(uuid.uuid4())
    reason = str(converted["detail"].get("reason", ""))
    if reason.startswith("ObjectCreated:"):
        converted["detail"]["reason"] = f"{reason.partition(':')[2]}Object"
    return converted
