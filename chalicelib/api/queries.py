"""Named queries: which there are, starting one, and its answer in pages."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from ..model.errors import InvalidRequestError, UnknownThingError
from ..model.named_queries import NamedQuery, ParameterError
from ..model.windows import format_utc
from . import cursors, parameters

_INTEGERS = frozenset({"tinyint", "smallint", "integer", "int", "bigint"})
_NUMBERS = frozenset({"double", "float", "real", "decimal"})
_FAILED = frozenset({"FAILED", "CANCELLED"})


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of an answer as Athena gives them, all text, and where the next page begins."""

    columns: Sequence[tuple[str, str]]
    rows: Sequence[Sequence[str | None]]
    after: str | None


class Queries(Protocol):
    """Athena, as far as the stage's work group is concerned. Every method raises StorageError."""

    def named(self) -> Sequence[NamedQuery]:
        """The named queries of the work group."""

    def start(self, query: NamedQuery, literals: Sequence[str]) -> str:
        """Start a query with its parameters bound; the execution's id."""

    def execution(self, identity: str) -> Mapping[str, Any] | None:
        """An execution as Athena describes it; None if the work group has none of this id."""

    def page(self, identity: str, limit: int, after: str | None, *, titled: bool) -> Page:
        """Rows of the answer; with `titled`, Athena's first one is the columns' names.

        Raises:
            InvalidRequestError: `after` is not of this answer.
            UnknownThingError: the rows are gone.
        """


class Start(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request to start a query."""

    name: str
    parameters: dict[str, str | int | float] = {}


def catalog(given: parameters.Given | None, *, queries: Queries) -> dict[str, Any]:
    """The named queries.

    Raises:
        InvalidRequestError: a parameter is given, and there is none.
        StorageError: AWS failed.
    """
    parameters.single(given, ())
    return {
        "queries": [
            {
                "name": query.name,
                "description": query.summary,
                "parameters": [
                    {"name": each.name, "type": each.kind, "default": each.default}
                    for each in query.parameters
                ],
            }
            for query in sorted(queries.named(), key=lambda each: each.name)
        ]
    }


def start(given: parameters.Given | None, body: bytes, *, queries: Queries) -> dict[str, str]:
    """Start a named query.

    Raises:
        InvalidRequestError: the body is not what it should be, or a parameter is wrong.
        UnknownThingError: there is no query of this name.
        StorageError: AWS failed.
    """
    parameters.single(given, ())
    asked = _decode(body)
    query = next((each for each in queries.named() if each.name == asked.name), None)
    if query is None:
        raise UnknownThingError(f"there is no query {asked.name[:128]!r}: GET /queries has them")
    try:
        literals = query.literals({name: _text(v) for name, v in asked.parameters.items()})
    except ParameterError as error:
        raise InvalidRequestError(str(error)) from error
    return {"id": queries.start(query, literals)}


def _decode(body: bytes) -> Start:
    try:
        asked = msgspec.json.decode(body, type=Start)
        "".join([asked.name, *asked.parameters, *map(str, asked.parameters.values())]).encode()
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InvalidRequestError(
            f'the body is not {{"name": …, "parameters": {{…}}}}: {reason}'
        ) from error
    return asked


def _text(value: str | float) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def answer(identity: str, given: parameters.Given | None, *, queries: Queries) -> dict[str, Any]:
    """How a query goes, and a page of its rows.

    Raises:
        InvalidRequestError: a parameter is wrong.
        UnknownThingError: the work group has no execution of this id, or its rows are gone.
        StorageError: AWS failed.
    """
    values = parameters.single(given, ("limit", "cursor"))
    limit = parameters.limit(values)
    identity = parameters.path_name(identity)
    after = _after(identity, values)
    execution = queries.execution(identity)
    if execution is None:
        raise UnknownThingError(f"there is no query {identity[:128]!r}")
    state = execution["Status"]["State"]
    page = Page((), (), None)
    if state == "SUCCEEDED":
        titled = execution.get("StatementType", "DML") == "DML"
        page = queries.page(identity, limit, after, titled=titled)
    readers = [_reader(kind) for _, kind in page.columns]
    return {
        **_described(identity, execution),
        "columns": [{"name": name, "type": kind} for name, kind in page.columns],
        "rows": [
            [None if cell is None else read(cell) for read, cell in zip(readers, row, strict=True)]
            for row in page.rows
        ],
        "cursor": cursors.seal(identity, {}, page.after) if page.after else None,
    }


def _after(identity: str, values: Mapping[str, str]) -> str | None:
    if "cursor" not in values:
        return None
    _, after = cursors.unseal(identity, values["cursor"])
    if not isinstance(after, str):
        raise InvalidRequestError("cursor is not one of this query's")
    return after


def _described(identity: str, execution: Mapping[str, Any]) -> dict[str, Any]:
    status, statistics = execution["Status"], execution.get("Statistics", {})
    took = statistics.get("TotalExecutionTimeInMillis")
    failed = status["State"] in _FAILED
    return {
        "id": identity,
        "state": status["State"],
        "reason": status.get("StateChangeReason") if failed else None,
        "submitted": format_utc(status["SubmissionDateTime"]),
        "seconds": None if took is None else took / 1000,
        "bytes_scanned": statistics.get("DataScannedInBytes", 0),
    }


def _reader(kind: str) -> Callable[[str], Any]:
    base = kind.partition("(")[0]
    if base in _INTEGERS:
        return int
    if base in _NUMBERS:
        return _number
    return _boolean if base == "boolean" else str


def _number(text: str) -> float | None:
    """JSON has no NaN and no infinity."""
    value = float(text)
    return value if math.isfinite(value) else None


def _boolean(text: str) -> bool:
    return text == "true"
