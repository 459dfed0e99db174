"""Pages of records as the table has them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from ..model.errors import InvalidRequestError, UnknownThingError
from ..model.items import Item
from ..model.records import METRIC_TYPES
from ..model.windows import format_utc
from . import cursors, parameters
from .parameters import Span

# Where a page ends: timestamp and metric_id of its last record.
Position = tuple[str, str]

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_IDENTITY = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Records of one metric type, newest first, `after` the end of the page before."""

    metric_type: str
    span: Span
    resource_id: str = ""
    limit: int = parameters.MAX_LIMIT
    after: Position | None = None


class Records(Protocol):
    """Where records are. Every method raises StorageError."""

    @property
    def table(self) -> str:
        """The table's name."""

    def page(self, wanted: Wanted, now: datetime) -> tuple[Sequence[Item], Position | None]:
        """Records that have not expired, and where the next page begins, if there may be one."""


def answer(
    metric_type: str, given: parameters.Given | None, *, records: Records, now: datetime
) -> dict[str, Any]:
    """A page of records.

    Raises:
        InvalidRequestError: a parameter is wrong.
        UnknownThingError: there is no such metric type.
        StorageError: AWS failed.
    """
    if metric_type not in METRIC_TYPES:
        raise UnknownThingError(f"there is no metric type {metric_type[:40]!r}")
    values = parameters.single(given, ("from", "to", "resource_id", "limit", "cursor"))
    scope = f"{records.table}/{metric_type}"
    wanted = _wanted(metric_type, values, scope, now)
    items, after = records.page(wanted, now)
    query = _query(wanted)
    return {
        "records": [exact(item) for item in items],
        "cursor": cursors.seal(scope, query, after) if after else None,
    }


def _wanted(metric_type: str, values: Mapping[str, str], scope: str, now: datetime) -> Wanted:
    most, resource = parameters.limit(values), parameters.name(values, "resource_id")
    span = parameters.span(values, now)
    asked = Wanted(metric_type, span, resource, most)
    if "cursor" not in values:
        return asked
    query, position = cursors.unseal(scope, values["cursor"])
    given = {name: text for name, text in _query(asked).items() if name in values}
    cursors.agree(query, given)
    return Wanted(
        metric_type,
        parameters.span(query, now),
        query.get("resource_id", ""),
        most,
        _position(position),
    )


def _query(wanted: Wanted) -> dict[str, str]:
    """What a cursor is bound to, as parameters."""
    query = {"from": format_utc(wanted.span.start), "to": format_utc(wanted.span.stop)}
    return query | ({"resource_id": wanted.resource_id} if wanted.resource_id else {})


def _position(position: Any) -> Position:
    match position:
        case [str(timestamp), str(identity)] if _TIMESTAMP.fullmatch(
            timestamp
        ) and _IDENTITY.fullmatch(identity):
            return timestamp, identity
        case _:
            raise InvalidRequestError("cursor is not one of this query's")


def exact(item: Item) -> dict[str, Any]:
    """The attributes as plain values; whole numbers are integers."""
    return {name: _exact(value) for name, value in item.items()}


def _exact(attribute: Item) -> Any:
    ((kind, value),) = attribute.items()
    match kind:
        case "M":
            return {name: _exact(each) for name, each in value.items()}
        case "N":
            return int(value) if value.lstrip("-").isdecimal() else float(value)
        case "NULL":
            return None
        case _:
            return value
