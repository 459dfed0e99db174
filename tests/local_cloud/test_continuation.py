"""Objects that take longer than one invocation: each entry is stored once."""

import gzip
import json
import random
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from itertools import chain, repeat
from typing import Any

import msgspec
import pytest

from chalicelib.model import records
from chalicelib.process import batching, processor
from chalicelib.process.checkpoint import Checkpoint, RawObjectEvent
from chalicelib.process.parsing import Position
from chalicelib.process.processor import process_event
from tests.conftest import (
    BUCKET,
    SETTINGS,
    Backend,
    RunningCloud,
    make_record,
    start_cloud,
    stop_cloud,
)
from tests.contract.process.test_processor import KEY, processed, quarantined, s3_event

Event = Mapping[str, Any]
Eventually = Callable[..., Any]


def lines_of(count: int) -> list[bytes]:
    """Records separated by blanks; every tenth one is invalid."""
    return [
        b'{"broken": %d' % number
        if number % 10 == 3
        else records.encode(make_record(resource_id=f"host-{number}")) + b" " * (number % 7)
        for number in range(count)
    ]


def array_of(count: int) -> bytes:
    elements = [line + b"}" if b"broken" in line else line for line in lines_of(count)]
    return b"\n [\n" + b",\n\n ".join(elements) + b"\n] after it"


FORMS: dict[str, Callable[[int], bytes]] = {
    "lines": lambda count: b"\xef\xbb\xbf\n" + b"\r\n\n".join(lines_of(count)),
    "array": array_of,
    "gzipped lines": lambda count: gzip.compress(b"\n".join(lines_of(count)), mtime=0),
    "gzipped array": lambda count: gzip.compress(array_of(count), mtime=0),
    "truncated gzip": lambda count: gzip.compress(b"\n".join(lines_of(count)), mtime=0)[:-30],
    "long lines": lambda count: (b"x" * 2_500_000 + b"\n").join(lines_of(count // 20)),
    "broken array": lambda count: b"[" + b",".join(lines_of(3)) + b',{"a":' + b"y" * 30_000 * count,
}


def process_all(backend: Backend, checks: Iterator[int]) -> list[dict[str, Any]]:
    """Run all invocations for an object, each started by the previous one; return their summaries.

    Each invocation runs out of time after a number of deadline checks, the next of `checks`.
    """
    events: list[Event] = [s3_event(KEY)]
    summaries = []
    while events:
        clock = chain([30.0], repeat(25.0, next(checks)), repeat(9.0))
        summaries.append(
            process_event(
                json.loads(json.dumps(events.pop())),
                settings=SETTINGS,
                store=backend.store,
                time_left=partial(next, clock),
                invoke=events.append,
            ).fields()
        )
    return summaries


def stored_state(backend: Backend) -> list[Any]:
    """Everything stored for the object except processing times, in a fixed order."""
    lines = [
        {name: value for name, value in line.items() if name != "processed_at"}
        for line in processed(backend)
    ]
    items = [
        {name: value for name, value in item.items() if name != "processed_at"}
        for item in sorted(backend.items(), key=lambda item: str(item["metric_id"]))
    ]
    return [items, lines, quarantined(backend), backend.keys("processed/")]


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "MAX_BATCH_ENTRIES", 20)
    monkeypatch.setattr(batching, "MAX_BATCH_BYTES", 600_000)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", [1, 2])
def test_the_result_does_not_depend_on_where_time_runs_out(
    form: str, seed: int, backend: Backend
) -> None:
    backend.s3.put_object(Bucket=BUCKET, Key=KEY, Body=FORMS[form](200))
    process_all(backend, repeat(10**9))
    whole = stored_state(backend)
    for kind in ("processed/", "quarantine/"):
        for key in backend.keys(kind):
            backend.s3.delete_object(Bucket=BUCKET, Key=key)
    generator = random.Random(seed)
    summaries = process_all(backend, iter(lambda: generator.randint(5, 20), None))
    assert len(summaries) > 2, "time never ran out"
    assert [each["status"] for each in summaries] == ["CONTINUED"] * (len(summaries) - 1) + [
        "PROCESSED"
    ]
    assert stored_state(backend) == whole
    assert summaries[-1]["records_so_far"] == sum(each["records"] for each in summaries)


def test_a_retry_that_stops_elsewhere_writes_the_same_objects(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lambda can retry an invocation whose continuation has already started."""
    monkeypatch.setattr(batching, "MAX_BATCH_ENTRIES", 20)
    backend.s3.put_object(Bucket=BUCKET, Key=KEY, Body=FORMS["lines"](300))
    process_all(backend, repeat(10**9))
    whole = stored_state(backend)
    process_all(backend, repeat(7))
    process_all(backend, repeat(12))
    assert stored_state(backend) == whole


def stop_after(backend: Backend, checks: int, event: Event | None = None) -> list[Event]:
    """The events started by an invocation that runs out of time after some deadline checks."""
    started: list[Event] = []
    clock = chain([30.0], repeat(25.0, checks), repeat(9.0))
    process_event(
        event or s3_event(KEY),
        settings=SETTINGS,
        store=backend.store,
        time_left=partial(next, clock),
        invoke=started.append,
    )
    return started


def resume_position(event: Event) -> dict[str, Any]:
    position: dict[str, Any] = event["detail"]["resume"]["position"]
    return position


@pytest.mark.usefixtures("small_batches")
def test_a_replaced_object_is_read_from_its_start_by_the_next_invocation(
    backend: Backend,
) -> None:
    backend.s3.put_object(Bucket=BUCKET, Key=KEY, Body=FORMS["lines"](100))
    (event,) = stop_after(backend, 5)
    backend.s3.put_object(Bucket=BUCKET, Key=KEY, Body=FORMS["lines"](101))
    summary = processor.process(
        RawObjectEvent.from_event(event), settings=SETTINGS, store=backend.store
    )
    assert (summary.status, summary.records) == ("REPLACED", 0)
    assert summary.checkpoint == RawObjectEvent.from_event(s3_event(KEY)).checkpoint


@pytest.mark.usefixtures("small_batches")
def test_an_object_deleted_between_invocations_is_missing(backend: Backend) -> None:
    backend.s3.put_object(Bucket=BUCKET, Key=KEY, Body=FORMS["lines"](100))
    (event,) = stop_after(backend, 5)
    backend.s3.delete_object(Bucket=BUCKET, Key=KEY)
    summary = processor.process(
        RawObjectEvent.from_event(event), settings=SETTINGS, store=backend.store
    )
    assert summary.status == "MISSING"


@pytest.mark.usefixtures("small_batches")
def test_a_gzip_object_is_given_up_when_an_invocation_makes_no_progress(
    backend: Backend,
) -> None:
    """Decompressing the part already processed takes all the time of an invocation."""
    some = b"\n".join(lines_of(20)) + b"\n"
    body = gzip.compress(some + b"\n" * 1_500_000 + some + some)
    backend.s3.put_object(Bucket=BUCKET, Key=KEY, Body=body)
    started = (stop_after(backend, checks)[0] for checks in range(10, 100))
    event = next(each for each in started if resume_position(each)["offset"] > 1_500_000)
    assert stop_after(backend, 3, event) == []
    last = quarantined(backend)[-1]
    assert "from its start each time, so decompress it" in last["reason"]
    assert last["unread_from_byte"] == resume_position(event)["offset"]
    assert last["line"] == resume_position(event)["line"] > 1_500_000


@pytest.mark.usefixtures("small_batches")
def test_the_number_of_continuations_is_limited(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processor, "MAX_CONTINUATIONS", 2)
    backend.s3.put_object(Bucket=BUCKET, Key=KEY, Body=FORMS["lines"](300))
    summaries = process_all(backend, repeat(7))
    assert [each["status"] for each in summaries] == ["CONTINUED", "CONTINUED", "GIVEN_UP"]
    assert "2 continuations were not enough" in quarantined(backend)[-1]["reason"]


def test_no_batch_starts_without_time_for_twice_the_longest_one(backend: Backend) -> None:
    """The first batch took 12 s, and 18 s are left."""
    many = b"\n".join(records.encode(make_record(resource_id=f"h{n}")) for n in range(1_200))
    backend.s3.put_object(Bucket=BUCKET, Key=KEY, Body=many)
    clock = chain([30.0], repeat(18.0))
    summary = processor.process(
        RawObjectEvent.from_event(s3_event(KEY)),
        settings=SETTINGS,
        store=backend.store,
        time_left=partial(next, clock),
    )
    assert (summary.status, summary.records) == ("CONTINUED", 500)


# --- In the local cloud ------------------------------------------------------------------


@pytest.fixture(scope="module")
def short_timeout_cloud() -> Iterator[RunningCloud]:
    """A local cloud with a processor timeout of 6 s instead of 30 s."""
    running = start_cloud("--no-tick")
    running.client("lambda").update_function_configuration(FunctionName="log-processor", Timeout=6)
    yield running
    stop_cloud(running)


@pytest.mark.parametrize("form", ["lines", "gzip"])
def test_a_function_that_runs_out_of_time_continues_in_further_invocations(
    form: str, short_timeout_cloud: RunningCloud, eventually: Eventually
) -> None:
    for count in (4_000, 12_000, 36_000):  # until more than one invocation is needed
        before = item_count(short_timeout_cloud)
        key = put_records(short_timeout_cloud, form, count)
        eventually(lambda key=key: "PROCESSED" in statuses(short_timeout_cloud, key))
        found = summaries(short_timeout_cloud, key)
        if len(found) > 1:
            break
    assert len(found) > 1, "no continuation was needed"
    last = max(found, key=lambda each: int(each["continuation"]))
    assert (last["status"], last["records_so_far"]) == ("PROCESSED", count)
    stored = [line for line in history(short_timeout_cloud) if line["source_object"].endswith(key)]
    assert len(stored) == len({line["metric_id"] for line in stored}) == count
    assert item_count(short_timeout_cloud) - before == count


def item_count(cloud: RunningCloud) -> int:
    described = cloud.client("dynamodb").describe_table(TableName="InfraMetrics")
    return int(described["Table"]["ItemCount"])


def put_records(cloud: RunningCloud, form: str, count: int) -> str:
    """Put an object of `count` current records; return its key."""
    now = datetime.now(UTC)
    made = [
        records.encode(make_record(resource_id=f"{form}-{count}-{n}", timestamp=now))
        for n in range(count)
    ]
    body = b"\n".join(made)
    key = f"raw-metrics/big {form} {count}.json"
    cloud.client("s3").put_object(
        Bucket=BUCKET, Key=key, Body=gzip.compress(body) if form == "gzip" else body
    )
    return key


def test_a_failed_continuation_is_a_dead_letter_with_its_checkpoint(
    short_timeout_cloud: RunningCloud, eventually: Eventually
) -> None:
    """The table is deleted; the dead letter contains the checkpoint to resume from."""
    lambda_, s3 = short_timeout_cloud.client("lambda"), short_timeout_cloud.client("s3")
    config = lambda_.get_function_event_invoke_config(FunctionName="log-processor")
    lambda_.delete_function_event_invoke_config(FunctionName="log-processor")
    lambda_.put_function_event_invoke_config(
        FunctionName="log-processor",
        MaximumRetryAttempts=0,  # the waits between retries are minutes
        DestinationConfig=config["DestinationConfig"],
    )
    table = short_timeout_cloud.client("dynamodb")
    table.update_table(TableName="InfraMetrics", DeletionProtectionEnabled=False)
    table.delete_table(TableName="InfraMetrics")
    line = records.encode(make_record(timestamp=datetime.now(UTC)))
    etag = s3.put_object(Bucket=BUCKET, Key=KEY, Body=line + b"\n" + line)["ETag"]
    position = Position(form="lines", offset=len(line) + 1, line=2)
    checkpoint = msgspec.to_builtins(Checkpoint(etag=etag, position=position, batch=1))
    event = s3_event(KEY)
    event["detail"]["resume"] = checkpoint
    envelope = {"version": "0", "id": "1", "time": "2026-11-22T18:00:00Z", "resources": []}
    envelope |= {"source": "aws.s3", "detail-type": "Object Created"}
    lambda_.invoke(
        FunctionName="log-processor",
        InvocationType="Event",
        Payload=json.dumps(envelope | event),
    )
    # The event of the object itself fails too, without a checkpoint.
    details = eventually(
        lambda: [each for each in dead_letters(short_timeout_cloud) if "resume" in each]
    )
    assert details[0]["resume"] == checkpoint


def dead_letters(cloud: RunningCloud) -> list[dict[str, Any]]:
    """Receive all dead letters; return the details of their events."""
    sqs = cloud.client("sqs")
    (url,) = sqs.list_queues(QueueNamePrefix="InfraMonitoring-DeadLetters")["QueueUrls"]
    messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    return [json.loads(each["Body"])["requestPayload"]["detail"] for each in messages]


def statuses(cloud: RunningCloud, key: str) -> list[str]:
    return [each["status"] for each in summaries(cloud, key)]


def summaries(cloud: RunningCloud, key: str) -> list[dict[str, Any]]:
    """The summaries of an object in the function's log."""
    logs = cloud.client("logs")
    group = "/aws/lambda/log-processor"
    try:
        events = logs.filter_log_events(logGroupName=group, limit=10_000)["events"]
    except logs.exceptions.ResourceNotFoundException:
        return []
    found = [
        json.loads(event["message"])
        for event in events
        if '"message":"processed"' in event["message"]
    ]
    return [each for each in found if each["source_object"].endswith(f"/{key}")]


def history(cloud: RunningCloud) -> list[dict[str, Any]]:
    s3 = cloud.client("s3")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="processed/")
    bodies = [
        s3.get_object(Bucket=BUCKET, Key=each["Key"])["Body"].read()
        for page in pages
        for each in page.get("Contents", [])
    ]
    return [json.loads(line) for body in bodies for line in gzip.decompress(body).splitlines()]
