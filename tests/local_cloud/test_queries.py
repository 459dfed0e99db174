"""Named queries, views and compaction in the local cloud, compared with polars on the raw objects.

The history consists of real EC2 traces: see tests/support/trace_history.py.
"""

import gzip
import json
import os
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import requests

from infra.command_line import CommandError
from infra.operate.athena import run_query
from infra.operate.deployment import Stage
from tests.conftest import BUCKET, RunningCloud
from tests.local_cloud.test_pipeline import machine_arn, query_athena
from tests.support.expected_query_results import latest
from tests.support.query_history import HistoryQueries, cloud_with_history, typed
from tests.support.waiting import wait_until

NETWORK = {"metric_type": "network", "measurement": "bytes_received"}
DISK = {"metric_type": "disk", "measurement": "percent:/"}

EXAMPLES: list[tuple[str, dict[str, Any]]] = [
    ("trend", {}),
    ("trend", {"days": 3, "resource": "web-1", **NETWORK}),
    ("daily", {}),
    ("daily", {"days": 5, **DISK}),
    ("top-hosts", {}),
    ("top-hosts", {"days": 14, "hosts": 1}),
    ("breach-hours", {}),
    ("percentiles", {}),
    ("percentiles", {"days": 10, **NETWORK}),
    ("week-against-last", {}),
    ("week-against-last", NETWORK),
    ("disk-forecast", {}),
    ("disk-forecast", {"days": 4, "full_percent": 90}),
    ("idle-hosts", {}),
    ("idle-hosts", {"days": 3, "below_percent": 101}),
    ("data-quality", {}),
    ("data-quality", {"days": 30}),
    ("by-label", {}),
    ("by-label", {"days": 14, **NETWORK}),
]


@pytest.fixture(scope="module")
def queries() -> Iterator[HistoryQueries]:
    with cloud_with_history(compacted=True) as queries:
        yield queries


def _approximate(value: Any) -> Any:
    return pytest.approx(value, rel=1e-6) if isinstance(value, float) else value


@pytest.mark.parametrize(
    ("name", "query_params"),
    EXAMPLES,
    ids=[f"{name} {' '.join(map(str, query_params))}" for name, query_params in EXAMPLES],
)
def test_a_query_returns_the_rows_that_polars_computes(
    name: str, query_params: dict[str, Any], queries: HistoryQueries
) -> None:
    """The last columns, such as region and account, are not compared."""
    result = queries.run(name, **query_params)
    expected = queries.expected.rows(name, **query_params)
    assert expected
    found = [typed(row, result)[: len(expected[0])] for row in result.rows]
    assert found == [tuple(map(_approximate, row)) for row in expected]


def test_every_named_query_is_tested(queries: HistoryQueries) -> None:
    assert set(queries.named) == {name for name, _ in EXAMPLES}


def test_history_has_each_measurement_once_with_the_values_collected_last(
    queries: HistoryQueries,
) -> None:
    rows = latest(queries.lines).sort("resource_id", "metric_type", "measurement", "ts")
    names = ["resource_id", "metric_type", "measurement", "ts", "last", "avg", "samples"]
    assert queries.rows("history") == rows.select(names).rows()
    assert len(queries.before) > rows.height  # some measurements are restated


def test_history_reads_older_days_from_the_archive(queries: HistoryQueries) -> None:
    s3 = queries.history.cloud.client("s3")
    older = queries.history.days[0]
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix=f"processed/dt={older}/")["Contents"]
    kept = {each["Key"]: s3.get_object(Bucket=BUCKET, Key=each["Key"]) for each in listed}
    bodies = {key: response["Body"].read() for key, response in kept.items()}
    before = queries.rows("history")
    for key in bodies:
        s3.delete_object(Bucket=BUCKET, Key=key)
    try:
        assert queries.rows("history") == before
        queries.history.compact(older)  # a day without lines is not changed
        assert queries.rows("history") == before
    finally:
        for key, body in bodies.items():
            s3.put_object(Bucket=BUCKET, Key=key, Body=body)


def test_compacting_twice_changes_no_row(queries: HistoryQueries) -> None:
    before = queries.rows("archive")
    queries.history.compact(*queries.history.days[:2])
    assert queries.rows("archive") == before


def test_a_compaction_waits_for_an_earlier_one(queries: HistoryQueries) -> None:
    before, cloud = queries.rows("archive"), queries.history.cloud
    sfn, arn = cloud.client("stepfunctions"), machine_arn(cloud, "InfraMonitoring-Compaction")
    days = json.dumps({"days": queries.history.days[:3]})
    started = [sfn.start_execution(stateMachineArn=arn, input=days) for _ in range(2)]
    ended = [wait_for(cloud, each["executionArn"]) for each in started]
    assert [each["status"] for each in ended] == ["SUCCEEDED"] * 2
    second = sfn.get_execution_history(executionArn=started[1]["executionArn"], maxResults=1000)
    entered = [each.get("stateEnteredEventDetails", {}).get("name") for each in second["events"]]
    assert "WaitForEarlier" in entered
    assert queries.rows("archive") == before


def test_a_compaction_after_an_interrupted_one_leaves_no_duplicates(
    queries: HistoryQueries,
) -> None:
    """The objects that a failed INSERT left behind are deleted first."""
    s3 = queries.history.cloud.client("s3")
    day, before = queries.history.days[1], queries.rows("archive")
    prefix = f"archive/dt={day}/"
    (entry,) = s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]
    source = {"Bucket": BUCKET, "Key": entry["Key"]}
    s3.copy_object(Bucket=BUCKET, Key=f"{prefix}half-written", CopySource=source)
    assert len(queries.rows("archive")) > len(before)
    queries.history.compact(day)
    assert queries.rows("archive") == before


def test_the_schedule_compacts_the_previous_three_days(queries: HistoryQueries) -> None:
    cloud = queries.history.cloud
    s3 = cloud.client("s3")
    last = [str(queries.history.today - timedelta(days=n)) for n in (1, 2, 3)]

    def archived() -> dict[str, list[str]]:
        return {
            day: [
                each["Key"]
                for each in s3.list_objects_v2(Bucket=BUCKET, Prefix=f"archive/dt={day}/").get(
                    "Contents", []
                )
            ]
            for day in last
        }

    before = archived()
    trigger(cloud, "InfraMonitoring-Compaction")
    after = archived()
    assert all(after.values())
    assert all(before[day] != after[day] for day in last)


def test_hosts_have_their_latest_labels(queries: HistoryQueries) -> None:
    result = run_query(queries.stage, "SELECT resource_id, labels, last_seen FROM hosts ORDER BY 1")
    end = f"{queries.history.end:%Y-%m-%d %H:%M:%S}.000"
    assert [list(row) for row in result.rows] == [
        ["web-1", "{instance_type=m5.large}", end],
        ["web-2", "{instance_type=t3.micro}", end],
    ]


def test_a_view_works_from_any_database(queries: HistoryQueries) -> None:
    """The view names the database of its tables."""
    execution = query_athena(queries.history.cloud, "SELECT count(*) FROM infra_monitoring.history")
    assert execution["Status"]["State"] == "SUCCEEDED", execution["Status"]


def test_a_query_scans_only_the_selected_days(queries: HistoryQueries) -> None:
    few, many = queries.run("trend", days=1), queries.run("trend", days=30)
    assert 0 < few.scanned_bytes < many.scanned_bytes / 3


@pytest.mark.parametrize(
    "value",
    [
        "' OR '1'='1",
        "'; DROP TABLE metrics; --",
        "web-1' UNION SELECT 1, NULL, 1, 1, 1, 'x' --",
        "\\",
    ],
)
def test_a_parameter_is_not_interpreted_as_sql(value: str, queries: HistoryQueries) -> None:
    assert queries.run("trend", resource=value).rows == []


def test_a_failed_query_raises_athenas_reason(queries: HistoryQueries) -> None:
    with pytest.raises(CommandError, match=r"FAILED: TABLE_NOT_FOUND.*missing"):
        run_query(queries.stage, "SELECT * FROM missing")


def test_a_query_over_the_scan_limit_is_cancelled(queries: HistoryQueries) -> None:
    """10 MB is the minimum for the limit of a work group."""
    cloud, key = queries.history.cloud, "processed/dt=2026-02-02/large.json.gz"
    cloud.client("athena").create_work_group(
        Name="infra-monitoring-tight", Configuration={"BytesScannedCutoffPerQuery": 10_000_000}
    )
    lines = (b'{"metric_id": "%s"}\n' % os.urandom(50_000).hex().encode() for _ in range(220))
    body = gzip.compress(b"".join(lines), compresslevel=1)
    cloud.client("s3").put_object(Bucket=BUCKET, Key=key, Body=body)
    sql = "SELECT count(metric_id) FROM infra_monitoring.metrics WHERE dt = '2026-02-02'"
    assert run_query(queries.stage, sql).scanned_bytes == pytest.approx(len(body), rel=1e-3)
    with pytest.raises(CommandError, match=r"CANCELLED: Bytes scanned limit.*fewer days"):
        run_query(Stage("tight", endpoint=cloud.endpoint), sql)


def wait_for(cloud: RunningCloud, execution: str) -> Any:
    """Wait until an execution ends and return its description."""
    sfn = cloud.client("stepfunctions")

    def ended() -> Any:
        described = sfn.describe_execution(executionArn=execution)
        return described["status"] != "RUNNING" and described

    return wait_until(ended)


def trigger(cloud: RunningCloud, rule: str) -> None:
    """Trigger a scheduled rule and wait until its execution succeeds."""
    sfn, arn = cloud.client("stepfunctions"), machine_arn(cloud, rule)
    known = len(sfn.list_executions(stateMachineArn=arn)["executions"])
    requests.post(f"{cloud.endpoint}/_local/tick/{rule}", timeout=300).raise_for_status()

    def ended() -> Any:
        listed = sfn.list_executions(stateMachineArn=arn)["executions"]
        return len(listed) > known and listed[0]["status"] != "RUNNING" and listed

    listed = wait_until(ended)
    assert listed[0]["status"] == "SUCCEEDED", listed[0]
