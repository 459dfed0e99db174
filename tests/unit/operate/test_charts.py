"""What of an answer a chart shows."""

import re
import sys
from datetime import datetime
from typing import Any

import pytest

from chalicelib.model.query_results import Column
from infra.command_line import CommandError, UsageError
from infra.operate.athena import QueryResult, format_bytes
from infra.operate.charts import (
    MAX_SERIES,
    Bars,
    Lines,
    chart,
    in_terminal,
)

HOSTS = [Column("resource_id", "varchar"), Column("windows", "bigint"), Column("p95", "double")]
OVER_TIME = [Column("resource_id", "varchar"), Column("dt", "varchar"), Column("p95", "double")]


def answer(columns: list[Column], *rows: Any) -> QueryResult:
    return QueryResult(columns, rows, scanned_bytes=0, seconds=0)


def test_rows_without_a_time_are_bars_of_the_first_measured_number() -> None:
    drawn = chart(answer(HOSTS, ("a", "8", "1.5"), ("b", "8", None), ("c", "7", "0.5")))
    assert drawn == Bars("p95", ["a", "c"], [1.5, 0.5])


def test_another_column_can_be_named() -> None:
    assert chart(answer(HOSTS, ("a", "8", "1.5")), "windows") == Bars("windows", ["a"], [8])


def test_rows_with_a_time_are_a_line_for_each_host_in_the_times_order() -> None:
    rows = [("a", "2026-11-02", "2"), ("b", "2026-11-01", None), ("a", "2026-11-01", "1")]
    first, second = map(datetime.fromisoformat, ("2026-11-01", "2026-11-02"))
    expected = Lines("p95", {"a": [(first, 1.0), (second, 2.0)]}, 0)
    assert chart(answer(OVER_TIME, *rows)) == expected


def test_last_seen_is_no_time_to_draw_over_and_two_disks_are_two_bars() -> None:
    columns = [
        Column("resource_id", "varchar"),
        Column("measurement", "varchar"),
        Column("days_left", "double"),
        Column("last_seen", "timestamp"),
        Column("region", "varchar"),
    ]
    seen = "2026-11-22 18:00:00.000"
    rows = [("db", f"percent:/{n}", str(n), seen, "eu-west-1") for n in (1, 2)]
    expected = Bars("days_left", ["db percent:/1", "db percent:/2"], [1.0, 2.0])
    assert chart(answer(columns, *rows)) == expected


def test_a_status_that_changes_does_not_part_a_line() -> None:
    columns = [*OVER_TIME, Column("status", "varchar")]
    rows = [("a", "2026-11-01", "1", "ok"), ("a", "2026-11-02", "9", "critical")]
    drawn = chart(answer(columns, *rows))
    assert isinstance(drawn, Lines)
    assert list(drawn.series) == ["a"]


def test_more_lines_than_can_be_told_apart_are_left_out_and_counted() -> None:
    rows = [(f"h{number}", "2026-11-01", "1") for number in range(MAX_SERIES + 3)]
    drawn = chart(answer(OVER_TIME, *rows))
    assert isinstance(drawn, Lines)
    assert (len(drawn.series), drawn.left_out) == (MAX_SERIES, 3)


def test_one_moment_is_drawn_within_its_day() -> None:
    drawn = chart(answer(OVER_TIME, ("a", "2026-11-01 18:00:00.000", "1")))
    assert set(re.findall(r"(\d{4})-\d\d-\d\d", in_terminal(drawn))) == {"2026"}


def test_what_cannot_be_drawn_is_said() -> None:
    with pytest.raises(CommandError, match="no rows"):
        chart(answer(HOSTS))
    with pytest.raises(CommandError, match="no column of the answer is a number"):
        chart(answer(HOSTS[:1], ("a",)))
    with pytest.raises(UsageError, match="there are windows, p95"):
        chart(answer(HOSTS, ("a", "8", "1.5")), "p99")


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotext", None)
    with pytest.raises(CommandError, match="pip install plotext"):
        in_terminal(Bars("p95", ["a"], [1.0]))


@pytest.mark.parametrize(
    ("scanned", "dollars"),
    [(0, 5 * 10 / 2**20), (10 * 2**20, 5 * 10 / 2**20), (2**40, 5.0), (2**39, 2.5)],
)
def test_ten_megabytes_are_the_least_that_is_billed(scanned: int, dollars: float) -> None:
    assert QueryResult([], [], scanned_bytes=scanned, seconds=0).dollars == pytest.approx(dollars)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KB"), (5 * 2**30, "5.0 GB")],
)
def test_sizes_are_said_as_people_say_them(count: int, text: str) -> None:
    assert format_bytes(count) == text
