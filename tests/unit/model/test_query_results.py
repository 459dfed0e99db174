"""Typed values from Athena's text."""

import math
from typing import Any

import pytest

from chalicelib.model.query_results import Column, json_value, typed_rows


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("bigint", "9007199254740993", 9007199254740993),
        ("int", "-1", -1),
        ("double", "0.5", 0.5),
        ("decimal(10,2)", "1.25", 1.25),
        ("boolean", "true", True),
        ("boolean", "false", False),
        ("varchar", "1", "1"),
        ("timestamp", "2026-11-22 18:00:00.000", "2026-11-22 18:00:00.000"),
        ("double", None, None),
    ],
)
def test_a_value_has_the_type_of_its_column(kind: str, text: str | None, value: Any) -> None:
    ((converted,),) = typed_rows([Column("x", kind)], [[text]])
    assert (type(converted), converted) == (type(value), value)


@pytest.mark.parametrize(
    ("kind", "numeric"),
    [("bigint", True), ("decimal(10,2)", True), ("boolean", False), ("varchar", False)],
)
def test_integers_and_fractions_are_numeric(kind: str, numeric: bool) -> None:
    assert Column("x", kind).numeric is numeric


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_are_null_in_json(value: float) -> None:
    assert json_value(value) is None


@pytest.mark.parametrize("value", [0.0, 1, "nan", True, None])
def test_other_values_are_unchanged(value: Any) -> None:
    assert json_value(value) is value
