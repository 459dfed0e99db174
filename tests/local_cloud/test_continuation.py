"""An object that takes longer than one invocation: read on by the next, each piece once."""

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
from chalicelib.process import batching as batches
from chalicelib.process import processor
from chalicelib.process.parsing import Position
from chalicelib.process.processor import Arrival, process_event
from tests.conftest import (
    BUCKET,
    SETTINGS,
    Backend,
    RunningCloud,
    make_record,
    start_cloud,
    stop_cloud,
)
from tests.contract.process.test_processor import (
    KEY,
    processed_lines,
    quarantined,
    s3_event,
)

Event = Mapping[str, Any]
Eventually = Callable[..., Any]


def lines_of(count: int) -> list[bytes]:
    """Records, every tenth of them broken, with blanks between them."""
    return [
        b'{"broken": %d' % number
        if number % 10 == 3
        else records.encode(make_record(resource_id=f"host-{number}")) + b" " * (number % 7)
        for number in range(count)
    ]


def array_of(count: int) -> bytes:
    elements = [line + b"}" if b"broken" in line else line for line in lines_of(count)]
    return b"\n [\n" + b",\n\n ".join(elements) + b"\n] behind it"


FORMS: dict[str, Callable[[int], bytes]] = {
    "lines": lambda count: b"\xef\xbb\xbf\n" + b"\r\n\n".join(lines_of(count)),
    "array": array_of,
    "gzipped lines": lambda count: gzip.compress(b"\n".join(lines_of(count)), mtime=0),
    "gzipped array": lambda count: gzip.compress(array_of(count), mtime=0),
    "cut gzip": lambda count: gzip.compress(b"\n".join(lines_of(count)), mtime=0)[:-30],
    "long lines": lambda count: (b"x" * 2_500_000 + b"\n").join(lines_of(count // 20)),
    "broken array": lambda count: b"[" + b",".join(lines_of(3)) + b',{"a":' + b"y" * 30_000 * count,
}


def run_through(backend: Backend, looks: Iterator[int]) -> list[dict[str, Any]]:
    """Every invocation of an object, each started by the one before; what each of them says.

    The time of an invocation is over when it has looked at the clock so many times.
    """
    events: list[Event] = [s3_event(KEY)]
    answers = []
    while events:
        clock = chain([30.0], repeat(25.0, next(looks)), repeat(9.0))
        answers.append(
            process_event(
                json.loads(json.dumps(events.pop())),  # as it travels
                settings=SETTINGS,
                store=backend.store,
                time_left=partial(next, clock),
                invoke=events.append,
            ).fields()
        )
    return answers


def what_is_stored(backend: Backend) -> list[Any]:
    """All that was made of the object, but for the moment of processing, in a fixed order."""
    moment = ("processed_at",)
    lines = [
        {name: value for name, value in line.items() if name not in moment}
        for line in processed_lines(backend)
    ]
    items = [
        {name: value for name, value in item.items() if name not in moment}
        for item in sorted(backend.items(), key=lambda item: str(item["metric_id"]))
    ]
    return [items, lines, quarantined(backend), backend.keys("processed/")]


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "BATCH", 20)
    monkeypatch.setattr(batches, "BATCH_BYTES", 600_000)


@pytest.mark.usefixtures("small_batches")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", [1, 2])
def test_wherever_time_runs_out_the_result_is_that_of_one_go(
    form: str, seed: int, backend: Backend
) -> None:
    backend.s3.put_object(Bucket=BUCKET, Key=KEY, Body=FORMS[form](200))
    run_through(backend, repeat(10**9))
    whole = what_is_stored(backend)
    for kind in ("processed/", "quarantine/"):
        for key in backend.keys(kind):
            backend.s3.delete_object(Bucket=BUCKET, Key=key)
    chance = random.Random(seed)
    answers = run_through(backend, iter(lambda: chance.randint(5, 20), None))
    assert len(answers) > 2, "time never ran out"
    assert [each["status"] for each in answers] == ["CONTINUED"] * (len(answers) - 1) + [
        "PROCESSED"
    ]
    assert what_is_stored(backend) == whole
    assert answers[-1]["records_so_far"] == sum(each["records"] for each in answers)


def test_a_retry_that_is_cut_elsewhere_leaves_the_same_objects(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lambda may run an invocation again whose next one is under way already."""
    monkeypatch.setattr(batches, "BATCH", 20)
    backend.s3.put_object(Bucket=BUCKET, Key=KEY, Body=FORMS["lines"](300))
    run_through(backend, repeat(10**9))
    whole = what_is_stored(backend)
    run_through(backend, repeat(7))
    run_through(backend, repeat(12))
    assert what_is_stored(backend) == whole


def cut_after(backend: Backend, looks: int, event: Event | None = None) -> list[Event]:
    """The events that an invocation starts whose time is over after so many looks."""
    started: list[Event] = []
    clock = chain([30.0], repeat(25.0, looks), repeat(9.0))
    process_event(
        event or s3_event(KEY),
        settings=SETTINGS,
        store=backend.store,
        time_left=partial(next, clock),
        invoke=started.append,
    )
    return started


def resumed_at(event: Event) -> dict[str, Any]:
    position: dict[str, Any] = event["detail"]["resume"]["position"]
    return position


@pytest.mark.usefixtures("small_batches")
def test_an_object_that_was_replaced_is_read_from_its_start_by_the_next_invocation(
    backend: Backend,
) -> None:
    backend.s3.put_object(Bucket=BUCKET, Key=KEY, Body=FORMS["lines"](100))
    (event,) = cut_after(backend, 5)
    backend.s3.put_object(Bucket=BUCKET, Key=KEY, Body=FORMS["lines"](101))
    tally = processor.process(Arrival.from_event(event), settings=SETTINGS, store=backend.store)
    assert (tally.status, tally.records) == ("REPLACED", 0)
    assert tally.mark == Arrival.from_event(s3_event(KEY)).mark


@pytest.mark.usefixtures("small_batches")
def test_an_object_that_was_deleted_meanwhile_is_missing(backend: Backend) -> None:
    backend.s3.put_object(Bucket=BUCKET, Key=KEY, Body=FORMS["lines"](100))
    (event,) = cut_after(backend, 5)
    backend.s3.delete_object(Bucket=BUCKET, Key=KEY)
    tally = processor.process(Arrival.from_event(event), settings=SETTINGS, store=backend.store)
    assert tally.status == "MISSING"


@pytest.mark.usefixtures("small_batches")
def test_what_cannot_be_reached_in_one_invocation_is_quarantined_by_reference(
    backend: Backend,
) -> None:
    """Unpacking as far as the last one came takes the whole time: there is no progress."""
    some = b"\n".join(lines_of(20)) + b"\n"
    body = gzip.compress(some + b"\n" * 1_500_000 + some + some)
    backend.s3.put_object(Bucket=BUCKET, Key=KEY, Body=body)
    started = (cut_after(backend, looks)[0] for looks in range(10, 100))
    event = next(each for each in started if resumed_at(each)["offset"] > 1_500_000)
    assert cut_after(backend, 3, event) == []
    last = quarantined(backend)[-1]
    assert "from its start each time, so unpack it" in last["reason"]
    assert last["unread_from_byte"] == resumed_at(event)["offset"]
    assert last["line"] == resumed_at(event)["line"] > 1_500_000


@pytest.mark.usefixtures("small_batches")
def test_continuations_come_to_an_end(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "MAX_CONTINUATIONS", 2)
    backend.s3.put_object(Bucket=BUCKET, Key=KEY, Body=FORMS["lines"](300))
    answers = run_through(backend, repeat(7))
    assert [each["status"] for each in answers] == ["CONTINUED", "CONTINUED", "GIVEN_UP"]
    assert "2 continuations were not enough" in quarantined(backend)[-1]["reason"]


def test_a_batch_that_took_long_is_not_begun_again_without_time_for_it(backend: Backend) -> None:
    """The first one took 12 s: another one may not fit into 18."""
    many = b"\n".join(records.encode(make_record(resource_id=f"h{n}")) for n in range(1_200))
    backend.s3.put_object(Bucket=BUCKET, Key=KEY, Body=many)
    clock = chain([30.0], repeat(18.0))
    tally = processor.process(
        Arrival.from_event(s3_event(KEY)),
        settings=SETTINGS,
        store=backend.store,
        time_left=partial(next, clock),
    )
    assert (tally.status, tally.records) == ("CONTINUED", 500)


# --- In the local cloud ------------------------------------------------------------------


@pytest.fixture(scope="module")
def hasty_cloud() -> Iterator[RunningCloud]:
    """A cloud whose processor has six seconds instead of thirty."""
    running = start_cloud("--no-tick")
    running.client("lambda").update_function_configuration(FunctionName="log-processor", Timeout=6)
    yield running
    stop_cloud(running)


@pytest.mark.timeout(600)  # what is slow here is moto
@pytest.mark.parametrize("form", ["lines", "gzip"])
def test_a_function_that_has_no_time_goes_on_in_its_next_invocations(
    form: str, hasty_cloud: RunningCloud, eventually: Eventually
) -> None:
    for count in (4_000, 12_000, 36_000):  # as many as take this machine more than one
        before = item_count(hasty_cloud)
        key = put_records(hasty_cloud, form, count)
        eventually(lambda key=key: "PROCESSED" in statuses(hasty_cloud, key), seconds=500)
        told = tallies(hasty_cloud, key)
        if len(told) > 1:
            break
    assert len(told) > 1, "no continuation was needed"
    last = max(told, key=lambda each: int(each["continuation"]))
    assert (last["status"], last["records_so_far"]) == ("PROCESSED", count)
    stored = [line for line in history(hasty_cloud) if line["source_object"].endswith(key)]
    assert len(stored) == len({line["metric_id"] for line in stored}) == count
    assert item_count(hasty_cloud) - before == count


def item_count(cloud: RunningCloud) -> int:
    described = cloud.client("dynamodb").describe_table(TableName="InfraMetrics")
    return int(described["Table"]["ItemCount"])


def put_records(cloud: RunningCloud, form: str, count: int) -> str:
    """An object of so many records of now; its key."""
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


def test_a_continuation_that_fails_is_a_dead_letter_with_its_mark(
    hasty_cloud: RunningCloud, eventually: Eventually
) -> None:
    """The table is gone; what is needed to go on by hand is in the letter."""
    lambda_, s3 = hasty_cloud.client("lambda"), hasty_cloud.client("s3")
    config = lambda_.get_function_event_invoke_config(FunctionName="log-processor")
    lambda_.delete_function_event_invoke_config(FunctionName="log-processor")
    lambda_.put_function_event_invoke_config(
        FunctionName="log-processor",
        MaximumRetryAttempts=0,  # the waits between retries are minutes
        DestinationConfig=config["DestinationConfig"],
    )
    table = hasty_cloud.client("dynamodb")
    table.update_table(TableName="InfraMetrics", DeletionProtectionEnabled=False)
    table.delete_table(TableName="InfraMetrics")
    line = records.encode(make_record(timestamp=datetime.now(UTC)))
    etag = s3.put_object(Bucket=BUCKET, Key=KEY, Body=line + b"\n" + line)["ETag"]
    position = Position(form="lines", offset=len(line) + 1, line=2)
    mark = msgspec.to_builtins(processor.Mark(etag=etag, position=position, batch=1))
    event = s3_event(KEY)
    event["detail"]["resume"] = mark
    envelope = {"version": "0", "id": "1", "time": "2026-11-22T18:00:00Z", "resources": []}
    envelope |= {"source": "aws.s3", "detail-type": "Object Created"}
    lambda_.invoke(
        FunctionName="log-processor",
        InvocationType="Event",
        Payload=json.dumps(envelope | event),
    )
    # The object's own event fails too, and has no mark.
    letters = eventually(lambda: [each for each in dead_letters(hasty_cloud) if "resume" in each])
    assert letters[0]["resume"] == mark


def dead_letters(cloud: RunningCloud) -> list[dict[str, Any]]:
    """The details of the events in the dead-letter queue, which this empties."""
    sqs = cloud.client("sqs")
    (url,) = sqs.list_queues(QueueNamePrefix="InfraMonitoring-DeadLetters")["QueueUrls"]
    messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    return [json.loads(each["Body"])["requestPayload"]["detail"] for each in messages]


def statuses(cloud: RunningCloud, key: str) -> list[str]:
    return [each["status"] for each in tallies(cloud, key)]


def tallies(cloud: RunningCloud, key: str) -> list[dict[str, Any]]:
    """The summary lines of an object in the function's log."""
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
