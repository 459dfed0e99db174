"""The measurements of an item that the API returns, with their units and statistics. Pure."""

from collections.abc import Iterator, Mapping

from ..model.dynamodb import Item, mapping, number, text
from ..model.metric_types import SPECS, base_of, rate_of
from ..model.settings import Settings
from ..model.sources import SOURCES

STATISTICS = ("last", "avg", "min", "max", "p95", "breach_seconds")

# The path of an attribute in an item.
Path = tuple[str, ...]

# A statistic by its name; None is unknown.
Statistics = Mapping[str, float | None]

_COMMON_PATHS: tuple[Path, ...] = (
    ("resource_id",),
    ("account_id",),
    ("region",),
    ("timestamp",),
    ("window_seconds",),
    ("source",),
    ("status",),
    ("labels",),
)


def paths(metric_type: str, *, components: bool = False) -> list[Path]:
    """The attributes to read of an item; with `components`, also each file system and the key."""
    if components and SPECS[metric_type].has_components and SPECS[metric_type].checked:
        return [*_COMMON_PATHS, ("metric_id",), ("measurements",)]
    key = [("metric_id",)] if components else []
    return [*_COMMON_PATHS, *key, *(("measurements", name) for name in _stored_names(metric_type))]


def average_paths(metric_type: str) -> list[Path]:
    """The attributes to read of an item of which only the average is shown."""
    common = [("resource_id",), ("account_id",), ("region",), ("timestamp",), ("source",)]
    names = _stored_names(metric_type)
    return [*common, ("labels", "name"), *(("measurements", name, "avg") for name in names)]


def _stored_names(metric_type: str) -> tuple[str, ...]:
    spec = SPECS[metric_type]
    return (*spec.charted, *map(rate_of, spec.rated))


def main_measurement(
    metric_type: str, item: Item, settings: Settings
) -> tuple[str, str, Statistics]:
    """Name, unit and statistics of the measurement that stands for the metric type."""
    spec = SPECS[metric_type]
    if spec.checked:
        return spec.checked, "percent", _statistics(_measurement(item, spec.checked))
    directions = [values for _, values in _traffic(metric_type, item, settings)]
    # Only `last` and `avg` are added: the peaks of the two directions can be at different times.
    total = {
        each: _sum([values.get(each) for values in directions]) if each in {"last", "avg"} else None
        for each in STATISTICS
    }
    return "traffic", "bytes_per_second", total


def average(metric_type: str, item: Item, settings: Settings) -> float | None:
    """The average of the measurement that stands for the metric type."""
    spec = SPECS[metric_type]
    if not spec.checked:
        return main_measurement(metric_type, item, settings)[2]["avg"]
    return _rounded(_measurement(item, spec.checked), "avg")


def charted_measurements(
    metric_type: str, item: Item, settings: Settings
) -> Iterator[tuple[str, str, Statistics]]:
    """Name, unit and statistics of every measurement in a host's history."""
    spec = SPECS[metric_type]
    if not spec.checked:
        for name, values in _traffic(metric_type, item, settings):
            yield name, "bytes_per_second", values
        return
    for name, measurement in sorted(mapping(item, "measurements").items()):
        if base_of(name) in spec.charted:
            yield name, "percent", _statistics(measurement["M"])


def _traffic(metric_type: str, item: Item, settings: Settings) -> Iterator[tuple[str, Statistics]]:
    """Each direction in bytes per second."""
    source = SOURCES[text(item, "source")]
    for name in SPECS[metric_type].rated:
        rated, seconds = source.rate(name, settings.period_seconds)
        values = _statistics(_measurement(item, rated))
        yield (
            name,
            {
                key: None if value is None else round(value / seconds, 2)
                for key, value in values.items()
            },
        )


def _measurement(item: Item, name: str) -> Item:
    return mapping(mapping(item, "measurements"), name)


def _statistics(measurement: Item) -> dict[str, float | None]:
    return {name: _rounded(measurement, name) for name in STATISTICS}


def _rounded(measurement: Item, statistic: str) -> float | None:
    """A statistic with two decimals; None is unknown."""
    value = number(measurement, statistic)
    return None if value is None else round(value, 2)


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known), 2) if known and len(known) == len(values) else None
