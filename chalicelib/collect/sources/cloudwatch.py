"""CloudWatch metrics of EC2 instances: AWS/EC2's own and the CloudWatch agent's.

DescribeInstances lists the expected instances, and ListMetrics the existing metrics with their
dimensions. A query covers the whole window at the metric period, and the previous window, because
points arrive late. See docs/adr/0007-whole-windows-asked-for-twice.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
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
from .exclusions import PSEUDO_FILE_SYSTEMS
from .inventory import Account, Instance, InventoryCursor, location, read_page
from .protocol import CloudWatchMetric, CollectionResult, Inventory, Scope, Target

STATISTICS = ("Average", "Minimum", "Maximum")

# https://aws.amazon.com/cloudwatch/pricing/: GetMetricData, per metric requested. Each statistic
# is counted as one metric; if AWS counts fewer, the estimate is too high.
DOLLARS_PER_METRIC = 0.01 / 1000
RUNS_PER_MONTH = 240
_BRANCHES = 4

# Every running instance has metrics of these types, so an instance without them is missing. The
# other types need the CloudWatch agent or an instance store.
_BASIC_MONITORING: frozenset[MetricType] = frozenset({"cpu", "network"})


class MeasurementSpec(NamedTuple):
    """The measurement for a CloudWatch metric: its name in the record, and its unit."""

    name: str
    unit: Unit


# By metric type, then (namespace, metric name). Other metrics are not requested, as each is billed.
SPECS: Mapping[MetricType, Mapping[tuple[str, str], MeasurementSpec]] = {
    "cpu": {
        ("AWS/EC2", "CPUUtilization"): MeasurementSpec("utilization", "percent"),
        ("CWAgent", "collectd_load_shortterm"): MeasurementSpec("load_average", "count"),
        ("CWAgent", "collectd_load_midterm"): MeasurementSpec("load_average_5m", "count"),
        ("CWAgent", "collectd_load_longterm"): MeasurementSpec("load_average_15m", "count"),
    },
    "memory": {
        ("CWAgent", "mem_used_percent"): MeasurementSpec("percent", "percent"),
        ("CWAgent", "mem_used"): MeasurementSpec("used", "bytes"),
        ("CWAgent", "mem_available"): MeasurementSpec("available", "bytes"),
    },
    "disk": {
        ("CWAgent", "disk_used_percent"): MeasurementSpec("percent", "percent"),
        ("CWAgent", "disk_used"): MeasurementSpec("used", "bytes"),
        ("CWAgent", "disk_free"): MeasurementSpec("free", "bytes"),
        ("AWS/EC2", "DiskReadBytes"): MeasurementSpec("read_bytes", "bytes"),
        ("AWS/EC2", "DiskWriteBytes"): MeasurementSpec("write_bytes", "bytes"),
        ("AWS/EC2", "EBSReadBytes"): MeasurementSpec("ebs_read_bytes", "bytes"),
        ("AWS/EC2", "EBSWriteBytes"): MeasurementSpec("ebs_write_bytes", "bytes"),
    },
    "network": {
        ("AWS/EC2", "NetworkIn"): MeasurementSpec("bytes_received", "bytes"),
        ("AWS/EC2", "NetworkOut"): MeasurementSpec("bytes_sent", "bytes"),
    },
}


class Query(NamedTuple):
    """One statistic of one metric."""

    metric: CloudWatchMetric
    statistic: str


Points = Mapping[Query, Sequence[tuple[float, float]]]


class Fleet(Account, Protocol):
    """The instances and metrics of one account in one Region. Every method raises StorageError."""

    account_name: str

    def metrics(self, namespace: str, metric_name: str) -> Iterator[CloudWatchMetric]:
        """Metrics of a name with all their dimensions; CloudWatch lists those of two weeks."""

    def points(
        self, queries: Sequence[Query], *, start: datetime, end: datetime, period: int
    ) -> Points:
        """(epoch seconds, value) of each query in `[start, end)`, in order of time."""


class FleetOpener(Protocol):
    def __call__(self, scope: Scope, /) -> tuple[Sequence[Fleet], Sequence[str]]:
        """The reachable fleets, and a sentence for each unreachable one."""


class _PageToken(Struct, frozen=True, rename={"requested_metrics": "wanted"}):
    """The next page of instances, and the number of metrics requested by the pages before."""

    instances: InventoryCursor = InventoryCursor()
    requested_metrics: int = 0


class CloudWatchSource:
    """Collects the windows of the instances of all accounts and Regions."""

    def __init__(self, settings: Settings, open_fleets: FleetOpener) -> None:
        self._settings = settings
        self._open_fleets = open_fleets

    def targets(self, scope: Scope, page_token: str = "") -> Inventory:  # nosec B107 # not a password
        """List instances, each with its existing metrics.

        Raises:
            CollectionError: the run would exceed the budget of MAX_SERIES_PER_RUN.
        """
        token = msgspec.json.decode(page_token or b"{}", type=_PageToken)
        fleets, unreachable = self._open_fleets(scope)
        page = read_page(fleets, token.instances)
        inventory = Inventory(failures=[*unreachable, *page.failures])
        for fleet, instances in page.found:
            try:
                inventory.targets += _targets(fleet, scope.metric_type, instances, inventory.notes)
            except StorageError as error:
                inventory.failures.append(f"{location(fleet)}: {error}")
        metrics = sum(len(target.metrics) for target in inventory.targets)
        requested = token.requested_metrics + len(STATISTICS) * metrics
        self._check_budget(scope.metric_type, requested, more=page.next_cursor is not None)
        if page.next_cursor:
            next_page = _PageToken(page.next_cursor, requested)
            inventory.next_page = msgspec.json.encode(next_page).decode()
        return inventory

    def _check_budget(self, metric_type: MetricType, requested: int, *, more: bool) -> None:
        """Stop before the request. Each of the four branches has a quarter of the budget."""
        allowed = self._settings.max_series // _BRANCHES
        if requested > allowed:
            cost = requested * DOLLARS_PER_METRIC
            raise CollectionError(
                f"{metric_type} would request {'at least ' if more else ''}{requested} CloudWatch"
                f" metrics, {_dollars(cost)} a run"
                f" and {_dollars(cost * RUNS_PER_MONTH)} a month; MAX_SERIES_PER_RUN"
                f" {self._settings.max_series} allows {allowed} for each metric type: raise it,"
                " or select fewer instances with EC2_TAGS"
            )

    def collect(self, scope: Scope, targets: Sequence[Target]) -> CollectionResult:
        """Collect a record per instance; an instance without data is missing."""
        fleets, failures = self._open_fleets(scope)
        by_location = {location(fleet): fleet for fleet in fleets}
        result = CollectionResult(failures=list(failures))
        ordered = sorted(targets, key=lambda target: target.location)
        for name, group in groupby(ordered, key=lambda target: target.location):
            if name not in by_location:
                continue
            try:
                self._collect_fleet(scope, by_location[name], list(group), result)
            except StorageError as error:
                # These instances are not missing: their state is unknown.
                result.failures.append(f"{name}: {error}")
        return result

    def _collect_fleet(
        self, scope: Scope, fleet: Fleet, targets: Sequence[Target], result: CollectionResult
    ) -> None:
        queries = [
            Query(metric, statistic)
            for target in targets
            for metric in target.metrics
            for statistic in STATISTICS
        ]
        windows = self._windows(scope)
        points = fleet.points(
            queries,
            start=windows[-1].start,
            end=scope.window.end,
            period=self._settings.period_seconds,
        )
        result.requested_metrics += len(queries)
        for target in targets:
            current, *previous = [
                self._record(scope, fleet, target, points, window) for window in windows
            ]
            if current is None:
                result.missing.append(target.name)
            else:
                result.records.append(current)
            result.restated += [record for record in previous if record is not None]

    def _windows(self, scope: Scope) -> list[Window]:
        """The window of the scope, and the previous one if OVERLAP_WINDOWS is set."""
        if not self._settings.overlap_windows:
            return [scope.window]
        return [scope.window, Window(scope.window.start, scope.window.seconds)]

    def _record(
        self, scope: Scope, fleet: Fleet, target: Target, points: Points, window: Window
    ) -> Record | None:
        """The record of one instance and window; None without data."""
        measurements = self._measurements(scope.metric_type, target, points, window)
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
            measurements=_with_fullest_file_system(measurements),
            labels=dict(target.labels),
        ).identified(account_id=fleet.account_id, region=fleet.region)

    def _measurements(
        self, metric_type: MetricType, target: Target, points: Points, window: Window
    ) -> dict[str, Measurement]:
        by_spec: dict[MeasurementSpec, dict[float, Period]] = {}
        for metric in target.metrics:
            # Several metrics can have the same measurement: the agent's dimensions change with
            # the instance type. Each period is counted once.
            periods = by_spec.setdefault(_spec(metric_type, metric), {})
            for period in _periods(metric, points, window):
                periods.setdefault(period.start, period)
        return {
            spec.name: self._reduce(metric_type, spec, periods)
            for spec, periods in by_spec.items()
            if periods
        }

    def _reduce(
        self, metric_type: MetricType, spec: MeasurementSpec, periods: Mapping[float, Period]
    ) -> Measurement:
        threshold = self._settings.threshold(metric_type, spec.name)
        return reduce_window(
            [periods[start] for start in sorted(periods)],
            unit=spec.unit,
            period_seconds=self._settings.period_seconds,
            threshold=None if threshold is None else threshold.critical,
        )


def create(settings: Settings, open_fleets: FleetOpener) -> CloudWatchSource:
    return CloudWatchSource(settings, open_fleets)


def _targets(
    fleet: Fleet, metric_type: MetricType, instances: Sequence[Instance], notes: list[str]
) -> list[Target]:
    by_id = {instance.instance_id: instance for instance in instances}
    metrics: dict[str, list[CloudWatchMetric]] = {}
    for namespace, metric_name in SPECS[metric_type] if by_id else ():
        for metric in fleet.metrics(namespace, metric_name):
            instance_id = dict(metric.dimensions).get("InstanceId")
            if instance_id in by_id and not _is_pseudo(metric):
                metrics.setdefault(instance_id, []).append(metric)
    expected = sorted(by_id if metric_type in _BASIC_MONITORING else metrics)
    if silent := len(by_id) - len(expected):
        notes.append(f"{location(fleet)}: {silent} of {len(by_id)} send no {metric_type} metric")
    return [
        Target(
            name=instance_id,
            location=location(fleet),
            metrics=tuple(metrics.get(instance_id, ())),
            labels={**by_id[instance_id].labels, "account": fleet.account_name},
        )
        for instance_id in expected
    ]


def _is_pseudo(metric: CloudWatchMetric) -> bool:
    return dict(metric.dimensions).get("fstype") in PSEUDO_FILE_SYSTEMS


def _spec(metric_type: MetricType, metric: CloudWatchMetric) -> MeasurementSpec:
    """The measurement of a metric; that of a file system includes its path."""
    spec = SPECS[metric_type][metric.namespace, metric.metric_name]
    path = dict(metric.dimensions).get("path")
    return spec if path is None else MeasurementSpec(f"{spec.name}:{path}", spec.unit)


def _periods(metric: CloudWatchMetric, points: Points, window: Window) -> Iterator[Period]:
    start, end = window.start.timestamp(), window.end.timestamp()
    lowest = dict(points.get(Query(metric, "Minimum"), ()))
    highest = dict(points.get(Query(metric, "Maximum"), ()))
    for moment, average in points.get(Query(metric, "Average"), ()):
        if start <= moment < end:
            yield Period(moment, average, lowest.get(moment, average), highest.get(moment, average))


def _with_fullest_file_system(measurements: dict[str, Measurement]) -> dict[str, Measurement]:
    """Set `percent` to that of the fullest file system.

    Percentages cannot be added. The agent's metric without a path is their average.
    """
    file_systems = [each for name, each in measurements.items() if name.startswith("percent:")]
    if not file_systems:
        return measurements
    return measurements | {"percent": max(file_systems, key=lambda each: each.max or 0)}


def _dollars(amount: float) -> str:
    return "under $0.01" if amount < 0.01 else f"${amount:.2f}"
