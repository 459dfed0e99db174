"""Fast reads of many items. moto takes milliseconds for each, a minute for a page of 500 hosts.

Supports a Query of a global secondary index whose conditions are comparisons joined by AND, and
BatchGetItem. moto handles every other request. Tests compare the responses with moto's.
"""

import json
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType

from ..wsgi import WsgiApplication, read_body

# Size limit of one response, before attributes are projected.
_PAGE_BYTES = 1_000_000

# The supported parameters of Query, of BatchGetItem, and of each table in BatchGetItem.
_QUERY = frozenset(
    """TableName IndexName KeyConditionExpression FilterExpression ProjectionExpression Limit
    ExpressionAttributeNames ExpressionAttributeValues ScanIndexForward ExclusiveStartKey""".split()
)
_BATCH = frozenset({"RequestItems"})
_KEYS = frozenset({"Keys", "ProjectionExpression", "ExpressionAttributeNames", "ConsistentRead"})

_CONDITION = re.compile(
    r"(?P<name>#?\w+) (?:(?P<operator>=|<>|<=|>=|<|>) (?P<value>:\w+)"
    r"|BETWEEN (?P<low>:\w+) AND (?P<high>:\w+))"
)
_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

Request = Mapping[str, Any]
Condition = Callable[[Any], bool]


def with_fast_reads(application: WsgiApplication, backend: DynamoDBBackend) -> WsgiApplication:
    """Wrap an application so that the supported reads do not reach moto."""

    def handle(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        operation = environ.get("HTTP_X_AMZ_TARGET", "").removeprefix("DynamoDB_20120810.")
        if operation not in {"Query", "BatchGetItem"}:
            return application(environ, start_response)
        request = json.loads(read_body(environ) or b"{}")
        response = (query if operation == "Query" else batch_get)(backend, request)
        if response is None:
            return application(environ, start_response)
        start_response("200 OK", [("Content-Type", "application/x-amz-json-1.0")])
        return [json.dumps(response).encode()]

    return handle


def query(backend: DynamoDBBackend, request: Request) -> dict[str, Any] | None:
    """Return the response to a Query of an index, or None for an unsupported request."""
    table = backend.tables.get(request.get("TableName", ""))
    index: Any = next(
        (
            each
            for each in getattr(table, "global_indexes", ())
            if each.name == request.get("IndexName")
        ),
        None,
    )
    keys = conditions(request.get("KeyConditionExpression", ""), request)
    filters = conditions(request.get("FilterExpression", ""), request)
    if table is None or index is None or not keys or filters is None or set(request) - _QUERY:
        return None
    key_names = {each["KeyType"]: each["AttributeName"] for each in index.schema}
    if set(key_names) != {"HASH", "RANGE"}:
        return None
    order = (key_names["RANGE"], table.hash_key_attr)
    descending = not request.get("ScanIndexForward", True)
    found = sorted(
        (item for item in _items(table) if all(matches(item) for matches in keys)),
        key=lambda item: _sort_key(item.attrs, order),
        reverse=descending,
    )
    rest = _after(found, request.get("ExclusiveStartKey"), order, descending=descending)
    page, is_last = _page(rest, request.get("Limit"))
    items = [item for item in page if all(matches(item) for matches in filters)]
    names = {*order, key_names["HASH"], *([table.range_key_attr] if table.range_key_attr else [])}
    projected = [_project(item, request) for item in items]
    response = {"Items": projected, "Count": len(items), "ScannedCount": len(page)}
    if page and not is_last:
        response["LastEvaluatedKey"] = {name: to_json(page[-1].attrs[name]) for name in names}
    return response


def batch_get(backend: DynamoDBBackend, request: Request) -> dict[str, Any] | None:
    """Return the response to a BatchGetItem, or None for an unsupported request."""
    tables = request.get("RequestItems", {})
    if set(request) - _BATCH or not set(tables) <= set(backend.tables):
        return None
    if any(set(each) - _KEYS or len(each["Keys"]) > 100 for each in tables.values()):
        return None
    responses = {}
    for name, each in tables.items():
        table = backend.tables[name]
        if table.range_key_attr is None:
            return None
        hash_key, range_key = table.hash_key_attr, table.range_key_attr
        found = (
            table.items.get(DynamoType(key[hash_key]), {}).get(DynamoType(key[range_key]))
            for key in each["Keys"]
        )
        responses[name] = [_project(item, each) for item in found if item is not None]
    return {"Responses": responses, "UnprocessedKeys": {}}


def conditions(expression: str, request: Request) -> list[Condition] | None:
    """Parse an expression; None if it is not a list of comparisons joined by AND."""
    found = list(_CONDITION.finditer(expression))
    if " AND ".join(each[0] for each in found) != expression:
        return None
    names = request.get("ExpressionAttributeNames", {})
    values = request.get("ExpressionAttributeValues", {})
    return [_condition(each, names, values) for each in found]


def _condition(match: re.Match[str], names: Request, values: Request) -> Condition:
    name = names.get(match["name"], match["name"])
    operands = [values[match[each]] for each in ("value", "low", "high") if match[each]]
    ((kind, _),) = operands[0].items()
    bounds = [_comparable(kind, _value(each)) for each in operands]

    def matches(item: Any) -> bool:
        attribute = item.attrs.get(name)
        if attribute is None or attribute.type != kind:
            return False
        value = _comparable(kind, attribute.value)
        if match["operator"]:
            return _OPERATORS[match["operator"]](value, bounds[0])
        return bool(bounds[0] <= value <= bounds[1])

    return matches


def _comparable(kind: str, value: Any) -> Any:
    return Decimal(value) if kind == "N" else value


def _items(table: Any) -> Iterator[Any]:
    """Yield the table's items, from copies, because other threads may write."""
    for partition in list(table.items.values()):
        yield from list(partition.values())


def _sort_key(attributes: Any, order: Sequence[str]) -> tuple[Any, ...]:
    return tuple(attributes[name].value for name in order)


def _after(
    found: Sequence[Any], start: Any, order: Sequence[str], *, descending: bool
) -> Sequence[Any]:
    """Return the items after the exclusive start key."""
    if start is None:
        return found
    last = tuple(_value(start[name]) for name in order)
    is_before = operator.ge if descending else operator.le
    return [item for item in found if not is_before(_sort_key(item.attrs, order), last)]


def _page(found: Sequence[Any], limit: int | None) -> tuple[list[Any], bool]:
    """Return the items of one response, and whether they are the last ones."""
    page: list[Any] = []
    size = 0
    for item in found:
        size += _size(item)
        if (page and size > _PAGE_BYTES) or len(page) == limit:
            return page, False
        page.append(item)
    return page, True


def _size(item: Any) -> int:
    """Return the approximate size of an item in bytes; cached, because every read needs it."""
    if not hasattr(item, "local_size"):
        item.local_size = len(json.dumps({n: to_json(a) for n, a in item.attrs.items()})) * 2 // 3
    return int(item.local_size)


def _project(item: Any, request: Request) -> dict[str, Any]:
    expression = request.get("ProjectionExpression")
    if not expression:
        return {name: to_json(attribute) for name, attribute in item.attrs.items()}
    names = request.get("ExpressionAttributeNames", {})
    projected: dict[str, Any] = {}
    for path in expression.split(","):
        keys = [names.get(key, key) for key in path.strip().split(".")]
        attribute = item.attrs.get(keys[0])
        for key in keys[1:]:
            attribute = attribute.value.get(key) if attribute is not None else None
        if attribute is None:
            continue
        parent = projected
        for key in keys[:-1]:
            parent = parent.setdefault(key, {"M": {}})["M"]
        parent[keys[-1]] = to_json(attribute)
    return projected


def to_json(attribute: Any) -> dict[str, Any]:
    """Convert one of moto's attributes to DynamoDB JSON."""
    value = attribute.value
    if attribute.type == "M":
        value = {name: to_json(each) for name, each in value.items()}
    elif attribute.type == "L":
        value = [to_json(each) for each in value]
    return {attribute.type: value}


def _value(attribute: Request) -> Any:
    """Return the value of an attribute in DynamoDB JSON, without its type."""
    return next(iter(attribute.values()))
