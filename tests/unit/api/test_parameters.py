"""Query parameters and cursors."""

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, strategies

from chalicelib.api import cursors, parameters
from chalicelib.model.errors import InvalidRequestError

NOW = datetime(2026, 11, 22, 18, 5, 7, 123, tzinfo=UTC)


def test_the_default_time_range_is_the_last_day() -> None:
    time_range = parameters.time_range({}, NOW)
    assert time_range.stop == NOW.replace(microsecond=0)
    assert time_range.stop - time_range.start == timedelta(days=1)


def test_a_time_with_an_offset_is_converted_to_utc() -> None:
    time_range = parameters.time_range({"to": "2026-11-22T20:00:00+02:00"}, NOW)
    assert time_range.stop == datetime(2026, 11, 22, 18, tzinfo=UTC)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"from": "yesterday"}, "from='yesterday' is not ISO 8601"),
        ({"to": "2026-11-22T18:00:00"}, "is not ISO 8601 with a time zone"),
        ({"to": "2026-11-22T18:00:00 00:00"}, r"%2B"),
        ({"to": "0001-01-01T00:00:00+14:00"}, "is not ISO 8601"),
        ({"to": "9999-12-31T00:00:00Z"}, "the year is not from 1970 to 2199"),
        ({"from": "2026-11-23T00:00:00Z"}, "from 2026-11-23T00:00:00Z is after to"),
        ({"from": "2026-01-01T00:00:00Z"}, "more than 92 days apart"),
        ({"from": ""}, "is not ISO 8601"),
    ],
)
def test_an_invalid_time_is_an_error_with_the_reason(values: dict[str, str], reason: str) -> None:
    with pytest.raises(InvalidRequestError, match=reason):
        parameters.limited_time_range(values, NOW)


@pytest.mark.parametrize("text", ["0", "501", "-1", "1.0", "", " 1", "²", "1e2", "9" * 5_000])
def test_an_invalid_limit_is_an_error(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="is not a whole number from 1 to 500"):
        parameters.limit({"limit": text})


def test_the_bounds_of_a_limit_are_valid() -> None:
    assert [parameters.limit({"limit": text}) for text in ("1", "500")] == [1, 500]


@pytest.mark.parametrize(
    ("query_params", "reason"),
    [
        ({"form": ["x"]}, "unknown parameter 'form'; accepted: from, to"),
        ({"from": ["a", "b"]}, "from occurs 2 times"),
    ],
)
def test_unknown_and_repeated_parameters_are_errors(
    query_params: dict[str, list[str]], reason: str
) -> None:
    with pytest.raises(InvalidRequestError, match=reason):
        parameters.single(query_params, ("from", "to"))


@pytest.mark.parametrize("path", ["dns%2Bnodes%3A9100", "dns+nodes:9100"])
def test_encoded_and_decoded_names_in_a_path_are_the_same(path: str) -> None:
    assert parameters.path_name(path) == "dns+nodes:9100"


# --- Cursors ----------------------------------------------------------------------------------

QUERY = {"from": "2026-11-21T18:00:00Z", "to": "2026-11-22T18:00:00Z"}
POSITION = ["2026-11-22T15:00:00Z", "00000000-0000-5000-8000-000000000000"]
CURSOR = cursors.seal("InfraMetrics/cpu", QUERY, POSITION)


def test_a_cursor_contains_its_query_and_position() -> None:
    assert cursors.unseal("InfraMetrics/cpu", CURSOR) == (QUERY, POSITION)


@pytest.mark.parametrize("scope", ["InfraMetrics/disk", "InfraMetrics-dev/cpu", ""])
def test_a_cursor_of_another_scope_is_rejected(scope: str) -> None:
    with pytest.raises(InvalidRequestError):
        cursors.unseal(scope, CURSOR)


@pytest.mark.parametrize("position", range(len(CURSOR)))
def test_a_cursor_with_a_changed_character_is_rejected(position: int) -> None:
    """Including the last one, whose spare bits Base64 ignores."""
    for character in "AB_":
        changed = CURSOR[:position] + character + CURSOR[position + 1 :]
        if changed != CURSOR:
            with pytest.raises(InvalidRequestError):
                cursors.unseal("InfraMetrics/cpu", changed)


def test_a_forged_cursor_with_deep_nesting_is_rejected() -> None:
    """The digest is not a secret, so a client can compute it."""
    content = b"[{}," + b"[" * 3_000 + b"]" * 3_000 + b"]"
    digest = hashlib.sha256(b"InfraMetrics/cpu\0" + content).digest()[:12]
    with pytest.raises(InvalidRequestError):
        cursors.unseal("InfraMetrics/cpu", base64.urlsafe_b64encode(digest + content).decode())


@given(strategies.text())
def test_arbitrary_text_is_rejected(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        cursors.unseal("InfraMetrics/cpu", text)


@given(strategies.binary())
def test_arbitrary_bytes_are_rejected(content: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        cursors.unseal("InfraMetrics/cpu", base64.urlsafe_b64encode(content).decode())


@pytest.mark.parametrize("query_params", [{"to": "2026-11-22T18:00:01Z"}, {"resource_id": "web-1"}])
def test_a_cursor_with_different_parameters_is_rejected(query_params: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match="the cursor was made for another"):
        cursors.check_same(QUERY, query_params)
