"""Named queries: which there are, starting one, and its answer in pages."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from ..model.errors import InvalidRequestError, UnknownThingError
from ..model.named_queries import NamedQuery, ParameterError
from ..model.query_results import Page, json_value, typed_rows
from ..model.windows import format_utc
from . import cursors, parameters

_FAILED = frozenset({"FAILED", "CANCELLED"})


class Queries(Protocol):
    """Athena, as far as the stage's work group is concerned. Every method raises StorageError."""

    def named(self) -> Sequence[NamedQuery]:
        """The named queries of the work group."""

    def start(self, query: NamedQuery, literals: Sequence[str]) -> str:
        """Start a query with its parameters bound; the execution's id."""

    def execution(self, identity: str) -> Mapping[str, Any] | None:
        """An execution as Athena describes it; None if the work group has none of this id."""

    def page(self, execution: Mapping[str, Any], limit: int, token: str | None) -> Page:
        """Rows of the result of a query that succeeded.

        Raises:
            InvalidRequestError: `token` is not one of this query's page tokens.
            UnknownThingError: the rows have been deleted.
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
    token = _page_token(identity, values)
    execution = queries.execution(identity)
    if execution is None:
        raise UnknownThingError(f"there is no query {identity[:128]!r}")
    state = execution["Status"]["State"]
    page = Page((), ())
    if state == "SUCCEEDED":
        page = queries.page(execution, limit, token)
    return {
        **_described(identity, execution),
        "columns": [{"name": each.name, "type": each.kind} for each in page.columns],
        "rows": [
            [json_value(value) for value in row] for row in typed_rows(page.columns, page.rows)
        ],
        "cursor": cursors.seal(identity, {}, page.next_token) if page.next_token else None,
    }


def _page_token(identity: str, values: Mapping[str, str]) -> str | None:
    if "cursor" not in values:
        return None
    _, token = cursors.unseal(identity, values["cursor"])
    if not isinstance(token, str):
        raise InvalidRequestError("cursor is not one of this query's")
    return token


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
