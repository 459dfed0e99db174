"""The processor: every form of object, both orders of writing, repeats, and failures."""

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
from chalicelib.collect.requests import Tick
from chalicelib.model import records
from chalicelib.model.errors import StorageError
from chalicelib.model.records import Record
from chalicelib.process import batching as batches
from chalicelib.process.processor import (
    Arrival,
    Tally,
    process,
    process_event,
)
from tests.conftest import (
    BUCKET,
    SETTINGS,
    WINDOW_END,
    Backend,
    make_record,
    point,
)
from tests.contract.collect.test_collector import EVENT, FixedSource

KEY = "raw-metrics/2026/11/22/drop.json"


def s3_event(key: str) -> dict[str, Any]:
    return {
        "account": "123456789012",
        "region": "eu-west-1",
        "detail": {"bucket": {"name": BUCKET}, "object": {"key": key}},
    }


def run(backend: Backend, key: str = KEY) -> Tally:
    return process(
        Arrival.from_event(s3_event(key)),
        settings=SETTINGS,
        store=backend.store,
        now=lambda: WINDOW_END + timedelta(minutes=5),
    )


def drop(backend: Backend, body: bytes, key: str = KEY) -> Tally:
    backend.s3.put_object(Bucket=BUCKET, Key=key, Body=body)
    return run(backend, key)


def jsonl(*found: Record) -> bytes:
    return b"".join(records.encode(record) + b"\n" for record in found)


def processed_lines(backend: Backend) -> list[dict[str, Any]]:
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


def test_a_record_ends_enriched_in_both_stores(backend: Backend) -> None:
    tally = drop(backend, jsonl(make_record()))
    (item,) = backend.items()
    assert item["status"]["S"] == "ok"
    assert item["source_object"]["S"] == f"s3://{BUCKET}/{KEY}"
    (line,) = processed_lines(backend)
    assert line["metric_id"] == item["metric_id"]["S"]
    assert (tally.records, tally.rejected) == (1, 0)


def test_processed_objects_are_parted_by_day(backend: Backend) -> None:
    days = [make_record(timestamp=WINDOW_END + timedelta(days=day)) for day in (0, 1, 0)]
    drop(backend, jsonl(*days))
    assert [key.split("/")[1] for key in backend.keys("processed/")] == [
        "dt=2026-11-22",
        "dt=2026-11-23",
    ]


def test_bad_lines_go_to_quarantine_and_good_ones_are_stored(backend: Backend) -> None:
    body = jsonl(make_record(resource_id="a")) + b"{broken\n" + jsonl(make_record(resource_id="b"))
    tally = drop(backend, body)
    assert (tally.records, tally.rejected) == (2, 1)
    (bad,) = quarantined(backend)
    assert bad["original"] == "{broken"
    assert bad["line"] == 2
    assert bad["source_object"] == f"s3://{BUCKET}/{KEY}"
    assert "malformed" in bad["reason"]
    assert backend.keys("quarantine/")[0].startswith("quarantine/2026/11/22/")


def test_bytes_that_are_no_text_are_quarantined_as_they_are(backend: Backend) -> None:
    drop(backend, b"\xff\xfe\x00\x01")
    (bad,) = quarantined(backend)
    assert base64.b64decode(bad["original_base64"]) == b"\xff\xfe\x00\x01"


def test_the_same_object_twice_changes_no_count(backend: Backend) -> None:
    body = jsonl(make_record(resource_id="a"), make_record(resource_id="b")) + b"{broken\n"
    drop(backend, body)
    before = (len(backend.items()), len(processed_lines(backend)), len(quarantined(backend)))
    run(backend)
    assert (
        (
            len(backend.items()),
            len(processed_lines(backend)),
            len(quarantined(backend)),
        )
        == before
        == (2, 2, 1)
    )


def test_keys_that_differ_only_in_odd_letters_do_not_overwrite_each_other(
    backend: Backend,
) -> None:
    for number, name in enumerate(["a b", "a+b", "a%20b", "ä/ b", "b"]):
        drop(backend, jsonl(make_record(resource_id=f"h{number}")), f"raw-metrics/{name}.json")
    assert len(backend.keys("processed/")) == 5


@pytest.mark.parametrize("collector_first", [True, False])
def test_whoever_writes_last_the_item_is_enriched(backend: Backend, collector_first: bool) -> None:
    """The collector writes its object and its item side by side, so either may come first."""

    def collector() -> None:
        collect(
            Tick.from_event(EVENT | {"detail": {"metric_type": "cpu"}}),
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


def test_rates_and_change_come_from_the_stored_window_before(backend: Backend) -> None:
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


def test_windows_that_follow_each_other_in_one_object_are_compared(backend: Backend) -> None:
    later = make_record(
        timestamp=WINDOW_END + timedelta(hours=3),
        measurements={"utilization": point("percent", 50)},
    )
    drop(backend, jsonl(make_record(), later))
    changes = sorted(str(item["change"]["M"]) for item in backend.items())
    assert changes == ["{'utilization': {'N': '8'}}", "{}"]


def test_one_key_twice_in_an_object_is_one_item(backend: Backend) -> None:
    twice = make_record(measurements={"utilization": point("percent", 99)})
    drop(backend, jsonl(make_record(), twice))
    (item,) = backend.items()
    (line,) = processed_lines(backend)
    assert line["value_last"] == 99.0
    assert item["measurements"]["M"]["utilization"]["M"]["last"]["N"] == "99"


def restated(value: float, minutes: int | None) -> Record:
    """A record of one and the same window, read this long after its end."""
    read_at = None if minutes is None else WINDOW_END + timedelta(minutes=minutes)
    return make_record(collected_at=read_at, measurements={"utilization": point("percent", value)})


@pytest.mark.parametrize("order", list(permutations(("first", "second", "third"))), ids="-".join)
def test_in_whatever_order_objects_come_the_item_is_of_the_record_that_was_read_last(
    backend: Backend, order: tuple[str, ...]
) -> None:
    bodies = {"first": restated(1, 5), "third": restated(3, 185), "second": restated(2, 10)}
    for name in order:
        drop(backend, jsonl(bodies[name]), f"raw-metrics/{name}.json")
    (item,) = backend.items()
    assert item["source_object"]["S"].endswith("/third.json")
    assert item["measurements"]["M"]["utilization"]["M"]["last"]["N"] == "3"


def test_of_records_read_at_one_time_the_order_of_arrival_does_not_decide(
    backend: Backend,
) -> None:
    """S3 keeps whole seconds, so two objects may be stored at one time too."""
    names = ["raw-metrics/a.json", "raw-metrics/b.json"]
    for name in names:
        drop(backend, jsonl(restated(1, 5)), name)
    for name in (*names, *reversed(names)):
        run(backend, name)
        assert backend.items()[0]["source_object"]["S"].endswith("/b.json")


def test_an_object_that_is_stored_anew_with_other_values_replaces_its_item(
    backend: Backend,
) -> None:
    drop(backend, jsonl(restated(1, None)))
    drop(backend, jsonl(restated(2, None)))
    assert backend.items()[0]["measurements"]["M"]["utilization"]["M"]["last"]["N"] == "2"


def test_an_older_object_that_is_done_last_does_not_stay(backend: Backend) -> None:
    """As when a collector's second try replaces the first one's object while it is processed."""
    overtaken: list[Tally] = []

    def time_left() -> float:
        if not overtaken:
            overtaken.append(drop(backend, jsonl(restated(2, 10))))
        return math.inf

    def handle(event: Mapping[str, Any]) -> None:
        process_event(
            event, settings=SETTINGS, store=backend.store, time_left=time_left, invoke=handle
        )

    backend.s3.put_object(Bucket=BUCKET, Key=KEY, Body=jsonl(restated(1, 5)))
    handle(s3_event(KEY))
    (line,) = processed_lines(backend)
    assert line["value_last"] == 2


def test_of_two_new_versions_written_in_one_moment_the_later_stays(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The later object is done just before the older one writes what it has read nothing about."""
    overtaken: list[Tally] = []
    for name in ("put_items", "put_later"):
        write = getattr(backend.store, name)

        def overtake(items: list[Any], write: Callable[..., Any] = write) -> Any:
            if items and not overtaken:
                overtaken.append(Tally(""))  # what follows writes, too
                drop(backend, jsonl(restated(2, 10)), "raw-metrics/later.json")
            return write(items)

        monkeypatch.setattr(backend.store, name, overtake)
    drop(backend, jsonl(restated(1, 5)), "raw-metrics/older.json")
    (item,) = backend.items()
    assert item["source_object"]["S"].endswith("/later.json")


def test_of_one_key_twice_in_an_object_the_record_read_last_counts(backend: Backend) -> None:
    drop(backend, jsonl(restated(2, 10), restated(1, 5)))
    assert backend.items()[0]["measurements"]["M"]["utilization"]["M"]["last"]["N"] == "2"


def test_an_item_of_an_earlier_release_gives_way(backend: Backend) -> None:
    drop(backend, jsonl(restated(1, 10)), "raw-metrics/old.json")
    (item,) = backend.items()
    del item["version"]
    backend.dynamodb.put_item(TableName="InfraMetrics", Item=item)
    drop(backend, jsonl(restated(2, 5)), "raw-metrics/new.json")
    assert backend.items()[0]["version"]


def test_an_object_of_many_batches_is_stored_whole(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "BATCH", 40)
    many = [make_record(resource_id=f"host-{number}") for number in range(130)]
    tally = drop(backend, jsonl(*many))
    assert (tally.records, tally.processed_objects) == (130, 4)
    assert len(backend.items()) == len(processed_lines(backend)) == 130


def test_a_batch_writes_no_more_objects_than_it_may_have_days(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "BATCH_DAYS", 3)
    drop(backend, jsonl(*(make_record(timestamp=WINDOW_END - timedelta(days=n)) for n in range(7))))
    numbers = Counter(key.removesuffix(".json.gz")[-5:] for key in backend.keys("processed/"))
    assert numbers == {"00000": 3, "00001": 3, "00002": 1}


def test_an_object_that_has_gone_is_reported_not_retried(backend: Backend) -> None:
    assert run(backend).status == "MISSING"


def meanwhile(backend: Backend, happens: Callable[[], object]) -> Tally:
    """Process an object while something else happens, before anything of it is stored."""
    backend.s3.put_object(Bucket=BUCKET, Key=KEY, Body=jsonl(make_record()))

    def now() -> datetime:
        happens()
        return WINDOW_END

    arrival = Arrival.from_event(s3_event(KEY))
    return process(arrival, settings=SETTINGS, store=backend.store, now=now)


def test_an_object_that_is_replaced_while_it_is_processed_is_read_again(backend: Backend) -> None:
    put = partial(backend.s3.put_object, Bucket=BUCKET, Key=KEY, Body=b"[]")
    tally = meanwhile(backend, put)
    assert (tally.status, tally.mark) == ("REPLACED", Arrival.from_event(s3_event(KEY)).mark)


def test_an_object_that_is_deleted_while_it_is_processed_is_done_with(backend: Backend) -> None:
    tally = meanwhile(backend, partial(backend.s3.delete_object, Bucket=BUCKET, Key=KEY))
    assert (tally.status, tally.records, tally.mark) == ("PROCESSED", 1, None)


def test_a_table_that_fails_is_raised_for_a_retry(backend: Backend) -> None:
    backend.dynamodb.delete_table(TableName="InfraMetrics")
    with pytest.raises(StorageError, match="ResourceNotFoundException"):
        drop(backend, jsonl(make_record()))


def test_a_record_of_a_moment_is_not_compared_with_itself(backend: Backend) -> None:
    drop(backend, jsonl(make_record(window_seconds=0)))
    run(backend)
    (item,) = backend.items()
    assert item["change"] == {"M": {}}


def test_a_large_bad_object_is_quarantined_in_parts_of_a_few_megabytes(
    backend: Backend,
) -> None:
    junk = b"x" * 20_000_000
    drop(backend, junk)
    parts = backend.keys("quarantine/")
    assert len(parts) >= 4
    assert b"".join(bad["original"].encode() for bad in quarantined(backend)) == junk
