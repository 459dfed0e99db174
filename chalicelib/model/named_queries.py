"""Named queries: their parameters, from their descriptions, and SQL literals for the values.

A description is a line for people, followed by a line for each question mark in the query, in the
same order: `parameter: NAME TYPE DEFAULT`. TYPE is string, integer or number; a parameter without
a DEFAULT is required. infra/queries.yaml contains the queries.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct, convert

from .errors import InfraMonitoringError

Kind = Literal["string", "integer", "number"]

# Athena's limit for one parameter.
MAX_LITERAL = 1024

_PARAMETER = re.compile(
    r"parameter: (?P<name>\w+) (?P<kind>string|integer|number)(?: (?P<default>.+))?"
)
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)


class ParameterError(InfraMonitoringError):
    """A parameter of a named query is missing, unknown or invalid."""


class Parameter(Struct, frozen=True):
    """A parameter of a query; `default` is text, or None if the parameter is required."""

    name: str
    kind: Kind
    default: str | None = None


class NamedQuery(Struct, frozen=True, kw_only=True):
    """A query with a name; `sql` has a question mark for each parameter."""

    name: str
    summary: str
    parameters: tuple[Parameter, ...]
    sql: str
    database: str

    def literals(self, values: Mapping[str, str]) -> list[str]:
        """The SQL literals that Athena binds to the question marks, in the same order.

        Raises:
            ParameterError: a parameter is missing, unknown, or not of its type.
        """
        known = [parameter.name for parameter in self.parameters]
        if unknown := sorted(set(values) - set(known)):
            available = f"it has {', '.join(known)}" if known else "it has none"
            raise ParameterError(f"{self.name} has no parameter {', '.join(unknown)}: {available}")
        return [_literal(self.name, each, values) for each in self.parameters]


def read_named_query(described: Mapping[str, Any]) -> NamedQuery:
    """A query from the response of Athena's GetNamedQuery; ignores other lines of a description."""
    summary, *lines = described.get("Description", "").splitlines() or [""]
    found = (_PARAMETER.fullmatch(line.strip()) for line in lines)
    return NamedQuery(
        name=described["Name"],
        summary=summary,
        parameters=tuple(convert(match.groupdict(), Parameter) for match in found if match),
        sql=described["QueryString"],
        database=described["Database"],
    )


def _literal(query: str, parameter: Parameter, values: Mapping[str, str]) -> str:
    value = values.get(parameter.name, parameter.default)
    if value is None:
        raise ParameterError(f"{query} needs the parameter {parameter.name} ({parameter.kind})")
    literal = _LITERALS[parameter.kind](value)
    if literal is None:
        raise ParameterError(f"{parameter.name}: {value!r} is not {_A[parameter.kind]}")
    if len(literal) > MAX_LITERAL:
        raise ParameterError(f"{parameter.name}: longer than {MAX_LITERAL} characters")
    return literal


def _string(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _integer(value: str) -> str | None:
    return str(int(value)) if _INTEGER.fullmatch(value) else None


def _number(value: str) -> str | None:
    try:
        number = float(value)
    except ValueError:
        return None
    # With an exponent it is a double to Athena, without one a decimal.
    text = str(number) if "e" in str(number) else f"{number}e0"
    return text if math.isfinite(number) else None


_LITERALS = {"string": _string, "integer": _integer, "number": _number}
_A = {"string": "text", "integer": "a whole number", "number": "a number"}
