"""Named queries, views and compaction in the local cloud, held against polars on the raw objects.

The history is made of real EC2 traces: see nab_history.py.
"""

import gzip
import json
import os
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import requests

from infra.command_line import CommandError
from infra.operate.athena import run_query
from infra.operate.deployment import Stage
from tests.conftest import BUCKET, RunningCloud
from tests.local_cloud.test_pipeline import ask as ask_athena
from tests.local_cloud.test_pipeline import machine_arn
from tests.support.expected_query_results import latest
from tests.support.query_history import Asked, cloud_with_history, typed

NETWORK = {"metric_type": "network", "measurement": "bytes_received"}
DISK = {"metric_type": "disk", "measurement": "percent:/"}

ASKED: list[tuple[str, dict[str, Any]]] = [
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
def asked() -> Iterator[Asked]:
    with cloud_with_history(compacted=True) as asked:
        yield asked


def _about(value: Any) -> Any:
    return pytest.approx(value, rel=1e-6) if isinstance(value, float) else value


@pytest.mark.parametrize(
    ("name", "given"), ASKED, ids=[f"{name} {' '.join(map(str, given))}" for name, given in ASKED]
)
def test_an_answer_is_what_polars_works_out(name: str, given: dict[str, Any], asked: Asked) -> None:
    """Of the raw objects alone. Columns behind these say where a host is, and are left out."""
    answer = asked.ask(name, **given)
    expected = asked.expected.answer(name, **given)
    assert expected
    found = [typed(row, answer)[: len(expected[0])] for row in answer.rows]
    assert found == [tuple(map(_about, row)) for row in expected]


def test_every_named_query_is_asked(asked: Asked) -> None:
    assert set(asked.named) == {name for name, _ in ASKED}


def test_the_history_has_each_raw_row_once_and_restated_ones_as_read_last(asked: Asked) -> None:
    rows = latest(asked.lines).sort("resource_id", "metric_type", "measurement", "ts")
    names = ["resource_id", "metric_type", "measurement", "ts", "last", "avg", "samples"]
    assert asked.rows("history") == rows.select(names).rows()
    assert len(asked.before) > rows.height  # else nothing was restated


def test_the_history_reads_the_archive_and_not_the_lines_of_older_days(asked: Asked) -> None:
    s3 = asked.history.cloud.client("s3")
    older = asked.history.days[0]
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix=f"processed/dt={older}/")["Contents"]
    kept = {each["Key"]: s3.get_object(Bucket=BUCKET, Key=each["Key"]) for each in listed}
    bodies = {key: answer["Body"].read() for key, answer in kept.items()}
    before = asked.rows("history")
    for key in bodies:
        s3.delete_object(Bucket=BUCKET, Key=key)
    try:
        assert asked.rows("history") == before
        asked.history.compact(older)  # and a day without lines stays as it is
        assert asked.rows("history") == before
    finally:
        for key, body in bodies.items():
            s3.put_object(Bucket=BUCKET, Key=key, Body=body)


def test_compacting_twice_gives_the_same_rows_as_once(asked: Asked) -> None:
    before = asked.rows("archive")
    asked.history.compact(*asked.history.days[:2])
    assert asked.rows("archive") == before


def test_of_two_compactions_at_once_the_second_waits_for_the_first(asked: Asked) -> None:
    before, cloud = asked.rows("archive"), asked.history.cloud
    sfn, arn = cloud.client("stepfunctions"), machine_arn(cloud, "InfraMonitoring-Compaction")
    days = json.dumps({"days": asked.history.days[:3]})
    started = [sfn.start_execution(stateMachineArn=arn, input=days) for _ in range(2)]
    ended = [wait_for(cloud, each["executionArn"]) for each in started]
    assert [each["status"] for each in ended] == ["SUCCEEDED"] * 2
    assert ended[0]["stopDate"] <= ended[1]["stopDate"]
    assert asked.rows("archive") == before


def test_a_compaction_that_was_cut_off_leaves_no_row_twice(asked: Asked) -> None:
    """What an INSERT that failed half-way has left is deleted first."""
    s3 = asked.history.cloud.client("s3")
    day, before = asked.history.days[1], asked.rows("archive")
    prefix = f"archive/dt={day}/"
    (entry,) = s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]
    source = {"Bucket": BUCKET, "Key": entry["Key"]}
    s3.copy_object(Bucket=BUCKET, Key=f"{prefix}half-written", CopySource=source)
    assert len(asked.rows("archive")) > len(before)
    asked.history.compact(day)
    assert asked.rows("archive") == before


def test_the_clock_compacts_the_three_days_before(asked: Asked) -> None:
    cloud = asked.history.cloud
    s3 = cloud.client("s3")
    last = [str(asked.history.today - timedelta(days=n)) for n in (1, 2, 3)]

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
    tick(cloud, "InfraMonitoring-Compaction")
    after = archived()
    assert all(after.values())
    assert all(before[day] != after[day] for day in last)


def test_hosts_have_their_latest_labels(asked: Asked) -> None:
    answer = run_query(asked.stage, "SELECT resource_id, labels, last_seen FROM hosts ORDER BY 1")
    end = f"{asked.history.end:%Y-%m-%d %H:%M:%S}.000"
    assert [list(row) for row in answer.rows] == [
        ["web-1", "{instance_type=m5.large}", end],
        ["web-2", "{instance_type=t3.micro}", end],
    ]


def test_a_view_can_be_asked_from_any_database(asked: Asked) -> None:
    """Its tables are of its own."""
    execution = ask_athena(asked.history.cloud, "SELECT count(*) FROM infra_monitoring.history")
    assert execution["Status"]["State"] == "SUCCEEDED", execution["Status"]


def test_a_query_reads_only_the_days_that_it_asks_for(asked: Asked) -> None:
    few, many = asked.ask("trend", days=1), asked.ask("trend", days=30)
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
def test_a_value_stays_a_value(value: str, asked: Asked) -> None:
    assert asked.ask("trend", resource=value).rows == []


def test_a_query_that_fails_says_athenas_reason(asked: Asked) -> None:
    with pytest.raises(CommandError, match=r"FAILED: TABLE_NOT_FOUND.*nowhere"):
        run_query(asked.stage, "SELECT * FROM nowhere")


def test_a_query_that_reads_too_much_is_cancelled(asked: Asked) -> None:
    """10 MB are the least that a work group can be limited to."""
    cloud, key = asked.history.cloud, "processed/dt=2026-02-02/large.json.gz"
    cloud.client("athena").create_work_group(
        Name="infra-monitoring-tight", Configuration={"BytesScannedCutoffPerQuery": 10_000_000}
    )
    lines = (b'{"metric_id": "%s"}\n' % os.urandom(50_000).hex().encode() for _ in range(220))
    body = gzip.compress(b"".join(lines), compresslevel=1)
    cloud.client("s3").put_object(Bucket=BUCKET, Key=key, Body=body)
    sql = "SELECT count(metric_id) FROM infra_monitoring.metrics WHERE dt = '2026-02-02'"
    assert run_query(asked.stage, sql).scanned_bytes == pytest.approx(len(body), rel=1e-3)
    with pytest.raises(CommandError, match=r"CANCELLED: Bytes scanned limit.*fewer days"):
        run_query(Stage("tight", endpoint=cloud.endpoint), sql)


def wait_for(cloud: RunningCloud, execution: str) -> Any:
    """An execution that has ended."""
    sfn, until = cloud.client("stepfunctions"), time.monotonic() + 120
    while time.monotonic() < until:
        described = sfn.describe_execution(executionArn=execution)
        if described["status"] != "RUNNING":
            return described
        time.sleep(0.2)
    return pytest.fail("the execution did not end")


def tick(cloud: RunningCloud, rule: str) -> None:
    """Let a scheduled rule fire now, and wait until what it has started has succeeded."""
    sfn, arn = cloud.client("stepfunctions"), machine_arn(cloud, rule)
    known = len(sfn.list_executions(stateMachineArn=arn)["executions"])
    requests.post(f"{cloud.endpoint}/_local/tick/{rule}", timeout=30).raise_for_status()
    until = time.monotonic() + 60
    while time.monotonic() < until:
        listed = sfn.list_executions(stateMachineArn=arn)["executions"]
        if len(listed) > known and listed[0]["status"] != "RUNNING":
            break
        time.sleep(0.2)
    assert listed[0]["status"] == "SUCCEEDED", listed[0]
