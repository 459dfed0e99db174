"""The message of an alarm that started or ended, from CloudWatch's event. Pure functions."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ..model.alarm_catalog import Alarm, find_alarm
from ..model.errors import InvalidEventError
from ..model.windows import parse_utc
from .affected_hosts import AffectedHost
from .messages import (
    MAX_REASON,
    Deployment,
    Message,
    format_duration,
    format_time,
    host_facts,
    host_lines,
    iso,
    make_message,
)

_PREFIXES = {"page": "PAGE", "alarm": "ALARM", "warning": "Warning"}


@dataclass(frozen=True, slots=True)
class StateChange:
    """An alarm's change of state; `child_alarms` are those that triggered a composite alarm."""

    alarm: Alarm
    name: str
    state: str
    previous_state: str
    at: datetime
    previous_since: datetime | None
    reason: str
    threshold: float | None
    child_alarms: tuple[str, ...]

    @property
    def is_reported(self) -> bool:
        """Whether a message is sent: for an alarm that starts, and for the end of one."""
        return self.state == "ALARM" or (self.state == "OK" and self.previous_state == "ALARM")

    @property
    def has_ended(self) -> bool:
        return self.state == "OK"

    @property
    def is_page(self) -> bool:
        return self.alarm.name == "Page"

    @property
    def severity(self) -> str:
        if self.is_page:
            return "page"
        return "ok" if self.has_ended else self.alarm.severity

    @property
    def lasted(self) -> timedelta | None:
        """How long the alarm lasted; None if it has not ended or its start is unknown."""
        return self.at - self.previous_since if self.has_ended and self.previous_since else None


def read_state_change(event: Mapping[str, Any], suffix: str) -> StateChange | None:
    """The change in the event; None if the alarm belongs to another stage.

    Raises:
        InvalidEventError: the event is not a "CloudWatch Alarm State Change".
    """
    try:
        detail = event["detail"]
        match = re.fullmatch(rf"InfraMonitoring-(\w+){re.escape(suffix)}", detail["alarmName"])
        if match is None:
            return None
        state, previous = detail["state"], detail.get("previousState", {})
        data = json.loads(state.get("reasonData") or "{}")
        since = previous.get("timestamp")
        return StateChange(
            alarm=find_alarm(match[1], detail.get("configuration", {}).get("description", "")),
            name=detail["alarmName"],
            state=state["value"],
            previous_state=previous.get("value", ""),
            at=parse_utc(state["timestamp"]),
            previous_since=parse_utc(since) if since else None,
            reason=str(state.get("reason", "")),
            threshold=data.get("threshold"),
            child_alarms=tuple(
                _short_name(each["arn"]) for each in data.get("triggeringAlarms", ())
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidEventError(f"not an alarm's change of state: {error!r}") from error


def _short_name(arn: str) -> str:
    return arn.rpartition(":")[2].removeprefix("InfraMonitoring-")


def alarm_message(
    change: StateChange,
    hosts: Sequence[AffectedHost],
    deployment: Deployment,
    *,
    notes: Sequence[str] = (),
) -> Message:
    """The message of an alarm that started or ended."""
    lines = [f"{_summary(change, hosts)}."]
    if hosts and not change.has_ended:
        lines += ["", *host_lines(hosts, deployment)]
    lines += [*notes, "", f"Where: {deployment}", *_explanation(change)]
    lines += [
        "",
        f"Runbook: {deployment.runbook(change.alarm.runbook)}",
        f"Dashboard: {deployment.dashboard}",
        "",
        f"Reason given by CloudWatch: {change.reason[:MAX_REASON]}",
    ]
    return make_message(
        f"{_prefix(change)} {_summary(change, hosts)}",
        lines,
        _facts(change, hosts, deployment),
        deployment,
        kind="alarm",
        severity=change.severity,
        alarm=change.name,
        state=change.state,
    )


def _prefix(change: StateChange) -> str:
    if change.has_ended:
        return "RESOLVED" if change.is_page else "OK"
    return _PREFIXES[change.severity]


def _summary(change: StateChange, hosts: Sequence[AffectedHost]) -> str:
    title = change.alarm.title
    if change.has_ended:
        after = f" after {format_duration(change.lasted)}" if change.lasted is not None else ""
        return f"{title}: resolved{after}"
    details = ", ".join(change.child_alarms) if change.is_page else _worst(hosts)
    return f"{title}: {details}" if details else title


def _worst(hosts: Sequence[AffectedHost]) -> str:
    """The worst host with its issue, and the number of the others."""
    if not hosts:
        return ""
    more = f" and {len(hosts) - 1} more" if len(hosts) > 1 else ""
    return f"{hosts[0].name} {hosts[0].description}{more}"


def _explanation(change: StateChange) -> list[str]:
    if change.has_ended:
        return [f"Resolved: {format_time(change.at)}"]
    return [
        f"Since: {format_time(change.at)}",
        "",
        f"What it means: {change.alarm.meaning}",
        f"What to do: {change.alarm.action}",
    ]


def _facts(
    change: StateChange, hosts: Sequence[AffectedHost], deployment: Deployment
) -> dict[str, Any]:
    lasted = change.lasted
    return {
        "alarm_name": change.name,
        "previous_state": change.previous_state,
        "time": iso(change.at),
        "lasted_seconds": None if lasted is None else round(lasted.total_seconds()),
        "title": change.alarm.title,
        "meaning": change.alarm.meaning,
        "action": change.alarm.action,
        "threshold": change.threshold,
        "reason": change.reason,
        "parts": list(change.child_alarms),
        **host_facts(hosts),
        "runbook": deployment.runbook(change.alarm.runbook),
    }
