"""The metric types: one specification for each, from which all lookups by type derive.

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

    Attributes:
        name: the value of `metric_type` in records.
        state: the first state of its branch in the state machine.
        fleet_metrics: its CloudWatch metrics.
        checked: the measurement that is compared with the thresholds, and so are its components;
            empty for a type without a status.
        thresholds: the environment variable with the thresholds; empty if `checked` is empty.
        rated: byte counters from which the processor derives rates.
        counters: the type's other counters.
        has_components: whether measurements can have a component after a colon, `percent:/var`.
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
        """The measurements that the API and the page show."""
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

# Counters (totals since boot), by their names without a component.
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
    """The measurements that the processor can add to a record that has the measurements `names`."""
    for name in names:
        if base_of(name) in RATED:
            yield rate_of(name)
    if names >= CPU_SECONDS:
        yield "utilization"


def rate_of(counter: str) -> str:
    """The name of a counter's rate: `bytes_sent_rate:eth0` for `bytes_sent:eth0`."""
    return with_component(f"{base_of(counter)}_rate", component_of(counter))
