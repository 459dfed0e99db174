"""Replays on a running local cloud: nothing changes, or exactly what the transform changed."""

import gzip
import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib.model.records import Record
from infra.__main__ import main
from tests.conftest import (
    BUCKET,
    RunningCloud,
    point,
    start_cloud,
    stop_cloud,
)
from tests.local_cloud.test_pipeline import items, machine_arn
from tests.local_cloud.test_reconciliation import (
    Capture,
    Eventually,
    Ledger,
    jsonl,
)

PAGE = 2

_numbers = itertools.count(2)


@pytest.fixture(scope="module")
def cloud() -> Iterator[RunningCloud]:
    """Its listings have short pages, and its state machine little patience with failures."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MOTO_S3_DEFAULT_MAX_KEYS", str(PAGE))
        running = start_cloud("--no-tick")
    sfn, arn = running.client("stepfunctions"), machine_arn(running, "InfraMonitoring-Replay")
    definition = sfn.describe_state_machine(stateMachineArn=arn)["definition"]
    hurried = json.dumps(json.loads(definition)).replace(
        '"IntervalSeconds": 10, "MaxAttempts": 3', '"IntervalSeconds": 1, "MaxAttempts": 1'
    )
    assert hurried != definition
    sfn.update_state_machine(stateMachineArn=arn, definition=hurried)
    yield running
    stop_cloud(running)


@pytest.fixture
def ledger(cloud: RunningCloud, capfd: Capture, eventually: Eventually) -> Ledger:
    """A day of its own, and the next one, for each test."""
    day = datetime.now(UTC).date() - timedelta(days=3 * next(_numbers))
    return Ledger(cloud, day, capfd, eventually)


def cpu(ledger: Ledger, hour: int, value: float, **changes: Any) -> Record:
    """A CPU record of the three hours up to `hour` of the day."""
    end = datetime(ledger.day.year, ledger.day.month, ledger.day.day, hour, tzinfo=UTC)
    measurements = {"utilization": point("percent", value)}
    values = {"timestamp": end, "collected_at": end, "measurements": measurements}
    return ledger.record(metric_type="cpu", **values | changes)


def replay(ledger: Ledger, *more: str, last: int = 0) -> tuple[int, str]:
    """`python -m infra replay` of the day, or of more days; its status and output."""
    days = ("--from", str(ledger.day), "--to", str(ledger.day + timedelta(days=last)))
    ledger.capture.readouterr()
    status = main(["replay", *days, *more, "--endpoint", ledger.cloud.endpoint])
    return status, "".join(ledger.capture.readouterr())


def stored(ledger: Ledger) -> dict[str, dict[str, Any]]:
    """The items of the day, by their metric_id."""
    return {
        item["metric_id"]["S"]: item
        for item in items(ledger.cloud)
        if item["timestamp"]["S"].startswith(f"{ledger.day}T")
    }


def lines(ledger: Ledger) -> list[tuple[str, dict[str, Any]]]:
    """Every line of processed/ and its key, but for when it was processed."""
    return [
        (key, {**json.loads(line), "processed_at": ""})
        for key in ledger.keys(f"processed/dt={ledger.day}/")
        for line in gzip.decompress(ledger.body(key)).splitlines()
    ]


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


@pytest.fixture
def full_day(ledger: Ledger) -> Ledger:
    """Windows that follow each other, one of them restated, and a line that is no record."""
    ledger.drop(jsonl(cpu(ledger, 3, 60), ledger.record()), ledger.key("cpu-1.json"))
    ledger.drop(jsonl(cpu(ledger, 6, 90)), ledger.key("cpu-2.json"))
    late = cpu(ledger, 6, 75, collected_at=cpu(ledger, 9, 0).timestamp)
    ledger.drop(jsonl(late, cpu(ledger, 9, 50)) + b"{broken\n", ledger.key("cpu-3.json"))
    return ledger


def test_a_replay_over_a_day_changes_no_count_and_nothing_else(full_day: Ledger) -> None:
    counts, before, written = full_day.verify()["counts"], stored(full_day), lines(full_day)
    status, told = replay(full_day)
    assert status == 0
    assert "SUCCEEDED: 3 objects replayed, 0 failed" in told
    assert full_day.verify()["counts"] == counts
    assert lines(full_day) == written
    after = stored(full_day)
    assert after.keys() == before.keys()
    assert [changed(before[each], after[each]) for each in before] == [{"processed_at"}] * 4
    assert full_day.differences() == []


@contextmanager
def setting(cloud: RunningCloud, **settings: str) -> Iterator[None]:
    """The processor as a release with other settings has it."""
    functions = cloud.client("lambda")
    before = functions.get_function_configuration(FunctionName="log-processor")["Environment"]
    variables = {"Variables": before["Variables"] | settings}
    functions.update_function_configuration(FunctionName="log-processor", Environment=variables)
    yield
    functions.update_function_configuration(FunctionName="log-processor", Environment=before)


def test_after_a_change_of_the_transform_a_replay_changes_exactly_the_changed_field(
    full_day: Ledger,
) -> None:
    before = stored(full_day)
    with setting(full_day.cloud, CPU_THRESHOLDS="55,65"):
        assert replay(full_day)[0] == 0
    after = stored(full_day)
    status = {"processed_at", "status"}
    found = {
        (item["metric_type"]["S"], item["timestamp"]["S"][11:13]): changed(item, after[each])
        for each, item in before.items()
    }
    assert found == {
        ("cpu", "03"): status,  # 60 was ok and is a warning
        ("cpu", "06"): status,  # 75, as restated, was a warning and is critical
        ("cpu", "09"): {"processed_at"},
        ("network", "12"): {"processed_at"},
    }
    assert full_day.differences() == []


def test_only_objects_whose_names_begin_with_the_prefix_are_replayed(ledger: Ledger) -> None:
    ledger.drop(jsonl(cpu(ledger, 3, 1)), ledger.key("cpu-1.json"))
    ledger.drop(jsonl(ledger.record()), ledger.key("network-1.json"))
    before = stored(ledger)
    assert replay(ledger, "--prefix", "cpu")[0] == 0
    after = stored(ledger)
    assert [
        after[each]["metric_type"]["S"] for each in before if changed(before[each], after[each])
    ] == ["cpu"]


def runs(cloud: RunningCloud) -> list[dict[str, Any]]:
    sfn, arn = cloud.client("stepfunctions"), machine_arn(cloud, "InfraMonitoring-Replay")
    found: list[dict[str, Any]] = sfn.list_executions(stateMachineArn=arn)["executions"]
    return found


def test_a_dry_run_says_what_would_be_replayed_and_starts_nothing(ledger: Ledger) -> None:
    ledger.drop(jsonl(ledger.record()))
    before = runs(ledger.cloud)
    status, told = replay(ledger, "--dry-run")
    assert (status, runs(ledger.cloud)) == (0, before)
    assert f"raw-metrics/{ledger.day:%Y/%m/%d}/" in told
    assert "1 objects would be replayed" in told


def test_an_object_without_a_day_in_its_key_is_replayed_on_the_day_it_was_stored(
    ledger: Ledger, capfd: Capture, eventually: Eventually
) -> None:
    today = Ledger(ledger.cloud, datetime.now(UTC).date(), capfd, eventually)
    today.drop(jsonl(ledger.record()), "raw-metrics/by hand.json")
    before = stored(ledger)
    assert replay(today)[0] == 0
    (found,) = (changed(before[each], item) for each, item in stored(ledger).items())
    assert found == {"processed_at"}


def test_one_bad_object_is_named_ends_nothing_and_is_all_that_a_resumed_replay_goes_for(
    ledger: Ledger,
) -> None:
    """An archived object cannot be read; brought back, it can."""
    ledger.drop(jsonl(cpu(ledger, 3, 1)), ledger.key("good.json"))
    second = Ledger(ledger.cloud, ledger.day + timedelta(days=1), ledger.capture, ledger.eventually)
    second.drop(jsonl(second.record()), second.key("good.json"))
    archived = second.key("archived.json")
    s3 = ledger.cloud.client("s3")
    s3.put_object(Bucket=BUCKET, Key=archived, Body=b"", StorageClass="GLACIER")
    before = stored(second)
    status, told = replay(ledger, last=1)
    assert status == 1
    assert f"{archived}: " in told
    assert "FAILED: 2 objects replayed, 1 failed" in told
    (found,) = (changed(before[each], item) for each, item in stored(second).items())
    assert found == {"processed_at"}
    second.put(jsonl(cpu(second, 3, 1)), archived)
    assert replay(ledger, "--resume", last=1)[0] == 0
    resumed = ledger.cloud.client("stepfunctions").describe_execution(
        executionArn=runs(ledger.cloud)[0]["executionArn"]
    )
    assert resumed["name"].endswith("-2")
    assert json.loads(resumed["input"]) == {
        "prefixes": [{"prefix": f"raw-metrics/{second.day:%Y/%m/%d}/"}]
    }
    assert "nothing to resume" in replay(ledger, "--resume", last=1)[1]


def test_a_replay_that_runs_is_not_started_a_second_time(ledger: Ledger) -> None:
    for number in range(12):
        ledger.put(b"{broken\n", ledger.key(f"{number}.json"))
    assert replay(ledger, "--no-wait")[0] == 0
    (name,) = {run["name"] for run in runs(ledger.cloud) if run["status"] == "RUNNING"}
    assert replay(ledger)[0] == 0
    assert sum(run["name"][:-2] == name[:-2] for run in runs(ledger.cloud)) == 1


def test_more_objects_than_one_page_of_a_listing_are_all_replayed(ledger: Ledger) -> None:
    for number in range(2 * PAGE + 1):
        ledger.put(b"{broken\n", ledger.key(f"{number}.json"))
    assert f"{2 * PAGE + 1} objects replayed" in replay(ledger)[1]


def test_nothing_to_resume_is_one_clear_line(ledger: Ledger) -> None:
    ledger.drop(jsonl(ledger.record()))
    status, told = replay(ledger, "--resume")
    assert status == 1
    assert "error: there is no replay-" in told
