"""CloudWatch for thousands of series: GetMetricData and ListMetrics from an index.

moto looks at every datum for each query and period, and compares each metric that it lists
with all those before it. Four more things are as on AWS here and not in moto: a query
without dimensions means the series without dimensions, the namespace counts where there are
dimensions too, a metric is listed once however many dimensions it has, and there are
percentiles (CloudWatch's are interpolated too, but it does not say how).
"""

import re
import threading
from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from weakref import WeakKeyDictionary

from moto.cloudwatch.models import (
    CloudWatchBackend,
    MetricDatum,
    MetricDatumBase,
    Statistics,
)

from chalicelib.model.window_statistics import percentile

_STATISTIC = re.compile(r"Average|Minimum|Maximum|Sum|SampleCount|p(100|\d{1,2}(\.\d{1,10})?)")

# What moto's own services report is made up at each call, so it is in no index.
_MADE_UP = frozenset({None, "", "AWS/S3"})

Dimensions = tuple[tuple[str, str], ...]
Key = tuple[str, str, Dimensions]


@dataclass(slots=True)
class _Index:
    """The data of one backend by series, in the order of time."""

    source: list[MetricDatumBase]
    lock: threading.Lock = field(default_factory=threading.Lock)
    read: int = 0
    series: dict[Key, list[tuple[float, MetricDatumBase]]] = field(default_factory=dict)
    # (namespace, name) -> the first datum of each series.
    listed: dict[tuple[str, str], list[MetricDatumBase]] = field(default_factory=dict)

    def catch_up(self) -> None:
        """Take in what was put since the last call."""
        with self.lock:
            for datum in self.source[self.read :]:
                key = (datum.namespace, datum.name, _dimensions(datum))
                if key not in self.series:
                    self.series[key] = []
                    self.listed.setdefault(key[:2], []).append(datum)
                insort(self.series[key], (_epoch(datum.timestamp), datum), key=_moment)
                self.read += 1

    def between(self, key: Key, first: float, last: float) -> list[tuple[float, MetricDatumBase]]:
        """The series' data from `first` on and before `last` (epoch seconds)."""
        with self.lock:
            series = self.series.get(key, [])
            begin, end = (bisect_left(series, at, key=_moment) for at in (first, last))
            return series[begin:end]


class _Indexes:
    """One index for each backend, made anew when moto's reset gives it a new list."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._indexes: WeakKeyDictionary[CloudWatchBackend, _Index] = WeakKeyDictionary()

    def of(self, backend: CloudWatchBackend) -> _Index:
        with self._lock:
            index = self._indexes.get(backend)
            if index is None or index.source is not backend.metric_data:
                index = self._indexes[backend] = _Index(backend.metric_data)
            index.catch_up()
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
    """A statistic of each period from `start` (epoch seconds) on; None where there is no data."""
    held: list[list[MetricDatumBase]] = [[] for _ in range(periods)]
    for moment, datum in _INDEXES.of(backend).between(key, start, start + period * periods):
        held[int((moment - start) // period)].append(datum)
    return [_statistic(statistic, data) if data else None for data in held]


def install() -> None:
    """Put the index in the place of moto's two scans; a second call changes nothing."""
    if hasattr(CloudWatchBackend.get_metric_data, "moto_own"):
        return
    moto_get_metric_data = CloudWatchBackend.get_metric_data
    moto_get_filtered_metrics = CloudWatchBackend.get_filtered_metrics

    def get_metric_data(
        backend: CloudWatchBackend,
        queries: list[dict[str, Any]],
        start_time: datetime,
        end_time: datetime,
        scan_by: str = "TimestampAscending",
    ) -> list[dict[str, Any]]:
        if start_time >= end_time or not all(map(_is_plain, queries)):
            return moto_get_metric_data(backend, queries, start_time, end_time, scan_by)
        index = _INDEXES.of(backend)
        return [
            _result(index, query, start_time, end_time, scan_by)
            for query in queries
            if query.get("ReturnData", True)
        ]

    def get_filtered_metrics(
        backend: CloudWatchBackend,
        metric_name: str,
        namespace: str,
        dimensions: list[dict[str, str]],
    ) -> list[MetricDatumBase]:
        if namespace in _MADE_UP:
            return moto_get_filtered_metrics(backend, metric_name, namespace, dimensions)
        listed = _INDEXES.of(backend).listed
        return [
            datum
            for (held_namespace, name), data in listed.items()
            if held_namespace == namespace and metric_name in {None, "", name}
            for datum in data
            if datum.filter(None, None, dimensions)
        ]

    get_metric_data.moto_own = moto_get_metric_data  # type: ignore[attr-defined]  # the one that was there before
    CloudWatchBackend.get_metric_data = get_metric_data  # type: ignore[method-assign, assignment]  # in the place of moto's
    CloudWatchBackend.get_filtered_metrics = get_filtered_metrics  # type: ignore[method-assign, assignment]  # in the place of moto's


def _is_plain(query: dict[str, Any]) -> bool:
    stat = query.get("MetricStat")
    return (
        stat is not None
        and _STATISTIC.fullmatch(stat["Stat"]) is not None
        and stat["Metric"].get("Namespace") not in _MADE_UP
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
    held: dict[int, list[MetricDatumBase]] = {}
    for moment, datum in index.between(key, first, last):
        if unit in {None, "", datum.unit}:
            held.setdefault(int((moment - first) // period), []).append(datum)
    numbers = sorted(held, reverse=scan_by == "TimestampDescending")
    return {
        "id": query["Id"],
        "label": query.get("Label") or f"{metric['MetricName']} {stat['Stat']}",
        "values": [_statistic(stat["Stat"], held[number]) for number in numbers],
        "timestamps": [start + timedelta(seconds=period * number) for number in numbers],
        "status_code": "Complete",
    }


def _statistic(stat: str, data: Sequence[MetricDatumBase]) -> Any:
    if stat.startswith("p"):
        # As on AWS, sums of several values tell no percentile.
        values = [datum.value for datum in data if isinstance(datum, MetricDatum)]
        return percentile(values, float(stat[1:]) / 100) if values else None
    moto = Statistics([stat], datetime.now(UTC))
    moto.metric_data = list(data)
    return moto.get_statistics_for_type(stat)


def _dimensions(datum: MetricDatumBase) -> Dimensions:
    pairs: Iterable[Any] = ((each.name, each.value) for each in datum.dimensions)
    return tuple(sorted(pairs))


def _moment(entry: tuple[float, MetricDatumBase]) -> float:
    return entry[0]


def _epoch(moment: datetime) -> float:
    """Times of moto are UTC, some with a zone and some without."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
