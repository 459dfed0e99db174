"""The alarms of the stage as CloudWatch has them, with what they mean and what to do."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from ..model.alarm_catalog import alarm_of
from ..model.settings import ApiSettings
from ..model.windows import format_utc
from . import parameters

_STATES = ("ALARM", "INSUFFICIENT_DATA", "OK")


class Alarms(Protocol):
    """CloudWatch's alarms. Every method raises StorageError."""

    def all(self, prefix: str) -> Iterable[Mapping[str, Any]]:
        """Metric and composite alarms whose names begin so, as CloudWatch describes them."""


def answer(given: parameters.Given | None, *, own: ApiSettings, alarms: Alarms) -> dict[str, Any]:
    """The alarms, those in ALARM first.

    Raises:
        InvalidRequestError: a parameter is given, and there is none.
        StorageError: AWS failed.
    """
    parameters.single(given, ())
    name = re.compile(rf"InfraMonitoring-(\w+){re.escape(own.suffix)}")
    found = [
        _alarm(match[1], each, own)
        for each in alarms.all("InfraMonitoring-")
        if (match := name.fullmatch(each["AlarmName"]))
    ]
    return {"alarms": sorted(found, key=lambda each: (_STATES.index(each["state"]), each["name"]))}


def _alarm(short: str, described: Mapping[str, Any], own: ApiSettings) -> dict[str, Any]:
    known = alarm_of(short, described.get("AlarmDescription", ""))
    since = described.get("StateTransitionedTimestamp") or described.get("StateUpdatedTimestamp")
    return {
        "name": described["AlarmName"],
        "title": known.title,
        "state": described["StateValue"],
        "since": format_utc(since) if since else None,
        "severity": known.severity,
        "reason": described.get("StateReason", ""),
        "meaning": known.meaning,
        "action": known.action,
        "runbook": f"{own.runbooks.rstrip('/')}/{known.runbook}",
    }
