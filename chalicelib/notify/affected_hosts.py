"""Which hosts a message names, worst first, and since when: from the records stored. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from ..model.alarm_catalog import Suspects
from ..model.enrichment import judge
from ..model.items import Item, plain
from ..model.records import Measurement
from ..model.settings import Settings, Threshold

# What is read of an item: attributes by name, of `measurements` only these (all if empty).
ATTRIBUTES = ("resource_id", "account_id", "region", "timestamp", "window_seconds", "labels")
NEEDED: Mapping[str, tuple[str, ...]] = {"cpu": ("utilization",), "memory": ("percent",)}


class Stored(Struct, frozen=True, kw_only=True):
    """A stored record, as far as messages tell of it."""

    resource_id: str
    account_id: str
    region: str
    timestamp: datetime
    window_seconds: int
    measurements: dict[str, Measurement] = {}
    labels: dict[str, str] = {}
    change: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a host, in words; the greater `badness` is named first."""

    badness: float
    words: str


@dataclass(frozen=True, slots=True)
class Suspect:
    """A host with what is wrong with it, and since when (None: not known)."""

    name: str
    account_id: str
    region: str
    words: str
    badness: float
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Search:
    """Where to look for an alarm's suspects: the metric type, and whether only unwell items."""

    metric_type: str
    unwell: bool


SEARCHES: Mapping[Suspects, Search] = {
    "cpu breach": Search("cpu", unwell=True),
    "memory breach": Search("memory", unwell=True),
    "disk full": Search("disk", unwell=True),
    "disk fills": Search("disk", unwell=False),
    "missing": Search("cpu", unwell=False),
}

# Used where CloudWatch does not say at which threshold an alarm fired.
_LIMITS: Mapping[Suspects, float] = {
    "cpu breach": 15.0,  # minutes
    "memory breach": 15.0,
    "disk full": 90.0,  # percent
    "disk fills": 72.0,  # hours
}

_STATUSES = ("ok", "warning", "critical")

Look = Callable[[Stored], Finding | None]


def stored_from_item(item: Item) -> Stored:
    return msgspec.convert(plain(item), Stored, strict=False)


def suspects_of(
    kind: Suspects, stored: Sequence[Stored], limit: float | None, settings: Settings
) -> list[Suspect]:
    """The hosts that an alarm is about, worst first."""
    threshold = _LIMITS.get(kind, 0.0) if limit is None else limit
    match kind:
        case "cpu breach":
            return suspects(stored, _breach("utilization", settings.cpu, threshold))
        case "memory breach":
            return suspects(stored, _breach("percent", settings.memory, threshold))
        case "disk full":
            return suspects(stored, lambda record: fullest(record, threshold))
        case "disk fills":
            return suspects(stored, lambda record: filling(record, threshold))
        case "missing":
            return missing(stored)
        case _:
            return []


def suspects(stored: Iterable[Stored], look: Look) -> list[Suspect]:
    """Hosts whose newest record shows something, worst first; since the first such in a row."""
    found: list[Suspect] = []
    histories = [*_histories(stored).values()]
    latest = max((history[0].timestamp for history in histories), default=None)
    for history in histories:
        newest, finding = history[0], look(history[0])
        # One that has been silent since is missing, which is another alarm's.
        if finding is None or latest is None or newest.timestamp < latest - _window(newest):
            continue
        first = newest
        for record in history[1:]:
            if first.timestamp - record.timestamp > _window(record) or look(record) is None:
                break
            first = record
        found.append(_suspect(newest, finding, first.timestamp - _window(first)))
    return _worst_first(found)


def missing(stored: Iterable[Stored]) -> list[Suspect]:
    """Hosts without a record of the newest window, longest silent first."""
    newest = [history[0] for history in _histories(stored).values()]
    latest = max((record.timestamp for record in newest), default=None)
    return _worst_first(
        _suspect(
            record, Finding(-record.timestamp.timestamp(), "no newer record"), record.timestamp
        )
        for record in newest
        if latest is not None and record.timestamp < latest
    )


def highest(stored: Iterable[tuple[str, Stored]], settings: Settings) -> list[Suspect]:
    """Each host with its highest judged value of each metric type; critical ones first."""
    hosts: dict[tuple[str, str, str], dict[str, tuple[Stored, Finding]]] = {}
    for metric_type, record in stored:
        findings = list(_judged(metric_type, record, settings))
        if findings:
            worst = max(findings, key=lambda each: each.badness)
            # The newest comes first.
            hosts.setdefault(_host(record), {}).setdefault(metric_type, (record, worst))
    return _worst_first(_summed(list(found.values())) for found in hosts.values())


def _summed(found: Sequence[tuple[Stored, Finding]]) -> Suspect:
    ordered = sorted((finding for _, finding in found), key=lambda each: -each.badness)
    words = ", ".join(each.words for each in ordered)
    return _suspect(found[0][0], Finding(ordered[0].badness, words), None)


def _judged(metric_type: str, record: Stored, settings: Settings) -> Iterator[Finding]:
    for name, measured in record.measurements.items():
        threshold = settings.threshold(metric_type, name)
        value = measured.last if measured.p95 is None else measured.p95
        if threshold is None or value is None:
            continue
        status = judge(measured, threshold)
        words = f"{metric_type}{_part(name)} {value:.1f} %"
        if status != "ok":
            limit = threshold.critical if status == "critical" else threshold.warning
            words += f" ({status} from {limit:g} %)"
        yield Finding(1000 * _STATUSES.index(status) + value + _more_if_part(name), words)


def _breach(name: str, threshold: Threshold, minutes: float) -> Look:
    def look(record: Stored) -> Finding | None:
        measured = record.measurements.get(name)
        if measured is None:
            return None
        if measured.breach_seconds is None:  # one value for the window: see metrics.of_records
            return _above(measured, threshold, record.window_seconds / 60)
        if (breached := measured.breach_seconds / 60) < minutes:
            return None
        words = (
            f"{breached:.0f} of {record.window_seconds / 60:.0f} minutes above"
            f" {threshold.critical:g} %"
        )
        peak = "" if measured.max is None else f", peak {measured.max:.1f} %"
        return Finding(breached, words + peak)

    return look


def _above(measured: Measurement, threshold: Threshold, minutes: float) -> Finding | None:
    value = measured.last if measured.avg is None else measured.avg
    if value is None or value <= threshold.critical:
        return None
    return Finding(minutes, f"{value:.1f} %, above {threshold.critical:g} %")


def fullest(record: Stored, percent: float) -> Finding | None:
    """The fullest file system, if it is that full."""
    found = [
        Finding(value + _more_if_part(name), f"{_part(name)} {value:.1f} % used".strip())
        for name, measured in record.measurements.items()
        if name.partition(":")[0] == "percent"
        and (value := measured.last if measured.max is None else measured.max) is not None
        and value >= percent
    ]
    return max(found, key=lambda each: each.badness, default=None)


def filling(record: Stored, hours: float) -> Finding | None:
    """The file system that is full first at the pace of this window, if that is so soon."""
    found = []
    for name, measured in record.measurements.items():
        base, colon, part = name.partition(":")
        growth = record.change.get(f"used{colon}{part}", 0)
        if base != "free" or measured.last is None or growth <= 0:
            continue
        left = measured.last / growth * record.window_seconds / 3600
        if left <= hours:
            words = f"{_part(name).strip()} full in {left:.0f} h".strip()
            found.append(Finding(-left + _more_if_part(name), words))
    return max(found, key=lambda each: each.badness, default=None)


def _more_if_part(name: str) -> float:
    """Of two equal values `percent:/var` says more than `percent`."""
    return 0.001 if ":" in name else 0


def _part(name: str) -> str:
    part = name.partition(":")[2]
    return f" {part}" if part else ""


def _histories(stored: Iterable[Stored]) -> dict[tuple[str, str, str], list[Stored]]:
    """The records of each host, newest first."""
    found: dict[tuple[str, str, str], list[Stored]] = {}
    for record in sorted(stored, key=lambda each: each.timestamp, reverse=True):
        found.setdefault(_host(record), []).append(record)
    return found


def _host(record: Stored) -> tuple[str, str, str]:
    return record.account_id, record.region, record.resource_id


def _window(record: Stored) -> timedelta:
    return timedelta(seconds=record.window_seconds)


def _suspect(record: Stored, finding: Finding, since: datetime | None) -> Suspect:
    name = record.labels.get("name", "")
    return Suspect(
        name=f"{name} ({record.resource_id})" if name else record.resource_id,
        account_id=record.account_id,
        region=record.region,
        words=finding.words,
        badness=finding.badness,
        since=since,
    )


def _worst_first(found: Iterable[Suspect]) -> list[Suspect]:
    return sorted(found, key=lambda each: (-each.badness, each.name))


def wanted(metric_type: str) -> Iterator[tuple[str, ...]]:
    """The paths of the attributes that messages need of an item of this type."""
    yield from ((name,) for name in ATTRIBUTES)
    if metric_type == "disk":
        yield ("change",)
    names = NEEDED.get(metric_type)
    yield from (("measurements", name) for name in names) if names else [("measurements",)]
