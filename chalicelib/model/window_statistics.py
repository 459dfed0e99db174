"""The statistics of a window from its metric periods. Pure functions."""

from collections.abc import Sequence
from typing import NamedTuple

from .metric_types import Unit
from .records import Measurement


class Period(NamedTuple):
    """One metric period: its start in epoch seconds, and the statistics of its samples."""

    start: float
    avg: float
    min: float
    max: float


def reduce_window(
    periods: Sequence[Period], *, unit: Unit, period_seconds: int, threshold: float | None
) -> Measurement:
    """The statistics of a window from at least one period, in order of time.

    `samples` is the number of periods with data, so a gap is visible. `avg` and `p95` are computed
    from the averages of the periods with equal weights; `min` and `max` are the extremes within the
    periods. `breach_seconds` is the length of the periods with an average above `threshold`.
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
    """The mean, limited to the extremes: rounding makes that of three times 0.1 larger than 0.1."""
    return min(max(sum(values) / len(values), min(values)), max(values))


def percentile(values: Sequence[float], fraction: float) -> float:
    """The quantile by linear interpolation between order statistics, numpy's default method."""
    ordered = sorted(values)
    position = fraction * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])
