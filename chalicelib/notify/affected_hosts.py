"""The hosts that a message names, worst first, and since when they are affected. Pure functions."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from ..model.alarm_catalog import Alarm, HostRule
from ..model.disk_forecast import forecasts
from ..model.dynamodb import Item, decode
from ..model.metric_types import SPECS, base_of, component_of
from ..model.records import Measurement
from ..model.settings import Settings
from ..model.status import Threshold, check, severity

# The default of each rule's limit, if CloudWatch does not report the threshold of the alarm.
_LIMITS: Mapping[HostRule, float] = {
    "breach": 15.0,  # minutes
    "disk_full": 90.0,  # percent
    "disk_filling": 72.0,  # hours
}

# The rules that only match hosts with a status other than ok; the notifier reads no others.
UNHEALTHY_ONLY = frozenset({"breach", "disk_full"})


class StoredRecord(Struct, frozen=True, kw_only=True):
    """The fields of a stored record that messages use."""

    resource_id: str
    account_id: str
    region: str
    timestamp: datetime
    window_seconds: int
    previous_timestamp: datetime | None = None
    measurements: dict[str, Measurement] = {}
    labels: dict[str, str] = {}
    change: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class Issue:
    """A finding about a host in words.

    Findings with a higher `score` are named first; scores are comparable within one list only.
    """

    score: float
    description: str


@dataclass(frozen=True, slots=True)
class AffectedHost:
    """A host that a message names, with its issue; `since` is None if the start is unknown."""

    name: str
    account_id: str
    region: str
    description: str
    score: float
    since: datetime | None


FindIssue = Callable[[StoredRecord], Issue | None]


def read_item(item: Item) -> StoredRecord:
    """A stored record from an item with the attributes of `attribute_paths`."""
    return msgspec.convert(decode(item), StoredRecord, strict=False)


def attribute_paths(metric_type: str) -> Iterator[tuple[str, ...]]:
    """The paths of the attributes to read from an item of this type."""
    for name in ("resource_id", "account_id", "region", "timestamp", "window_seconds", "labels"):
        yield (name,)
    spec = SPECS[metric_type]
    if spec.has_components:
        yield from (("change",), ("previous_timestamp",), ("measurements",))
    else:
        yield ("measurements", spec.checked)


def affected_by(
    alarm: Alarm, records: Sequence[StoredRecord], limit: float | None, settings: Settings
) -> list[AffectedHost]:
    """The hosts that an alarm is about, worst first; `limit` is the threshold of the alarm."""
    limit = _LIMITS.get(alarm.host_rule, 0.0) if limit is None else limit
    match alarm.host_rule:
        case "breach":
            threshold = settings.thresholds[alarm.metric_type]
            measurement = SPECS[alarm.metric_type].checked
            return hosts_with_issues(records, _breach_check(measurement, threshold, limit))
        case "disk_full":
            return hosts_with_issues(records, lambda record: fullest(record, limit))
        case "disk_filling":
            return hosts_with_issues(records, lambda record: first_to_fill(record, limit))
        case "missing":
            return missing_hosts(records)
        case "none":
            return []


def hosts_with_issues(records: Iterable[StoredRecord], find_issue: FindIssue) -> list[AffectedHost]:
    """Hosts whose newest record has an issue, worst first.

    `since` is the start of the unbroken series of such records up to the newest one.
    """
    found: list[AffectedHost] = []
    histories = [*_histories(records).values()]
    latest = max((history[0].timestamp for history in histories), default=None)
    for history in histories:
        newest, issue = history[0], find_issue(history[0])
        # A host without a recent record is reported by the alarm for missing hosts instead.
        if issue is None or latest is None or newest.timestamp < latest - _window(newest):
            continue
        first = newest
        for record in history[1:]:
            if first.timestamp - record.timestamp > _window(record) or find_issue(record) is None:
                break
            first = record
        found.append(_affected(newest, issue, first.timestamp - _window(first)))
    return _worst_first(found)


def missing_hosts(records: Iterable[StoredRecord]) -> list[AffectedHost]:
    """Hosts without a record of the newest window, those silent for longest first."""
    newest = [history[0] for history in _histories(records).values()]
    latest = max((record.timestamp for record in newest), default=None)
    return _worst_first(
        _affected(record, Issue(-record.timestamp.timestamp(), "no newer record"), record.timestamp)
        for record in newest
        if latest is not None and record.timestamp < latest
    )


def highest_values(
    records: Iterable[tuple[str, StoredRecord]], settings: Settings
) -> list[AffectedHost]:
    """Each host, healthy or not, with its highest value of each metric type, critical ones first.

    `records` are pairs of metric type and record, each type's newest record first.
    """
    hosts: dict[tuple[str, str, str], dict[str, tuple[StoredRecord, Issue]]] = {}
    for metric_type, record in records:
        issues = list(_checked_values(metric_type, record, settings))
        if issues:
            highest = max(issues, key=lambda each: each.score)
            hosts.setdefault(_host(record), {}).setdefault(metric_type, (record, highest))
    return _worst_first(_joined(list(found.values())) for found in hosts.values())


def _joined(found: Sequence[tuple[StoredRecord, Issue]]) -> AffectedHost:
    ordered = sorted((issue for _, issue in found), key=lambda each: -each.score)
    description = ", ".join(each.description for each in ordered)
    return _affected(found[0][0], Issue(ordered[0].score, description), None)


def _checked_values(metric_type: str, record: StoredRecord, settings: Settings) -> Iterator[Issue]:
    for name, measurement in record.measurements.items():
        threshold = settings.threshold(metric_type, name)
        value = measurement.checked_value
        if threshold is None or value is None:
            continue
        status = check(value, threshold)
        description = f"{metric_type} {component_of(name)}".strip() + f" {value:.1f} %"
        if status != "ok":
            limit = threshold.critical if status == "critical" else threshold.warning
            description += f" ({status} from {limit:g} %)"
        yield Issue(1000 * severity(status) + value + _component_bonus(name), description)


def _breach_check(name: str, threshold: Threshold, minutes: float) -> FindIssue:
    def find_issue(record: StoredRecord) -> Issue | None:
        measurement = record.measurements.get(name)
        if measurement is None:
            return None
        if measurement.breach_seconds is None:  # one value for the window
            return _above(measurement, threshold, record.window_seconds / 60)
        if (breached := measurement.breach_seconds / 60) < minutes:
            return None
        description = (
            f"{breached:.0f} of {record.window_seconds / 60:.0f} minutes above"
            f" {threshold.critical:g} %"
        )
        peak = "" if measurement.max is None else f", peak {measurement.max:.1f} %"
        return Issue(breached, description + peak)

    return find_issue


def _above(measurement: Measurement, threshold: Threshold, minutes: float) -> Issue | None:
    value = measurement.last if measurement.avg is None else measurement.avg
    if value is None or value <= threshold.critical:
        return None
    return Issue(minutes, f"{value:.1f} %, above {threshold.critical:g} %")


def fullest(record: StoredRecord, percent: float) -> Issue | None:
    """The fullest file system, if at least `percent` of it is used."""
    found = [
        Issue(value + _component_bonus(name), f"{component_of(name)} {value:.1f} % used".strip())
        for name, measurement in record.measurements.items()
        if base_of(name) == SPECS["disk"].checked
        and (value := measurement.last if measurement.max is None else measurement.max) is not None
        and value >= percent
    ]
    return max(found, key=lambda each: each.score, default=None)


def first_to_fill(record: StoredRecord, hours: float) -> Issue | None:
    """The file system that will be full first, if within `hours`."""
    if record.previous_timestamp is None:
        return None
    elapsed = (record.timestamp - record.previous_timestamp).total_seconds()
    found = [
        Issue(
            -each.hours + _component_bonus(f":{each.component}" if each.component else ""),
            f"{each.component} full in {each.hours:.0f} h".strip(),
        )
        for each in forecasts(record.measurements, record.change, elapsed)
        if each.hours <= hours
    ]
    return max(found, key=lambda each: each.score, default=None)


def _component_bonus(name: str) -> float:
    """Ranks `percent:/var` above `percent` if both have the same value."""
    return 0.001 if ":" in name else 0


def _histories(
    records: Iterable[StoredRecord],
) -> dict[tuple[str, str, str], list[StoredRecord]]:
    """The records of each host, newest first."""
    found: dict[tuple[str, str, str], list[StoredRecord]] = {}
    for record in sorted(records, key=lambda each: each.timestamp, reverse=True):
        found.setdefault(_host(record), []).append(record)
    return found


def _host(record: StoredRecord) -> tuple[str, str, str]:
    return record.account_id, record.region, record.resource_id


def _window(record: StoredRecord) -> timedelta:
    return timedelta(seconds=record.window_seconds)


def _affected(record: StoredRecord, issue: Issue, since: datetime | None) -> AffectedHost:
    name = record.labels.get("name", "")
    return AffectedHost(
        name=f"{name} ({record.resource_id})" if name else record.resource_id,
        account_id=record.account_id,
        region=record.region,
        description=issue.description,
        score=issue.score,
        since=since,
    )


def _worst_first(found: Iterable[AffectedHost]) -> list[AffectedHost]:
    return sorted(found, key=lambda each: (-each.score, each.name))
