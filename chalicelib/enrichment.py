"""What the pipeline adds to a record: status, change, rates, lag, origin. Pure functions."""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from .records import UNKNOWN_RATE, Measurement, Record
from .settings import Settings, Threshold

Status = Literal["ok", "warning", "critical"]
_SEVERITY: tuple[Status, ...] = ("ok", "warning", "critical")

# Totals since boot, as operating systems count them. CloudWatch's sums are per period, so
# its records have no counters.
COUNTERS = frozenset({"bytes_sent", "bytes_received"})


class Previous(Struct, frozen=True, kw_only=True):
    """The same resource's record of the window before, as far as comparing needs it."""

    timestamp: datetime
    collected_at: datetime | None
    measurements: Mapping[str, Measurement]


class Enriched(Struct, frozen=True, kw_only=True):
    """A record with all that was found out about it.

    `status` is the worst of `statuses`, which has one for each measurement; `change` is the
    difference to the previous window's average, in the measurement's unit, where both are
    known; `counter_reset` says that a counter went backwards; `collection_lag_seconds` is
    from the window's end to the reading (or to the object's arrival, if the record does not
    say when it was read).
    """

    record: Record
    status: Status
    statuses: Mapping[str, Status]
    change: Mapping[str, float]
    counter_reset: bool
    previous_timestamp: datetime | None
    collection_lag_seconds: float
    source_object: str
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
    """The record with its status, its change since `previous`, and the rates of its counters."""
    rates, reset = counter_rates(record, previous)
    record = replace(record, measurements={**rates, **record.measurements}) if rates else record
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


def counter_rates(record: Record, previous: Previous | None) -> tuple[dict[str, Measurement], bool]:
    """A `…_rate` in bytes per second for each counter, and whether one of them went backwards.

    A rate that cannot be known (first sight, a reset, no time between the readings) is
    null, never zero or negative.
    """
    rates: dict[str, Measurement] = {}
    reset = False
    for name, counter in record.measurements.items():
        base, colon, part = name.partition(":")
        if base not in COUNTERS or counter.samples != 1 or record.source == "cloudwatch":
            continue
        before = previous.measurements.get(name) if previous else None
        delta = None
        if previous and before and before.last is not None and counter.last is not None:
            delta = counter.last - before.last
        reset = reset or (delta is not None and delta < 0)
        elapsed = _elapsed(record, previous)
        if delta is None or delta < 0 or elapsed <= 0:
            rates[f"{base}_rate{colon}{part}"] = UNKNOWN_RATE
        else:
            rate = round(delta / elapsed, 6)
            rates[f"{base}_rate{colon}{part}"] = Measurement(unit="bytes_per_second", last=rate)
    return rates, reset


def _elapsed(record: Record, previous: Previous | None) -> float:
    if previous is None:
        return 0
    if record.collected_at and previous.collected_at:
        return (record.collected_at - previous.collected_at).total_seconds()
    return (record.timestamp - previous.timestamp).total_seconds()
