"""GetMetricData and ListMetrics for thousands of metrics, from an index.

moto scans every datum for each query and period, and compares each metric that it lists with all
earlier ones. The index also follows AWS where moto does not:

- A query without dimensions selects the metric without dimensions.
- The namespace counts for a query with dimensions too.
- ListMetrics returns a metric once, whatever the number of its dimensions.
- Percentiles are supported. CloudWatch interpolates them but does not document how.
"""

import re
import threading
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary

from moto.cloudwatch.models import CloudWatchBackend, MetricDatum, MetricDatumBase, Statistics

from chalicelib.model.window_statistics import percentile

from ..patching import original, patch

_STATISTIC = re.compile(r"Average|Minimum|Maximum|Sum|SampleCount|p(100|\d{1,2}(\.\d{1,10})?)")

# moto computes the metrics of its own services at each call, so no index has them.
_COMPUTED_NAMESPACES = frozenset({None, "", "AWS/S3"})

Dimensions = tuple[tuple[str, str], ...]
# Namespace, name, dimensions
Key = tuple[str, str, Dimensions]
# Epoch seconds, datum
Entry = tuple[float, MetricDatumBase]


@dataclass(slots=True)
class _Index:
    """The data of one backend by metric, sorted by time."""

    source: list[MetricDatumBase]
    lock: threading.Lock = field(default_factory=threading.Lock)
    read: int = 0
    metrics: dict[Key, list[Entry]] = field(default_factory=dict)
    # (namespace, name) -> the first datum of each metric
    listed: dict[tuple[str, str], list[MetricDatumBase]] = field(default_factory=dict)

    def update(self) -> None:
        """Add the data that was put since the last call."""
        with self.lock:
            for datum in self.source[self.read :]:
                key = (datum.namespace, datum.name, _dimensions(datum))
                if key not in self.metrics:
                    self.metrics[key] = []
                    self.listed.setdefault(key[:2], []).append(datum)
                insort(self.metrics[key], (_epoch(datum.timestamp), datum), key=_time)
                self.read += 1

    def find(self, key: Key, start: float, end: float) -> list[Entry]:
        """Return a metric's data from `start` (inclusive) to `end` (exclusive), epoch seconds."""
        with self.lock:
            entries = self.metrics.get(key, [])
            first, last = (bisect_left(entries, at, key=_time) for at in (start, end))
            return entries[first:last]


class _Indexes:
    """One index for each backend, recreated when moto's reset gives the backend a new list."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._indexes: WeakKeyDictionary[CloudWatchBackend, _Index] = WeakKeyDictionary()

    def of(self, backend: CloudWatchBackend) -> _Index:
        """Return the up-to-date index of a backend."""
        with self._lock:
            index = self._indexes.get(backend)
            if index is None or index.source is not backend.metric_data:
                index = self._indexes[backend] = _Index(backend.metric_data)
            index.update()
            return index


_INDEXES = _Indexes()


def statistics(
    backend: CloudWatchBackend,
    key: Key,
    statistic: str,
    *,
    start: float,
    period: int,
    periods: int,
) -> list[float | None]:
    """Return a statistic of each period from `start` (epoch seconds); None without data."""
    data_by_period: list[list[MetricDatumBase]] = [[] for _ in range(periods)]
    for at, datum in _INDEXES.of(backend).find(key, start, start + period * periods):
        data_by_period[int((at - start) // period)].append(datum)
    return [_statistic(statistic, data) if data else None for data in data_by_period]


def install() -> None:
    """Replace moto's GetMetricData and ListMetrics."""
    patch(CloudWatchBackend, "get_metric_data", _get_metric_data)
    patch(CloudWatchBackend, "get_filtered_metrics", _get_filtered_metrics)


def _get_metric_data(
    backend: CloudWatchBackend,
    queries: list[dict[str, Any]],
    start_time: datetime,
    end_time: datetime,
    scan_by: str = "TimestampAscending",
) -> Any:
    if start_time >= end_time or not all(map(_is_indexed, queries)):
        moto_get_metric_data = original(CloudWatchBackend, "get_metric_data")
        return moto_get_metric_data(backend, queries, start_time, end_time, scan_by)
    index = _INDEXES.of(backend)
    return [
        _result(index, query, start_time, end_time, scan_by)
        for query in queries
        if query.get("ReturnData", True)
    ]


def _get_filtered_metrics(
    backend: CloudWatchBackend,
    metric_name: str,
    namespace: str,
    dimensions: list[dict[str, str]],
) -> Any:
    if namespace in _COMPUTED_NAMESPACES:
        moto_get_filtered_metrics = original(CloudWatchBackend, "get_filtered_metrics")
        return moto_get_filtered_metrics(backend, metric_name, namespace, dimensions)
    return [
        datum
        for (datum_namespace, name), data in _INDEXES.of(backend).listed.items()
        if datum_namespace == namespace and metric_name in {None, "", name}
        for datum in data
        if datum.filter(None, None, dimensions)
    ]


def _is_indexed(query: dict[str, Any]) -> bool:
    """Whether the index can answer a query."""
    stat = query.get("MetricStat")
    return (
        stat is not None
        and _STATISTIC.fullmatch(stat["Stat"]) is not None
        and stat["Metric"].get("Namespace") not in _COMPUTED_NAMESPACES
    )


def _result(
    index: _Index, query: dict[str, Any], start: datetime, end: datetime, scan_by: str
) -> dict[str, Any]:
    stat = query["MetricStat"]
    metric = stat["Metric"]
    dimensions = tuple(sorted((d["Name"], d["Value"]) for d in metric.get("Dimensions", [])))
    key = (metric["Namespace"], metric["MetricName"], dimensions)
    # A start within the last 15 days is rounded down to the minute, as on AWS.
    start = start.replace(second=0, microsecond=0)
    first, last = _epoch(start), _epoch(end.replace(microsecond=0))
    period, unit = int(stat["Period"]), stat.get("Unit")
    data_by_period: dict[int, list[MetricDatumBase]] = {}
    for at, datum in index.find(key, first, last):
        if unit in {None, "", datum.unit}:
            data_by_period.setdefault(int((at - first) // period), []).append(datum)
    numbers = sorted(data_by_period, reverse=scan_by == "TimestampDescending")
    return {
        "id": query["Id"],
        "label": query.get("Label") or f"{metric['MetricName']} {stat['Stat']}",
        "values": [_statistic(stat["Stat"], data_by_period[number]) for number in numbers],
        "timestamps": [start + timedelta(seconds=period * number) for number in numbers],
        "status_code": "Complete",
    }


def _statistic(stat: str, data: Sequence[MetricDatumBase]) -> Any:
    if stat.startswith("p"):
        # As on AWS, statistic sets do not count towards percentiles.
        values = [datum.value for datum in data if isinstance(datum, MetricDatum)]
        return percentile(values, float(stat[1:]) / 100) if values else None
    computed = Statistics([stat], datetime.now(UTC))
    computed.metric_data = list(data)
    return computed.get_statistics_for_type(stat)


def _dimensions(datum: MetricDatumBase) -> Dimensions:
    pairs: Iterable[Any] = ((each.name, each.value) for each in datum.dimensions)
    return tuple(sorted(pairs))


def _time(entry: Entry) -> float:
    return entry[0]


def _epoch(moment: datetime) -> float:
    """Convert one of moto's times to epoch seconds; those without a time zone are UTC."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
