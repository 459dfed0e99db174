"""GET /alarms: the stage's alarms with their state, meaning and first action."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from ..model.alarm_catalog import find_alarm
from ..model.settings import ApiSettings
from ..model.windows import format_utc
from . import parameters
from .parameters import QueryParams

_STATES = ("ALARM", "INSUFFICIENT_DATA", "OK")


class AlarmReader(Protocol):
    """CloudWatch's alarms. Every method raises StorageError."""

    def all(self, prefix: str) -> Iterable[Mapping[str, Any]]:
        """Metric and composite alarms with this prefix, as CloudWatch describes them."""


def list_alarms(
    query_params: QueryParams | None, *, api_settings: ApiSettings, alarms: AlarmReader
) -> dict[str, Any]:
    """The alarms, those in ALARM first.

    Raises:
        InvalidRequestError: the request has a parameter; none is defined.
        StorageError: AWS failed.
    """
    parameters.single(query_params, ())
    name = re.compile(rf"InfraMonitoring-(\w+){re.escape(api_settings.suffix)}")
    found = [
        _alarm(match[1], each, api_settings)
        for each in alarms.all("InfraMonitoring-")
        if (match := name.fullmatch(each["AlarmName"]))
    ]
    return {"alarms": sorted(found, key=lambda each: (_STATES.index(each["state"]), each["name"]))}


def _alarm(short: str, described: Mapping[str, Any], api_settings: ApiSettings) -> dict[str, Any]:
    alarm = find_alarm(short, described.get("AlarmDescription", ""))
    since = described.get("StateTransitionedTimestamp") or described.get("StateUpdatedTimestamp")
    return {
        "name": described["AlarmName"],
        "title": alarm.title,
        "state": described["StateValue"],
        "since": format_utc(since) if since else None,
        "severity": alarm.severity,
        "reason": described.get("StateReason", ""),
        "meaning": alarm.meaning,
        "action": alarm.action,
        "runbook": f"{api_settings.runbooks.rstrip('/')}/{alarm.runbook}",
    }
