"""Objects of every accepted form, and of none."""

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalicelib.model import records
from chalicelib.model.records import Record
from chalicelib.process.parsing import MAX_RECORD_BYTES, Rejected, parse
from tests.conftest import make_record

ONE = records.encode(make_record(resource_id="one"))
TWO = records.encode(make_record(resource_id="two"))
PRETTY = json.dumps(json.loads(ONE), indent=2).encode()


def parsed(data: bytes, size: int = 65_536) -> list[Record | Rejected]:
    return list(parse(data[start : start + size] for start in range(0, len(data), size)))


def outline(data: bytes, size: int = 65_536) -> list[Any]:
    """Host names of records, and (line, original) of what was rejected."""
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
def test_lines_and_arrays_are_read_plain_and_gzipped(data: bytes, compress: Any, size: int) -> None:
    assert outline(compress(data), size) == ["one", "two"]


@pytest.mark.parametrize("data", [ONE, PRETTY, b"\n" + PRETTY + b"\n", b"[" + PRETTY + b"]"])
def test_one_object_is_read_however_it_is_laid_out(data: bytes) -> None:
    assert outline(data) == ["one"]


def test_gzip_of_several_members_is_one_object() -> None:
    assert outline(gzip.compress(ONE + b"\n") + gzip.compress(TWO)) == ["one", "two"]


@pytest.mark.parametrize("data", [b"", b"\n\n", b"[]", b" [ ] ", gzip.compress(b"", mtime=0)])
def test_nothing_is_in_an_empty_object(data: bytes) -> None:
    assert outline(data) == []


def test_a_broken_line_costs_only_itself() -> None:
    data = ONE + b"\n{broken\n\n" + TWO + b"\n" + TWO[:-5]
    assert outline(data) == ["one", (2, b"{broken"), "two", (5, TWO[:-5])]


def test_a_broken_first_line_costs_only_itself() -> None:
    assert outline(b"{broken\n" + ONE) == [(1, b"{broken"), "one"]


def test_a_bad_element_costs_only_itself() -> None:
    data = b"[" + ONE + b',\n{"resource_id": "\xff"},\n' + TWO + b"]"
    assert outline(data) == ["one", (2, b'{"resource_id": "\xff"}'), "two"]


def test_an_array_that_breaks_keeps_what_came_before() -> None:
    assert outline(b"[" + ONE + b",\n" + TWO[:30]) == ["one", (2, TWO[:30])]


def test_an_array_without_its_end_is_told() -> None:
    assert parsed(b"[" + ONE) == [
        make_record(resource_id="one"),
        Rejected(1, "the array is not closed", b""),
    ]


def test_bytes_behind_an_array_are_not_lost() -> None:
    assert outline(b"[" + ONE + b"]\n" + TWO) == ["one", (2, TWO)]


def test_gzip_cut_short_keeps_what_came_before() -> None:
    lines = b"".join(
        records.encode(make_record(resource_id=f"host-{n}")) + b"\n" for n in range(500)
    )
    found = parsed(gzip.compress(lines)[:-200])
    *good, last = found
    assert len(good) > 100
    assert all(isinstance(each, Record) for each in good)
    assert isinstance(last, Rejected)
    assert last.reason.startswith("the gzip data ends before its end")


def test_damaged_gzip_is_told() -> None:
    data = bytearray(gzip.compress(ONE + b"\n" + TWO))
    data[40] ^= 0xFF
    *_, last = parsed(bytes(data))
    assert isinstance(last, Rejected)
    assert "gzip" in last.reason or "JSON" in last.reason


def test_a_line_that_never_ends_is_kept_in_pieces() -> None:
    long = b"x" * (3 * MAX_RECORD_BYTES)
    pieces = parsed(long + b"\n" + ONE)
    assert b"".join(each.original for each in pieces if isinstance(each, Rejected)) == long
    assert isinstance(pieces[-1], Record)


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"1e999", b"-1", b'"42"', b"true"])
def test_a_value_that_is_no_quantity_is_rejected(value: bytes) -> None:
    (rejected,) = parsed(ONE.replace(b'"last":42.0', b'"last":' + value))
    assert isinstance(rejected, Rejected)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_no_bytes_make_the_parser_raise(data: bytes, size: int) -> None:
    parsed(data, size)


@given(
    st.lists(st.sampled_from([ONE, TWO, b"{broken", b"", b'{"a": 1}', b"\xff"]), max_size=6),
    st.integers(1, 400),
)
def test_how_the_bytes_are_cut_changes_nothing(lines: list[bytes], size: int) -> None:
    data = b"\n".join(lines)
    assert outline(data, size) == outline(data)


@given(st.lists(st.sampled_from([ONE, TWO, b"{broken", b'{"a": 1}', b"\xff"]), max_size=6))
def test_every_line_is_either_a_record_or_rejected(lines: list[bytes]) -> None:
    assert len(parsed(b"\n".join(lines))) == len(lines)


@pytest.mark.parametrize(
    "odd",
    [b"1" * 5_000, b"[" * 3_000 + b"]" * 3_000, b"{broken}", b'"text, ] }"', b"nonsense", b"-"],
    ids=["huge integer", "deep nesting", "no JSON", "string", "word", "sign"],
)
@pytest.mark.parametrize("size", [1_000, 65_536])
def test_an_odd_element_costs_only_itself(odd: bytes, size: int) -> None:
    assert outline(b"[" + ONE + b"," + odd + b"," + TWO + b"]", size) == ["one", (1, odd), "two"]


def test_brackets_and_quotes_in_strings_end_nothing() -> None:
    tricky = ONE.replace(b'"one"', rb'"o]}\\\"{[ne"')
    (record,) = parsed(b"[" + tricky + b"]", 10)
    assert isinstance(record, Record)
    assert record.resource_id == 'o]}\\"{[ne'
