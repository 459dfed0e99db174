"""Parsing of objects in each supported form, and of invalid objects."""

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.model import records
from chalicelib.model.records import Record
from chalicelib.process.parsing import MAX_ENTRY_BYTES, RejectedEntry, parse
from tests.conftest import make_record

ONE = records.encode(make_record(resource_id="one"))
TWO = records.encode(make_record(resource_id="two"))
PRETTY = json.dumps(json.loads(ONE), indent=2).encode()


def parsed(data: bytes, size: int = 65_536) -> list[Record | RejectedEntry]:
    return list(parse(data[start : start + size] for start in range(0, len(data), size)))


def outline(data: bytes, size: int = 65_536) -> list[Any]:
    """Host names of records, and (line, original) of rejected entries."""
    return [
        each.resource_id if isinstance(each, Record) else (each.line, each.original)
        for each in parsed(data, size)
    ]


@pytest.mark.parametrize(
    "data",
    [
        ONE + b"\n" + TWO,
        ONE + b"\r\n\r\n  " + TWO + b"\n\n",
        b"[" + ONE + b"," + TWO + b"]",
        b" \n[\n" + ONE + b" ,\n" + PRETTY.replace(b'"one"', b'"two"') + b"\n]\n",
        b"\xef\xbb\xbf" + ONE + b"\n" + TWO,
        b"\xef\xbb\xbf[" + ONE + b"," + TWO + b"]",
    ],
)
@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize("size", [1, 7, 65_536])
def test_lines_and_arrays_are_parsed_plain_and_gzipped(
    data: bytes, compress: Any, size: int
) -> None:
    assert outline(compress(data), size) == ["one", "two"]


@pytest.mark.parametrize("data", [ONE, PRETTY, b"\n" + PRETTY + b"\n", b"[" + PRETTY + b"]"])
def test_a_single_document_is_parsed_in_any_layout(data: bytes) -> None:
    assert outline(data) == ["one"]


def test_a_gzip_of_several_members_is_one_object() -> None:
    assert outline(gzip.compress(ONE + b"\n") + gzip.compress(TWO)) == ["one", "two"]


@pytest.mark.parametrize("data", [b"", b"\n\n", b"[]", b" [ ] ", gzip.compress(b"", mtime=0)])
def test_an_empty_object_has_no_entries(data: bytes) -> None:
    assert outline(data) == []


def test_only_the_broken_line_is_rejected() -> None:
    data = ONE + b"\n{broken\n\n" + TWO + b"\n" + TWO[:-5]
    assert outline(data) == ["one", (2, b"{broken"), "two", (5, TWO[:-5])]


def test_only_the_broken_first_line_is_rejected() -> None:
    assert outline(b"{broken\n" + ONE) == [(1, b"{broken"), "one"]


def test_only_the_invalid_element_is_rejected() -> None:
    data = b"[" + ONE + b',\n{"resource_id": "\xff"},\n' + TWO + b"]"
    assert outline(data) == ["one", (2, b'{"resource_id": "\xff"}'), "two"]


def test_elements_before_a_truncated_one_are_kept() -> None:
    assert outline(b"[" + ONE + b",\n" + TWO[:30]) == ["one", (2, TWO[:30])]


def test_an_unclosed_array_is_reported() -> None:
    assert parsed(b"[" + ONE) == [
        make_record(resource_id="one"),
        RejectedEntry(1, "the array is not closed", b""),
    ]


def test_bytes_after_an_array_are_rejected() -> None:
    assert outline(b"[" + ONE + b"]\n" + TWO) == ["one", (2, TWO)]


def test_records_before_the_end_of_truncated_gzip_data_are_kept() -> None:
    lines = b"".join(
        records.encode(make_record(resource_id=f"host-{n}")) + b"\n" for n in range(500)
    )
    found = parsed(gzip.compress(lines)[:-200])
    *good, last = found
    assert len(good) > 100
    assert all(isinstance(each, Record) for each in good)
    assert isinstance(last, RejectedEntry)
    assert last.reason.startswith("truncated gzip data")


def test_corrupt_gzip_data_is_reported() -> None:
    data = bytearray(gzip.compress(ONE + b"\n" + TWO))
    data[40] ^= 0xFF
    *_, last = parsed(bytes(data))
    assert isinstance(last, RejectedEntry)
    assert "gzip" in last.reason or "JSON" in last.reason


def test_an_overlong_line_is_rejected_in_several_entries() -> None:
    long = b"x" * (3 * MAX_ENTRY_BYTES)
    entries = parsed(long + b"\n" + ONE)
    assert b"".join(each.original for each in entries if isinstance(each, RejectedEntry)) == long
    assert isinstance(entries[-1], Record)


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"1e999", b"-1", b'"42"', b"true"])
def test_an_invalid_number_is_rejected(value: bytes) -> None:
    (rejected,) = parsed(ONE.replace(b'"last":42.0', b'"last":' + value))
    assert isinstance(rejected, RejectedEntry)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_the_parser_never_raises(data: bytes, size: int) -> None:
    parsed(data, size)


@given(
    st.lists(st.sampled_from([ONE, TWO, b"{broken", b"", b'{"a": 1}', b"\xff"]), max_size=6),
    st.integers(1, 400),
)
def test_entries_do_not_depend_on_the_block_size(lines: list[bytes], size: int) -> None:
    data = b"\n".join(lines)
    assert outline(data, size) == outline(data)


@given(st.lists(st.sampled_from([ONE, TWO, b"{broken", b'{"a": 1}', b"\xff"]), max_size=6))
def test_every_line_is_a_record_or_rejected(lines: list[bytes]) -> None:
    assert len(parsed(b"\n".join(lines))) == len(lines)


@pytest.mark.parametrize(
    "invalid",
    [b"1" * 5_000, b"[" * 3_000 + b"]" * 3_000, b"{broken}", b'"text, ] }"', b"nonsense", b"-"],
    ids=["huge integer", "deep nesting", "not JSON", "string", "word", "sign"],
)
@pytest.mark.parametrize("size", [1_000, 65_536])
def test_only_the_invalid_element_of_an_array_is_rejected(invalid: bytes, size: int) -> None:
    assert outline(b"[" + ONE + b"," + invalid + b"," + TWO + b"]", size) == [
        "one",
        (1, invalid),
        "two",
    ]


def test_brackets_and_quotes_in_strings_are_ignored() -> None:
    tricky = ONE.replace(b'"one"', rb'"o]}\\\"{[ne"')
    (record,) = parsed(b"[" + tricky + b"]", 10)
    assert isinstance(record, Record)
    assert record.resource_id == 'o]}\\"{[ne'
