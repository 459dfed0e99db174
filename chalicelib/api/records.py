"""GET /metrics/{metric_type}: pages of records as they are stored."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from ..model.dynamodb import Item, decode_exact
from ..model.errors import InvalidRequestError, UnknownThingError
from ..model.metric_types import METRIC_TYPES
from ..model.windows import format_utc
from . import cursors, parameters
from .parameters import TimeRange

# The end of a page: timestamp and metric_id of its last record.
PageToken = tuple[str, str]

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_IDENTITY = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


@dataclass(frozen=True, slots=True)
class RecordsQuery:
    """Records of one metric type, newest first, `after` the end of the previous page."""

    metric_type: str
    time_range: TimeRange
    resource_id: str = ""
    limit: int = parameters.MAX_LIMIT
    after: PageToken | None = None


class Records(Protocol):
    """The table of records. Every method raises StorageError."""

    @property
    def table(self) -> str:
        """The table's name."""

    def page(self, query: RecordsQuery, now: datetime) -> tuple[Sequence[Item], PageToken | None]:
        """Records that have not expired, and the token of the next page if there may be one."""


def list_records(
    metric_type: str,
    query_params: parameters.QueryParams | None,
    *,
    records: Records,
    now: datetime,
) -> dict[str, Any]:
    """A page of records.

    Raises:
        InvalidRequestError: a parameter is invalid.
        UnknownThingError: the metric type does not exist.
        StorageError: AWS failed.
    """
    if metric_type not in METRIC_TYPES:
        raise UnknownThingError(f"there is no metric type {metric_type[:40]!r}")
    values = parameters.single(query_params, ("from", "to", "resource_id", "limit", "cursor"))
    scope = f"{records.table}/{metric_type}"
    query = _read_query(metric_type, values, scope, now)
    items, after = records.page(query, now)
    return {
        "records": [decode_exact(item) for item in items],
        "cursor": cursors.seal(scope, _bound_params(query), after) if after else None,
    }


def _read_query(
    metric_type: str, values: Mapping[str, str], scope: str, now: datetime
) -> RecordsQuery:
    limit, resource_id = parameters.limit(values), parameters.name(values, "resource_id")
    time_range = parameters.time_range(values, now)
    query = RecordsQuery(metric_type, time_range, resource_id, limit)
    if "cursor" not in values:
        return query
    bound, position = cursors.unseal(scope, values["cursor"])
    cursors.check_same(
        bound, {name: text for name, text in _bound_params(query).items() if name in values}
    )
    return RecordsQuery(
        metric_type,
        parameters.time_range(bound, now),
        bound.get("resource_id", ""),
        limit,
        _page_token(position),
    )


def _bound_params(query: RecordsQuery) -> dict[str, str]:
    """The parameters that a cursor is bound to."""
    bound = {
        "from": format_utc(query.time_range.start),
        "to": format_utc(query.time_range.stop),
    }
    return bound | ({"resource_id": query.resource_id} if query.resource_id else {})


def _page_token(position: Any) -> PageToken:
    match position:
        case [str(timestamp), str(identity)] if _TIMESTAMP.fullmatch(
            timestamp
        ) and _IDENTITY.fullmatch(identity):
            return timestamp, identity
        case _:
            raise InvalidRequestError("cursor does not belong to this query")
