"""GET and POST /queries: the named queries, starting one, and its result in pages."""

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
    """The stage's work group in Athena. Every method raises StorageError."""

    def named(self) -> Sequence[NamedQuery]:
        """The named queries of the work group."""

    def start(self, query: NamedQuery, literals: Sequence[str]) -> str:
        """Start a query with its parameters bound; the ID of the execution."""

    def execution(self, identity: str) -> Mapping[str, Any] | None:
        """An execution as Athena describes it; None if it is not in the work group."""

    def page(self, execution: Mapping[str, Any], limit: int, token: str | None) -> Page:
        """Rows of the result of a query that succeeded.

        Raises:
            InvalidRequestError: `token` is not one of this query's page tokens.
            UnknownThingError: the rows have been deleted.
        """


class StartRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request to start a query."""

    name: str
    parameters: dict[str, str | int | float] = {}


def list_queries(
    query_params: parameters.QueryParams | None, *, queries: Queries
) -> dict[str, Any]:
    """The named queries.

    Raises:
        InvalidRequestError: the request has a parameter; none is defined.
        StorageError: AWS failed.
    """
    parameters.single(query_params, ())
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


def start_query(
    query_params: parameters.QueryParams | None, body: bytes, *, queries: Queries
) -> dict[str, str]:
    """Start a named query.

    Raises:
        InvalidRequestError: the body or a parameter is invalid.
        UnknownThingError: the query does not exist.
        StorageError: AWS failed.
    """
    parameters.single(query_params, ())
    request = _decode(body)
    query = next((each for each in queries.named() if each.name == request.name), None)
    if query is None:
        raise UnknownThingError(
            f"there is no query {request.name[:128]!r}; GET /queries lists them"
        )
    try:
        literals = query.literals({name: _text(v) for name, v in request.parameters.items()})
    except ParameterError as error:
        raise InvalidRequestError(str(error)) from error
    return {"id": queries.start(query, literals)}


def _decode(body: bytes) -> StartRequest:
    try:
        request = msgspec.json.decode(body, type=StartRequest)
        "".join(
            [request.name, *request.parameters, *map(str, request.parameters.values())]
        ).encode()
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InvalidRequestError(
            f'the body is not {{"name": …, "parameters": {{…}}}}: {reason}'
        ) from error
    return request


def _text(value: str | float) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def get_query(
    identity: str, query_params: parameters.QueryParams | None, *, queries: Queries
) -> dict[str, Any]:
    """The state of a query, and a page of its rows.

    Raises:
        InvalidRequestError: a parameter is invalid.
        UnknownThingError: the work group has no such execution, or its rows were deleted.
        StorageError: AWS failed.
    """
    values = parameters.single(query_params, ("limit", "cursor"))
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
        raise InvalidRequestError("cursor does not belong to this query")
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
