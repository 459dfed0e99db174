"""The fleet at a glance: every host of the newest windows, worst first."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from ..model.enrichment import judge
from ..model.items import Item
from ..model.records import METRIC_TYPES, Measurement
from ..model.settings import Settings
from ..model.windows import format_utc, parse_utc
from . import measurements as views
from . import parameters

# The day that the clock's eight windows make.
WINDOWS = 8

# Worst first.
_STATUSES = ("critical", "missing", "warning", "ok")
_JUDGED = ("cpu", "memory", "disk")

Name = tuple[str, str, str]


class Fleet(Protocol):
    """Where the fleet's records are. Every method raises StorageError."""

    def newest(self, now: datetime) -> datetime | None:
        """The end of the newest window, until now, that any host has a record of."""

    def recent(
        self, since: datetime, brief_until: datetime, now: datetime, *, fresh: bool = False
    ) -> Mapping[str, Sequence[Item]]:
        """By metric type the records of windows that end after `since`, newest first.

        Those up to `brief_until` need no more than their averages, and may be a minute old unless
        they are to be `fresh`.
        """


@dataclass(slots=True)
class _Host:
    """What is known of one host while the records are gone through, newest first."""

    labels: dict[str, str]
    last_seen: str
    status: str = "missing"
    badness: float = 0.0
    glances: dict[str, dict[str, Any]] = field(default_factory=dict)


def answer(
    given: parameters.Given | None,
    *,
    settings: Settings,
    fleet: Fleet,
    now: datetime,
    fresh: bool = False,
) -> dict[str, Any]:
    """The fleet.

    Raises:
        InvalidRequestError: a parameter is given, and there is none.
        StorageError: AWS failed.
    """
    parameters.single(given, ())
    newest = fleet.newest(now)
    if newest is None:
        return {"window_end": None, "windows": [], "hosts": [], "missing": []}
    step = timedelta(seconds=settings.window_seconds)
    records = fleet.recent(newest - WINDOWS * step, newest - step, now, fresh=fresh)
    return at_a_glance(records, newest, settings)


def at_a_glance(
    records: Mapping[str, Iterable[Item]], newest: datetime, settings: Settings
) -> dict[str, Any]:
    """The fleet from its records, each type's newest first."""
    hosts: dict[Name, _Host] = {}
    places = _Places(newest, settings.window_seconds)
    for metric_type in METRIC_TYPES:
        for item in records.get(metric_type, ()):
            _add(hosts, metric_type, item, places=places, settings=settings)
    step = timedelta(seconds=settings.window_seconds)
    ordered = sorted(
        hosts.items(),
        key=lambda each: (_STATUSES.index(each[1].status), -each[1].badness, each[0]),
    )
    return {
        "window_end": format_utc(newest),
        "windows": [format_utc(newest - number * step) for number in reversed(range(WINDOWS))],
        "hosts": [_host(name, host) for name, host in ordered],
        "missing": [name[2] for name, host in ordered if host.status == "missing"],
    }


class _Places:
    """Which of the windows a record belongs to: 0 is the newest. Other phases count too."""

    def __init__(self, newest: datetime, window_seconds: int) -> None:
        self._newest = newest
        self._step = window_seconds
        self._known: dict[str, int] = {}

    def of(self, timestamp: str) -> int:
        if timestamp not in self._known:
            behind = (self._newest - parse_utc(timestamp)).total_seconds()
            self._known[timestamp] = max(int(behind // self._step), 0)
        return self._known[timestamp]


def _add(
    hosts: dict[Name, _Host], metric_type: str, item: Item, *, places: _Places, settings: Settings
) -> None:
    timestamp = item["timestamp"]["S"]
    if (place := places.of(timestamp)) >= WINDOWS:
        return
    name = item["account_id"]["S"], item["region"]["S"], item["resource_id"]["S"]
    host = hosts.get(name)
    if host is None:
        host = hosts[name] = _Host(_labels(item), timestamp)
    elif timestamp > host.last_seen:
        host.labels, host.last_seen = _labels(item), timestamp
    glance = host.glances.get(metric_type)
    if glance is None:
        glance = host.glances[metric_type] = _glance(metric_type, item, place, settings)
        host.status = min(host.status, glance["status"], key=_rank)
        if metric_type in _JUDGED:
            host.badness = max(host.badness, _value(glance) or 0.0)
    series = glance["series"]
    if series[-1 - place] is None:
        series[-1 - place] = views.average(metric_type, item, settings)


def _glance(metric_type: str, item: Item, place: int, settings: Settings) -> dict[str, Any]:
    measurement, unit, values = views.whole(metric_type, item, settings)
    status = _status(metric_type, item, measurement, values, settings)
    return {
        "measurement": measurement,
        "unit": unit,
        "status": "missing" if place else status,
        "timestamp": item["timestamp"]["S"],
        **values,
        "series": [None] * WINDOWS,
    }


def _rank(status: str) -> int:
    """The worst first; a host is missing until a record of it shows up."""
    return len(_STATUSES) if status == "missing" else _STATUSES.index(status)


def _status(
    metric_type: str, item: Item, measurement: str, values: views.Statistics, settings: Settings
) -> str:
    """The processor's, or what it will say of the value when it has seen the record."""
    if "status" in item:
        return str(item["status"]["S"])
    known = Measurement(unit="percent", last=_value(values), samples=2)
    return judge(known, settings.threshold(metric_type, measurement))


def _value(values: views.Statistics) -> float | None:
    return values["last"] if values["p95"] is None else values["p95"]


def _labels(item: Item) -> dict[str, str]:
    return {name: each["S"] for name, each in item.get("labels", {}).get("M", {}).items()}


def _host(name: Name, host: _Host) -> dict[str, Any]:
    account_id, region, resource_id = name
    return {
        "resource_id": resource_id,
        "account_id": account_id,
        "region": region,
        "status": host.status,
        "last_seen": host.last_seen,
        "labels": host.labels,
        "measurements": host.glances,
    }
