"""The processor: writes in either order, repeated events, replaced objects, and failures."""

import base64
import gzip
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from itertools import permutations
from typing import Any

import pytest

from chalicelib.collect.collector import collect
from chalicelib.collect.requests import CollectionRequest
from chalicelib.model import records
from chalicelib.model.errors import StorageError
from chalicelib.model.records import Record
from chalicelib.process import batching
from chalicelib.process.checkpoint import RawObjectEvent
from chalicelib.process.processor import ProcessingSummary, process, process_event
from tests.conftest import BUCKET, SETTINGS, WINDOW_END, Backend, make_record, point
from tests.contract.collect.test_collector import EVENT, FixedSource

KEY = "raw-metrics/2026/11/22/drop.json"


def s3_event(key: str) -> dict[str, Any]:
    return {
        "account": "123456789012",
        "region": "eu-west-1",
        "detail": {"bucket": {"name": BUCKET}, "object": {"key": key}},
    }


def run(backend: Backend, key: str = KEY) -> ProcessingSummary:
    return process(
        RawObjectEvent.from_event(s3_event(key)),
        settings=SETTINGS,
        store=backend.store,
        now=lambda: WINDOW_END + timedelta(minutes=5),
    )


def drop(backend: Backend, body: bytes, key: str = KEY) -> ProcessingSummary:
    backend.s3.put_object(Bucket=BUCKET, Key=key, Body=body)
    return run(backend, key)


def jsonl(*found: Record) -> bytes:
    return b"".join(records.encode(record) + b"\n" for record in found)


def processed(backend: Backend) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for key in backend.keys("processed/")
        for line in gzip.decompress(backend.body(key)).splitlines()
    ]


def quarantined(backend: Backend) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for key in backend.keys("quarantine/")
        for line in backend.body(key).splitlines()
    ]


def test_a_record_is_stored_enriched_in_the_table_and_the_bucket(backend: Backend) -> None:
    summary = drop(backend, jsonl(make_record()))
    (item,) = backend.items()
    assert item["status"]["S"] == "ok"
    assert item["source_object"]["S"] == f"s3://{BUCKET}/{KEY}"
    (line,) = processed(backend)
    assert line["metric_id"] == item["metric_id"]["S"]
    assert (summary.records, summary.rejected) == (1, 0)


def test_processed_objects_are_partitioned_by_day(backend: Backend) -> None:
    days = [make_record(timestamp=WINDOW_END + timedelta(days=day)) for day in (0, 1, 0)]
    drop(backend, jsonl(*days))
    assert [key.split("/")[1] for key in backend.keys("processed/")] == [
        "dt=2026-11-22",
        "dt=2026-11-23",
    ]


def test_invalid_lines_are_quarantined_and_valid_ones_are_stored(backend: Backend) -> None:
    body = jsonl(make_record(resource_id="a")) + b"{broken\n" + jsonl(make_record(resource_id="b"))
    summary = drop(backend, body)
    assert (summary.records, summary.rejected) == (2, 1)
    (bad,) = quarantined(backend)
    assert bad["original"] == "{broken"
    assert bad["line"] == 2
    assert bad["source_object"] == f"s3://{BUCKET}/{KEY}"
    assert "malformed" in bad["reason"]
    assert backend.keys("quarantine/")[0].startswith("quarantine/2026/11/22/")


def test_binary_data_is_quarantined_unchanged(backend: Backend) -> None:
    drop(backend, b"\xff\xfe\x00\x01")
    (bad,) = quarantined(backend)
    assert base64.b64decode(bad["original_base64"]) == b"\xff\xfe\x00\x01"


def test_processing_an_object_twice_changes_no_count(backend: Backend) -> None:
    body = jsonl(make_record(resource_id="a"), make_record(resource_id="b")) + b"{broken\n"
    drop(backend, body)
    before = (len(backend.items()), len(processed(backend)), len(quarantined(backend)))
    run(backend)
    assert (
        (
            len(backend.items()),
            len(processed(backend)),
            len(quarantined(backend)),
        )
        == before
        == (2, 2, 1)
    )


def test_keys_that_differ_only_in_unsafe_characters_have_different_outputs(
    backend: Backend,
) -> None:
    for number, name in enumerate(["a b", "a+b", "a%20b", "ä/ b", "b"]):
        drop(backend, jsonl(make_record(resource_id=f"h{number}")), f"raw-metrics/{name}.json")
    assert len(backend.keys("processed/")) == 5


@pytest.mark.parametrize("collector_first", [True, False])
def test_the_item_is_enriched_in_either_order_of_writes(
    backend: Backend, collector_first: bool
) -> None:
    """The collector writes its object and its items concurrently, so either can be first."""

    def collector() -> None:
        collect(
            CollectionRequest.from_event(EVENT | {"detail": {"metric_type": "cpu"}}),
            settings=SETTINGS,
            store=backend.store,
            sources=[FixedSource("a", "b")],
        )

    collector()
    (key,) = backend.keys("raw-metrics/")
    if collector_first:
        run(backend, key)
    else:
        for item in backend.items():
            backend.dynamodb.delete_item(
                TableName="InfraMetrics",
                Key={name: item[name] for name in ("metric_id", "timestamp")},
            )
        run(backend, key)
        collector()
    assert [item["status"]["S"] for item in backend.items()] == ["ok", "ok"]
    assert all("processed_at" in item for item in backend.items())


def test_rates_and_changes_are_computed_from_the_stored_previous_window(backend: Backend) -> None:
    def network(sent: float, hours: int) -> Record:
        moment = WINDOW_END + timedelta(hours=hours)
        return make_record(
            metric_type="network",
            timestamp=moment,
            collected_at=moment,
            measurements={"bytes_sent": point("bytes", sent)},
        )

    drop(backend, jsonl(network(1_000, 0)), "raw-metrics/1.json")
    drop(backend, jsonl(network(109_000, 3)), "raw-metrics/2.json")
    drop(backend, jsonl(network(5, 6)), "raw-metrics/3.json")
    first, second, third = sorted(backend.items(), key=lambda item: str(item["timestamp"]["S"]))
    assert first["measurements"]["M"]["bytes_sent_rate"]["M"]["last"] == {"NULL": True}
    assert second["measurements"]["M"]["bytes_sent_rate"]["M"]["last"] == {"N": "10"}
    assert second["change"]["M"]["bytes_sent"] == {"N": "108000"}
    assert second["previous_timestamp"] == first["timestamp"]
    assert third["measurements"]["M"]["bytes_sent_rate"]["M"]["last"] == {"NULL": True}
    assert third["counter_reset"] == {"BOOL": True}


def test_consecutive_windows_in_one_object_are_compared(backend: Backend) -> None:
    later = make_record(
        timestamp=WINDOW_END + timedelta(hours=3),
        measurements={"utilization": point("percent", 50)},
    )
    drop(backend, jsonl(make_record(), later))
    changes = sorted(str(item["change"]["M"]) for item in backend.items())
    assert changes == ["{'utilization': {'N': '8'}}", "{}"]


def test_a_key_that_occurs_twice_in_an_object_is_one_item(backend: Backend) -> None:
    twice = make_record(measurements={"utilization": point("percent", 99)})
    drop(backend, jsonl(make_record(), twice))
    (item,) = backend.items()
    (line,) = processed(backend)
    assert line["value_last"] == 99.0
    assert item["measurements"]["M"]["utilization"]["M"]["last"]["N"] == "99"


def restated(value: float, minutes: int | None) -> Record:
    """A record of one window, collected this many minutes after its end."""
    collected_at = None if minutes is None else WINDOW_END + timedelta(minutes=minutes)
    return make_record(
        collected_at=collected_at, measurements={"utilization": point("percent", value)}
    )


@pytest.mark.parametrize("order", list(permutations(("first", "second", "third"))), ids="-".join)
def test_the_record_collected_last_wins_in_any_order_of_objects(
    backend: Backend, order: tuple[str, ...]
) -> None:
    bodies = {"first": restated(1, 5), "third": restated(3, 185), "second": restated(2, 10)}
    for name in order:
        drop(backend, jsonl(bodies[name]), f"raw-metrics/{name}.json")
    (item,) = backend.items()
    assert item["source_object"]["S"].endswith("/third.json")
    assert item["measurements"]["M"]["utilization"]["M"]["last"]["N"] == "3"


def test_the_winner_of_records_collected_at_one_time_does_not_depend_on_the_order(
    backend: Backend,
) -> None:
    """S3 stores times in whole seconds, so two objects can have the same time."""
    names = ["raw-metrics/a.json", "raw-metrics/b.json"]
    for name in names:
        drop(backend, jsonl(restated(1, 5)), name)
    for name in (*names, *reversed(names)):
        run(backend, name)
        assert backend.items()[0]["source_object"]["S"].endswith("/b.json")


def test_an_overwritten_object_replaces_the_item(
    backend: Backend,
) -> None:
    drop(backend, jsonl(restated(1, None)))
    drop(backend, jsonl(restated(2, None)))
    assert backend.items()[0]["measurements"]["M"]["utilization"]["M"]["last"]["N"] == "2"


def test_an_older_version_of_the_object_that_finishes_last_does_not_win(backend: Backend) -> None:
    """For example, a collector's retry overwrites the object while it is processed."""
    interleaved: list[ProcessingSummary] = []

    def time_left() -> float:
        if not interleaved:
            interleaved.append(drop(backend, jsonl(restated(2, 10))))
        return math.inf

    def handle(event: Mapping[str, Any]) -> None:
        process_event(
            event, settings=SETTINGS, store=backend.store, time_left=time_left, invoke=handle
        )

    backend.s3.put_object(Bucket=BUCKET, Key=KEY, Body=jsonl(restated(1, 5)))
    handle(s3_event(KEY))
    (line,) = processed(backend)
    assert line["value_last"] == 2


def test_the_later_of_two_new_versions_written_concurrently_wins(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The later object is stored after the older one's read and before its write."""
    interleaved: list[ProcessingSummary] = []
    for name in ("put_items", "put_later"):
        write = getattr(backend.store, name)

        def interleave(items: list[Any], write: Callable[..., Any] = write) -> Any:
            if items and not interleaved:
                interleaved.append(ProcessingSummary(""))  # the nested call writes as well
                drop(backend, jsonl(restated(2, 10)), "raw-metrics/later.json")
            return write(items)

        monkeypatch.setattr(backend.store, name, interleave)
    drop(backend, jsonl(restated(1, 5)), "raw-metrics/older.json")
    (item,) = backend.items()
    assert item["source_object"]["S"].endswith("/later.json")


def test_the_record_collected_last_wins_within_an_object(backend: Backend) -> None:
    drop(backend, jsonl(restated(2, 10), restated(1, 5)))
    assert backend.items()[0]["measurements"]["M"]["utilization"]["M"]["last"]["N"] == "2"


def test_an_item_without_a_version_is_replaced(backend: Backend) -> None:
    drop(backend, jsonl(restated(1, 10)), "raw-metrics/old.json")
    (item,) = backend.items()
    del item["version"]
    backend.dynamodb.put_item(TableName="InfraMetrics", Item=item)
    drop(backend, jsonl(restated(2, 5)), "raw-metrics/new.json")
    assert backend.items()[0]["version"]


def test_all_batches_of_an_object_are_stored(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "MAX_BATCH_ENTRIES", 40)
    many = [make_record(resource_id=f"host-{number}") for number in range(130)]
    summary = drop(backend, jsonl(*many))
    assert (summary.records, summary.processed_objects) == (130, 4)
    assert len(backend.items()) == len(processed(backend)) == 130


def test_a_batch_writes_at_most_max_batch_days_objects(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "MAX_BATCH_DAYS", 3)
    drop(backend, jsonl(*(make_record(timestamp=WINDOW_END - timedelta(days=n)) for n in range(7))))
    numbers = Counter(key.removesuffix(".json.gz")[-5:] for key in backend.keys("processed/"))
    assert numbers == {"00000": 3, "00001": 3, "00002": 1}


def test_a_missing_object_is_reported_and_not_retried(backend: Backend) -> None:
    assert run(backend).status == "MISSING"


def process_during(backend: Backend, change: Callable[[], object]) -> ProcessingSummary:
    """Process an object and apply a change after it is read, before anything is stored."""
    backend.s3.put_object(Bucket=BUCKET, Key=KEY, Body=jsonl(make_record()))

    def now() -> datetime:
        change()
        return WINDOW_END

    raw_object = RawObjectEvent.from_event(s3_event(KEY))
    return process(raw_object, settings=SETTINGS, store=backend.store, now=now)


def test_an_object_replaced_during_processing_is_read_again(backend: Backend) -> None:
    put = partial(backend.s3.put_object, Bucket=BUCKET, Key=KEY, Body=b"[]")
    summary = process_during(backend, put)
    assert (summary.status, summary.checkpoint) == (
        "REPLACED",
        RawObjectEvent.from_event(s3_event(KEY)).checkpoint,
    )


def test_an_object_deleted_during_processing_is_not_read_again(backend: Backend) -> None:
    summary = process_during(backend, partial(backend.s3.delete_object, Bucket=BUCKET, Key=KEY))
    assert (summary.status, summary.records, summary.checkpoint) == ("PROCESSED", 1, None)


def test_a_table_error_is_raised_so_that_lambda_retries(backend: Backend) -> None:
    backend.dynamodb.delete_table(TableName="InfraMetrics")
    with pytest.raises(StorageError, match="ResourceNotFoundException"):
        drop(backend, jsonl(make_record()))


def test_a_record_without_a_window_is_not_compared_with_itself(backend: Backend) -> None:
    drop(backend, jsonl(make_record(window_seconds=0)))
    run(backend)
    (item,) = backend.items()
    assert item["change"] == {"M": {}}


def test_a_large_invalid_object_is_quarantined_in_objects_of_a_few_megabytes(
    backend: Backend,
) -> None:
    junk = b"x" * 20_000_000
    drop(backend, junk)
    parts = backend.keys("quarantine/")
    assert len(parts) >= 4
    assert b"".join(bad["original"].encode() for bad in quarantined(backend)) == junk
