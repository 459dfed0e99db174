"""Named queries: what their descriptions say of their parameters, and values for these.

A description is a line for people, then one line for each question mark of the query, in their
order: `parameter: NAME TYPE DEFAULT`. TYPE is string, integer or number; a parameter without a
DEFAULT has to be given. infra/queries.yaml has the queries.
"""

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

from msgspec import Struct, convert

from .errors import InfraMonitoringError

Kind = Literal["string", "integer", "number"]

# Athena's own limit for one parameter.
MAX_LITERAL = 1024

_PARAMETER = re.compile(
    r"parameter: (?P<name>\w+) (?P<kind>string|integer|number)(?: (?P<default>.+))?"
)
_INTEGER = re.compile(r"[+-]?\d{1,18}", re.ASCII)


class ParameterError(InfraMonitoringError):
    """A named query was given a parameter too few, one that it has not, or a bad value."""


class Parameter(Struct, frozen=True):
    """A parameter of a query; `default` is text, and None if it has to be given."""

    name: str
    kind: Kind
    default: str | None = None


class NamedQuery(Struct, frozen=True, kw_only=True):
    """A query that can be asked by its name; `sql` has a question mark for each parameter."""

    name: str
    summary: str
    parameters: tuple[Parameter, ...]
    sql: str
    database: str

    def literals(self, given: Mapping[str, str]) -> list[str]:
        """What Athena binds in the place of the question marks: SQL literals, in their order.

        Raises:
            ParameterError: something is missing, unknown, or not of its type.
        """
        known = [parameter.name for parameter in self.parameters]
        if unknown := sorted(set(given) - set(known)):
            there_are = f"it has {', '.join(known)}" if known else "it has none"
            raise ParameterError(f"{self.name} has no parameter {', '.join(unknown)}: {there_are}")
        return [_literal(self.name, each, given) for each in self.parameters]


def read_named_query(described: Mapping[str, Any]) -> NamedQuery:
    """A query as Athena's GetNamedQuery describes it; other lines of a description are left out."""
    summary, *lines = described.get("Description", "").splitlines() or [""]
    found = (_PARAMETER.fullmatch(line.strip()) for line in lines)
    return NamedQuery(
        name=described["Name"],
        summary=summary,
        parameters=tuple(convert(match.groupdict(), Parameter) for match in found if match),
        sql=described["QueryString"],
        database=described["Database"],
    )


def _literal(query: str, parameter: Parameter, given: Mapping[str, str]) -> str:
    value = given.get(parameter.name, parameter.default)
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
