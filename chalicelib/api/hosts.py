"""GET /hosts: every host of the newest windows, worst first."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from ..model.dynamodb import Item, mapping, text
from ..model.metric_types import METRIC_TYPES, SPECS
from ..model.settings import Settings
from ..model.status import check, checked_value, severity, worst
from ..model.windows import format_utc, parse_utc
from . import measurements, parameters

# Eight windows of three hours are a day.
WINDOWS = 8

# Account, region and resource ID.
HostKey = tuple[str, str, str]


class FleetRecords(Protocol):
    """The records of the fleet. Every method raises StorageError."""

    def newest(self, now: datetime) -> datetime | None:
        """The end of the newest window, until now, of any host."""

    def recent(
        self, since: datetime, averages_until: datetime, now: datetime, *, fresh: bool = False
    ) -> Mapping[str, Sequence[Item]]:
        """By metric type the records of windows that end after `since`, newest first.

        Records up to `averages_until` have their averages only; these can be a minute old unless
        `fresh` is set.
        """


@dataclass(slots=True)
class _Host:
    """A host while its records are read, newest first; `snapshots` by metric type."""

    labels: dict[str, str]
    last_seen: str
    highest: float = 0.0
    snapshots: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def status(self) -> str:
        """The worst status of its newest records; missing if none is of the newest window."""
        present = [
            each["status"] for each in self.snapshots.values() if each["status"] != "missing"
        ]
        return worst(present) if present else "missing"


def list_hosts(
    query_params: parameters.QueryParams | None,
    *,
    settings: Settings,
    records: FleetRecords,
    now: datetime,
    fresh: bool = False,
) -> dict[str, Any]:
    """The fleet.

    Raises:
        InvalidRequestError: the request has a parameter; none is defined.
        StorageError: AWS failed.
    """
    parameters.single(query_params, ())
    newest = records.newest(now)
    if newest is None:
        return {"window_end": None, "windows": [], "hosts": [], "missing": []}
    step = timedelta(seconds=settings.window_seconds)
    found = records.recent(newest - WINDOWS * step, newest - step, now, fresh=fresh)
    return summarize(found, newest, settings)


def summarize(
    records: Mapping[str, Iterable[Item]], newest: datetime, settings: Settings
) -> dict[str, Any]:
    """The fleet from its records, each type's newest first."""
    hosts: dict[HostKey, _Host] = {}
    positions = _WindowPositions(newest, settings.window_seconds)
    for metric_type in METRIC_TYPES:
        for item in records.get(metric_type, ()):
            _add(hosts, metric_type, item, positions=positions, settings=settings)
    step = timedelta(seconds=settings.window_seconds)
    ordered = sorted(
        hosts.items(),
        key=lambda each: (-severity(each[1].status), -each[1].highest, each[0]),
    )
    return {
        "window_end": format_utc(newest),
        "windows": [format_utc(newest - number * step) for number in reversed(range(WINDOWS))],
        "hosts": [_as_json(key, host) for key, host in ordered],
        "missing": [key[2] for key, host in ordered if host.status == "missing"],
    }


class _WindowPositions:
    """The position of a timestamp among the windows: 0 is the newest, of any phase."""

    def __init__(self, newest: datetime, window_seconds: int) -> None:
        self._newest = newest
        self._step = window_seconds
        self._cache: dict[str, int] = {}

    def of(self, timestamp: str) -> int:
        if timestamp not in self._cache:
            behind = (self._newest - parse_utc(timestamp)).total_seconds()
            self._cache[timestamp] = max(int(behind // self._step), 0)
        return self._cache[timestamp]


def _add(
    hosts: dict[HostKey, _Host],
    metric_type: str,
    item: Item,
    *,
    positions: _WindowPositions,
    settings: Settings,
) -> None:
    timestamp = text(item, "timestamp")
    if (position := positions.of(timestamp)) >= WINDOWS:
        return
    key = text(item, "account_id"), text(item, "region"), text(item, "resource_id")
    host = hosts.get(key)
    if host is None:
        host = hosts[key] = _Host(_labels(item), timestamp)
    elif timestamp > host.last_seen:
        host.labels, host.last_seen = _labels(item), timestamp
    snapshot = host.snapshots.get(metric_type)
    if snapshot is None:
        snapshot = host.snapshots[metric_type] = _snapshot(metric_type, item, position, settings)
        if SPECS[metric_type].checked:
            value = checked_value(snapshot["last"], snapshot["p95"])
            host.highest = max(host.highest, value or 0.0)
    averages = snapshot["series"]
    if averages[-1 - position] is None:
        averages[-1 - position] = measurements.average(metric_type, item, settings)


def _snapshot(metric_type: str, item: Item, position: int, settings: Settings) -> dict[str, Any]:
    """A metric type of a host as the API returns it, from the host's newest record of it."""
    name, unit, values = measurements.main_measurement(metric_type, item, settings)
    return {
        "measurement": name,
        "unit": unit,
        "status": "missing" if position else _status(metric_type, item, name, values, settings),
        "timestamp": text(item, "timestamp"),
        **values,
        "series": [None] * WINDOWS,
    }


def _status(
    metric_type: str,
    item: Item,
    measurement: str,
    values: measurements.Statistics,
    settings: Settings,
) -> str:
    """The stored status; computed from the value for a record that is not processed yet."""
    if stored := text(item, "status"):
        return stored
    value = checked_value(values["last"], values["p95"])
    return check(value, settings.threshold(metric_type, measurement))


def _labels(item: Item) -> dict[str, str]:
    return {name: each["S"] for name, each in mapping(item, "labels").items()}


def _as_json(key: HostKey, host: _Host) -> dict[str, Any]:
    account_id, region, resource_id = key
    return {
        "resource_id": resource_id,
        "account_id": account_id,
        "region": region,
        "status": host.status,
        "last_seen": host.last_seen,
        "labels": host.labels,
        "measurements": host.snapshots,
    }
