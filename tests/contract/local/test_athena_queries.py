"""Athena query executions: shutdown, and the binding of parameters."""

import threading
from pathlib import Path

import pytest

from infra.local.athena.catalog import QueryFailedError
from infra.local.athena.query_engine import parse
from infra.local.athena.query_executions import QueryExecutions


def test_close_ends_every_thread(tmp_path: Path) -> None:
    executions = QueryExecutions(lambda *_: None, lambda _: "", tmp_path)
    executions.submit(lambda: None)
    assert threads()
    executions.close()
    assert threads() == []


def threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("athena")]


def test_parameters_are_bound_in_the_order_of_the_placeholders() -> None:
    """The position of a WITH in the parsed statement makes no difference."""
    sql = "WITH a AS (SELECT 1 AS b WHERE 1 = ?) SELECT b FROM a WHERE b LIKE ? AND 1 - ? > 0"
    bound = parse(sql, ["2", "'th''ree'", "-4"]).sql(dialect="duckdb")
    assert bound == (
        "WITH a AS (SELECT 1 AS b WHERE 1 = (2)) SELECT b FROM a"
        " WHERE b LIKE ('th''ree') AND 1 - (-4) > 0"
    )


@pytest.mark.parametrize(
    "sql", ["SELECT ?", "SELECT 1 WHERE 1 = 1 ORDER BY ?", "INSERT INTO a SELECT ? FROM b"]
)
def test_a_placeholder_outside_of_where_is_an_error(sql: str) -> None:
    """Athena does not support it either."""
    with pytest.raises(QueryFailedError, match="only in the WHERE clause"):
        parse(sql, ["1"])


def test_a_question_mark_in_a_string_is_not_a_placeholder() -> None:
    assert parse("SELECT 'what?'", []).sql() == "SELECT 'what?'"


@pytest.mark.parametrize("parameters", [[], ["1", "2"]])
def test_a_wrong_number_of_parameters_is_athenas_error(parameters: list[str]) -> None:
    with pytest.raises(QueryFailedError, match="expected 1 but found"):
        parse("SELECT 1 WHERE 1 = ?", parameters)


@pytest.mark.parametrize(
    "parameter", ["(SELECT labels FROM metrics)", "resource_id", "1); DROP TABLE metrics", "'a' OR"]
)
def test_a_parameter_must_be_a_constant(parameter: str) -> None:
    with pytest.raises(QueryFailedError):
        parse("SELECT 1 WHERE 1 = ?", [parameter])
