"""An alarm that began or ended: from CloudWatch's event to the message of it. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..model.alarm_catalog import Alarm, alarm_of
from ..model.errors import InvalidEventError
from ..model.windows import parse_utc
from .affected_hosts import Suspect
from .messages import (
    MAX_REASON,
    Message,
    Place,
    hosts_of,
    iso,
    listed,
    message_of,
    moment_of,
    span,
    where_of,
)


@dataclass(frozen=True, slots=True)
class Change:
    """An alarm's change of state, as CloudWatch tells it."""

    alarm: Alarm
    name: str
    state: str
    before: str
    at: datetime
    before_since: datetime | None
    reason: str
    threshold: float | None
    parts: tuple[str, ...]

    @property
    def is_told(self) -> bool:
        """Whether people hear of it: a new alarm, or the end of one."""
        return self.state == "ALARM" or (self.state == "OK" and self.before == "ALARM")


def change_of(event: Mapping[str, Any], suffix: str) -> Change | None:
    """The change of an alarm of this stage; None of another one's.

    Raises:
        InvalidEventError: it is no "CloudWatch Alarm State Change".
    """
    try:
        detail = event["detail"]
        match = re.fullmatch(rf"InfraMonitoring-(\w+){re.escape(suffix)}", detail["alarmName"])
        if match is None:
            return None
        state, before = detail["state"], detail.get("previousState", {})
        data = json.loads(state.get("reasonData") or "{}")
        since = before.get("timestamp")
        return Change(
            alarm=alarm_of(match[1], detail.get("configuration", {}).get("description", "")),
            name=detail["alarmName"],
            state=state["value"],
            before=before.get("value", ""),
            at=parse_utc(state["timestamp"]),
            before_since=parse_utc(since) if since else None,
            reason=str(state.get("reason", "")),
            threshold=data.get("threshold"),
            parts=tuple(_short(each["arn"]) for each in data.get("triggeringAlarms", ())),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidEventError(f"this is no change of an alarm's state: {error!r}") from error


def _short(arn: str) -> str:
    return arn.rpartition(":")[2].removeprefix("InfraMonitoring-")


def alarm_message(
    change: Change, suspects: Sequence[Suspect], place: Place, *, notes: Sequence[str] = ()
) -> Message:
    """The message of an alarm that began or ended."""
    alarm, ended = change.alarm, change.state == "OK"
    is_page = alarm.name == "Page"
    severity = "page" if is_page else "ok" if ended else alarm.severity
    lasted = change.at - change.before_since if ended and change.before_since else None
    if ended:
        lead = "RESOLVED" if is_page else "OK"
        what = alarm.title + (
            f" is over after {span(lasted)}" if lasted is not None else " is over"
        )
    else:
        lead = {"page": "PAGE", "alarm": "ALARM", "warning": "Warning"}[severity]
        about = ", ".join(change.parts) if is_page else _about(suspects)
        what = alarm.title + (f": {about}" if about else "")
    lines = [f"{what}."]
    if suspects and not ended:
        lines += ["", *listed(suspects, place)]
    lines += [*notes, "", f"Where: {where_of(place)}"]
    if ended:
        lines.append(f"Over since: {moment_of(change.at)}")
    else:
        lines += [
            f"Since: {moment_of(change.at)}",
            "",
            f"What it means: {alarm.meaning}",
            f"What to do: {alarm.action}",
        ]
    lines += [
        "",
        f"Runbook: {place.runbook(alarm.runbook)}",
        f"Dashboard: {place.dashboard}",
        "",
        f"CloudWatch says: {change.reason[:MAX_REASON]}",
    ]
    facts = {
        "alarm_name": change.name,
        "previous_state": change.before,
        "time": iso(change.at),
        "lasted_seconds": None if lasted is None else round(lasted.total_seconds()),
        "title": alarm.title,
        "meaning": alarm.meaning,
        "action": alarm.action,
        "threshold": change.threshold,
        "reason": change.reason,
        "parts": list(change.parts),
        **hosts_of(suspects),
        "runbook": place.runbook(alarm.runbook),
    }
    return message_of(
        f"{lead} {what}",
        lines,
        facts,
        place,
        kind="alarm",
        severity=severity,
        alarm=change.name,
        state=change.state,
    )


def _about(suspects: Sequence[Suspect]) -> str:
    """The worst host with its value, and how many more there are."""
    if not suspects:
        return ""
    more = f" and {len(suspects) - 1} more" if len(suspects) > 1 else ""
    return f"{suspects[0].name} {suspects[0].words}{more}"
