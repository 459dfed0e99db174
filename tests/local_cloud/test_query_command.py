"""`python -m infra query` against the local cloud."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.__main__ import main
from infra.operate.athena import format_bytes
from tests.support.query_history import Asked, cloud_with_history

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def asked() -> Iterator[Asked]:
    with cloud_with_history(compacted=False) as asked:
        yield asked


@pytest.fixture
def run(asked: Asked, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command against this history: exit status, standard output, standard error."""

    def command(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["query", *arguments, "--endpoint", asked.history.cloud.endpoint])
        return status, *capsys.readouterr()

    return command


def test_the_list_has_every_query_with_its_parameters(run: Run, asked: Asked) -> None:
    status, out, _ = run("--list")
    assert status == 0
    assert all(name in out for name in asked.named)
    assert "below_percent=5" in out


def test_csv_is_the_answer_as_athena_has_it(run: Run, asked: Asked) -> None:
    status, out, _ = run("trend", "--set", "days=2", "resource=web-1", "--format", "csv")
    header, *rows = csv.reader(out.splitlines())
    answer = asked.ask("trend", days=2, resource="web-1")
    assert status == 0
    assert header == [column.name for column in answer.columns]
    assert rows == [list(row) for row in answer.rows]


def test_json_has_values_of_their_types(run: Run) -> None:
    _, out, _ = run("idle-hosts", "--format", "json")
    (row,) = json.loads(out)
    kinds = {type(row[name]) for name in ("peak", "p95", "average")}
    assert (kinds, type(row["windows"]), row["name"]) == ({float}, int, None)


def test_the_table_is_for_people(run: Run) -> None:
    _, out, _ = run("by-label")
    assert "m5.large" in out
    assert "average" in out


def test_what_it_read_and_costs_is_told_beside_the_answer(run: Run, asked: Asked) -> None:
    _, _, told = run("top-hosts", "--format", "csv")
    assert format_bytes(asked.ask("top-hosts").scanned_bytes) in told
    assert "$0.000048 on AWS" in told  # 10 MB at $5 a TB


def test_free_sql_may_come_from_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("SELECT 6 * 7 AS answer, true AS sure"))
    _, out, _ = run("--sql", "-", "--format", "json")
    assert json.loads(out) == [{"answer": 42, "sure": True}]


def test_a_plot_in_the_terminal_has_a_line_for_each_host(run: Run) -> None:
    _, out, _ = run("trend", "--format", "plot", "--y", "peak")
    assert "peak" in out
    assert "web-1" in out
    assert "web-2" in out
    assert "\x1b" not in out  # no colours where nobody sees them


def test_a_plot_without_a_time_has_bars(run: Run) -> None:
    _, out, _ = run("top-hosts", "--format", "plot")
    assert "average" in out
    assert "web-1" in out


def test_a_picture_is_written(run: Run, tmp_path: Path) -> None:
    for name in ("daily", "top-hosts"):
        file = tmp_path / f"{name}.png"
        status, out, _ = run(name, "--png", str(file))
        assert (status, out) == (0, "")
        assert file.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "status", "reason"),
    [
        ((), 2, "give the name of a query, or --sql, or --list"),
        (("trend", "--list"), 2, "give the name of a query, or --sql, or --list"),
        (("nothing",), 2, "there is no query nothing; there are breach-hours, by-label"),
        (("trend", "--set", "day=1"), 2, "trend has no parameter day: it has days, metric_type"),
        (("trend", "--set", "days=some"), 2, "days: 'some' is not a whole number"),
        (("trend", "--y", "peak"), 2, "--y is for --format plot and --png"),
        (("trend", "--format", "plot", "--y", "status"), 2, "--y status: no such column"),
        (("--sql", "SELECT 1", "--set", "a=1"), 2, "--set is for named queries"),
        (("--sql", "SELECT nothing FROM metrics"), 1, "FAILED"),
        (("--sql", "SELEC"), 1, "FAILED"),
        (("trend", "--set", "resource=none", "--format", "plot"), 1, "there are no rows"),
    ],
)
def test_a_mistake_is_told_in_one_line(
    arguments: tuple[str, ...], status: int, reason: str, run: Run
) -> None:
    found, out, told = run(*arguments)
    assert found == status
    assert out == ""
    assert f"error: {reason}" in told or ("error: query" in told and reason in told)


def test_ctrl_c_stops_the_query(run: Run, asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that would take minutes: it is interrupted once it runs."""
    many = "SELECT count(*) FROM metrics a, metrics b, metrics c, metrics d WHERE a.ts <> d.ts"
    asked_already = _executions(asked)

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("chalicelib.aws.athena.time.sleep", interrupted)
    status, _, told = run("--sql", many)
    assert (status, "stopped" in told) == (130, True)
    (identity,) = _executions(asked) - asked_already
    athena = asked.history.cloud.client("athena")
    execution = athena.get_query_execution(QueryExecutionId=identity)["QueryExecution"]
    assert execution["Status"]["State"] == "CANCELLED"


def _executions(asked: Asked) -> set[str]:
    athena = asked.history.cloud.client("athena")
    return set(athena.list_query_executions(WorkGroup="infra-monitoring")["QueryExecutionIds"])
