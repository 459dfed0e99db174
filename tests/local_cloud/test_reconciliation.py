"""`python -m infra verify` on a running local cloud: it reports each fault, and nothing else.

Every test uses a different day, so that tests do not see each other's faults.
"""

import gzip
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import pytest

from chalicelib.model import records
from chalicelib.model.records import Record
from infra.__main__ import main
from tests.conftest import BUCKET, RunningCloud, make_record, point, start_cloud, stop_cloud

Eventually = Callable[..., Any]
Capture = pytest.CaptureFixture[str]

_numbers = itertools.count(2)


@pytest.fixture(scope="module")
def cloud() -> Iterator[RunningCloud]:
    running = start_cloud("--no-tick")
    yield running
    stop_cloud(running)


@dataclass(frozen=True)
class CloudDay:
    """A day of a running cloud, and `python -m infra verify` on it."""

    cloud: RunningCloud
    day: date
    capture: Capture
    eventually: Eventually

    def record(self, **changes: Any) -> Record:
        """A network record at noon; log-processor adds rates to its counters."""
        noon = datetime.combine(self.day, time(12), UTC)
        values = {
            "timestamp": noon,
            "collected_at": noon,
            "metric_type": "network",
            "measurements": {"bytes_sent": point("bytes", 1000), "x": point("count", 1)},
        }
        return make_record(**values | changes)

    def key(self, name: str = "drop.json") -> str:
        return f"raw-metrics/{self.day:%Y/%m/%d}/{name}"

    def put(self, body: bytes, key: str = "") -> None:
        self.cloud.client("s3").put_object(Bucket=BUCKET, Key=key or self.key(), Body=body)

    def drop(self, body: bytes, key: str = "") -> dict[str, Any]:
        """Put an object and wait until it is processed."""
        self.put(body, key)
        return dict(self.eventually(lambda: (result := self.verify())["exact"] and result))

    def verify(self) -> dict[str, Any]:
        days = ("--from", str(self.day), "--to", str(self.day))
        status = main(["verify", *days, "--json", "--endpoint", self.cloud.endpoint])
        result: dict[str, Any] = json.loads(self.capture.readouterr().out)
        assert status == (0 if result["exact"] else 1)
        return result

    def differences(self) -> list[str]:
        return [f"{each['store']}: {each['what']}" for each in self.verify()["differences"]]

    def keys(self, prefix: str) -> list[str]:
        pages = self.cloud.client("s3").get_paginator("list_objects_v2")
        return [
            entry["Key"]
            for page in pages.paginate(Bucket=BUCKET, Prefix=prefix)
            for entry in page.get("Contents", [])
        ]

    @property
    def processed(self) -> str:
        (key,) = self.keys(f"processed/dt={self.day}/")
        return key

    @property
    def quarantined(self) -> str:
        (key,) = self.keys(f"quarantine/{self.day:%Y/%m/%d}/")
        return key

    def body(self, key: str) -> bytes:
        body: bytes = self.cloud.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return body

    def change_item(self, record: Record, **changes: Any) -> None:
        """Set attributes of a record's item; None removes an attribute."""
        dynamodb, key = self.cloud.client("dynamodb"), item_key(record)
        item = dynamodb.get_item(TableName="InfraMetrics", Key=key)["Item"]
        item = {name: each for name, each in (item | changes).items() if each is not None}
        dynamodb.put_item(TableName="InfraMetrics", Item=item)


def item_key(record: Record) -> dict[str, Any]:
    return {
        "metric_id": {"S": str(record.metric_id)},
        "timestamp": {"S": f"{record.timestamp:%Y-%m-%dT%H:%M:%SZ}"},
    }


def jsonl(*found: Record) -> bytes:
    return b"".join(records.encode(record) + b"\n" for record in found)


@pytest.fixture
def cloud_day(cloud: RunningCloud, capfd: Capture, eventually: Eventually) -> CloudDay:
    """A day before today, recent enough for DynamoDB's TTL."""
    day = datetime.now(UTC).date() - timedelta(days=2 * next(_numbers))
    return CloudDay(cloud, day, capfd, eventually)


@pytest.fixture
def broken(cloud_day: CloudDay) -> CloudDay:
    """A day with one record and one rejected entry, for a test to break."""
    cloud_day.drop(jsonl(cloud_day.record()) + b"{broken\n")
    return cloud_day


def test_the_counts_of_a_complete_day(cloud_day: CloudDay) -> None:
    two = [cloud_day.record(resource_id=name) for name in ("a", "b")]
    result = cloud_day.drop(jsonl(*two) + b"{broken\n" + jsonl(two[0]))
    assert result["counts"] == {
        "raw": {"objects": 1, "records": 2, "distinct": 2, "rejected": 1},
        "dynamodb": {"distinct": 2},
        "processed": {"objects": 1, "records": 2, "lines": 6},
        "quarantine": {"objects": 1, "rejected": 1},
    }


def test_a_restated_record_has_one_item_and_two_sets_of_lines(cloud_day: CloudDay) -> None:
    cloud_day.drop(jsonl(cloud_day.record()), cloud_day.key("a.json"))
    later = cloud_day.record().collected_at
    assert later is not None
    result = cloud_day.drop(
        jsonl(cloud_day.record(collected_at=later + timedelta(hours=3))), cloud_day.key("b.json")
    )
    assert result["counts"]["raw"]["records"] == 2
    assert result["counts"]["raw"]["distinct"] == result["counts"]["dynamodb"]["distinct"] == 1


def test_an_object_without_a_date_in_its_key_belongs_to_the_day_of_its_storage(
    cloud_day: CloudDay, capfd: Capture
) -> None:
    cloud_day.put(jsonl(cloud_day.record()), "raw-metrics/without date.json")
    today = CloudDay(cloud_day.cloud, datetime.now(UTC).date(), capfd, cloud_day.eventually)
    result = cloud_day.eventually(lambda: (result := today.verify())["exact"] and result)
    assert result["counts"]["raw"]["objects"] == 1
    assert cloud_day.verify()["exact"]


def delete_item(cloud_day: CloudDay) -> None:
    cloud_day.cloud.client("dynamodb").delete_item(
        TableName="InfraMetrics", Key=item_key(cloud_day.record())
    )


def undo_enrichment(cloud_day: CloudDay) -> None:
    cloud_day.change_item(cloud_day.record(), processed_at=None, source_object=None, version=None)


def change_item(cloud_day: CloudDay) -> None:
    value = {"M": {"unit": {"S": "count"}, "last": {"N": "2"}, "samples": {"N": "1"}}}
    key = item_key(cloud_day.record())
    found = cloud_day.cloud.client("dynamodb").get_item(TableName="InfraMetrics", Key=key)["Item"]
    cloud_day.change_item(
        cloud_day.record(), measurements={"M": {**found["measurements"]["M"], "x": value}}
    )


def change_source(cloud_day: CloudDay) -> None:
    cloud_day.change_item(
        cloud_day.record(), source_object={"S": f"s3://{BUCKET}/raw-metrics/no.json"}
    )


def add_item(cloud_day: CloudDay) -> None:
    unknown = cloud_day.record(resource_id="unknown")
    item = {**item_key(unknown), "metric_type": {"S": "network"}}
    cloud_day.cloud.client("dynamodb").put_item(TableName="InfraMetrics", Item=item)


def delete_lines(cloud_day: CloudDay) -> None:
    cloud_day.cloud.client("s3").delete_object(Bucket=BUCKET, Key=cloud_day.processed)


def duplicate_line(cloud_day: CloudDay) -> None:
    lines = gzip.decompress(cloud_day.body(cloud_day.processed)).splitlines(keepends=True)
    cloud_day.put(gzip.compress(b"".join([*lines, lines[0]])), cloud_day.processed)


def change_line(cloud_day: CloudDay) -> None:
    text = gzip.decompress(cloud_day.body(cloud_day.processed)).replace(b"1000.0", b"1001.0")
    cloud_day.put(gzip.compress(text), cloud_day.processed)


def move_lines(cloud_day: CloudDay) -> None:
    body, key = cloud_day.body(cloud_day.processed), cloud_day.processed
    delete_lines(cloud_day)
    cloud_day.put(body, key.replace("/drop-", "/other-"))


def delete_quarantine(cloud_day: CloudDay) -> None:
    cloud_day.cloud.client("s3").delete_object(Bucket=BUCKET, Key=cloud_day.quarantined)


def duplicate_quarantine(cloud_day: CloudDay) -> None:
    cloud_day.put(2 * cloud_day.body(cloud_day.quarantined), cloud_day.quarantined)


def delete_raw(cloud_day: CloudDay) -> None:
    cloud_day.cloud.client("s3").delete_object(Bucket=BUCKET, Key=cloud_day.key())


@pytest.mark.parametrize(
    ("fault", "differences"),
    [
        (delete_item, ["dynamodb: item is missing"]),
        (undo_enrichment, ["dynamodb: item is not enriched"]),
        (
            change_item,
            ["dynamodb: x: stored last 2 samples 1 count, expected last 1 avg 1 min 1"],
        ),
        (
            change_source,
            ["dynamodb: item is from s3://", "dynamodb: item without a raw object"],
        ),
        (add_item, ["dynamodb: item without a raw object"]),
        (
            delete_lines,
            [
                "processed: bytes_sent is missing",
                "processed: x is missing",
                "processed: bytes_sent_rate differs between the item and the line",
            ],
        ),
        (duplicate_line, ["processed: duplicate line of bytes_sent_rate"]),
        (change_line, ["processed: bytes_sent: stored last 1001 avg 1001 min 1001 max 1001"]),
        (
            move_lines,
            [
                "processed: bytes_sent is missing",
                "processed: x is missing",
                "processed: bytes_sent_rate differs between the item and the line",
                "processed: 3 lines without a raw object",
            ],
        ),
        (delete_quarantine, ["quarantine: line 2: 0 times in quarantine, expected 1"]),
        (duplicate_quarantine, ["quarantine: line 2: 2 times in quarantine, expected 1"]),
        (
            delete_raw,
            [
                "dynamodb: item without a raw object",
                "processed: 3 lines without a raw object",
                "quarantine: 1 lines without a raw object",
            ],
        ),
    ],
    ids=lambda each: each.__name__ if callable(each) else "",
)
def test_exactly_the_differences_of_a_fault_are_reported(
    broken: CloudDay, fault: Callable[[CloudDay], None], differences: list[str]
) -> None:
    fault(broken)
    found = sorted(broken.differences())
    assert len(found) == len(differences), found
    for difference, start in zip(found, sorted(differences), strict=True):
        assert difference.startswith(start)


def test_an_item_of_the_earlier_record_is_a_difference(cloud_day: CloudDay) -> None:
    later = cloud_day.record(collected_at=datetime.combine(cloud_day.day, time(15), UTC))
    cloud_day.drop(jsonl(cloud_day.record()), cloud_day.key("a.json"))
    cloud_day.drop(jsonl(later), cloud_day.key("b.json"))
    cloud_day.change_item(later, source_object={"S": f"s3://{BUCKET}/{cloud_day.key('a.json')}"})
    (difference,) = cloud_day.verify()["differences"]
    assert difference["what"].endswith("a.json, but this object has a later record")
    assert difference["object"] == cloud_day.key("b.json")
    assert (difference["resource"], difference["metric_type"]) == ("web-1", "network")


def test_the_item_may_be_from_either_of_two_objects_with_the_same_record(
    cloud_day: CloudDay,
) -> None:
    for key in ("a.json", "b.json"):
        cloud_day.drop(jsonl(cloud_day.record()), cloud_day.key(key))
    cloud_day.change_item(
        cloud_day.record(), source_object={"S": f"s3://{BUCKET}/{cloud_day.key('a.json')}"}
    )
    assert cloud_day.verify()["exact"]


def test_the_output_has_the_counts_and_each_difference(broken: CloudDay) -> None:
    delete_item(broken)
    broken.capture.readouterr()
    endpoint = ("--endpoint", broken.cloud.endpoint)
    assert main(["verify", "--from", str(broken.day), "--to", str(broken.day), *endpoint]) == 1
    output = broken.capture.readouterr().out
    assert f"{broken.key()}: network web-1 {broken.day}T12:00:00Z: item is missing" in output
    assert "1 differences" in output


def test_days_in_the_wrong_order_are_a_usage_error(capfd: Capture) -> None:
    assert main(["verify", "--from", "2026-11-21", "--to", "2026-11-20"]) == 2
    assert "--to 2026-11-20 is before --from 2026-11-21" in capfd.readouterr().err


def test_a_stage_that_is_not_deployed_is_an_error_message(
    cloud: RunningCloud, capfd: Capture
) -> None:
    stage = ("--stage", "missing", "--endpoint", cloud.endpoint)
    assert main(["verify", "--from", "2026-11-21", "--to", "2026-11-21", *stage]) == 1
    error = capfd.readouterr().err
    assert error.startswith("error: no exports InfraMonitoring-BucketName-missing")
    assert len(error.splitlines()) == 1
