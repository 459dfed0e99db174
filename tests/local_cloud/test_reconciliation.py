"""The ledger on a running local cloud: exact as long as nothing is lost, and each fault by name.

Every test has a day of its own, so that none sees what another broke.
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
from tests.conftest import (
    BUCKET,
    RunningCloud,
    make_record,
    point,
    start_cloud,
    stop_cloud,
)

Eventually = Callable[..., Any]
Capture = pytest.CaptureFixture[str]

_numbers = itertools.count(2)


@pytest.fixture(scope="module")
def cloud() -> Iterator[RunningCloud]:
    running = start_cloud("--no-tick")
    yield running
    stop_cloud(running)


@dataclass(frozen=True)
class Ledger:
    """A day of a running cloud, and `python -m infra verify` on it."""

    cloud: RunningCloud
    day: date
    capture: Capture
    eventually: Eventually

    def record(self, **changes: Any) -> Record:
        """A network record at noon: the processor adds rates to its counters."""
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
        return dict(self.eventually(lambda: (told := self.verify())["exact"] and told))

    def verify(self) -> dict[str, Any]:
        days = ("--from", str(self.day), "--to", str(self.day))
        status = main(["verify", *days, "--json", "--endpoint", self.cloud.endpoint])
        told: dict[str, Any] = json.loads(self.capture.readouterr().out)
        assert status == (0 if told["exact"] else 1)
        return told

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
        """Set attributes of a record's item, or remove those given as None."""
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
def ledger(cloud: RunningCloud, capfd: Capture, eventually: Eventually) -> Ledger:
    """The days go backwards from today: DynamoDB must not be allowed to have forgotten them."""
    day = datetime.now(UTC).date() - timedelta(days=2 * next(_numbers))
    return Ledger(cloud, day, capfd, eventually)


@pytest.fixture
def broken(ledger: Ledger) -> Ledger:
    """A day with one record and one line that is none, for a test to break."""
    ledger.drop(jsonl(ledger.record()) + b"{broken\n")
    return ledger


def test_everything_is_counted_and_exact(ledger: Ledger) -> None:
    two = [ledger.record(resource_id=name) for name in ("a", "b")]
    told = ledger.drop(jsonl(*two) + b"{broken\n" + jsonl(two[0]))
    assert told["counts"] == {
        "raw": {"objects": 1, "records": 2, "distinct": 2, "rejected": 1},
        "dynamodb": {"distinct": 2},
        "processed": {"objects": 1, "records": 2, "lines": 6},
        "quarantine": {"objects": 1, "rejected": 1},
    }


def test_a_record_that_was_restated_is_one_item_and_two_sets_of_lines(ledger: Ledger) -> None:
    ledger.drop(jsonl(ledger.record()), ledger.key("a.json"))
    later = ledger.record().collected_at
    assert later is not None
    told = ledger.drop(
        jsonl(ledger.record(collected_at=later + timedelta(hours=3))), ledger.key("b.json")
    )
    assert told["counts"]["raw"]["records"] == 2
    assert told["counts"]["raw"]["distinct"] == told["counts"]["dynamodb"]["distinct"] == 1


def test_an_object_whose_key_has_no_date_belongs_to_the_day_it_was_stored(
    ledger: Ledger, capfd: Capture
) -> None:
    ledger.put(jsonl(ledger.record()), "raw-metrics/from elsewhere.json")
    today = Ledger(ledger.cloud, datetime.now(UTC).date(), capfd, ledger.eventually)
    told = ledger.eventually(lambda: (told := today.verify())["exact"] and told)
    assert told["counts"]["raw"]["objects"] == 1
    assert ledger.verify()["exact"]


def lose_item(ledger: Ledger) -> None:
    ledger.cloud.client("dynamodb").delete_item(
        TableName="InfraMetrics", Key=item_key(ledger.record())
    )


def undo_enrichment(ledger: Ledger) -> None:
    ledger.change_item(ledger.record(), processed_at=None, source_object=None, version=None)


def change_item(ledger: Ledger) -> None:
    value = {"M": {"unit": {"S": "count"}, "last": {"N": "2"}, "samples": {"N": "1"}}}
    key = item_key(ledger.record())
    found = ledger.cloud.client("dynamodb").get_item(TableName="InfraMetrics", Key=key)["Item"]
    ledger.change_item(
        ledger.record(), measurements={"M": {**found["measurements"]["M"], "x": value}}
    )


def name_another_source(ledger: Ledger) -> None:
    ledger.change_item(ledger.record(), source_object={"S": f"s3://{BUCKET}/raw-metrics/no.json"})


def add_item(ledger: Ledger) -> None:
    stray = ledger.record(resource_id="stray")
    item = {**item_key(stray), "metric_type": {"S": "network"}}
    ledger.cloud.client("dynamodb").put_item(TableName="InfraMetrics", Item=item)


def lose_lines(ledger: Ledger) -> None:
    ledger.cloud.client("s3").delete_object(Bucket=BUCKET, Key=ledger.processed)


def double_a_line(ledger: Ledger) -> None:
    lines = gzip.decompress(ledger.body(ledger.processed)).splitlines(keepends=True)
    ledger.put(gzip.compress(b"".join([*lines, lines[0]])), ledger.processed)


def change_a_line(ledger: Ledger) -> None:
    text = gzip.decompress(ledger.body(ledger.processed)).replace(b"1000.0", b"1001.0")
    ledger.put(gzip.compress(text), ledger.processed)


def misplace_lines(ledger: Ledger) -> None:
    body, key = ledger.body(ledger.processed), ledger.processed
    lose_lines(ledger)
    ledger.put(body, key.replace("/drop-", "/elsewhere-"))


def lose_quarantine(ledger: Ledger) -> None:
    ledger.cloud.client("s3").delete_object(Bucket=BUCKET, Key=ledger.quarantined)


def double_quarantine(ledger: Ledger) -> None:
    ledger.put(2 * ledger.body(ledger.quarantined), ledger.quarantined)


def lose_raw(ledger: Ledger) -> None:
    ledger.cloud.client("s3").delete_object(Bucket=BUCKET, Key=ledger.key())


@pytest.mark.parametrize(
    ("fault", "named"),
    [
        (lose_item, ["dynamodb: there is no item"]),
        (undo_enrichment, ["dynamodb: the item is not enriched"]),
        (
            change_item,
            ["dynamodb: x: last 2 samples 1 count, where the raw object has last 1 avg 1 min 1"],
        ),
        (name_another_source, ["dynamodb: an item that no", "dynamodb: the item is of s3://"]),
        (add_item, ["dynamodb: an item that no raw object explains"]),
        (
            lose_lines,
            [
                "processed: bytes_sent: not there",
                "processed: x: not there",
                "processed: bytes_sent_rate: the item and the line do not agree",
            ],
        ),
        (double_a_line, ["processed: one more line of bytes_sent_rate"]),
        (change_a_line, ["processed: bytes_sent: last 1001 avg 1001 min 1001 max 1001"]),
        (
            misplace_lines,
            [
                "processed: bytes_sent: not there",
                "processed: x: not there",
                "processed: bytes_sent_rate: the item and the line do not agree",
                "processed: 3 lines that no raw object explains",
            ],
        ),
        (lose_quarantine, ["quarantine: line 2: 0 times in quarantine, not 1"]),
        (double_quarantine, ["quarantine: line 2: 2 times in quarantine, not 1"]),
        (
            lose_raw,
            [
                "dynamodb: an item that no raw object explains",
                "processed: 3 lines that no raw object explains",
                "quarantine: 1 lines that no raw object explains",
            ],
        ),
    ],
    ids=lambda each: each.__name__ if callable(each) else "",
)
def test_a_fault_is_named_and_nothing_else(
    broken: Ledger, fault: Callable[[Ledger], None], named: list[str]
) -> None:
    fault(broken)
    found = sorted(broken.differences())
    assert len(found) == len(named), found
    for difference, words in zip(found, sorted(named), strict=True):
        assert difference.startswith(words)


def test_an_item_of_the_record_that_was_read_earlier_is_a_difference(ledger: Ledger) -> None:
    later = ledger.record(collected_at=datetime.combine(ledger.day, time(15), UTC))
    ledger.drop(jsonl(ledger.record()), ledger.key("a.json"))
    ledger.drop(jsonl(later), ledger.key("b.json"))
    ledger.change_item(later, source_object={"S": f"s3://{BUCKET}/{ledger.key('a.json')}"})
    (difference,) = ledger.verify()["differences"]
    assert difference["what"].endswith("a.json, though this object's was read later")
    assert difference["object"] == ledger.key("b.json")
    assert (difference["resource"], difference["metric_type"]) == ("web-1", "network")


def test_of_the_same_reading_in_two_objects_either_may_have_the_item(ledger: Ledger) -> None:
    for key in ("a.json", "b.json"):
        ledger.drop(jsonl(ledger.record()), ledger.key(key))
    ledger.change_item(
        ledger.record(), source_object={"S": f"s3://{BUCKET}/{ledger.key('a.json')}"}
    )
    assert ledger.verify()["exact"]


def test_people_are_told_the_counts_and_each_difference(broken: Ledger) -> None:
    lose_item(broken)
    broken.capture.readouterr()
    endpoint = ("--endpoint", broken.cloud.endpoint)
    assert main(["verify", "--from", str(broken.day), "--to", str(broken.day), *endpoint]) == 1
    told = broken.capture.readouterr().out
    assert f"{broken.key()}: network web-1 {broken.day}T12:00:00Z: there is no item" in told
    assert "1 differences" in told


def test_days_in_the_wrong_order_are_a_mistake_in_the_options(capfd: Capture) -> None:
    assert main(["verify", "--from", "2026-11-21", "--to", "2026-11-20"]) == 2
    assert "--to 2026-11-20 is before --from 2026-11-21" in capfd.readouterr().err


def test_a_stage_that_is_not_there_is_one_clear_line(cloud: RunningCloud, capfd: Capture) -> None:
    stage = ("--stage", "nowhere", "--endpoint", cloud.endpoint)
    assert main(["verify", "--from", "2026-11-21", "--to", "2026-11-21", *stage]) == 1
    error = capfd.readouterr().err
    assert error.startswith("error: no exports InfraMonitoring-BucketName-nowhere")
    assert len(error.splitlines()) == 1
