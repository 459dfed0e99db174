"""The status of a measurement, a record and a host: one order, one checked value, one rule."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "critical"]
HostStatus = Literal["ok", "warning", "missing", "critical"]

# From best to worst; only a host can be missing.
_ORDER: tuple[HostStatus, ...] = ("ok", "warning", "missing", "critical")


@dataclass(frozen=True, slots=True)
class Threshold:
    """Values of at least `warning` are a warning, of at least `critical` critical (percent)."""

    warning: float
    critical: float


def severity(status: str) -> int:
    """The position of a status in the order from best (0) to worst.

    Raises:
        ValueError: the status is unknown.
    """
    return _ORDER.index(status)


def worst(statuses: Iterable[str]) -> str:
    """The most severe of the statuses; `ok` if there are none."""
    return max(statuses, key=severity, default="ok")


def checked_value(last: float | None, p95: float | None) -> float | None:
    """The value that is compared with a threshold.

    It is the 95th percentile: the average hides a breach that lasted for part of the window, the
    maximum turns a single spike into a breach. A source without percentiles has its last value
    checked.
    """
    return last if p95 is None else p95


def check(value: float | None, threshold: Threshold | None) -> Status:
    """The status of a value; `ok` if it is unknown or has no threshold."""
    if threshold is None or value is None:
        return "ok"
    if value >= threshold.critical:
        return "critical"
    return "warning" if value >= threshold.warning else "ok"
