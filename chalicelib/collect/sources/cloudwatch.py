"""What CloudWatch holds of EC2 instances: AWS/EC2's metrics and the CloudWatch agent's.

Which instances should report comes from DescribeInstances, which metrics there are from
ListMetrics; dimensions are never guessed. A window is asked for whole, at the metric period,
and so is the window before it, since points arrive late.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import NamedTuple, Protocol

import msgspec
from msgspec import Struct

from ...model.errors import CollectionError, StorageError
from ...model.metric_types import MetricType, Unit
from ...model.records import SCHEMA_VERSION, Measurement, Record
from ...model.settings import Settings
from ...model.window_statistics import Period, reduce_window
from ...model.windows import Window
from . import (
    inventory as instances,
)
from .exclusions import PSEUDO_FILE_SYSTEMS
from .inventory import (
    Account,
    Instance,
    Mark,
    place,
)
from .protocol import Harvest, Inventory, Scope, Series, Target

STATISTICS = ("Average", "Minimum", "Maximum")

# https://aws.amazon.com/cloudwatch/pricing/: GetMetricData, for each metric requested. Each
# statistic is counted as one here; should AWS count fewer, this errs on the dear side.
DOLLARS_PER_METRIC = 0.01 / 1000
RUNS_PER_MONTH = 240
_BRANCHES = 4

# AWS itself sends these of every running instance, so one without them is missing; the
# others need the CloudWatch agent or an instance store.
_ALWAYS_THERE: frozenset[MetricType] = frozenset({"cpu", "network"})


class Known(NamedTuple):
    """What a CloudWatch metric is called here, and its unit."""

    name: str
    unit: Unit


# By metric type, then (namespace, metric name). Nothing else is asked for: it would cost.
KNOWN: Mapping[MetricType, Mapping[tuple[str, str], Known]] = {
    "cpu": {
        ("AWS/EC2", "CPUUtilization"): Known("utilization", "percent"),
        ("CWAgent", "collectd_load_shortterm"): Known("load_average", "count"),
        ("CWAgent", "collectd_load_midterm"): Known("load_average_5m", "count"),
        ("CWAgent", "collectd_load_longterm"): Known("load_average_15m", "count"),
    },
    "memory": {
        ("CWAgent", "mem_used_percent"): Known("percent", "percent"),
        ("CWAgent", "mem_used"): Known("used", "bytes"),
        ("CWAgent", "mem_available"): Known("available", "bytes"),
    },
    "disk": {
        ("CWAgent", "disk_used_percent"): Known("percent", "percent"),
        ("CWAgent", "disk_used"): Known("used", "bytes"),
        ("CWAgent", "disk_free"): Known("free", "bytes"),
        ("AWS/EC2", "DiskReadBytes"): Known("read_bytes", "bytes"),
        ("AWS/EC2", "DiskWriteBytes"): Known("write_bytes", "bytes"),
        ("AWS/EC2", "EBSReadBytes"): Known("ebs_read_bytes", "bytes"),
        ("AWS/EC2", "EBSWriteBytes"): Known("ebs_write_bytes", "bytes"),
    },
    "network": {
        ("AWS/EC2", "NetworkIn"): Known("bytes_received", "bytes"),
        ("AWS/EC2", "NetworkOut"): Known("bytes_sent", "bytes"),
    },
}


class Query(NamedTuple):
    """One statistic of one series."""

    series: Series
    statistic: str


Points = Mapping[Query, Sequence[tuple[float, float]]]


class Fleet(Account, Protocol):
    """One account in one region. Every method raises StorageError."""

    account_name: str

    def series(self, namespace: str, metric_name: str) -> Iterator[Series]:
        """Every series of a metric that CloudWatch has had data of in two weeks."""

    def points(
        self, queries: Sequence[Query], *, start: datetime, end: datetime, period: int
    ) -> Points:
        """(epoch seconds, value) of each query in `[start, end)`, in order of time."""


class FleetOpener(Protocol):
    def __call__(self, scope: Scope, /) -> tuple[Sequence[Fleet], Sequence[str]]:
        """The fleets that can be reached, and a sentence for each that cannot."""


class _Mark(Struct, frozen=True):
    """Where the inventory goes on, and how many metrics its parts so far would request."""

    instances: Mark = Mark()
    wanted: int = 0


class CloudWatchSource:
    """Reduces the windows of every instance of every account and region."""

    def __init__(self, settings: Settings, open_fleets: FleetOpener) -> None:
        self._settings = settings
        self._open_fleets = open_fleets

    def targets(self, scope: Scope, start: str = "") -> Inventory:
        """The instances, each with the series that exist for it.

        Raises:
            CollectionError: the run would cost more than MAX_SERIES_PER_RUN allows.
        """
        mark = msgspec.json.decode(start or b"{}", type=_Mark)
        fleets, unreachable = self._open_fleets(scope)
        part = instances.part(fleets, mark.instances)
        inventory = Inventory(failures=[*unreachable, *part.failures])
        for fleet, found in part.found:
            try:
                inventory.targets += _targets(fleet, scope.metric_type, found, inventory.notes)
            except StorageError as error:
                inventory.failures.append(f"{place(fleet)}: {error}")
        wanted = mark.wanted + len(STATISTICS) * sum(len(each.series) for each in inventory.targets)
        self._check_budget(scope.metric_type, wanted, "at least " if part.rest else "")
        if part.rest:
            inventory.rest = msgspec.json.encode(_Mark(part.rest, wanted)).decode()
        return inventory

    def _check_budget(self, metric_type: MetricType, wanted: int, about: str) -> None:
        """Stop before the bill. Each of the four branches has a quarter of the budget."""
        allowed = self._settings.max_series // _BRANCHES
        if wanted > allowed:
            cost = wanted * DOLLARS_PER_METRIC
            raise CollectionError(
                f"{metric_type} would request {about}{wanted} CloudWatch metrics,"
                f" {_dollars(cost)} a run"
                f" and {_dollars(cost * RUNS_PER_MONTH)} a month; MAX_SERIES_PER_RUN"
                f" {self._settings.max_series} allows {allowed} for each metric type: raise it,"
                " or choose fewer instances with EC2_TAGS"
            )

    def collect(self, scope: Scope, targets: Sequence[Target]) -> Harvest:
        """A record for each instance with data; without data, it is missing."""
        fleets, failures = self._open_fleets(scope)
        by_place = {place(fleet): fleet for fleet in fleets}
        harvest = Harvest(failures=list(failures))
        ordered = sorted(targets, key=lambda target: target.place)
        for where, group in groupby(ordered, key=lambda target: target.place):
            if where not in by_place:
                continue
            try:
                self._collect_fleet(scope, by_place[where], list(group), harvest)
            except StorageError as error:
                # Not missing: nobody knows how these do.
                harvest.failures.append(f"{where}: {error}")
        return harvest

    def _collect_fleet(
        self, scope: Scope, fleet: Fleet, targets: Sequence[Target], harvest: Harvest
    ) -> None:
        settings = self._settings
        queries = [
            Query(series, statistic)
            for target in targets
            for series in target.series
            for statistic in STATISTICS
        ]
        windows = [scope.window]
        if settings.overlap_windows:
            seconds = timedelta(seconds=scope.window.seconds)
            windows.append(Window(scope.window.end - seconds, scope.window.seconds))
        points = fleet.points(
            queries,
            start=windows[-1].start,
            end=scope.window.end,
            period=settings.period_seconds,
        )
        harvest.series += len(queries)
        for target in targets:
            current, *before = [
                self._record(scope, fleet, target, points, window) for window in windows
            ]
            if current is None:
                harvest.missing.append(target.name)
            else:
                harvest.records.append(current)
            harvest.restated += [record for record in before if record is not None]

    def _record(
        self, scope: Scope, fleet: Fleet, target: Target, points: Points, window: Window
    ) -> Record | None:
        """What the instance did in the window; None if CloudWatch has nothing of it."""
        periods: dict[Known, dict[float, Period]] = {}
        for series in target.series:
            known = _known(scope.metric_type, series)
            # Two series of one thing (the agent's dimensions change with the instance's
            # type) never count a period twice.
            merged = periods.setdefault(known, {})
            for period in _periods(series, points, window):
                merged.setdefault(period.start, period)
        measurements = {
            known.name: self._reduced(scope.metric_type, known, found)
            for known, found in periods.items()
            if found
        }
        if not measurements:
            return None
        return Record(
            schema_version=SCHEMA_VERSION,
            timestamp=window.end,
            metric_type=scope.metric_type,
            account_id=fleet.account_id,
            region=fleet.region,
            resource_id=target.name,
            source="cloudwatch",
            window_seconds=window.seconds,
            execution_id=scope.execution_id,
            collected_at=datetime.now(UTC),
            measurements=_with_worst_file_system(measurements),
            labels=dict(target.labels),
        ).identified(account_id=fleet.account_id, region=fleet.region)

    def _reduced(
        self, metric_type: MetricType, known: Known, found: Mapping[float, Period]
    ) -> Measurement:
        threshold = self._settings.threshold(metric_type, known.name)
        return reduce_window(
            [found[start] for start in sorted(found)],
            unit=known.unit,
            period_seconds=self._settings.period_seconds,
            threshold=None if threshold is None else threshold.critical,
        )


def create(settings: Settings, open_fleets: FleetOpener) -> CloudWatchSource:
    return CloudWatchSource(settings, open_fleets)


def _targets(
    fleet: Fleet, metric_type: MetricType, found: Sequence[Instance], notes: list[str]
) -> list[Target]:
    here = {instance.instance_id: instance for instance in found}
    series: dict[str, list[Series]] = {}
    for namespace, metric_name in KNOWN[metric_type] if here else ():
        for each in fleet.series(namespace, metric_name):
            instance_id = dict(each.dimensions).get("InstanceId")
            if instance_id in here and _counts(each):
                series.setdefault(instance_id, []).append(each)
    expected = sorted(here if metric_type in _ALWAYS_THERE else series)
    if unseen := len(here) - len(expected):
        notes.append(f"{place(fleet)}: {unseen} of {len(here)} send no {metric_type} metric")
    return [
        Target(
            name=instance_id,
            place=place(fleet),
            series=tuple(series.get(instance_id, ())),
            labels={**here[instance_id].labels, "account": fleet.account_name},
        )
        for instance_id in expected
    ]


def _counts(series: Series) -> bool:
    return dict(series.dimensions).get("fstype") not in PSEUDO_FILE_SYSTEMS


def _known(metric_type: MetricType, series: Series) -> Known:
    """The name of a series; a file system's carries its path."""
    known = KNOWN[metric_type][series.namespace, series.metric_name]
    path = dict(series.dimensions).get("path")
    return known if path is None else Known(f"{known.name}:{path}", known.unit)


def _periods(series: Series, points: Points, window: Window) -> Iterator[Period]:
    start, end = window.start.timestamp(), window.end.timestamp()
    lowest = dict(points.get(Query(series, "Minimum"), ()))
    highest = dict(points.get(Query(series, "Maximum"), ()))
    for moment, average in points.get(Query(series, "Average"), ()):
        if start <= moment < end:
            yield Period(moment, average, lowest.get(moment, average), highest.get(moment, average))


def _with_worst_file_system(measurements: dict[str, Measurement]) -> dict[str, Measurement]:
    """`percent` of a host is its fullest file system's: percentages cannot be added up.

    Nor averaged: that is what the agent's own `percent`, without a path, would be.
    """
    parts = [each for name, each in measurements.items() if name.startswith("percent:")]
    if not parts:
        return measurements
    return measurements | {"percent": max(parts, key=lambda each: each.max or 0)}


def _dollars(amount: float) -> str:
    return "under $0.01" if amount < 0.01 else f"${amount:.2f}"
