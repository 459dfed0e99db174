"""One host: its newest records, and its history by window.

The newest part is read from the index, which holds every host's records, so only a little of
it; the rest by keys that can be computed, because windows follow each other at the clock's pace
(docs/adr/0015).
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from ..model.errors import InvalidRequestError, UnknownThingError
from ..model.items import Item
from ..model.items import key as key_of
from ..model.records import METRIC_TYPES, MetricType, metric_id
from ..model.settings import Settings
from ..model.windows import Window, format_utc, parse_utc
from . import measurements as views
from . import parameters
from .parameters import Span
from .records import exact

# Of each type: more would be more than Lambda can answer with, and thousands of requests.
MAX_WINDOWS = 9_000

_DAY = timedelta(days=1)
_STATUSES = ("ok", "warning", "critical")


@dataclass(frozen=True, slots=True)
class Host:
    """A host by its name and, where they are known, its account and region."""

    resource_id: str
    account_id: str = ""
    region: str = ""


class History(Protocol):
    """Where a host's records are. Every method raises StorageError."""

    def newest(self, now: datetime) -> datetime | None:
        """The end of the newest window, until now, that any host has a record of."""

    def near(
        self, host: Host, span: Span, now: datetime
    ) -> tuple[Mapping[str, Sequence[Item]], datetime | None]:
        """Its newest records by type, and down to when all are known; None if all of them are."""

    def search(self, host: Host, span: Span, now: datetime) -> Sequence[Item]:
        """Some of its records, looked for much further than `near` does."""

    def ends(self, moments: Collection[datetime], now: datetime) -> Collection[datetime]:
        """Of each moment the newest end of any host's window, at that moment or before."""

    def items(
        self, keys: Mapping[str, Sequence[Item]], now: datetime, *, whole: bool = False
    ) -> Mapping[str, Sequence[Item]]:
        """Records by their keys, by metric type; with `whole`, all of their attributes."""


def answer(
    resource_id: str,
    given: parameters.Given | None,
    *,
    settings: Settings,
    history: History,
    now: datetime,
) -> dict[str, Any]:
    """One host.

    Raises:
        InvalidRequestError: a parameter is wrong, or several hosts have the name.
        UnknownThingError: no record of such a host was found.
        StorageError: AWS failed.
    """
    values = parameters.single(given, ("from", "to", "account_id", "region"))
    span = parameters.days(values, now)
    host = Host(
        parameters.path_name(resource_id),
        parameters.name(values, "account_id"),
        parameters.name(values, "region"),
    )
    near, known_from = history.near(host, span, now)
    found = [item for items in near.values() for item in items]
    if not found and known_from and not (host.account_id and host.region):
        found = list(history.search(host, span, now))
    host = _identified(host, found)
    records = _by_timestamp(near)
    if known_from:
        far = Span(span.start, known_from)
        _merge(records, _far(host, far, found, settings=settings, history=history, now=now))
    newest = {name: max(items) for name, items in records.items() if items}
    if not newest:
        raise UnknownThingError(_not_found(host, span))
    keys = {name: [key_of(records[name][at])] for name, at in newest.items()}
    latest = {
        name: exact(item)
        for name, items in history.items(keys, now, whole=True).items()
        for item in items
    }
    status = _status(latest, span, history.newest(now), settings)
    return _answer(host, span, records, latest, settings) | {"status": status}


def _identified(host: Host, found: Iterable[Item]) -> Host:
    """The host with account and region."""
    names = {Host(host.resource_id, item["account_id"]["S"], item["region"]["S"]) for item in found}
    if len(names) > 1:
        places = sorted(f"{each.account_id} {each.region}" for each in names)
        raise InvalidRequestError(
            f"several hosts have this name, in {', '.join(places)}: give account_id and region"
        )
    return names.pop() if names else host


def _not_found(host: Host, span: Span) -> str:
    where = f"from {format_utc(span.start)} to {format_utc(span.stop)}"
    more = "" if host.account_id and host.region else "; account_id and region make the search sure"
    return f"no record of {host.resource_id!r} {where}{more}"


# --- Records by computed keys ---------------------------------------------------------------

# By metric type, then by timestamp.
Records = dict[str, dict[str, Item]]


def _far(
    host: Host,
    span: Span,
    found: Sequence[Item],
    *,
    settings: Settings,
    history: History,
    now: datetime,
) -> Mapping[str, Sequence[Item]]:
    """The records of a span by keys: on the pace of what is known, then on the fleet's."""
    if not (host.account_id and host.region):
        return {}
    step = _step(found, settings)
    paces = _paces([_timestamp(item) for item in found], step)
    if (span.stop - span.start) // timedelta(seconds=step) > MAX_WINDOWS:
        most = MAX_WINDOWS * step / _DAY.total_seconds()
        raise InvalidRequestError(
            f"{host.resource_id} has windows of {step} s: ask for at most {most:.2g} days"
        )
    asked = set(grid(span, step, paces[:1]))
    first = history.items(_keys(host, asked, step), now)
    there = {_timestamp(item) for items in first.values() for item in items}
    days = incomplete_days(span, step, there)
    # Where windows are missing the clock may have had another pace, as after a new deployment.
    ends = history.ends([min(day + _DAY, span.stop) for day in days], now) if days else []
    others = {
        end
        for day in days
        for end in grid(
            Span(max(day, span.start), min(day + _DAY, span.stop)),
            step,
            _paces([each for each in ends if abs(each - day) <= 2 * _DAY], step),
        )
    }
    second = history.items(_keys(host, others - asked, step), now)
    return {name: [*first.get(name, ()), *second.get(name, ())] for name in METRIC_TYPES}


def _step(found: Iterable[Item], settings: Settings) -> int:
    """The length of the host's windows, in seconds: the one that most of them have."""
    lengths = Counter(int(item["window_seconds"]["N"]) for item in found)
    del lengths[0]
    return lengths.most_common(1)[0][0] if lengths else settings.window_seconds


def _paces(ends: Iterable[datetime], step: int) -> list[int]:
    """Where in a step windows end, in seconds: the most frequent place first."""
    places = [int(end.timestamp()) % step for end in ends]
    return sorted(set(places), key=places.count, reverse=True)


def grid(span: Span, step: int, paces: Iterable[int]) -> Iterator[datetime]:
    """The ends of windows of `step` seconds at these paces within the span."""
    for pace in paces:
        behind = (int(span.stop.timestamp()) - pace) % step
        end = span.stop - timedelta(seconds=behind)
        while end >= span.start:
            yield end
            end -= timedelta(seconds=step)


def incomplete_days(span: Span, step: int, there: Collection[datetime]) -> list[datetime]:
    """The UTC days of a span in which windows seem to be missing."""
    days = []
    day = span.start.replace(hour=0, minute=0, second=0, microsecond=0)
    while day <= span.stop:
        start, stop = max(day, span.start), min(day + _DAY, span.stop)
        expected = int((stop - start).total_seconds()) // step
        if sum(start <= end < stop for end in there) < expected:
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
    return parse_utc(item["timestamp"]["S"])


def _by_timestamp(found: Mapping[str, Iterable[Item]]) -> Records:
    records: Records = {name: {} for name in METRIC_TYPES}
    _merge(records, found)
    return records


def _merge(records: Records, found: Mapping[str, Iterable[Item]]) -> None:
    for metric_type, items in found.items():
        records[metric_type] |= {item["timestamp"]["S"]: item for item in items}


# --- The answer -----------------------------------------------------------------------------


def _status(
    latest: Mapping[str, Mapping[str, Any]],
    span: Span,
    fleet_newest: datetime | None,
    settings: Settings,
) -> str:
    """The worst of the last window's records; missing as the fleet's newest window has it."""
    last = _last(latest)
    step = timedelta(seconds=last["window_seconds"] or settings.window_seconds)
    seen = parse_utc(last["timestamp"])
    if fleet_newest and fleet_newest <= span.stop and fleet_newest - seen >= step:
        return "missing"
    # What another type was when it was last measured is not what the host is.
    statuses: list[str] = [
        each.get("status", "ok")
        for each in latest.values()
        if seen - parse_utc(each["timestamp"]) < step
    ]
    return max(statuses, key=_STATUSES.index)


def _last(latest: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    return max(latest.values(), key=lambda each: each["timestamp"])


def _answer(
    host: Host,
    span: Span,
    records: Records,
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
        "from": format_utc(span.start),
        "to": format_utc(span.stop),
        "window_seconds": last["window_seconds"],
        "latest": latest,
        "history": {name: series(name, items, settings) for name, items in records.items()},
    }


def series(metric_type: str, items: Mapping[str, Item], settings: Settings) -> dict[str, Any]:
    """Columns of equal length, one value for each window, oldest first."""
    ordered = [items[timestamp] for timestamp in sorted(items)]
    measurements: dict[str, dict[str, Any]] = {}
    for place, item in enumerate(ordered):
        for name, unit, values in views.each(metric_type, item, settings):
            if name not in measurements:
                measurements[name] = _columns(metric_type, name, unit, len(ordered), settings)
            for statistic in views.STATISTICS:
                measurements[name][statistic][place] = values[statistic]
    return {
        "timestamps": sorted(items),
        "status": [item["status"]["S"] if "status" in item else None for item in ordered],
        "measurements": measurements,
    }


def _columns(
    metric_type: str, name: str, unit: str, length: int, settings: Settings
) -> dict[str, Any]:
    threshold = settings.threshold(metric_type, name)
    return {
        "unit": unit,
        "thresholds": (
            {"warning": threshold.warning, "critical": threshold.critical} if threshold else None
        ),
        **{statistic: [None] * length for statistic in views.STATISTICS},
    }
