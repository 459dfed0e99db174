"""The metric types: one specification for each, from which every table in the product derives.

To add a type, add its name to `MetricType` and its specification to `SPECS`, a branch to the
state machine in infra/overlay.yaml, and a measuring function to the sources that support it.
docs/changes.md lists the files.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

MetricType = Literal["cpu", "memory", "disk", "network"]
Unit = Literal["percent", "bytes", "count", "seconds", "bytes_per_second"]

# Units of CloudWatch metrics.
CloudWatchUnit = Literal["Percent", "Count", "Bytes/Second", "Milliseconds", "Megabytes", "None"]

# The values that telemetry.metrics computes from a record.
Reading = Literal["average", "maximum", "breach_minutes", "hours_to_full", "bytes_per_second"]


@dataclass(frozen=True, slots=True)
class FleetMetric:
    """A CloudWatch metric with one value for each host: its name, unit and how to compute it."""

    name: str
    unit: CloudWatchUnit
    reading: Reading


@dataclass(frozen=True, slots=True)
class MetricTypeSpec:
    """Everything that distinguishes one metric type from another.

    `state` is the first state of its branch in the state machine. `checked` is the measurement
    that is compared with the thresholds in the environment variable `thresholds`; both are empty
    for a type without a status. A component (a file system) of the measurement has its name after
    a colon, `percent:/var`, and is checked as well. `rated` are byte counters from which the
    processor derives rates; `counters` are its other counters. `charted` are the measurements
    that the API and the page show. `has_components` says whether records have them.
    """

    name: MetricType
    state: str
    fleet_metrics: tuple[FleetMetric, ...]
    checked: str = ""
    thresholds: str = ""
    rated: tuple[str, ...] = ()
    counters: tuple[str, ...] = ()
    has_components: bool = False

    @property
    def charted(self) -> tuple[str, ...]:
        return (self.checked,) if self.checked else self.rated


def _utilization_metrics(prefix: str, usage: str) -> tuple[FleetMetric, ...]:
    return (
        FleetMetric(usage, "Percent", "average"),
        FleetMetric(f"{usage}Maximum", "Percent", "maximum"),
        FleetMetric(f"{prefix}BreachMinutes", "None", "breach_minutes"),
    )


_SPECS = (
    MetricTypeSpec(
        name="cpu",
        state="InvokeCPUCollector",
        checked="utilization",
        thresholds="CPU_THRESHOLDS",
        counters=("cpu_seconds_idle", "cpu_seconds_total"),
        fleet_metrics=_utilization_metrics("CPU", "CPUUtilization"),
    ),
    MetricTypeSpec(
        name="memory",
        state="InvokeMemoryCollector",
        checked="percent",
        thresholds="MEMORY_THRESHOLDS",
        fleet_metrics=_utilization_metrics("Memory", "MemoryUsage"),
    ),
    MetricTypeSpec(
        name="disk",
        state="InvokeDiskCollector",
        checked="percent",
        thresholds="DISK_THRESHOLDS",
        has_components=True,
        fleet_metrics=(
            *_utilization_metrics("Disk", "DiskUsage"),
            FleetMetric("DiskHoursToFull", "None", "hours_to_full"),
        ),
    ),
    MetricTypeSpec(
        name="network",
        state="InvokeNetworkCollector",
        rated=("bytes_sent", "bytes_received"),
        has_components=True,
        fleet_metrics=(FleetMetric("NetworkTraffic", "Bytes/Second", "bytes_per_second"),),
    ),
)

SPECS: Mapping[str, MetricTypeSpec] = {spec.name: spec for spec in _SPECS}
METRIC_TYPES: tuple[MetricType, ...] = get_args(MetricType)

# The types that have a status.
CHECKED_TYPES = tuple(spec.name for spec in _SPECS if spec.checked)

# Totals since boot, by the name before the colon.
RATED = frozenset(name for spec in _SPECS for name in spec.rated)
CPU_SECONDS = frozenset(SPECS["cpu"].counters)
COUNTERS = RATED | frozenset(name for spec in _SPECS for name in spec.counters)


def component_of(measurement: str) -> str:
    """The component of a measurement's name: `/var` of `percent:/var`, empty for the whole."""
    return measurement.partition(":")[2]


def base_of(measurement: str) -> str:
    """A measurement's name without its component: `percent` of `percent:/var`."""
    return measurement.partition(":")[0]


def with_component(name: str, component: str) -> str:
    """`percent:/var` from `percent` and `/var`; the plain name for an empty component."""
    return f"{name}:{component}" if component else name


def derived_measurements(names: frozenset[str] | set[str]) -> Iterator[str]:
    """The names of the measurements that the processor can add to a record with these."""
    for name in names:
        if base_of(name) in RATED:
            yield rate_of(name)
    if names >= CPU_SECONDS:
        yield "utilization"


def rate_of(counter: str) -> str:
    """The name of a counter's rate: `bytes_sent_rate:eth0` for `bytes_sent:eth0`."""
    return with_component(f"{base_of(counter)}_rate", component_of(counter))
