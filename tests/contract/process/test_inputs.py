"""Inputs of `raw-metrics/` through the handler: valid and invalid files, keys, gzip bombs.

Every entry is stored, or quarantined with its reason, line and bytes. The valid records of the
files have the date 2024-06-01; a retention of 20 years makes the tests independent of today's
date.
"""

import base64
import gzip
import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from chalice.local import LambdaContext
from chalice.test import Client
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.model import records
from chalicelib.model.enrichment import enrich
from chalicelib.model.items import enriched_item, largest_item, previous_from_record
from chalicelib.model.metric_types import COUNTERS
from chalicelib.model.records import Record
from chalicelib.process import processed_lines
from chalicelib.process.decompression import MAX_DECOMPRESSED_BYTES
from chalicelib.process.parsing import MAX_ENTRY_BYTES, RejectedEntry, parse
from chalicelib.process.processor import MAX_JUNK_BYTES
from tests.conftest import ACCOUNT, BUCKET, REGION, ROOT, SETTINGS, Backend, make_record
from tests.contract.process.test_processor import drop, jsonl, processed, quarantined
from tests.contract.test_app import app_client

Eventually = Callable[..., Any]

FILES = ROOT / "tests" / "data" / "inputs"
TWENTY_YEARS = "7300"

MALFORMED = "JSON is malformed"
ENDS = "truncated JSON"
# Since 3.14 the recursion limit depends on the free stack, which is enough for this file.
NESTED = "nested too deeply" if sys.version_info < (3, 14) else ENDS
KEPT = "the unread data remains in the source object"
NOT_NEGATIVE = "of at least 0"

# The hosts stored from each file, and the line and reason of each quarantined entry.
EXPECTED: dict[str, tuple[list[str], list[tuple[int, str]]]] = {
    "array-and-more.json": (["good-1", "good-2"], [(2, "after the end of the array")]),
    "array-cut.json": (["good-1", "good-2"], [(4, "array element truncated")]),
    "array-not-closed.json": (["good-1", "good-2"], [(4, "the array is not closed")]),
    "array-with-odd-elements.json": (
        ["good-1", "good-2"],
        [(2, "expected an object, got null"), (3, "got an array"), (4, MALFORMED)],
    ),
    "array-with-vertical-tab.json": (["good-1", "good-2"], [(2, "got an integer")]),
    "blank.json": ([], [(1, "the object is empty")]),
    "bom-inside.json": (["good-1"], [(2, "starts with a byte order mark")]),
    "bom.json": (["good-1", "good-2"], []),
    "carriage-returns.json": (["good-1", "good-2"], []),
    "damaged.json.gz": ([], [(1, "the gzip data is corrupt")]),
    "deep-nesting.json": (["good-1", "good-2"], [(2, NESTED)]),
    "document-cut.json": ([], [(1, ENDS)] + [(line, "got a string") for line in range(2, 11)]),
    "document.json": (["good-1"], []),
    "duplicate-keys.json": (["good-1", "good-2"], []),
    "empty-array.json": ([], []),
    "empty.json": ([], [(1, "the object is empty")]),
    "future.json": (
        ["good-1", "good-2"],
        [
            (2, "timestamp 2199-12-31T00:00:00Z is in the future"),
            (3, "collected_at 2199-12-31T00:00:00Z is in the future"),
            (4, "the year 9999 is not from 1970 to 2199"),
        ],
    ),
    "garbage-behind.json.gz": (["good-1", "good-2"], [(3, KEPT)]),
    "gzip-header-only.json.gz": ([], [(1, "truncated gzip data")]),
    "gzipped.json": (["good-1", "good-2"], []),
    "huge-numbers.json": (
        ["good-1", "good-2"],
        [
            (2, "the number is too large"),
            (3, "the number is too large"),
            (4, "of at most 1e+30"),
            (5, "`measurements[...].breach_seconds`: expected a number of at most 1e+30"),
        ],
    ),
    "invalid-utf-8.json": (["good-1", "good-2"], [(2, "not valid UTF-8")]),
    "lines.txt": (["good-1", "good-2"], []),
    "lone-surrogate.json": (["good-1", "good-2"], [(2, "surrogate pair")]),
    "nan-and-infinity.json": (
        ["good-1", "good-2"],
        [
            (2, "NaN is not a JSON number"),
            (3, "Infinity is not a JSON number"),
            (4, "Infinity is not a"),
        ],
    ),
    "negative-sizes.json": (
        ["good-1", "good-2"],
        [
            (2, f"`measurements[...].last`: expected a number {NOT_NEGATIVE}"),
            (3, f"`measurements[...].samples`: expected an integer {NOT_NEGATIVE}"),
            (4, f"`window_seconds`: expected an integer {NOT_NEGATIVE}"),
        ],
    ),
    "not-records.json": (
        ["good-1", "good-2"],
        [
            (1, "got null"),
            (2, "got an integer"),
            (3, "got a string"),
            (4, "got an array"),
            (5, "missing field `schema_version`"),
            (7, MALFORMED),
        ],
    ),
    "picture.json": ([], [(1, MALFORMED), (2, MALFORMED), (3, MALFORMED)]),
    "plain.json.gz": (["good-1", "good-2"], []),
    "schema-versions.json": (
        ["good-1", "good-2"],
        [
            (2, "`schema_version` 2 is not supported; the version is 1"),
            (3, "`schema_version`: expected an integer, got a string"),
            (4, "missing field `schema_version`"),
        ],
    ),
    "truncated.json": (["good-1", "good-2"], [(3, ENDS)]),
    "truncated.json.gz": (
        [f"good-{number}" for number in range(1, 44)],
        [(44, "truncated gzip data")],
    ),
    "two-on-a-line.json": (["good-1", "good-2"], [(2, "trailing characters")]),
    "utf-16.json": ([], [(1, MALFORMED), (2, MALFORMED)]),
    "wrong-values.json": (
        ["good-1", "good-2"],
        [
            (2, "`metric_type`: unknown value 'gpu'"),
            (3, "`measurements[...].unit`: unknown value 'mb'"),
            (4, "`timestamp`: expected a date and time with a time zone"),
            (5, "`resource_id`: expected a string that is not empty"),
            (6, "`measurements`: expected an object that is not empty"),
            (7, "`measurements[...].last`: expected a number or null, got a string"),
            (8, "`metric_id`: Invalid UUID"),
            (9, "`labels[...]`: expected a string, got an integer"),
        ],
    ),
    "years-back.json": (
        ["good-1", "good-2", "old"],
        [(3, "the year 1969 is not from 1970"), (4, "the year 1 is not from 1970")],
    ),
    "zero-bytes.json": (["good-1", "good-2"], [(2, MALFORMED)]),
}


@pytest.fixture
def handler(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., dict[str, Any]]]:
    """Put an object and invoke the app's handler with its event; return the handler's result."""
    # Chalice's test client allows three seconds; these tests use a single invocation.
    monkeypatch.setattr(
        "chalice.test.LambdaContext", partial(LambdaContext, max_runtime_ms=900_000)
    )
    with app_client(tmp_path, RETENTION_DAYS=TWENTY_YEARS) as client:

        def handle(body: bytes | None, key: str = "raw-metrics/2024/06/01/x.json") -> Any:
            if body is not None:
                backend.s3.put_object(Bucket=BUCKET, Key=key, Body=body)
            return client.lambda_.invoke("log-processor", created(client, key)).payload

        yield handle


def created(client: Client, key: str) -> dict[str, Any]:
    event = client.events.generate_cw_event(
        source="aws.s3",
        detail_type="Object Created",
        detail={"bucket": {"name": BUCKET}, "object": {"key": key}},
        resources=[],
        region=REGION,
    )
    return dict(event)


def original(bad: dict[str, Any]) -> bytes:
    if "original" in bad:
        return str(bad["original"]).encode()
    return base64.b64decode(bad["original_base64"])


def test_every_file_has_an_expectation() -> None:
    assert {path.name for path in FILES.iterdir()} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_each_file_is_stored_or_quarantined(
    name: str, handler: Callable[..., dict[str, Any]], backend: Backend
) -> None:
    stored, rejected = EXPECTED[name]
    summary = handler((FILES / name).read_bytes(), f"raw-metrics/2024/06/01/{name}")
    assert sorted({line["resource_id"] for line in processed(backend)}) == sorted(stored)
    bad = quarantined(backend)
    assert [each["line"] for each in bad] == [line for line, _ in rejected]
    for each, (_, reason) in zip(bad, rejected, strict=True):
        assert reason in each["reason"]
        assert each["source_object"] == f"s3://{BUCKET}/raw-metrics/2024/06/01/{name}"
    assert (summary["status"], summary["records"], summary["rejected"]) == (
        "PROCESSED",
        len(stored),
        len(rejected),
    )


LINES = [name for name in EXPECTED if name.endswith(".json") and "array" not in name]


@pytest.mark.parametrize("name", LINES)
def test_quarantine_keeps_the_bytes_of_each_rejected_line(
    name: str, handler: Callable[..., dict[str, Any]], backend: Backend
) -> None:
    body = (FILES / name).read_bytes()
    handler(body)
    lines = body.split(b"\n")
    for bad in quarantined(backend):
        if "the object is empty" not in bad["reason"]:
            assert original(bad) == lines[bad["line"] - 1]


def test_the_last_of_duplicate_keys_wins(
    handler: Callable[..., dict[str, Any]], backend: Backend
) -> None:
    """As in most JSON libraries; RFC 8259 does not define it."""
    handler((FILES / "duplicate-keys.json").read_bytes())
    values = {line["resource_id"]: line["value_last"] for line in processed(backend)}
    assert values["good-2"] == 2


def test_a_record_older_than_the_retention_is_in_the_history_only(
    handler: Callable[..., dict[str, Any]], backend: Backend
) -> None:
    summary = handler((FILES / "years-back.json").read_bytes())
    assert summary["expired"] == 1
    assert sorted(item["resource_id"]["S"] for item in backend.items()) == ["good-1", "good-2"]
    assert "old" in {line["resource_id"] for line in processed(backend)}


KEYS = [
    "with space.json",
    "with+plus.json",
    "with%20percent%.json",
    "日志/größe-журнал.json",
    "🦉.json",
    "quotes'\"and&=?#.json",
    "back\\slash.json",
    "..",
    "//double//.json",
    "x" * 1_000,
]


@pytest.mark.parametrize("name", KEYS, ids=ascii)
def test_an_object_of_any_key_is_processed(
    name: str, handler: Callable[..., dict[str, Any]], backend: Backend
) -> None:
    key = f"raw-metrics/{name}"
    handler((FILES / "not-records.json").read_bytes(), key)
    assert {item["source_object"]["S"] for item in backend.items()} == {f"s3://{BUCKET}/{key}"}
    assert {bad["source_object"] for bad in quarantined(backend)} == {f"s3://{BUCKET}/{key}"}


def test_a_folder_marker_is_not_rejected(
    handler: Callable[..., dict[str, Any]], backend: Backend
) -> None:
    """The S3 console creates one for each new folder."""
    assert handler(b"", "raw-metrics/2024/")["rejected"] == 0
    assert not backend.keys("quarantine/")


def test_an_object_deleted_before_it_is_read_is_missing(
    handler: Callable[..., dict[str, Any]],
) -> None:
    assert handler(None)["status"] == "MISSING"


@pytest.mark.parametrize(
    "key", ["processed/x.json", "quarantine/x.json", "raw-metrics-2/x.json", "x.json"]
)
def test_an_object_under_another_prefix_is_ignored(
    key: str, handler: Callable[..., dict[str, Any]], backend: Backend
) -> None:
    summary = handler((FILES / "not-records.json").read_bytes(), key)
    assert (summary["status"], summary["records"]) == ("IGNORED", 0)
    assert backend.keys() == [key]


def gzipped(block: bytes, times: int) -> bytes:
    compressed = io.BytesIO()
    with gzip.GzipFile(fileobj=compressed, mode="wb", mtime=0) as file:
        for _ in range(times):
            file.write(block)
    return compressed.getvalue()


def test_a_decompression_bomb_of_junk_is_given_up(
    handler: Callable[..., dict[str, Any]], backend: Backend
) -> None:
    """300 KB that expand to 300 MB."""
    summary = handler(gzipped(bytes(1 << 20), 300))
    last = quarantined(backend)[-1]
    assert summary["status"] == "GIVEN_UP"
    assert "most entries are invalid" in last["reason"]
    assert last["unread_from_byte"] > 0
    kept = sum(len(backend.body(key)) for key in backend.keys("quarantine/"))
    assert kept < 2 * MAX_JUNK_BYTES


def test_a_decompression_bomb_of_blanks_is_given_up(
    handler: Callable[..., dict[str, Any]], backend: Backend
) -> None:
    handler(gzipped(b"\n" * (1 << 20), (MAX_DECOMPRESSED_BYTES >> 20) + 44))
    (bad,) = quarantined(backend)
    assert "the gzip data is a decompression bomb" in bad["reason"]
    assert KEPT in bad["reason"]


def test_valid_records_compress_less_than_a_bomb() -> None:
    """Lines that differ only in a number, as many as in a gzip of real metrics."""
    body = b"\n".join(records.encode(make_record(resource_id=f"h-{n}")) for n in range(20_000))
    assert len(body) / len(gzip.compress(body)) < 50


def test_an_object_of_short_invalid_lines_is_given_up(
    handler: Callable[..., dict[str, Any]], backend: Backend
) -> None:
    """For example, another program's log: each short line would become a quarantine line."""
    summary = handler(b"x\n" * 200_000)
    assert summary["status"] == "GIVEN_UP"
    assert summary["rejected"] < 200_000
    kept = sum(len(backend.body(key)) for key in backend.keys("quarantine/"))
    assert kept < 2 * MAX_JUNK_BYTES


def test_an_object_with_as_many_valid_lines_as_invalid_ones_is_read_to_the_end(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compressed, so that the rejected lines are larger than the object."""
    monkeypatch.setattr("chalicelib.process.processor.MAX_JUNK_BYTES", 0)
    good = jsonl(*(make_record(resource_id=f"h-{n}") for n in range(300)))
    summary = drop(backend, gzip.compress(b"".join(line + b"\nx\n" for line in good.splitlines())))
    assert (summary.status, summary.rejected) == ("PROCESSED", 300)


def wide(count: int) -> bytes:
    """A record of many counters, whose item is many times larger."""
    made = json.loads((FILES / "document.json").read_bytes())
    made["metric_type"] = "network"
    made["measurements"] = {
        f"bytes_sent:{n:x}": {"unit": "bytes", "last": 1e29} for n in range(count)
    }
    return json.dumps(made, separators=(",", ":")).encode()


def test_a_record_too_large_for_an_item_is_quarantined(
    handler: Callable[..., dict[str, Any]], backend: Backend
) -> None:
    assert len(wide(2_000)) < records.MAX_RECORD_BYTES
    handler(wide(2_000) + b"\n" + wide(500))
    (bad,) = quarantined(backend)
    assert "too many measurements or labels for one DynamoDB item" in bad["reason"]
    assert len(backend.items()) == 1


@given(
    st.dictionaries(
        st.sampled_from(sorted(COUNTERS)).flatmap(
            lambda name: st.text(max_size=40).map(lambda part: f"{name}:{part}")
        )
        | st.text(min_size=1, max_size=60),
        st.floats(0, 1e30),
        min_size=1,
        max_size=30,
    ),
    st.dictionaries(st.text(min_size=1, max_size=30), st.text(max_size=60), max_size=5),
    st.text(min_size=1, max_size=512),
)
def test_no_item_is_larger_than_its_estimate(
    values: dict[str, float], labels: dict[str, str], host: str
) -> None:
    measurements = {
        name: records.Measurement(unit="bytes_per_second", last=value, breach_seconds=value)
        for name, value in values.items()
    }
    record = make_record(measurements=measurements, labels=labels, resource_id=host)
    record = record.identified(account_id=ACCOUNT, region=REGION)
    now = datetime.now(UTC)
    before = previous_from_record(make_record(measurements=measurements, timestamp=now))
    enriched = enrich(
        record,
        before,
        settings=SETTINGS,
        source_object="s3://" + "k" * 1_100,
        stored_at=now,
        now=now,
    )
    assert _size({"M": enriched_item(enriched, retention_days=90)}) <= largest_item(record)


def _size(attribute: dict[str, Any]) -> int:
    """Size by DynamoDB's rules: one byte per entry, three per map, two digits per byte."""
    ((kind, value),) = attribute.items()
    match kind:
        case "S":
            return len(value.encode())
        case "N":
            return len(value) // 2 + 2
        case "M":
            return 3 + sum(1 + len(name.encode()) + _size(each) for name, each in value.items())
        case _:
            return 1


# --- No input raises an exception ---------------------------------------------------------


@given(
    st.sampled_from(sorted(path.name for path in FILES.iterdir())),
    st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=8)), max_size=4),
    st.integers(1, 5_000),
)
def test_a_file_with_changed_bytes_never_raises(
    name: str, edits: list[tuple[float, bytes]], size: int
) -> None:
    data = bytearray((FILES / name).read_bytes())
    for fraction, edit in edits:
        at = int(fraction * len(data))
        data[at : at + len(edit)] = edit
    pass_through(bytes(data), size)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(Record.__struct_fields__), _VALUES), st.booleans())
def test_a_record_with_random_values_never_raises(changes: dict[str, Any], array: bool) -> None:
    made = json.loads((FILES / "document.json").read_bytes()) | changes
    body = json.dumps(made).encode()
    pass_through(b"[" + body + b"]" if array else body, 64)


def pass_through(data: bytes, size: int) -> None:
    """Run all steps before the writes."""
    for entry in parse(data[at : at + size] for at in range(0, len(data), size)):
        if isinstance(entry, RejectedEntry):
            assert entry.reason
            assert entry.line >= 1
            continue
        now = datetime.now(UTC)
        enriched = enrich(
            entry.identified(account_id=ACCOUNT, region=REGION),
            None,
            settings=SETTINGS,
            source_object="s3://b/k",
            stored_at=now,
            now=now,
        )
        assert list(processed_lines.lines(enriched))
        assert _size({"M": enriched_item(enriched, retention_days=90)}) <= largest_item(entry)


# --- In constant memory -------------------------------------------------------------------

MEASURE = """
import itertools, resource, sys
from chalicelib.process.parsing import parse
head, block, times = {head!r}, {block}, {times}
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(1 for _ in parse(itertools.chain([head], itertools.repeat(block, times))))
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(count, grown)
"""

# A head, and a block of 256 KB that is repeated.
BLOCKS = {
    "line": (b"", "b'x' * 262144"),
    "zeros": (b"", "b'\\x00' * 262144"),
    "blank lines": (b"", "b'\\n' * 262144"),
    "blanks": (b"[", "b' ' * 262144"),
    "text": (b'["', "b'x' * 262144"),
    "escapes": (b'["', "b'\\\\\\\\' * 131072"),
    "brackets": (b"[", "b'[' * 262144"),
    "objects": (b'{"a":', "b'[{},' * 52429"),
    "owls": (b"", "'\U0001f989'.encode() * 65536"),
}


def parsing_memory(name: str, *, megabytes: int) -> int:
    """Bytes by which a process grows while it parses an input."""
    head, block = BLOCKS[name]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE.format(head=head, block=block, times=4 * megabytes)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return 1024 * int(done.stdout.split()[1])


@pytest.mark.parametrize("name", BLOCKS)
def test_64_megabytes_are_parsed_in_a_few_megabytes(name: str) -> None:
    """A gigabyte of each: tests/scale/test_large_inputs.py."""
    assert parsing_memory(name, megabytes=64) < 16 << 20


def test_an_overlong_line_is_split_at_the_same_bytes_for_any_block_size() -> None:
    data = b"x" * (3 * MAX_ENTRY_BYTES + 5) + b"\n" + b"y" * (MAX_ENTRY_BYTES + 1)
    whole = list(parse([data]))
    assert list(parse(data[at : at + 70_001] for at in range(0, len(data), 70_001))) == whole
