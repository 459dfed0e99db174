"""The CloudWatch metrics of the fleet, the run and the functions. Pure functions.

A host is never a dimension, because each combination of dimensions is billed by the month. Each
host contributes one value to the fleet's metric instead, so CloudWatch's Average, Maximum and p95
are those of the fleet. docs/metrics.md lists every metric.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ..model.disk_forecast import forecasts
from ..model.enrichment import Enriched
from ..model.metric_types import SPECS, CloudWatchUnit, Reading, base_of
from ..model.records import Record
from ..model.settings import Settings
from ..model.sources import SOURCES

# The timestamps that CloudWatch accepts:
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_concepts.html
MAX_AGE, MAX_AHEAD = timedelta(days=14), timedelta(hours=2)

# A year; a file system that fills more slowly counts as not filling.
MAX_HOURS = 8_760.0


@dataclass(frozen=True, slots=True)
class Metric:
    """Values of one metric, at the time `at`; None stands for now."""

    name: str
    unit: CloudWatchUnit
    values: Sequence[float]
    dimensions: Mapping[str, str] = field(default_factory=dict)
    at: datetime | None = None


# Receives metrics, for example `instrumentation.emit`.
Emit = Callable[[Iterable[Metric]], None]


def discard(metrics: Iterable[Metric]) -> None:
    """An `Emit` that ignores the metrics."""


def record_metrics(
    enriched: Collection[Enriched], *, settings: Settings, now: datetime
) -> Iterator[Metric]:
    """The fleet's metrics, with one value for each record that has one, at the window's end.

    Records with a timestamp that CloudWatch does not accept are left out, as in a replay of old
    days.
    """
    batches: dict[tuple[str, datetime], list[Enriched]] = {}
    for each in enriched:
        record = each.record
        if now - MAX_AGE < record.timestamp < now + MAX_AHEAD:
            batches.setdefault((record.metric_type, record.timestamp), []).append(each)
    for (metric_type, at), batch in batches.items():
        for metric in SPECS[metric_type].fleet_metrics:
            compute = _READINGS[metric.reading]
            values = [value for one in batch if (value := compute(one, settings)) is not None]
            if values:
                yield Metric(metric.name, metric.unit, values, at=at)


def run_metrics(result: Mapping[str, Any]) -> list[Metric]:
    """The metrics of one metric type of a run, from its final result; none for a plan."""
    if result["status"] == "PLANNED":
        return []
    return [
        *count_metrics(
            {
                "HostsExpected": result["expected"],
                "HostsReporting": result["reporting"],
                "HostsMissing": result["missing_count"],
                "SeriesBilled": result["series"],
            }
        ),
        Metric(
            "RunDuration",
            "Milliseconds",
            [result["duration_ms"]],
            {"metric_type": str(result["metric_type"])},
        ),
    ]


def count_metrics(
    counts: Mapping[str, float], dimensions: Mapping[str, str] | None = None
) -> list[Metric]:
    """A metric with the unit Count for each number."""
    return [Metric(name, "Count", [count], dimensions or {}) for name, count in counts.items()]


def invocation_metrics(
    service: str, *, failed: bool, milliseconds: float, megabytes: float
) -> list[Metric]:
    """The metrics of one invocation of a function; `megabytes` is its peak memory so far."""
    dimensions = {"service": service}
    return [
        Metric("LambdaErrors", "Count", [int(failed)], dimensions),
        Metric("LambdaDuration", "Milliseconds", [milliseconds], dimensions),
        Metric("LambdaMemoryUsed", "Megabytes", [megabytes], dimensions),
    ]


def _average(enriched: Enriched, _: Settings) -> float | None:
    """The average of the host's checked measurement; without one, of its worst component."""
    record = enriched.record
    measurement = record.measurements.get(SPECS[record.metric_type].checked)
    if measurement is not None and measurement.avg is not None:
        return measurement.avg
    return _greatest(each.avg for _, each in _checked(record))


def _maximum(enriched: Enriched, _: Settings) -> float | None:
    return _greatest(each.max for _, each in _checked(enriched.record))


def _breach_minutes(enriched: Enriched, settings: Settings) -> float | None:
    """How long the worst checked measurement was above its critical threshold.

    A source with one value for a window does not report this. Two such values in a row above the
    threshold count as a whole window, one as none; for the first record the time is unknown.
    """
    record, minutes = enriched.record, []
    for name, measurement in _checked(record):
        threshold = settings.threshold(record.metric_type, name)
        if threshold is None:
            continue
        if measurement.breach_seconds is not None:
            minutes.append(measurement.breach_seconds / 60)
        elif measurement.avg is not None and name in enriched.change:
            lower = min(measurement.avg, measurement.avg - enriched.change[name])
            minutes.append(record.window_seconds / 60 if lower > threshold.critical else 0.0)
    return _greatest(minutes)


def _bytes_per_second(enriched: Enriched, settings: Settings) -> float | None:
    """Sent plus received, if both are known."""
    record = enriched.record
    total, seconds = 0.0, 1.0
    for name in SPECS[record.metric_type].rated:
        rated, seconds = SOURCES[record.source].rate(name, settings.period_seconds)
        measurement = record.measurements.get(rated)
        if measurement is None or measurement.avg is None:
            return None
        total += measurement.avg
    return total / seconds


def _hours_to_full(enriched: Enriched, _: Settings) -> float | None:
    """The time until the host's first file system is full."""
    record, previous = enriched.record, enriched.previous_timestamp
    if previous is None:
        return None
    elapsed = (record.timestamp - previous).total_seconds()
    hours = [each.hours for each in forecasts(record.measurements, enriched.change, elapsed)]
    return min([*hours, MAX_HOURS]) if hours else None


_READINGS: Mapping[Reading, Callable[[Enriched, Settings], float | None]] = {
    "average": _average,
    "maximum": _maximum,
    "breach_minutes": _breach_minutes,
    "bytes_per_second": _bytes_per_second,
    "hours_to_full": _hours_to_full,
}


def _checked(record: Record) -> Iterator[tuple[str, Any]]:
    """The measurements that have a status: the checked one and those of its components."""
    checked = SPECS[record.metric_type].checked
    return (each for each in record.measurements.items() if base_of(each[0]) == checked)


def _greatest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def finite(values: Iterable[float]) -> list[float]:
    """The values that CloudWatch accepts: it rejects NaN and infinity."""
    return [value for value in values if math.isfinite(value)]
