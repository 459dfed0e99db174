"""Charts of query results."""

import re
import sys
from datetime import datetime
from typing import Any

import pytest

from chalicelib.model.query_results import Column
from infra.command_line import CommandError, UsageError
from infra.operate.athena import QueryResult, format_bytes
from infra.operate.charts import MAX_SERIES, BarChart, LineChart, chart, in_terminal

HOSTS = [Column("resource_id", "varchar"), Column("windows", "bigint"), Column("p95", "double")]
OVER_TIME = [Column("resource_id", "varchar"), Column("dt", "varchar"), Column("p95", "double")]


def query_result(columns: list[Column], *rows: Any) -> QueryResult:
    return QueryResult(columns, rows, scanned_bytes=0, seconds=0)


def test_rows_without_a_time_are_bars_of_the_first_measured_value() -> None:
    drawn = chart(query_result(HOSTS, ("a", "8", "1.5"), ("b", "8", None), ("c", "7", "0.5")))
    assert drawn == BarChart("p95", ["a", "c"], [1.5, 0.5])


def test_y_selects_the_column() -> None:
    assert chart(query_result(HOSTS, ("a", "8", "1.5")), "windows") == BarChart(
        "windows", ["a"], [8]
    )


def test_rows_with_a_time_are_a_line_for_each_host_sorted_by_time() -> None:
    rows = [("a", "2026-11-02", "2"), ("b", "2026-11-01", None), ("a", "2026-11-01", "1")]
    first, second = map(datetime.fromisoformat, ("2026-11-01", "2026-11-02"))
    expected = LineChart("p95", {"a": [(first, 1.0), (second, 2.0)]}, 0)
    assert chart(query_result(OVER_TIME, *rows)) == expected


def test_two_disks_of_a_host_are_two_bars() -> None:
    columns = [
        Column("resource_id", "varchar"),
        Column("measurement", "varchar"),
        Column("days_left", "double"),
        Column("last_seen", "timestamp"),
        Column("region", "varchar"),
    ]
    seen = "2026-11-22 18:00:00.000"
    rows = [("db", f"percent:/{n}", str(n), seen, "eu-west-1") for n in (1, 2)]
    expected = BarChart("days_left", ["db percent:/1", "db percent:/2"], [1.0, 2.0])
    assert chart(query_result(columns, *rows)) == expected


def test_a_change_of_status_does_not_split_a_line() -> None:
    columns = [*OVER_TIME, Column("status", "varchar")]
    rows = [("a", "2026-11-01", "1", "ok"), ("a", "2026-11-02", "9", "critical")]
    drawn = chart(query_result(columns, *rows))
    assert isinstance(drawn, LineChart)
    assert list(drawn.series) == ["a"]


def test_series_beyond_the_maximum_are_omitted_and_counted() -> None:
    rows = [(f"h{number}", "2026-11-01", "1") for number in range(MAX_SERIES + 3)]
    drawn = chart(query_result(OVER_TIME, *rows))
    assert isinstance(drawn, LineChart)
    assert (len(drawn.series), drawn.omitted) == (MAX_SERIES, 3)


def test_the_axis_of_a_single_time_is_one_day() -> None:
    drawn = chart(query_result(OVER_TIME, ("a", "2026-11-01 18:00:00.000", "1")))
    assert set(re.findall(r"(\d{4})-\d\d-\d\d", in_terminal(drawn))) == {"2026"}


def test_a_result_that_cannot_be_drawn_is_an_error() -> None:
    with pytest.raises(CommandError, match="no rows"):
        chart(query_result(HOSTS))
    with pytest.raises(CommandError, match="no numeric column"):
        chart(query_result(HOSTS[:1], ("a",)))
    with pytest.raises(UsageError, match="the numeric columns are windows, p95"):
        chart(query_result(HOSTS, ("a", "8", "1.5")), "p99")


def test_a_missing_library_is_an_error_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotext", None)
    with pytest.raises(CommandError, match="pip install plotext"):
        in_terminal(BarChart("p95", ["a"], [1.0]))


@pytest.mark.parametrize(
    ("scanned", "dollars"),
    [(0, 5 * 10 / 2**20), (10 * 2**20, 5 * 10 / 2**20), (2**40, 5.0), (2**39, 2.5)],
)
def test_at_least_10_mb_are_billed(scanned: int, dollars: float) -> None:
    assert QueryResult([], [], scanned_bytes=scanned, seconds=0).dollars == pytest.approx(dollars)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KB"), (5 * 2**30, "5.0 GB")],
)
def test_sizes_have_a_unit(count: int, text: str) -> None:
    assert format_bytes(count) == text
