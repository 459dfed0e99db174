"""Athena of the local cloud by itself."""

import threading
from pathlib import Path

import pytest

from infra.local.athena import Athena
from infra.local.catalog import QueryFailedError
from infra.local.query_engine import parse


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
    sql = "WITH a AS (SELECT ? AS first) SELECT first, ? FROM a WHERE first LIKE ? AND 1 - ? > 0"
    bound = parse(sql, ["'one'", "2", "'th''ree'", "-4"]).sql(dialect="duckdb")
    assert bound == (
        "WITH a AS (SELECT ('one') AS first) SELECT first, (2) FROM a"
        " WHERE first LIKE ('th''ree') AND 1 - (-4) > 0"
    )


def test_a_question_mark_in_text_is_no_parameter() -> None:
    assert parse("SELECT 'what?'", []).sql() == "SELECT 'what?'"


@pytest.mark.parametrize("parameters", [[], ["1", "2"]])
def test_another_number_of_parameters_than_of_marks_is_athenas_error(parameters: list[str]) -> None:
    with pytest.raises(QueryFailedError, match="expected 1 but found"):
        parse("SELECT ?", parameters)


@pytest.mark.parametrize(
    "parameter", ["(SELECT labels FROM metrics)", "resource_id", "1); DROP TABLE metrics", "'a' OR"]
)
def test_a_parameter_is_a_constant_and_nothing_else(parameter: str) -> None:
    with pytest.raises(QueryFailedError):
        parse("SELECT 1 WHERE 1 = ?", [parameter])
