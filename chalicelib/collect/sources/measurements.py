"""How readings become measurements: the same names and totals, whichever source read them."""

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
    """Bytes since boot of one interface."""

    sent: float
    received: float


def point(unit: Unit, value: float) -> Measurement:
    return Measurement(unit=unit, last=float(value))


def disk_measurements(systems: Iterable[FileSystem]) -> Measurements:
    """Each file system, and their total; percent is of what users may fill, as in df."""
    systems = list(systems)
    used, free = sum(each.used for each in systems), sum(each.free for each in systems)
    measurements = _disk_space("", used, free)
    for each in systems:
        measurements |= _disk_space(f":{each.mountpoint}", each.used, each.free)
    return measurements


def network_measurements(interfaces: Mapping[str, Traffic]) -> Measurements:
    """Each interface, and their total; counters, not rates."""
    measurements = {
        "bytes_sent": point("bytes", sum(each.sent for each in interfaces.values())),
        "bytes_received": point("bytes", sum(each.received for each in interfaces.values())),
        "interfaces": point("count", len(interfaces)),
    }
    for name, each in interfaces.items():
        measurements[f"bytes_sent:{name}"] = point("bytes", each.sent)
        measurements[f"bytes_received:{name}"] = point("bytes", each.received)
    return measurements


def _disk_space(part: str, used: float, free: float) -> Measurements:
    percent = 100 * used / (used + free) if used + free else 0.0
    return {
        f"used{part}": point("bytes", used),
        f"free{part}": point("bytes", free),
        f"percent{part}": point("percent", round(percent, 1)),
    }
