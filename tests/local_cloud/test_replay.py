"""`python -m infra replay` on a running local cloud."""

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
from tests.conftest import BUCKET, RunningCloud, point, start_cloud, stop_cloud
from tests.local_cloud.test_pipeline import items, machine_arn
from tests.local_cloud.test_reconciliation import Capture, CloudDay, Eventually, jsonl

PAGE = 2

_numbers = itertools.count(2)


@pytest.fixture(scope="module")
def cloud() -> Iterator[RunningCloud]:
    """A cloud with short pages of listings, and a replay state machine with short retries."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("MOTO_S3_DEFAULT_MAX_KEYS", str(PAGE))
        running = start_cloud("--no-tick")
    sfn, arn = running.client("stepfunctions"), machine_arn(running, "InfraMonitoring-Replay")
    definition = sfn.describe_state_machine(stateMachineArn=arn)["definition"]
    shortened = json.dumps(json.loads(definition)).replace(
        '"IntervalSeconds": 10, "MaxAttempts": 3', '"IntervalSeconds": 1, "MaxAttempts": 1'
    )
    assert shortened != definition
    sfn.update_state_machine(stateMachineArn=arn, definition=shortened)
    yield running
    stop_cloud(running)


@pytest.fixture
def cloud_day(cloud: RunningCloud, capfd: Capture, eventually: Eventually) -> CloudDay:
    """A different day for each test; the next day is unused too."""
    day = datetime.now(UTC).date() - timedelta(days=3 * next(_numbers))
    return CloudDay(cloud, day, capfd, eventually)


def cpu(cloud_day: CloudDay, hour: int, value: float, **changes: Any) -> Record:
    """A CPU record of the three hours up to `hour` of the day."""
    end = datetime(cloud_day.day.year, cloud_day.day.month, cloud_day.day.day, hour, tzinfo=UTC)
    measurements = {"utilization": point("percent", value)}
    values = {"timestamp": end, "collected_at": end, "measurements": measurements}
    return cloud_day.record(metric_type="cpu", **values | changes)


def replay(cloud_day: CloudDay, *more: str, last: int = 0) -> tuple[int, str]:
    """`python -m infra replay` of the day, or of more days; its status and output."""
    days = ("--from", str(cloud_day.day), "--to", str(cloud_day.day + timedelta(days=last)))
    cloud_day.capture.readouterr()
    status = main(["replay", *days, *more, "--endpoint", cloud_day.cloud.endpoint])
    return status, "".join(cloud_day.capture.readouterr())


def stored(cloud_day: CloudDay) -> dict[str, dict[str, Any]]:
    """The items of the day, by their metric_id."""
    return {
        item["metric_id"]["S"]: item
        for item in items(cloud_day.cloud)
        if item["timestamp"]["S"].startswith(f"{cloud_day.day}T")
    }


def lines(cloud_day: CloudDay) -> list[tuple[str, dict[str, Any]]]:
    """Every line of processed/ with its key, without `processed_at`."""
    return [
        (key, {**json.loads(line), "processed_at": ""})
        for key in cloud_day.keys(f"processed/dt={cloud_day.day}/")
        for line in gzip.decompress(cloud_day.body(key)).splitlines()
    ]


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


@pytest.fixture
def full_day(cloud_day: CloudDay) -> CloudDay:
    """Consecutive windows, one of them restated, and a rejected entry."""
    cloud_day.drop(jsonl(cpu(cloud_day, 3, 60), cloud_day.record()), cloud_day.key("cpu-1.json"))
    cloud_day.drop(jsonl(cpu(cloud_day, 6, 90)), cloud_day.key("cpu-2.json"))
    late = cpu(cloud_day, 6, 75, collected_at=cpu(cloud_day, 9, 0).timestamp)
    cloud_day.drop(jsonl(late, cpu(cloud_day, 9, 50)) + b"{broken\n", cloud_day.key("cpu-3.json"))
    return cloud_day


def test_a_replay_changes_only_processed_at(full_day: CloudDay) -> None:
    counts, before, written = full_day.verify()["counts"], stored(full_day), lines(full_day)
    status, output = replay(full_day)
    assert status == 0
    assert "SUCCEEDED: 3 objects replayed, 0 failed" in output
    assert full_day.verify()["counts"] == counts
    assert lines(full_day) == written
    after = stored(full_day)
    assert after.keys() == before.keys()
    assert [changed(before[each], after[each]) for each in before] == [{"processed_at"}] * 4
    assert full_day.differences() == []


@contextmanager
def setting(cloud: RunningCloud, **settings: str) -> Iterator[None]:
    """Deploy log-processor with these settings for the duration of the block."""
    functions = cloud.client("lambda")
    before = functions.get_function_configuration(FunctionName="log-processor")["Environment"]
    variables = {"Variables": before["Variables"] | settings}
    functions.update_function_configuration(FunctionName="log-processor", Environment=variables)
    yield
    functions.update_function_configuration(FunctionName="log-processor", Environment=before)


def test_a_replay_after_a_change_of_thresholds_changes_only_the_status(
    full_day: CloudDay,
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


def test_prefix_selects_objects_by_name(cloud_day: CloudDay) -> None:
    cloud_day.drop(jsonl(cpu(cloud_day, 3, 1)), cloud_day.key("cpu-1.json"))
    cloud_day.drop(jsonl(cloud_day.record()), cloud_day.key("network-1.json"))
    before = stored(cloud_day)
    assert replay(cloud_day, "--prefix", "cpu")[0] == 0
    after = stored(cloud_day)
    assert [
        after[each]["metric_type"]["S"] for each in before if changed(before[each], after[each])
    ] == ["cpu"]


def executions(cloud: RunningCloud) -> list[dict[str, Any]]:
    sfn, arn = cloud.client("stepfunctions"), machine_arn(cloud, "InfraMonitoring-Replay")
    found: list[dict[str, Any]] = sfn.list_executions(stateMachineArn=arn)["executions"]
    return found


def test_a_dry_run_prints_the_objects_and_starts_nothing(cloud_day: CloudDay) -> None:
    cloud_day.drop(jsonl(cloud_day.record()))
    before = executions(cloud_day.cloud)
    status, output = replay(cloud_day, "--dry-run")
    assert (status, executions(cloud_day.cloud)) == (0, before)
    assert f"raw-metrics/{cloud_day.day:%Y/%m/%d}/" in output
    assert "1 objects would be replayed" in output


def test_an_object_without_a_date_in_its_key_is_replayed_by_its_day_of_storage(
    cloud_day: CloudDay, capfd: Capture, eventually: Eventually
) -> None:
    today = CloudDay(cloud_day.cloud, datetime.now(UTC).date(), capfd, eventually)
    today.drop(jsonl(cloud_day.record()), "raw-metrics/by hand.json")
    before = stored(cloud_day)
    assert replay(today)[0] == 0
    (found,) = (changed(before[each], item) for each, item in stored(cloud_day).items())
    assert found == {"processed_at"}


def test_a_failed_object_is_reported_and_resume_replays_only_its_day(
    cloud_day: CloudDay,
) -> None:
    """The object is archived, so it cannot be read until it is restored."""
    cloud_day.drop(jsonl(cpu(cloud_day, 3, 1)), cloud_day.key("good.json"))
    second = CloudDay(
        cloud_day.cloud, cloud_day.day + timedelta(days=1), cloud_day.capture, cloud_day.eventually
    )
    second.drop(jsonl(second.record()), second.key("good.json"))
    archived = second.key("archived.json")
    s3 = cloud_day.cloud.client("s3")
    s3.put_object(Bucket=BUCKET, Key=archived, Body=b"", StorageClass="GLACIER")
    before = stored(second)
    status, output = replay(cloud_day, last=1)
    assert status == 1
    assert f"{archived}: " in output
    assert "FAILED: 2 objects replayed, 1 failed" in output
    (found,) = (changed(before[each], item) for each, item in stored(second).items())
    assert found == {"processed_at"}
    second.put(jsonl(cpu(second, 3, 1)), archived)
    assert replay(cloud_day, "--resume", last=1)[0] == 0
    resumed = cloud_day.cloud.client("stepfunctions").describe_execution(
        executionArn=executions(cloud_day.cloud)[0]["executionArn"]
    )
    assert resumed["name"].endswith("-2")
    assert json.loads(resumed["input"]) == {
        "prefixes": [{"prefix": f"raw-metrics/{second.day:%Y/%m/%d}/"}]
    }
    assert "nothing to resume" in replay(cloud_day, "--resume", last=1)[1]


def test_a_running_replay_is_not_started_again(cloud_day: CloudDay) -> None:
    for number in range(12):
        cloud_day.put(b"{broken\n", cloud_day.key(f"{number}.json"))
    assert replay(cloud_day, "--no-wait")[0] == 0
    (name,) = {each["name"] for each in executions(cloud_day.cloud) if each["status"] == "RUNNING"}
    assert replay(cloud_day)[0] == 0
    assert sum(each["name"][:-2] == name[:-2] for each in executions(cloud_day.cloud)) == 1


def test_all_pages_of_a_listing_are_replayed(cloud_day: CloudDay) -> None:
    for number in range(2 * PAGE + 1):
        cloud_day.put(b"{broken\n", cloud_day.key(f"{number}.json"))
    assert f"{2 * PAGE + 1} objects replayed" in replay(cloud_day)[1]


def test_resume_without_an_earlier_replay_is_an_error_message(cloud_day: CloudDay) -> None:
    cloud_day.drop(jsonl(cloud_day.record()))
    status, output = replay(cloud_day, "--resume")
    assert status == 1
    assert "error: no execution replay-" in output
