"""Measurements of disks and networks, with the same names and totals for every source."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from ...model.metric_types import Unit
from ...model.records import Measurement

Measurements = dict[str, Measurement]


class FileSystem(NamedTuple):
    """A mounted file system: bytes `used` and `free` (to unprivileged users)."""

    mountpoint: str
    used: float
    free: float


class Traffic(NamedTuple):
    """Bytes of one interface since boot."""

    sent: float
    received: float


def point(unit: Unit, value: float) -> Measurement:
    """A measurement of a single sample."""
    return Measurement(unit=unit, last=float(value))


def disk_measurements(systems: Iterable[FileSystem]) -> Measurements:
    """Measurements per file system and in total. As in df, percent is of used + free."""
    systems = list(systems)
    used, free = sum(each.used for each in systems), sum(each.free for each in systems)
    measurements = _disk_space("", used, free)
    for each in systems:
        measurements |= _disk_space(f":{each.mountpoint}", each.used, each.free)
    return measurements


def network_measurements(interfaces: Mapping[str, Traffic]) -> Measurements:
    """Counters (not rates) per interface and in total."""
    measurements = {
        "bytes_sent": point("bytes", sum(each.sent for each in interfaces.values())),
        "bytes_received": point("bytes", sum(each.received for each in interfaces.values())),
        "interfaces": point("count", len(interfaces)),
    }
    for name, each in interfaces.items():
        measurements[f"bytes_sent:{name}"] = point("bytes", each.sent)
        measurements[f"bytes_received:{name}"] = point("bytes", each.received)
    return measurements


def _disk_space(suffix: str, used: float, free: float) -> Measurements:
    percent = 100 * used / (used + free) if used + free else 0.0
    return {
        f"used{suffix}": point("bytes", used),
        f"free{suffix}": point("bytes", free),
        f"percent{suffix}": point("percent", round(percent, 1)),
    }
