"""Recorded EC2 traces in the local cloud's CloudWatch, through the whole pipeline.

The traces are Numenta's (tests/data/nab, MIT), shifted in time. The stored values are compared
with SQL over the CSV rows.
"""

import csv
import itertools
import sqlite3
import statistics
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conftest import ROOT, RunningCloud, start_cloud, stop_cloud
from tests.local_cloud.test_pipeline import control, execute, items, machine_arn
from tests.support.waiting import wait_until

HOUR = 3600
# The end of two windows, far enough from the current time to contain no other data.
LAST_RUN = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
FIRST_RUN = LAST_RUN - timedelta(hours=3)
START = FIRST_RUN - timedelta(hours=3)

# trace, time of the first row used, instance, CloudWatch metric
TRACES = [
    ("ec2_cpu_utilization_77c1ca", "2014-04-02 14:30:00", 0, "CPUUtilization"),
    ("ec2_cpu_utilization_24ae8d", "2014-02-26 21:00:00", 1, "CPUUtilization"),
    ("ec2_network_in_257a54", "2014-04-10 01:00:00", 0, "NetworkIn"),
    ("ec2_disk_write_bytes_1ef3de", "2014-03-08 23:00:00", 1, "DiskWriteBytes"),
]
MEASUREMENTS = {
    "CPUUtilization": ("cpu", "utilization"),
    "NetworkIn": ("network", "bytes_received"),
    "DiskWriteBytes": ("disk", "write_bytes"),
}
LATE = timedelta(minutes=20)


def rows_of(trace: str, first: str) -> list[tuple[datetime, float]]:
    """Six hours of a trace from `first` on, shifted to START; irregular timestamps are kept."""
    begin = datetime.fromisoformat(first).replace(tzinfo=UTC)
    path = ROOT / "tests" / "data" / "nab" / f"{trace}.csv"
    with path.open() as file:
        rows = [
            (datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC), float(row["value"]))
            for row in csv.DictReader(file)
        ]
    shifted = [(moment - begin + START, value) for moment, value in rows]
    return [(moment, value) for moment, value in shifted if START <= moment < LAST_RUN]


def expected(rows: list[tuple[datetime, float]], end: datetime) -> dict[str, float]:
    """The statistics of the window, computed by SQL over 5-minute periods."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE TABLE points (epoch REAL, value REAL)")
    database.executemany(
        "INSERT INTO points VALUES (?, ?)", [(m.timestamp(), value) for m, value in rows]
    )
    periods = database.execute(
        "SELECT avg(value), min(value), max(value) FROM points WHERE epoch >= ? AND epoch < ?"
        " GROUP BY CAST(epoch / 300 AS INTEGER) ORDER BY CAST(epoch / 300 AS INTEGER)",
        (end.timestamp() - 3 * HOUR, end.timestamp()),
    ).fetchall()
    database.close()
    averages = [row[0] for row in periods]
    return {
        "last": averages[-1],
        "avg": statistics.fmean(averages),
        "min": min(row[1] for row in periods),
        "max": max(row[2] for row in periods),
        "p95": statistics.quantiles(averages, n=20, method="inclusive")[18],
        "samples": len(periods),
        "breach": 300.0 * sum(average > 80 for average in averages),
    }


class Fleet:
    """Two instances with traces; the last 20 minutes of the first window arrive late."""

    def __init__(self, cloud: RunningCloud) -> None:
        self.cloud = cloud
        ec2 = cloud.client("ec2")
        image = ec2.describe_images()["Images"][0]["ImageId"]
        started = ec2.run_instances(ImageId=image, MinCount=4, MaxCount=4)["Instances"]
        self.ids = [instance["InstanceId"] for instance in started]
        self.silent, self.stopped = self.ids[2], self.ids[3]
        ec2.stop_instances(InstanceIds=[self.stopped])
        self.rows = {(i, metric): rows_of(trace, first) for trace, first, i, metric in TRACES}
        for (instance, metric), rows in self.rows.items():
            self._put(instance, metric, [row for row in rows if not self._is_late(row[0])])
        self._run(FIRST_RUN)
        self.after_first = self._stored()
        for (instance, metric), rows in self.rows.items():
            self._put(instance, metric, [row for row in rows if self._is_late(row[0])])
        self._run(LAST_RUN)
        self.after_second = self._stored()
        mails = control(cloud, "mails")
        self.mail = [each["body"] for each in mails if "run succeeded" in each["subject"]][-1]

    @staticmethod
    def _is_late(moment: datetime) -> bool:
        return FIRST_RUN - LATE <= moment < FIRST_RUN

    def _put(self, instance: int, metric: str, rows: list[tuple[datetime, float]]) -> None:
        data = [
            {
                "MetricName": metric,
                "Dimensions": [{"Name": "InstanceId", "Value": self.ids[instance]}],
                "Timestamp": moment,
                "Value": value,
            }
            for moment, value in rows
        ]
        cloudwatch = self.cloud.client("cloudwatch")
        for first in range(0, len(data), 500):
            cloudwatch.put_metric_data(Namespace="AWS/EC2", MetricData=data[first : first + 500])

    def _run(self, scheduled_time: datetime) -> None:
        execution = execute(
            self.cloud, machine_arn(self.cloud), {"time": scheduled_time.isoformat()}
        )
        assert execution["status"] == "SUCCEEDED", execution
        wait_until(lambda: control(self.cloud, "idle"))

    def _stored(self) -> dict[tuple[str, str, datetime], dict[str, Any]]:
        return {
            (
                item["resource_id"]["S"],
                item["metric_type"]["S"],
                datetime.fromisoformat(item["timestamp"]["S"]),
            ): item
            for item in items(self.cloud)
        }


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    cloud = start_cloud("--no-tick", "--set", "METRIC_SOURCES=cloudwatch")
    try:
        yield Fleet(cloud)
    finally:
        stop_cloud(cloud)


def statistics_of(item: dict[str, Any], name: str) -> dict[str, float]:
    measured = item["measurements"]["M"][name]["M"]
    return {key: float(value["N"]) for key, value in measured.items() if "N" in value}


@pytest.mark.parametrize("end", [FIRST_RUN, LAST_RUN], ids=["first window", "second window"])
@pytest.mark.parametrize(("trace", "_first", "instance", "metric"), TRACES)
def test_stored_statistics_equal_those_of_the_rows(
    trace: str, _first: str, instance: int, metric: str, end: datetime, fleet: Fleet
) -> None:
    """The first window is compared with all of its rows, including the late ones."""
    metric_type, name = MEASUREMENTS[metric]
    item = fleet.after_second[fleet.ids[instance], metric_type, end]
    stored = statistics_of(item, name)
    wanted = expected(fleet.rows[instance, metric], end)
    for key in ("last", "avg", "min", "max", "p95", "samples"):
        assert stored[key] == pytest.approx(wanted[key], rel=1e-9), (trace, key)
    if metric == "CPUUtilization":
        assert stored["breach_seconds"] == wanted["breach"]


def test_the_traces_have_breaches_and_irregular_steps(fleet: Fleet) -> None:
    cpu = fleet.rows[0, "CPUUtilization"]
    assert expected(cpu, FIRST_RUN)["breach"] + expected(cpu, LAST_RUN)["breach"] > 0
    steps = {
        (after[0] - before[0]).total_seconds()
        for rows in fleet.rows.values()
        for before, after in itertools.pairwise(rows)
    }
    assert steps != {300.0}


def test_the_first_run_did_not_have_the_late_points(fleet: Fleet) -> None:
    key = (fleet.ids[0], "cpu", FIRST_RUN)
    before = statistics_of(fleet.after_first[key], "utilization")["samples"]
    after = statistics_of(fleet.after_second[key], "utilization")["samples"]
    assert after - before == 4


def test_adjacent_windows_count_every_period_once(fleet: Fleet) -> None:
    rows = fleet.rows[0, "CPUUtilization"]
    periods = {int(moment.timestamp() // 300) for moment, _ in rows}
    counted = sum(
        statistics_of(fleet.after_second[fleet.ids[0], "cpu", end], "utilization")["samples"]
        for end in (FIRST_RUN, LAST_RUN)
    )
    assert counted == len(periods)


def test_the_email_names_the_silent_instance_as_missing(fleet: Fleet) -> None:
    assert f"missing 1 of 3: {fleet.silent}" in fleet.mail
    assert not [key for key in fleet.after_second if key[0] == fleet.silent]


def test_a_stopped_instance_is_neither_missing_nor_recorded(fleet: Fleet) -> None:
    assert fleet.stopped not in fleet.mail
    assert not [key for key in fleet.after_second if key[0] == fleet.stopped]
