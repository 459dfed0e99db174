"""What the pipeline adds to a record: status, change, rates, lag, origin. Pure functions."""

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from .metric_types import COUNTERS, CPU_SECONDS, RATED, base_of, rate_of
from .records import UNKNOWN_RATE, UNKNOWN_UTILIZATION, Measurement, Record
from .settings import Settings
from .sources import SOURCES
from .status import check, worst

# The kernel derives the boot time from its clock, so it changes when the clock is corrected.
_SAME_BOOT_SECONDS = 60


class Previous(Struct, frozen=True, kw_only=True):
    """The fields of the same host's record of the previous window that are compared."""

    timestamp: datetime
    collected_at: datetime | None
    measurements: Mapping[str, Measurement]


class Enriched(Struct, frozen=True, kw_only=True):
    """A record and the values derived from it.

    `statuses` has one status for each measurement, `status` is the worst of them. `change` is
    the difference to the previous window's average, in the measurement's unit, where both are
    known. `counter_reset` says that a counter was reset. `collection_lag_seconds` is the time
    from the window's end to the reading, or to the object's arrival if the record does not state
    when it was read. `stored_at` is when the source object was stored.
    """

    record: Record
    status: str
    statuses: Mapping[str, str]
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
    """Add status, change since `previous`, and rates and utilization from counters."""
    growth, reset = counter_growth(record, previous)
    derived = rates(growth, _elapsed(record, previous))
    if "utilization" not in record.measurements:  # a measured value takes precedence
        derived |= utilization(growth)
    record = replace(record, measurements={**derived, **record.measurements}) if derived else record
    statuses = {
        name: check(measurement.checked_value, settings.threshold(record.metric_type, name))
        for name, measurement in record.measurements.items()
    }
    read_at = record.collected_at or stored_at
    return Enriched(
        record=record,
        status=worst(statuses.values()),
        statuses=statuses,
        change=changes(record.measurements, previous),
        counter_reset=reset,
        previous_timestamp=previous.timestamp if previous else None,
        collection_lag_seconds=round((read_at - record.timestamp).total_seconds(), 3),
        source_object=source_object,
        stored_at=stored_at,
        processed_at=now,
    )


def changes(measurements: Mapping[str, Measurement], previous: Previous | None) -> dict[str, float]:
    """The change of the average, for each measurement that has one in both windows."""
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
    """The increase of each counter since `previous`, and whether one of them was reset.

    An unknown increase (first record, a reset, no time between the readings) is None, never zero
    or negative. A counter was reset if it decreased, or if its host rebooted: three hours after a
    boot it can exceed its old value.
    """
    if not SOURCES[record.source].has_counters:
        return {}, False
    growth: dict[str, float | None] = {}
    reset = False
    for name, counter in record.measurements.items():
        if not _is_counter(name, counter):
            continue
        before = previous.measurements.get(name) if previous else None
        delta = None
        if previous and before and before.last is not None and counter.last is not None:
            delta = counter.last - before.last
            if delta < 0 or _has_restarted(record, previous):
                reset, delta = True, None
        growth[name] = delta if _elapsed(record, previous) > 0 else None
    return growth, reset


def rates(growth: Mapping[str, float | None], elapsed: float) -> dict[str, Measurement]:
    """A `…_rate` in bytes per second for each byte counter; null if its growth is unknown."""
    found: dict[str, Measurement] = {}
    for name, delta in growth.items():
        if base_of(name) in RATED:
            found[rate_of(name)] = (
                UNKNOWN_RATE
                if delta is None
                else Measurement(unit="bytes_per_second", last=round(delta / elapsed, 6))
            )
    return found


def utilization(growth: Mapping[str, float | None]) -> dict[str, Measurement]:
    """The share of the window in which the cores were not idle, over all cores, in percent.

    Null if the growth is unknown, or if idle time grew by more than total time, which makes the
    two inconsistent. Only rounding errors are corrected.
    """
    if not growth.keys() >= CPU_SECONDS:
        return {}
    idle, total = growth["cpu_seconds_idle"], growth["cpu_seconds_total"]
    if idle is None or not total or idle > total * 1.0001:
        return {"utilization": UNKNOWN_UTILIZATION}
    percent = round(min(max(100 * (1 - idle / total), 0.0), 100.0), 6)
    return {"utilization": Measurement(unit="percent", last=percent)}


def _is_counter(name: str, measurement: Measurement) -> bool:
    return base_of(name) in COUNTERS and measurement.samples == 1


def _has_restarted(record: Record, previous: Previous) -> bool:
    """Whether the host rebooted since, or sums its counters over another number of cores."""
    booted = _difference("boot_time", record, previous)
    return abs(booted) > _SAME_BOOT_SECONDS or _difference("cpu_count", record, previous) != 0


def _difference(name: str, record: Record, previous: Previous) -> float:
    """The difference of the last values; 0 if one of them is unknown."""
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
