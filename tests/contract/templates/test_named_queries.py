"""infra/queries.yaml and the SQL of the compaction: syntax, parameters and columns."""

import json
from typing import Any

import pytest
import sqlglot
from sqlglot import TokenType, exp

from chalicelib.model.named_queries import NamedQuery, Parameter, ParameterError, read_named_query
from infra.local.package import MAINTENANCE, QUERIES, STORAGE
from tests.conftest import load_template

TEMPLATE = load_template(QUERIES)["Resources"]
NAMED = {
    each["Properties"]["Name"]: each["Properties"]
    for each in TEMPLATE.values()
    if each["Type"] == "AWS::Athena::NamedQuery"
}
VIEWS = {
    each["Properties"]["TableInput"]["Name"]: each["Properties"]["TableInput"]
    for each in TEMPLATE.values()
    if each["Type"] == "AWS::Glue::Table"
}
# Names in Athena engine 3 of types with another name in Glue.
PRESTO = {
    "string": "varchar",
    "timestamp": "timestamp(3)",
    "map<string,string>": "map(varchar,varchar)",
}
# Functions in use. Before you add one, check that Athena supports it:
# https://docs.aws.amazon.com/athena/latest/ug/functions-env3.html
FUNCTIONS = {
    *("abs", "cast", "count", "date_add", "date_format", "date_trunc", "element_at"),
    *("from_iso8601_timestamp", "map_keys", "max", "max_by", "min", "nullif", "regr_intercept"),
    *("regr_slope", "row_number", "sequence", "sum", "to_unixtime", "unnest", "current_date"),
}


def described(name: str) -> NamedQuery:
    properties = NAMED[name]
    return read_named_query(
        {key: properties[key] for key in ("Name", "Description", "QueryString")}
        | {"Database": "infra_monitoring"}
    )


def view(name: str) -> dict[str, Any]:
    """The JSON in the text of a view."""
    _, (before, encoded, after) = VIEWS[name]["ViewOriginalText"]["Fn::Join"]
    assert (before, after) == ("/* Presto View: ", " */")
    found: dict[str, Any] = json.loads(encoded["Fn::Base64"]["Fn::Sub"][0])
    return found


def statements() -> dict[str, str]:
    compaction = load_template(MAINTENANCE)["Resources"]["Compaction"]["Properties"]
    sql = compaction["DefinitionSubstitutions"]
    return (
        {name: each["QueryString"] for name, each in NAMED.items()}
        | {name: view(name)["originalSql"] for name in VIEWS}
        | {"compaction": sql["WriteDaySql"], "compaction's days": sql["ListDaysSql"]}
    )


@pytest.mark.parametrize("name", statements())
def test_sqlglot_parses_it_as_athena(name: str) -> None:
    (statement,) = sqlglot.parse(statements()[name], read="athena")
    assert isinstance(statement, exp.Query | exp.Insert)


@pytest.mark.parametrize("name", statements())
def test_athena_supports_every_function(name: str) -> None:
    tokens = sqlglot.tokenize(statements()[name], read="athena")
    called = {
        name.text.lower()
        for before, name, after in zip(tokens, tokens[1:], tokens[2:], strict=False)
        if after.token_type is TokenType.L_PAREN
        and name.token_type not in {TokenType.ALIAS, TokenType.FROM, TokenType.OVER}
        and before.token_type is not TokenType.ALIAS  # it names columns
        and name.text[0].isalpha()
    }
    assert called - {"by", "distinct", "in", "when"} <= FUNCTIONS


@pytest.mark.parametrize("name", statements())
def test_parameters_are_in_where(name: str) -> None:
    """Athena's documentation on parameterized queries allows them only there."""
    statement = sqlglot.parse_one(statements()[name], read="athena")
    marks = list(statement.find_all(exp.Placeholder))
    assert all(mark.find_ancestor(exp.Where) for mark in marks)
    assert marks or name in VIEWS


@pytest.mark.parametrize("name", NAMED)
def test_a_query_has_a_question_mark_for_each_parameter(name: str) -> None:
    tokens = sqlglot.tokenize(NAMED[name]["QueryString"], read="athena")
    marks = [each for each in tokens if each.token_type is TokenType.PLACEHOLDER]
    assert len(described(name).parameters) == len(marks)


@pytest.mark.parametrize("name", NAMED)
def test_every_line_of_a_description_is_parsed(name: str) -> None:
    lines = NAMED[name]["Description"].splitlines()
    assert described(name).summary == lines[0]
    assert len(described(name).parameters) == len(lines) - 1
    assert len(NAMED[name]["Description"]) <= 1024  # Athena's limit


@pytest.mark.parametrize("name", NAMED)
def test_a_query_can_run_without_parameters(name: str) -> None:
    assert len(described(name).literals({})) == len(described(name).parameters)


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_has_the_same_columns_in_its_sql_its_json_and_glue(name: str) -> None:
    found = view(name)
    columns = VIEWS[name]["StorageDescriptor"]["Columns"]
    query = sqlglot.parse_one(found["originalSql"], read="athena")
    assert isinstance(query, exp.Query)
    assert [each["name"] for each in found["columns"]] == [each["Name"] for each in columns]
    assert query.named_selects == [each["Name"] for each in columns]
    assert [each["type"] for each in found["columns"]] == [
        PRESTO.get(each["Type"], each["Type"]) for each in columns
    ]


def test_the_archive_has_the_columns_of_metrics_and_so_has_the_history() -> None:
    tables = load_template(STORAGE)["Resources"]
    metrics, archive = (
        tables[name]["Properties"]["TableInput"] for name in ("MetricsHistory", "Archive")
    )
    assert archive["StorageDescriptor"]["Columns"] == metrics["StorageDescriptor"]["Columns"]
    assert archive["PartitionKeys"] == metrics["PartitionKeys"]
    history = VIEWS["history"]["StorageDescriptor"]["Columns"]
    columns = [*metrics["StorageDescriptor"]["Columns"], *metrics["PartitionKeys"]]
    assert [(each["Name"], each["Type"]) for each in history] == [
        (each["Name"], each["Type"]) for each in columns
    ]


def test_the_compaction_inserts_the_archives_columns_in_their_order() -> None:
    """Athena inserts by position, not by name."""
    insert = sqlglot.parse_one(statements()["compaction"], read="athena")
    assert isinstance(insert, exp.Insert)
    names = [each["Name"] for each in VIEWS["history"]["StorageDescriptor"]["Columns"]]
    assert insert.expression.named_selects == names


def test_the_compaction_keeps_the_same_row_of_a_restated_measurement_as_the_history() -> None:
    kept = [
        sqlglot.parse_one(statements()[name], read="athena").find(exp.Window)
        for name in ("compaction", "history")
    ]
    assert kept[0] is not None
    assert kept[0] == kept[1]


# --- Parameters -------------------------------------------------------------------------------

QUERY = NamedQuery(
    name="q",
    summary="",
    sql="",
    database="",
    parameters=(
        Parameter("days", "integer", "7"),
        Parameter("limit", "number", "5"),
        Parameter("host", "string"),
    ),
)


@pytest.mark.parametrize(
    ("given", "literals"),
    [
        ({"host": "web-1"}, ["7", "5.0e0", "'web-1'"]),
        ({"host": "o'hara", "days": "+030"}, ["30", "5.0e0", "'o''hara'"]),
        ({"host": "", "limit": "-1e-7"}, ["7", "-1e-07", "''"]),
        ({"host": "1; DROP TABLE x", "limit": "0.25"}, ["7", "0.25e0", "'1; DROP TABLE x'"]),
    ],
)
def test_values_become_literals_of_their_type(given: dict[str, str], literals: list[str]) -> None:
    assert QUERY.literals(given) == literals


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({}, "q needs the parameter host"),
        ({"host": "a", "day": "1"}, "no parameter day: it has days, limit, host"),
        ({"host": "a", "days": "7.5"}, "days: '7.5' is not a whole number"),
        ({"host": "a", "days": "(SELECT 1)"}, "is not a whole number"),
        ({"host": "a", "days": "٣"}, "is not a whole number"),
        ({"host": "a", "limit": "inf"}, "is not a number"),
        ({"host": "a", "limit": "1 OR 1=1"}, "is not a number"),
        ({"host": "a" * 1023}, "longer than 1024"),
    ],
)
def test_an_invalid_value_raises_an_error_with_its_name(given: dict[str, str], reason: str) -> None:
    with pytest.raises(ParameterError, match=reason):
        QUERY.literals(given)


def test_other_lines_of_a_description_are_ignored() -> None:
    query = read_named_query(
        {
            "Name": "mine",
            "Description": "Mine.\nparameter: a string b c\nBy me.\nparameter: n integer",
            "QueryString": "SELECT ?, ?",
            "Database": "d",
        }
    )
    assert query.summary == "Mine."
    assert query.parameters == (Parameter("a", "string", "b c"), Parameter("n", "integer"))
