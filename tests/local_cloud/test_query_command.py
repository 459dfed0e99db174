"""`python -m infra query` on a running local cloud."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.__main__ import main
from infra.operate.athena import format_bytes
from tests.support.query_history import HistoryQueries, cloud_with_history

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def queries() -> Iterator[HistoryQueries]:
    with cloud_with_history(compacted=False) as queries:
        yield queries


@pytest.fixture
def run(queries: HistoryQueries, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command on this history: exit status, standard output, standard error."""

    def command(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["query", *arguments, "--endpoint", queries.history.cloud.endpoint])
        return status, *capsys.readouterr()

    return command


def test_the_list_has_every_query_with_its_parameters(run: Run, queries: HistoryQueries) -> None:
    status, out, _ = run("--list")
    assert status == 0
    assert all(name in out for name in queries.named)
    assert "below_percent=5" in out


def test_csv_has_the_values_as_athena_returns_them(run: Run, queries: HistoryQueries) -> None:
    status, out, _ = run("trend", "--set", "days=2", "resource=web-1", "--format", "csv")
    header, *rows = csv.reader(out.splitlines())
    result = queries.run("trend", days=2, resource="web-1")
    assert status == 0
    assert header == [column.name for column in result.columns]
    assert rows == [list(row) for row in result.rows]


def test_json_has_typed_values(run: Run) -> None:
    _, out, _ = run("idle-hosts", "--format", "json")
    (row,) = json.loads(out)
    kinds = {type(row[name]) for name in ("peak", "p95", "average")}
    assert (kinds, type(row["windows"]), row["name"]) == ({float}, int, None)


def test_the_default_format_is_a_table(run: Run) -> None:
    _, out, _ = run("by-label")
    assert "m5.large" in out
    assert "average" in out


def test_bytes_scanned_and_cost_are_on_standard_error(run: Run, queries: HistoryQueries) -> None:
    _, _, error = run("top-hosts", "--format", "csv")
    assert format_bytes(queries.run("top-hosts").scanned_bytes) in error
    assert "$0.000048 on AWS" in error  # 10 MB at $5 a TB


def test_sql_is_read_from_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("SELECT 6 * 7 AS answer, true AS sure"))
    _, out, _ = run("--sql", "-", "--format", "json")
    assert json.loads(out) == [{"answer": 42, "sure": True}]


def test_a_plot_in_the_terminal_has_a_line_for_each_host(run: Run) -> None:
    _, out, _ = run("trend", "--format", "plot", "--y", "peak")
    assert "peak" in out
    assert "web-1" in out
    assert "web-2" in out
    assert "\x1b" not in out  # no colours without a terminal


def test_a_plot_without_a_time_has_bars(run: Run) -> None:
    _, out, _ = run("top-hosts", "--format", "plot")
    assert "average" in out
    assert "web-1" in out


def test_png_writes_a_picture(run: Run, tmp_path: Path) -> None:
    for name in ("daily", "top-hosts"):
        file = tmp_path / f"{name}.png"
        status, out, _ = run(name, "--png", str(file))
        assert (status, out) == (0, "")
        assert file.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        ((), 2, "give one of: the name of a query, --sql, --list"),
        (("trend", "--list"), 2, "give one of: the name of a query, --sql, --list"),
        (("nothing",), 2, "no query nothing; the named queries are breach-hours, by-label"),
        (("trend", "--set", "day=1"), 2, "trend has no parameter day: it has days, metric_type"),
        (("trend", "--set", "days=some"), 2, "days: 'some' is not a whole number"),
        (("trend", "--y", "peak"), 2, "--y requires --format plot or --png"),
        (("trend", "--format", "plot", "--y", "status"), 2, "--y status: no such numeric column"),
        (("--sql", "SELECT 1", "--set", "a=1"), 2, "--set requires a named query"),
        (("--sql", "SELECT nothing FROM metrics"), 1, "FAILED"),
        (("--sql", "SELEC"), 1, "FAILED"),
        (("trend", "--set", "resource=none", "--format", "plot"), 1, "no rows to draw"),
    ],
)
def test_a_mistake_is_an_error_message(
    arguments: tuple[str, ...], status: int, reason: str, run: Run
) -> None:
    found, out, error = run(*arguments)
    assert found == status
    assert out == ""
    assert f"error: {reason}" in error or ("error: query" in error and reason in error)


def test_ctrl_c_stops_the_query(
    run: Run, queries: HistoryQueries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The query would take minutes; it is interrupted at the first poll."""
    many = "SELECT count(*) FROM metrics a, metrics b, metrics c, metrics d WHERE a.ts <> d.ts"
    earlier = _executions(queries)

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("chalicelib.aws.athena.time.sleep", interrupted)
    status, _, error = run("--sql", many)
    assert (status, "stopped" in error) == (130, True)
    (identity,) = _executions(queries) - earlier
    athena = queries.history.cloud.client("athena")
    execution = athena.get_query_execution(QueryExecutionId=identity)["QueryExecution"]
    assert execution["Status"]["State"] == "CANCELLED"


def _executions(queries: HistoryQueries) -> set[str]:
    athena = queries.history.cloud.client("athena")
    return set(athena.list_query_executions(WorkGroup="infra-monitoring")["QueryExecutionIds"])
