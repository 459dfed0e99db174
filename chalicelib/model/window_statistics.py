"""From the readings of a window to its statistics. Pure functions."""

from collections.abc import Sequence
from typing import NamedTuple

from .metric_types import Unit
from .records import Measurement


class Period(NamedTuple):
    """One metric period: when it starts (epoch seconds) and what was seen in it."""

    start: float
    avg: float
    min: float
    max: float


def reduce_window(
    periods: Sequence[Period], *, unit: Unit, period_seconds: int, threshold: float | None
) -> Measurement:
    """The window's statistics; `periods` in order of time, at least one.

    `samples` counts the periods that had data, so a gap shows. `avg` and `p95` are of the
    periods' averages, each period weighing the same; `min` and `max` are the extremes within
    the periods. `breach_seconds` is the time of those whose average was above `threshold`.
    """
    averages = [each.avg for each in periods]
    breaches = None
    if threshold is not None:
        breaches = float(period_seconds * sum(value > threshold for value in averages))
    return Measurement(
        unit=unit,
        last=averages[-1],
        avg=_mean(averages),
        min=min(each.min for each in periods),
        max=max(each.max for each in periods),
        p95=percentile(averages, 0.95),
        samples=len(periods),
        breach_seconds=breaches,
    )


def _mean(values: Sequence[float]) -> float:
    """The mean; rounding does not carry it past the extremes (0.1 three times is 0.1)."""
    return min(max(sum(values) / len(values), min(values)), max(values))


def percentile(values: Sequence[float], fraction: float) -> float:
    """The quantile by linear interpolation between order statistics, as numpy's default."""
    ordered = sorted(values)
    position = fraction * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])
