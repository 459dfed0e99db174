"""Athena of the local cloud by itself."""

import threading
from pathlib import Path

import pytest

from infra.local.athena.catalog import QueryFailedError
from infra.local.athena.query_engine import parse
from infra.local.athena.query_executions import Athena


def test_no_thread_stays_when_it_is_closed(tmp_path: Path) -> None:
    athena = Athena(lambda *_: None, lambda _: "", tmp_path)
    athena.submit(lambda: None)
    assert queries()
    athena.close()
    assert queries() == []


def queries() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("athena")]


def test_parameters_are_bound_in_the_order_in_which_the_marks_stand() -> None:
    """Wherever the parser puts a WITH."""
    sql = "WITH a AS (SELECT 1 AS b WHERE 1 = ?) SELECT b FROM a WHERE b LIKE ? AND 1 - ? > 0"
    bound = parse(sql, ["2", "'th''ree'", "-4"]).sql(dialect="duckdb")
    assert bound == (
        "WITH a AS (SELECT 1 AS b WHERE 1 = (2)) SELECT b FROM a"
        " WHERE b LIKE ('th''ree') AND 1 - (-4) > 0"
    )


@pytest.mark.parametrize(
    "sql", ["SELECT ?", "SELECT 1 WHERE 1 = 1 ORDER BY ?", "INSERT INTO a SELECT ? FROM b"]
)
def test_outside_where_nothing_is_bound(sql: str) -> None:
    """As on AWS."""
    with pytest.raises(QueryFailedError, match="only in the WHERE clause"):
        parse(sql, ["1"])


def test_a_question_mark_in_text_is_no_parameter() -> None:
    assert parse("SELECT 'what?'", []).sql() == "SELECT 'what?'"


@pytest.mark.parametrize("parameters", [[], ["1", "2"]])
def test_another_number_of_parameters_than_of_marks_is_athenas_error(parameters: list[str]) -> None:
    with pytest.raises(QueryFailedError, match="expected 1 but found"):
        parse("SELECT 1 WHERE 1 = ?", parameters)


@pytest.mark.parametrize(
    "parameter", ["(SELECT labels FROM metrics)", "resource_id", "1); DROP TABLE metrics", "'a' OR"]
)
def test_a_parameter_is_a_constant_and_nothing_else(parameter: str) -> None:
    with pytest.raises(QueryFailedError):
        parse("SELECT 1 WHERE 1 = ?", [parameter])
