"""Windows and moments."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from chalicelib.model.errors import InvalidEventError
from chalicelib.model.windows import Window, format_utc, parse_utc


def test_a_window_ends_at_the_last_period_before_the_tick() -> None:
    tick = datetime(2026, 11, 22, 18, 9, 59, tzinfo=UTC)
    window = Window.before(tick, seconds=10_800, align=300)
    assert window.end == datetime(2026, 11, 22, 18, 5, tzinfo=UTC)
    assert window.start == datetime(2026, 11, 22, 15, 5, tzinfo=UTC)


def test_a_tick_on_the_boundary_ends_its_own_window() -> None:
    tick = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
    assert Window.before(tick, seconds=300, align=300).end == tick


def test_text_is_utc_of_fixed_width() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=timezone(timedelta(hours=2)))
    assert format_utc(moment) == "2026-01-02T01:04:05Z"


@pytest.mark.parametrize("text", ["2026-11-22T18:00:00Z", "2026-11-22T19:00:00.000+01:00"])
def test_moments_are_read_in_any_zone_and_kept_in_utc(text: str) -> None:
    moment = parse_utc(text)
    assert (moment, moment.tzinfo) == (datetime(2026, 11, 22, 18, tzinfo=UTC), UTC)


@pytest.mark.parametrize("text", ["2026-11-22T18:00:00", "soon", "", None])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(InvalidEventError):
        parse_utc(text)
