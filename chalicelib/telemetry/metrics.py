"""Which CloudWatch metrics there are: from what was measured to names, units and values. Pure.

A host is never a dimension, for each metric costs by the month: what is known of each host is
one value of the fleet's metric, so CloudWatch's Average, Maximum and p95 are the fleet's.
docs/metrics.md is the table for people.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from ..model.enrichment import Enriched
from ..model.records import Record
from ..model.settings import JUDGED, Settings

Unit = Literal["Percent", "Count", "Bytes/Second", "Milliseconds", "Megabytes", "None"]

# https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_concepts.html
OLDEST, AHEAD = timedelta(days=14), timedelta(hours=2)

# A year: what fills up later than that does not fill up.
MAX_HOURS = 8_760.0


@dataclass(frozen=True, slots=True)
class Metric:
    """Values of one metric, of the moment `at` or, without it, of now."""

    name: str
    unit: Unit
    values: Sequence[float]
    dimensions: Mapping[str, str] = field(default_factory=dict)
    at: datetime | None = None


# What is judged of a metric type; a part of it (a file system) has its name after a colon.
_JUDGED = dict(JUDGED.keys())

# Where metrics go.
Emit = Callable[[Iterable[Metric]], None]


def nowhere(metrics: Iterable[Metric]) -> None:
    """Metrics that nobody asked for."""


@dataclass(frozen=True, slots=True)
class _Resource:
    """What one record tells of its resource; None is not known."""

    average: float | None = None
    maximum: float | None = None
    breach_minutes: float | None = None
    bytes_per_second: float | None = None
    hours_to_full: float | None = None


# metric type -> (metric, unit, field of _Resource)
_OF_RESOURCES: Mapping[str, Sequence[tuple[str, Unit, str]]] = {
    "cpu": (
        ("CPUUtilization", "Percent", "average"),
        ("CPUUtilizationMaximum", "Percent", "maximum"),
        ("CPUBreachMinutes", "None", "breach_minutes"),
    ),
    "memory": (
        ("MemoryUsage", "Percent", "average"),
        ("MemoryUsageMaximum", "Percent", "maximum"),
        ("MemoryBreachMinutes", "None", "breach_minutes"),
    ),
    "disk": (
        ("DiskUsage", "Percent", "average"),
        ("DiskUsageMaximum", "Percent", "maximum"),
        ("DiskBreachMinutes", "None", "breach_minutes"),
        ("DiskHoursToFull", "None", "hours_to_full"),
    ),
    "network": (("NetworkTraffic", "Bytes/Second", "bytes_per_second"),),
}


def of_records(
    enriched: Collection[Enriched], *, settings: Settings, now: datetime
) -> Iterator[Metric]:
    """The fleet's metrics, one value of each for a record that tells it, at its window's end.

    Records of a time that CloudWatch does not take are left out, as in a replay of old days.
    """
    resources: dict[tuple[str, datetime], list[_Resource]] = {}
    for each in enriched:
        record = each.record
        if now - OLDEST < record.timestamp < now + AHEAD:
            key = record.metric_type, record.timestamp
            resources.setdefault(key, []).append(_resource(each, settings))
    for (metric_type, at), known in resources.items():
        for name, unit, what in _OF_RESOURCES[metric_type]:
            values = [value for one in known if (value := getattr(one, what)) is not None]
            if values:
                yield Metric(name, unit, values, at=at)


def of_result(result: Mapping[str, Any]) -> list[Metric]:
    """What a run tells of one metric type, from its final result; nothing of a mere plan."""
    if result["status"] == "PLANNED":
        return []
    own = {"metric_type": str(result["metric_type"])}
    return [
        *counts(
            {
                "HostsExpected": result["expected"],
                "HostsReporting": result["reporting"],
                "HostsMissing": result["missing_count"],
                "SeriesBilled": result["series"],
            }
        ),
        Metric("RunDuration", "Milliseconds", [result["duration_ms"]], own),
    ]


def counts(
    numbers: Mapping[str, float], dimensions: Mapping[str, str] | None = None
) -> list[Metric]:
    """A metric in Count for each number."""
    return [Metric(name, "Count", [number], dimensions or {}) for name, number in numbers.items()]


def of_invocation(
    service: str, *, failed: bool, milliseconds: float, megabytes: float
) -> list[Metric]:
    """What each invocation of a function tells of itself; `megabytes` is its peak so far."""
    own = {"service": service}
    return [
        Metric("LambdaErrors", "Count", [int(failed)], own),
        Metric("LambdaDuration", "Milliseconds", [milliseconds], own),
        Metric("LambdaMemoryUsed", "Megabytes", [megabytes], own),
    ]


def _resource(enriched: Enriched, settings: Settings) -> _Resource:
    record = enriched.record
    if record.metric_type == "network":
        return _Resource(bytes_per_second=_traffic(record, settings.period_seconds))
    whole = _JUDGED[record.metric_type]
    judged = [each for name, each in record.measurements.items() if name.partition(":")[0] == whole]
    average = _value(record, whole)
    return _Resource(
        # Of a resource that has no whole it is the part that is worst.
        average=_greatest(each.avg for each in judged) if average is None else average,
        maximum=_greatest(each.max for each in judged),
        breach_minutes=_breach_minutes(enriched, settings),
        hours_to_full=_hours_to_full(enriched) if record.metric_type == "disk" else None,
    )


def _breach_minutes(enriched: Enriched, settings: Settings) -> float | None:
    """How long the worst of what is judged was above its critical threshold.

    A source that has one value for a window does not say. Two such values in a row above the
    threshold are taken for a whole window, one for none, and the very first is not known.
    """
    record, minutes = enriched.record, []
    for name, measurement in record.measurements.items():
        threshold = settings.threshold(record.metric_type, name)
        if threshold is None:
            continue
        if measurement.breach_seconds is not None:
            minutes.append(measurement.breach_seconds / 60)
        elif measurement.avg is not None and name in enriched.change:
            lower = min(measurement.avg, measurement.avg - enriched.change[name])
            minutes.append(record.window_seconds / 60 if lower > threshold.critical else 0.0)
    return _greatest(minutes)


def _traffic(record: Record, period_seconds: int) -> float | None:
    """Sent and received (bytes per second), where both are known."""
    if record.source == "cloudwatch":  # its averages are of sums over a period
        ways = [_value(record, name) for name in ("bytes_sent", "bytes_received")]
        seconds = float(period_seconds)
    else:
        ways = [_value(record, name) for name in ("bytes_sent_rate", "bytes_received_rate")]
        seconds = 1.0
    known = [value for value in ways if value is not None]
    return sum(known) / seconds if len(known) == len(ways) else None


def _hours_to_full(enriched: Enriched) -> float | None:
    """Until the first of the file systems is full, if each grows on as since the last window."""
    record, before = enriched.record, enriched.previous_timestamp
    if before is None or (elapsed := (record.timestamp - before).total_seconds()) <= 0:
        return None
    hours = [
        elapsed / 3600 * left / growth
        for growth, left in _filling(enriched)
        if growth > 0 and left is not None
    ]
    return min([*hours, MAX_HOURS]) if hours else None


def _filling(enriched: Enriched) -> Iterator[tuple[float, float | None]]:
    """How far each file system grew since the window before, and how much of it is left.

    In bytes where these are known, else in percent, which sources round.
    """
    measurements, change = enriched.record.measurements, enriched.change
    parts = {name.partition(":")[2] for name in measurements}
    for part in sorted(parts):
        used, free, percent = (
            f"{name}:{part}" if part else name for name in ("used", "free", "percent")
        )
        if used in change and free in measurements:
            yield change[used], measurements[free].last
        elif percent in change and (last := measurements[percent].last) is not None:
            yield change[percent], max(100 - last, 0.0)


def _value(record: Record, name: str) -> float | None:
    measurement = record.measurements.get(name)
    return None if measurement is None else measurement.avg


def _greatest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def finite(values: Iterable[float]) -> list[float]:
    """Those that CloudWatch takes: it knows neither NaN nor infinity."""
    return [value for value in values if math.isfinite(value)]
