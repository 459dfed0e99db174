"""When a file system will be full, if it keeps growing as it did since the previous window."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from .metric_types import component_of, with_component
from .records import Measurement


class Forecast(NamedTuple):
    """A growing file system, and the hours until it is full; no component is the whole host."""

    component: str
    hours: float


def forecasts(
    measurements: Mapping[str, Measurement], change: Mapping[str, float], elapsed_seconds: float
) -> Iterator[Forecast]:
    """A forecast for each file system that grew, in the order of their names.

    `change` is the difference to the previous window, which ended `elapsed_seconds` before.
    Bytes are used where both `used` and `free` are known, else `percent`, which sources round.
    """
    if elapsed_seconds <= 0:
        return
    for component in sorted({component_of(name) for name in measurements}):
        growth, left = _growth_and_space(component, measurements, change)
        if growth > 0 and left is not None:
            yield Forecast(component, elapsed_seconds / 3600 * left / growth)


def _growth_and_space(
    component: str, measurements: Mapping[str, Measurement], change: Mapping[str, float]
) -> tuple[float, float | None]:
    """How much the file system grew, and how much space is left, in the same unit."""
    used, free, percent = (with_component(name, component) for name in ("used", "free", "percent"))
    if used in change and free in measurements:
        return change[used], measurements[free].last
    if percent in change and percent in measurements:
        last = measurements[percent].last
        return change[percent], None if last is None else max(100 - last, 0.0)
    return 0.0, None
