"""What stands for a metric type where people look at it: names, units, statistics. Pure."""

from collections.abc import Iterator, Mapping
from typing import Any

from ..model.items import Item
from ..model.settings import Settings

STATISTICS = ("last", "avg", "min", "max", "p95", "breach_seconds")

# Paths of the attributes that a chart of a metric type needs. The last ones are its values.
_COMMON = (
    ("resource_id",),
    ("account_id",),
    ("region",),
    ("timestamp",),
    ("window_seconds",),
    ("source",),
    ("status",),
    ("labels",),
)
_TRAFFIC = ("bytes_sent", "bytes_received", "bytes_sent_rate", "bytes_received_rate")
_VALUES: Mapping[str, tuple[str, ...]] = {
    "cpu": ("utilization",),
    "memory": ("percent",),
    "disk": ("percent",),
    "network": _TRAFFIC,
}

Path = tuple[str, ...]

# A statistic by its name; None is not known.
Statistics = Mapping[str, float | None]


def paths(metric_type: str, *, parts: bool = False) -> list[Path]:
    """What to read of an item of this type; with `parts`, of each file system too, and its key."""
    if parts and metric_type == "disk":
        return [*_COMMON, ("metric_id",), ("measurements",)]
    own = [("metric_id",)] if parts else []
    return [*_COMMON, *own, *(("measurements", name) for name in _VALUES[metric_type])]


def brief_paths(metric_type: str) -> list[Path]:
    """What to read of an item that is only a point of a chart: its average."""
    names = _VALUES[metric_type]
    known = [("resource_id",), ("account_id",), ("region",), ("timestamp",), ("source",)]
    return [*known, ("labels", "name"), *(("measurements", name, "avg") for name in names)]


def whole(metric_type: str, item: Item, settings: Settings) -> tuple[str, str, Statistics]:
    """Name, unit and statistics of what stands for the metric type."""
    if metric_type != "network":
        name = _VALUES[metric_type][0]
        return name, "percent", _statistics(_measurements(item).get(name))
    ways = [values for _, values in traffic(item, settings)]
    # The peaks of the two ways need not have been at one time.
    both = {
        each: _sum([way.get(each) for way in ways]) if each in {"last", "avg"} else None
        for each in STATISTICS
    }
    return "traffic", "bytes_per_second", both


def average(metric_type: str, item: Item, settings: Settings) -> float | None:
    """The average of what stands for the metric type."""
    if metric_type == "network":
        return whole(metric_type, item, settings)[2]["avg"]
    measurement = _measurements(item).get(_VALUES[metric_type][0])
    return _number(measurement["M"], "avg") if measurement else None


def each(metric_type: str, item: Item, settings: Settings) -> Iterator[tuple[str, str, Statistics]]:
    """Name, unit and statistics of all that a history shows."""
    if metric_type == "network":
        for name, values in traffic(item, settings):
            yield name, "bytes_per_second", values
        return
    for name, measurement in sorted(_measurements(item).items()):
        if name.partition(":")[0] in _VALUES[metric_type]:
            yield name, "percent", _statistics(measurement)


def traffic(item: Item, settings: Settings) -> Iterator[tuple[str, Statistics]]:
    """Both ways in bytes per second: CloudWatch's are sums over a period, others' have rates."""
    cloudwatch = item.get("source", {}).get("S") == "cloudwatch"
    seconds = settings.period_seconds if cloudwatch else 1
    found = _measurements(item)
    for name in ("bytes_sent", "bytes_received"):
        values = _statistics(found.get(name if cloudwatch else f"{name}_rate"))
        yield (
            name,
            {
                key: None if value is None else round(value / seconds, 2)
                for key, value in values.items()
            },
        )


def _measurements(item: Item) -> dict[str, Any]:
    found: dict[str, Any] = item.get("measurements", {}).get("M", {})
    return found


def _statistics(measurement: Any) -> dict[str, float | None]:
    values = measurement["M"] if measurement else {}
    return {name: _number(values, name) for name in STATISTICS}


def _number(values: Item, name: str) -> float | None:
    """What people read of a number; None is not known."""
    text = values.get(name, {}).get("N")
    return None if text is None else round(float(text), 2)


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known), 2) if known and len(known) == len(values) else None
