"""GET /hosts/{resource_id}: a host's newest records, and its history by window.

The newest part is read from the index, which holds the records of every host, so only a small
part of it is read. The rest is read by computed keys, because windows follow each other at the
schedule's interval (docs/adr/0015).
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from ..model.dynamodb import Item, decode_exact, key, text
from ..model.errors import InvalidRequestError, UnknownThingError
from ..model.metric_types import METRIC_TYPES, MetricType
from ..model.records import metric_id
from ..model.settings import Settings
from ..model.status import worst
from ..model.windows import Window, format_utc, parse_utc
from . import measurements, parameters
from .parameters import TimeRange

# Of each type; more would exceed the size of Lambda's response and take thousands of requests.
MAX_WINDOWS = 9_000

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Host:
    """A host by its name and, if known, its account and region."""

    resource_id: str
    account_id: str = ""
    region: str = ""


class HostRecords(Protocol):
    """The records of a host. Every method raises StorageError."""

    def newest(self, now: datetime) -> datetime | None:
        """The end of the newest window, until now, of any host."""

    def recent_of(
        self, host: Host, time_range: TimeRange, now: datetime
    ) -> tuple[Mapping[str, Sequence[Item]], datetime | None]:
        """Its newest records by type, and since when they are complete; None if all are."""

    def search(self, host: Host, time_range: TimeRange, now: datetime) -> Sequence[Item]:
        """Some of its records, from a longer part of the index than `recent_of` reads."""

    def ends(self, moments: Collection[datetime], now: datetime) -> Collection[datetime]:
        """For each time, the newest window end of any host at or before it."""

    def items(
        self, keys: Mapping[str, Sequence[Item]], now: datetime, *, whole: bool = False
    ) -> Mapping[str, Sequence[Item]]:
        """Records by their keys, by metric type; with `whole`, with all attributes."""


def get_host(
    resource_id: str,
    query_params: parameters.QueryParams | None,
    *,
    settings: Settings,
    records: HostRecords,
    now: datetime,
) -> dict[str, Any]:
    """One host.

    Raises:
        InvalidRequestError: a parameter is invalid, or several hosts have the name.
        UnknownThingError: no record of the host was found.
        StorageError: AWS failed.
    """
    values = parameters.single(query_params, ("from", "to", "account_id", "region"))
    time_range = parameters.limited_time_range(values, now)
    host = Host(
        parameters.path_name(resource_id),
        parameters.name(values, "account_id"),
        parameters.name(values, "region"),
    )
    recent, complete_from = records.recent_of(host, time_range, now)
    found = [item for items in recent.values() for item in items]
    if not found and complete_from and not (host.account_id and host.region):
        found = list(records.search(host, time_range, now))
    host = _identified(host, found)
    history = _by_timestamp(recent)
    if complete_from:
        older = TimeRange(time_range.start, complete_from)
        _merge(history, _older(host, older, found, settings=settings, records=records, now=now))
    newest = {name: max(items) for name, items in history.items() if items}
    if not newest:
        raise UnknownThingError(_not_found(host, time_range))
    keys = {name: [key(history[name][at])] for name, at in newest.items()}
    latest = {
        name: decode_exact(item)
        for name, items in records.items(keys, now, whole=True).items()
        for item in items
    }
    status = _status(latest, time_range, records.newest(now), settings)
    return _as_json(host, time_range, history, latest, settings) | {"status": status}


def _identified(host: Host, found: Iterable[Item]) -> Host:
    """The host with its account and region.

    Raises:
        InvalidRequestError: several hosts have the name.
    """
    names = {
        Host(host.resource_id, text(item, "account_id"), text(item, "region")) for item in found
    }
    if len(names) > 1:
        scopes = sorted(f"{each.account_id} {each.region}" for each in names)
        raise InvalidRequestError(
            f"several hosts have this name, in {', '.join(scopes)}: give account_id and region"
        )
    return names.pop() if names else host


def _not_found(host: Host, time_range: TimeRange) -> str:
    where = f"from {format_utc(time_range.start)} to {format_utc(time_range.stop)}"
    more = (
        ""
        if host.account_id and host.region
        else "; give account_id and region to search all of it"
    )
    return f"no record of {host.resource_id!r} {where}{more}"


# --- Records by computed keys ---------------------------------------------------------------

# By metric type, then by timestamp.
History = dict[str, dict[str, Item]]


def _older(
    host: Host,
    time_range: TimeRange,
    found: Sequence[Item],
    *,
    settings: Settings,
    records: HostRecords,
    now: datetime,
) -> Mapping[str, Sequence[Item]]:
    """The records of a time range by keys: at the phase of the known ones, then of the fleet."""
    if not (host.account_id and host.region):
        return {}
    step = _step(found, settings)
    phases = _phases([_timestamp(item) for item in found], step)
    if (time_range.stop - time_range.start) // timedelta(seconds=step) > MAX_WINDOWS:
        days = MAX_WINDOWS * step / _DAY.total_seconds()
        raise InvalidRequestError(
            f"{host.resource_id} has windows of {step} s: request at most {days:.2g} days"
        )
    ends = set(window_ends(time_range, step, phases[:1]))
    first = records.items(_keys(host, ends, step), now)
    present = {_timestamp(item) for items in first.values() for item in items}
    missing_days = incomplete_days(time_range, step, present)
    # Windows can be missing because the schedule had another phase, as before a new deployment.
    fleet_ends = (
        records.ends([min(day + _DAY, time_range.stop) for day in missing_days], now)
        if missing_days
        else []
    )
    others = {
        end
        for day in missing_days
        for end in window_ends(
            TimeRange(max(day, time_range.start), min(day + _DAY, time_range.stop)),
            step,
            _phases([each for each in fleet_ends if abs(each - day) <= 2 * _DAY], step),
        )
    }
    second = records.items(_keys(host, others - ends, step), now)
    return {name: [*first.get(name, ()), *second.get(name, ())] for name in METRIC_TYPES}


def _step(found: Iterable[Item], settings: Settings) -> int:
    """The length of the host's windows in seconds: the most frequent one."""
    lengths = Counter(int(item["window_seconds"]["N"]) for item in found)
    del lengths[0]
    return lengths.most_common(1)[0][0] if lengths else settings.window_seconds


def _phases(ends: Iterable[datetime], step: int) -> list[int]:
    """The offsets in seconds at which windows of `step` seconds end, most frequent first."""
    phases = [int(end.timestamp()) % step for end in ends]
    return sorted(set(phases), key=phases.count, reverse=True)


def window_ends(time_range: TimeRange, step: int, phases: Iterable[int]) -> Iterator[datetime]:
    """The ends of windows of `step` seconds with these phases within the time range."""
    for phase in phases:
        behind = (int(time_range.stop.timestamp()) - phase) % step
        end = time_range.stop - timedelta(seconds=behind)
        while end >= time_range.start:
            yield end
            end -= timedelta(seconds=step)


def incomplete_days(
    time_range: TimeRange, step: int, present: Collection[datetime]
) -> list[datetime]:
    """The UTC days of a time range with fewer windows than expected."""
    days = []
    day = time_range.start.replace(hour=0, minute=0, second=0, microsecond=0)
    while day <= time_range.stop:
        start, stop = max(day, time_range.start), min(day + _DAY, time_range.stop)
        expected = int((stop - start).total_seconds()) // step
        if sum(start <= end < stop for end in present) < expected:
            days.append(day)
        day += _DAY
    return days


def _keys(host: Host, ends: Collection[datetime], step: int) -> dict[str, list[Item]]:
    return {
        metric_type: [_key(host, metric_type, Window(end, step)) for end in sorted(ends)]
        for metric_type in METRIC_TYPES
        if ends
    }


def _key(host: Host, metric_type: MetricType, window: Window) -> Item:
    identity = metric_id(
        account_id=host.account_id,
        region=host.region,
        resource_id=host.resource_id,
        metric_type=metric_type,
        window=window,
    )
    return {"metric_id": {"S": str(identity)}, "timestamp": {"S": format_utc(window.end)}}


def _timestamp(item: Item) -> datetime:
    return parse_utc(text(item, "timestamp"))


def _by_timestamp(found: Mapping[str, Iterable[Item]]) -> History:
    history: History = {name: {} for name in METRIC_TYPES}
    _merge(history, found)
    return history


def _merge(history: History, found: Mapping[str, Iterable[Item]]) -> None:
    for metric_type, items in found.items():
        history[metric_type] |= {text(item, "timestamp"): item for item in items}


# --- The response ---------------------------------------------------------------------------


def _status(
    latest: Mapping[str, Mapping[str, Any]],
    time_range: TimeRange,
    fleet_newest: datetime | None,
    settings: Settings,
) -> str:
    """The worst status of the last window; missing if the fleet has a newer window."""
    last = _last(latest)
    step = timedelta(seconds=last["window_seconds"] or settings.window_seconds)
    seen = parse_utc(last["timestamp"])
    if fleet_newest and fleet_newest <= time_range.stop and fleet_newest - seen >= step:
        return "missing"
    # An older record of another type does not describe the host's present state.
    statuses: list[str] = [
        each.get("status", "ok")
        for each in latest.values()
        if seen - parse_utc(each["timestamp"]) < step
    ]
    return worst(statuses)


def _last(latest: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    return max(latest.values(), key=lambda each: each["timestamp"])


def _as_json(
    host: Host,
    time_range: TimeRange,
    history: History,
    latest: Mapping[str, Mapping[str, Any]],
    settings: Settings,
) -> dict[str, Any]:
    last = _last(latest)
    return {
        "resource_id": host.resource_id,
        "account_id": host.account_id,
        "region": host.region,
        "last_seen": last["timestamp"],
        "labels": last["labels"],
        "from": format_utc(time_range.start),
        "to": format_utc(time_range.stop),
        "window_seconds": last["window_seconds"],
        "latest": latest,
        "history": {name: columns(name, items, settings) for name, items in history.items()},
    }


def columns(metric_type: str, items: Mapping[str, Item], settings: Settings) -> dict[str, Any]:
    """Columns of equal length, one value for each window, oldest first."""
    ordered = [items[timestamp] for timestamp in sorted(items)]
    charts: dict[str, dict[str, Any]] = {}
    for position, item in enumerate(ordered):
        for name, unit, values in measurements.charted_measurements(metric_type, item, settings):
            if name not in charts:
                charts[name] = _empty_columns(metric_type, name, unit, len(ordered), settings)
            for statistic in measurements.STATISTICS:
                charts[name][statistic][position] = values[statistic]
    return {
        "timestamps": sorted(items),
        "status": [text(item, "status") or None for item in ordered],
        "measurements": charts,
    }


def _empty_columns(
    metric_type: str, name: str, unit: str, length: int, settings: Settings
) -> dict[str, Any]:
    threshold = settings.threshold(metric_type, name)
    return {
        "unit": unit,
        "thresholds": (
            {"warning": threshold.warning, "critical": threshold.critical} if threshold else None
        ),
        **{statistic: [None] * length for statistic in measurements.STATISTICS},
    }
