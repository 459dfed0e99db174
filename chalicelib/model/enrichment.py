"""What the pipeline adds to a record: status, change, rates, lag, origin. Pure functions."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from .records import (
    UNKNOWN_RATE,
    UNKNOWN_UTILIZATION,
    Measurement,
    Record,
)
from .settings import Settings, Threshold

Status = Literal["ok", "warning", "critical"]
_SEVERITY: tuple[Status, ...] = ("ok", "warning", "critical")

# Totals since boot, as operating systems count them. CloudWatch's sums are per period, so
# its records have no counters.
RATED = frozenset({"bytes_sent", "bytes_received"})
CPU_SECONDS = frozenset({"cpu_seconds_idle", "cpu_seconds_total"})
COUNTERS = RATED | CPU_SECONDS

# The kernel works the boot time out of its clock, so it moves when that is corrected.
_SAME_BOOT_SECONDS = 60


class Previous(Struct, frozen=True, kw_only=True):
    """The same resource's record of the window before, as far as comparing needs it."""

    timestamp: datetime
    collected_at: datetime | None
    measurements: Mapping[str, Measurement]


class Enriched(Struct, frozen=True, kw_only=True):
    """A record with all that was found out about it.

    `status` is the worst of `statuses`, which has one for each measurement; `change` is the
    difference to the previous window's average, in the measurement's unit, where both are
    known; `counter_reset` says that a counter began anew; `collection_lag_seconds` is
    from the window's end to the reading (or to the object's arrival, if the record does not
    say when it was read). `stored_at` is when the source object was stored.
    """

    record: Record
    status: Status
    statuses: Mapping[str, Status]
    change: Mapping[str, float]
    counter_reset: bool
    previous_timestamp: datetime | None
    collection_lag_seconds: float
    source_object: str
    stored_at: datetime
    processed_at: datetime


def enrich(
    record: Record,
    previous: Previous | None,
    *,
    settings: Settings,
    source_object: str,
    stored_at: datetime,
    now: datetime,
) -> Enriched:
    """The record with its status, its change since `previous`, and what its counters tell."""
    growth, reset = counter_growth(record, previous)
    derived = rates(growth, _elapsed(record, previous))
    if "utilization" not in record.measurements:  # a source that measured it knows it better
        derived |= utilization(growth)
    record = replace(record, measurements={**derived, **record.measurements}) if derived else record
    statuses = {
        name: judge(measurement, settings.threshold(record.metric_type, name))
        for name, measurement in record.measurements.items()
    }
    read_at = record.collected_at or stored_at
    return Enriched(
        record=record,
        status=max(statuses.values(), key=_SEVERITY.index),
        statuses=statuses,
        change=changes(record.measurements, previous),
        counter_reset=reset,
        previous_timestamp=previous.timestamp if previous else None,
        collection_lag_seconds=round((read_at - record.timestamp).total_seconds(), 3),
        source_object=source_object,
        stored_at=stored_at,
        processed_at=now,
    )


def judge(measurement: Measurement, threshold: Threshold | None) -> Status:
    """The status of one measurement.

    The 95th percentile is judged: the average hides a breach that lasted for part of the
    window, the maximum calls a single spike one. A source that has no percentile is judged
    by its last value.
    """
    value = measurement.last if measurement.p95 is None else measurement.p95
    if threshold is None or value is None:
        return "ok"
    if value >= threshold.critical:
        return "critical"
    return "warning" if value >= threshold.warning else "ok"


def changes(measurements: Mapping[str, Measurement], previous: Previous | None) -> dict[str, float]:
    """Average now less average before, for each measurement that has both."""
    if previous is None:
        return {}
    found = {}
    for name, measurement in measurements.items():
        before = previous.measurements.get(name)
        if before is not None and before.avg is not None and measurement.avg is not None:
            found[name] = round(measurement.avg - before.avg, 6)
    return found


def counter_growth(
    record: Record, previous: Previous | None
) -> tuple[dict[str, float | None], bool]:
    """How far each counter has come since `previous`, and whether one of them began anew.

    Growth that cannot be known (first sight, a reset, no time between the readings) is
    None, never zero or negative. A counter began anew if it went backwards, and also if its
    machine did: three hours after a boot it may have passed where it was before.
    """
    growth: dict[str, float | None] = {}
    reset = False
    for name, counter in record.measurements.items():
        if not _is_counter(name, counter) or record.source == "cloudwatch":
            continue
        before = previous.measurements.get(name) if previous else None
        delta = None
        if previous and before and before.last is not None and counter.last is not None:
            delta = counter.last - before.last
            if delta < 0 or _began_anew(record, previous):
                reset, delta = True, None
        growth[name] = delta if _elapsed(record, previous) > 0 else None
    return growth, reset


def rates(growth: Mapping[str, float | None], elapsed: float) -> dict[str, Measurement]:
    """A `…_rate` in bytes per second for each counter of bytes; null where growth is unknown."""
    found: dict[str, Measurement] = {}
    for name, delta in growth.items():
        base, colon, part = name.partition(":")
        if base in RATED:
            found[f"{base}_rate{colon}{part}"] = (
                UNKNOWN_RATE
                if delta is None
                else Measurement(unit="bytes_per_second", last=round(delta / elapsed, 6))
            )
    return found


def utilization(growth: Mapping[str, float | None]) -> dict[str, Measurement]:
    """The share of the window (percent) in which the cores were not idle, all cores together.

    Null where growth is unknown, or where idle time grew by more than all time: then the two
    do not belong together. Only what rounding can do is put right.
    """
    if not growth.keys() >= CPU_SECONDS:
        return {}
    idle, total = growth["cpu_seconds_idle"], growth["cpu_seconds_total"]
    if idle is None or not total or idle > total * 1.0001:
        return {"utilization": UNKNOWN_UTILIZATION}
    percent = round(min(max(100 * (1 - idle / total), 0.0), 100.0), 6)
    return {"utilization": Measurement(unit="percent", last=percent)}


def _is_counter(name: str, measurement: Measurement) -> bool:
    return name.partition(":")[0] in COUNTERS and measurement.samples == 1


def _began_anew(record: Record, previous: Previous) -> bool:
    """Whether the machine has booted since, or now sums its counters over other cores."""
    booted = _difference("boot_time", record, previous)
    return abs(booted) > _SAME_BOOT_SECONDS or _difference("cpu_count", record, previous) != 0


def _difference(name: str, record: Record, previous: Previous) -> float:
    """Of the last values; 0 where one of them is not known."""
    now, before = record.measurements.get(name), previous.measurements.get(name)
    if now is None or before is None or now.last is None or before.last is None:
        return 0
    return now.last - before.last


def _elapsed(record: Record, previous: Previous | None) -> float:
    if previous is None:
        return 0
    if record.collected_at and previous.collected_at:
        return (record.collected_at - previous.collected_at).total_seconds()
    return (record.timestamp - previous.timestamp).total_seconds()
