"""Windows and timestamps."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from chalicelib.model.errors import InvalidEventError
from chalicelib.model.windows import Window, format_utc, parse_utc


def test_a_window_ends_at_the_last_period_before_the_scheduled_time() -> None:
    scheduled_time = datetime(2026, 11, 22, 18, 9, 59, tzinfo=UTC)
    window = Window.before(scheduled_time, seconds=10_800, align=300)
    assert window.end == datetime(2026, 11, 22, 18, 5, tzinfo=UTC)
    assert window.start == datetime(2026, 11, 22, 15, 5, tzinfo=UTC)


def test_a_scheduled_time_on_a_boundary_is_the_window_end() -> None:
    scheduled_time = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
    assert Window.before(scheduled_time, seconds=300, align=300).end == scheduled_time


def test_timestamps_are_formatted_as_utc_with_fixed_width() -> None:
    timestamp = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=timezone(timedelta(hours=2)))
    assert format_utc(timestamp) == "2026-01-02T01:04:05Z"


@pytest.mark.parametrize("text", ["2026-11-22T18:00:00Z", "2026-11-22T19:00:00.000+01:00"])
def test_timestamps_of_any_time_zone_become_utc(text: str) -> None:
    timestamp = parse_utc(text)
    assert (timestamp, timestamp.tzinfo) == (datetime(2026, 11, 22, 18, tzinfo=UTC), UTC)


@pytest.mark.parametrize("text", ["2026-11-22T18:00:00", "soon", "", None])
def test_an_invalid_timestamp_is_rejected(text: str) -> None:
    with pytest.raises(InvalidEventError):
        parse_utc(text)
