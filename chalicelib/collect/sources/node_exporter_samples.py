"""Converts node_exporter samples to measurements."""

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

# Imports all of prometheus_client: 10 ms of CPU, so only this source imports it.
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from ...model.errors import CollectionError
from ...model.metric_types import MetricType
from .exclusions import PSEUDO_FILE_SYSTEMS, VIRTUAL_INTERFACES
from .measurements import (
    FileSystem,
    Measurements,
    Traffic,
    disk_measurements,
    network_measurements,
    point,
)

# The idle modes of node-mixin, which defines utilization as
# `1 - avg(rate(node_cpu_seconds_total{mode=~"idle|iowait|steal"}))`
# (prometheus/node_exporter, docs/node-mixin/rules/rules.libsonnet).
_IDLE_MODES = frozenset({"idle", "iowait", "steal"})
# The kernel includes guest time in user and nice.
_GUEST_MODES = frozenset({"guest", "guest_nice"})

_LOADS = {
    "load_average": "node_load1",
    "load_average_5m": "node_load5",
    "load_average_15m": "node_load15",
}

_COMMON = frozenset({"node_uname_info", "node_boot_time_seconds"})

# The sample families needed for each metric type.
FAMILIES: Mapping[MetricType, frozenset[str]] = {
    "cpu": _COMMON | {"node_cpu_seconds_total", *_LOADS.values()},
    "memory": _COMMON.union(
        f"node_memory_{name}_bytes"
        for name in "MemTotal MemAvailable MemFree Buffers Cached Slab SwapTotal SwapFree".split()
    ),
    "disk": _COMMON.union(f"node_filesystem_{name}_bytes" for name in ("size", "free", "avail")),
    "network": _COMMON.union(
        f"node_network_{direction}_bytes_total" for direction in ("transmit", "receive")
    ),
}
_NAME = re.compile(rb"\s*([A-Za-z_:][\w:]*)")


class Scrape:
    """The samples of one response by family name."""

    def __init__(self, samples: Iterable[Sample]) -> None:
        self._families: dict[str, list[Sample]] = {}
        for sample in samples:
            self._families.setdefault(sample.name, []).append(sample)

    def family(self, name: str) -> Sequence[Sample]:
        """All samples of a family; empty if the response does not have it."""
        return self._families.get(name, ())

    def required(self, name: str) -> Sequence[Sample]:
        if not (samples := self.family(name)):
            raise CollectionError(f"the response has no {name}")
        return samples

    def value(self, name: str) -> float | None:
        samples = self.family(name)
        return samples[0].value if samples else None

    @property
    def nodename(self) -> str:
        """The host's own name, or '' if unknown."""
        samples = self.family("node_uname_info")
        return samples[0].labels.get("nodename", "") if samples else ""

    def by(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """The values of a family, keyed by the values of some labels."""
        return {
            tuple(each.labels.get(label, "") for label in labels): each.value
            for each in self.family(name)
        }


def read_samples(lines: Iterable[bytes], names: Collection[str]) -> Iterator[Sample]:
    """Parse the samples of some families.

    Only lines of these families are parsed: a few dozen of the thousand or more in a response.

    Raises:
        CollectionError: a sample is not in Prometheus's text format, or its value is not from 0
            to 1e30.
    """
    wanted = {name.encode() for name in names}
    for line in lines:
        name = _NAME.match(line)
        if name is None or name[1] not in wanted:
            continue
        try:
            for family in text_string_to_metric_families(line.decode()):
                yield from map(_checked, family.samples)
        # The parser does not check all input; OverflowError is raised for a long integer.
        except (ValueError, IndexError, OverflowError) as error:
            raise CollectionError(f"invalid sample {line[:100]!r}: {error}"[:300]) from error


def _checked(sample: Sample) -> Sample:
    value = float(sample.value)
    if not 0 <= value <= 1e30:
        raise ValueError("the value is not from 0 to 1e30")
    return sample._replace(value=value)


def measure(metric_type: MetricType, scrape: Scrape) -> Measurements:
    """The measurements of one metric type, each of a single sample.

    Raises:
        CollectionError: the response lacks a required family.
    """
    match metric_type:
        case "cpu":
            return measure_cpu(scrape)
        case "memory":
            return measure_memory(scrape)
        case "disk":
            return disk_measurements(file_systems(scrape))
        case "network":
            return measure_network(scrape)


def measure_cpu(scrape: Scrape) -> Measurements:
    """Load averages, and CPU seconds since boot summed over the cores.

    The processor computes the utilization from the seconds of two consecutive records.
    """
    cores = scrape.required("node_cpu_seconds_total")
    modes = [(each.labels.get("mode", ""), each.value) for each in cores]
    loads = {name: scrape.value(family) for name, family in _LOADS.items()}
    return {
        **{name: point("count", load) for name, load in loads.items() if load is not None},
        "cpu_count": point("count", len({each.labels.get("cpu") for each in cores})),
        "cpu_seconds_idle": point(
            "seconds", math.fsum(value for mode, value in modes if mode in _IDLE_MODES)
        ),
        "cpu_seconds_total": point(
            "seconds", math.fsum(value for mode, value in modes if mode not in _GUEST_MODES)
        ),
        **_boot_time(scrape),
    }


def measure_memory(scrape: Scrape) -> Measurements:
    """Memory as psutil defines it: used is total less available."""
    total = _memory(scrape, "MemTotal")
    # Linux before 3.14 has no MemAvailable; node-mixin uses this sum instead.
    if scrape.value("node_memory_MemAvailable_bytes") is None:
        available = sum(_memory(scrape, name) for name in ("MemFree", "Buffers", "Cached", "Slab"))
    else:
        available = _memory(scrape, "MemAvailable")
    available = min(available, total)
    swap = _memory(scrape, "SwapTotal")
    swap_used = max(swap - _memory(scrape, "SwapFree"), 0)
    return {
        "used": point("bytes", total - available),
        "available": point("bytes", available),
        "percent": point("percent", _percent(total - available, total)),
        "total": point("bytes", total),
        "swap_used": point("bytes", swap_used),
        "swap_percent": point("percent", _percent(swap_used, swap)),
    }


def file_systems(scrape: Scrape) -> list[FileSystem]:
    """File systems that hold data, each device once, under its shortest path; see `host`.

    Raises:
        CollectionError: no file system holds data.
    """
    free = scrape.by("node_filesystem_free_bytes", "device", "mountpoint")
    available = scrape.by("node_filesystem_avail_bytes", "device", "mountpoint")
    sizes = {
        (each.labels.get("device", ""), each.labels.get("mountpoint", "")): each.value
        for each in scrape.required("node_filesystem_size_bytes")
        if each.value and not _is_pseudo(each)
    }
    found: dict[str, FileSystem] = {}
    devices: set[str] = set()
    for key in sorted(sizes.keys() & free.keys() & available.keys(), key=_by_path):
        device, mountpoint = key
        # Old kernels list the root twice, as rootfs and as its device.
        if device not in devices and mountpoint not in found:
            devices.add(device)
            used = max(sizes[key] - free[key], 0)
            found[mountpoint] = FileSystem(mountpoint, used, available[key])
    if not found:
        raise CollectionError("the response has no file system that holds data")
    return list(found.values())


def measure_network(scrape: Scrape) -> Measurements:
    """Bytes of each physical interface since boot."""
    scrape.required("node_network_receive_bytes_total")
    received = scrape.by("node_network_receive_bytes_total", "device")
    sent = scrape.by("node_network_transmit_bytes_total", "device")
    interfaces = {
        name: Traffic(sent[name,], received[name,])
        for (name,) in sorted(received.keys() & sent.keys())
        if not VIRTUAL_INTERFACES.fullmatch(name)
    }
    return network_measurements(interfaces) | _boot_time(scrape)


def _boot_time(scrape: Scrape) -> Measurements:
    """Boot time in epoch seconds; a change indicates that the counters were reset."""
    booted = scrape.value("node_boot_time_seconds")
    return {} if booted is None else {"boot_time": point("seconds", booted)}


def _memory(scrape: Scrape, name: str) -> float:
    return float(scrape.required(f"node_memory_{name}_bytes")[0].value)


def _percent(value: float, total: float) -> float:
    return round(100 * value / total, 1) if total else 0.0


def _is_pseudo(size: Sample) -> bool:
    kind, mountpoint = size.labels.get("fstype"), size.labels.get("mountpoint")
    return kind in PSEUDO_FILE_SYSTEMS and mountpoint != "/"


def _by_path(key: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
    return len(key[1]), key
