"""Reads of many items, which cost moto milliseconds each: a page of 500 hosts would take a minute.

A Query of a global index whose conditions are comparisons joined by AND, and a BatchGetItem.
Any other request is moto's own; tests hold these answers against moto's.
"""

import io
import json
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from moto.dynamodb.models import DynamoDBBackend
from moto.dynamodb.models.dynamo_type import DynamoType

from ..shared import Wsgi

# What one answer has at most, before attributes are projected.
_PAGE_BYTES = 1_000_000

# What a request may say to be answered here.
_QUERY = frozenset(
    """TableName IndexName KeyConditionExpression FilterExpression ProjectionExpression Limit
    ExpressionAttributeNames ExpressionAttributeValues ScanIndexForward ExclusiveStartKey""".split()
)
_BATCH = frozenset({"RequestItems"})
_KEYS = frozenset({"Keys", "ProjectionExpression", "ExpressionAttributeNames", "ConsistentRead"})

_CONDITION = re.compile(
    r"(?P<name>#?\w+) (?:(?P<sign>=|<>|<=|>=|<|>) (?P<value>:\w+)"
    r"|BETWEEN (?P<least>:\w+) AND (?P<most>:\w+))"
)
_SIGNS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

Request = Mapping[str, Any]
Condition = Callable[[Any], bool]


def with_fast_reads(application: Wsgi, backend: DynamoDBBackend) -> Wsgi:
    """The application, some of whose reads are answered in front of it."""

    def answering(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        operation = environ.get("HTTP_X_AMZ_TARGET", "").removeprefix("DynamoDB_20120810.")
        if operation not in {"Query", "BatchGetItem"}:
            return application(environ, start_response)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        request = json.loads(body or b"{}")
        answer = (query if operation == "Query" else batch_get)(backend, request)
        if answer is None:
            return application(environ, start_response)
        start_response("200 OK", [("Content-Type", "application/x-amz-json-1.0")])
        return [json.dumps(answer).encode()]

    return answering


def query(backend: DynamoDBBackend, request: Request) -> dict[str, Any] | None:
    """The answer to a Query of an index; None if it is for moto."""
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
    kinds = {each["KeyType"]: each["AttributeName"] for each in index.schema}
    if set(kinds) != {"HASH", "RANGE"}:
        return None
    order = (kinds["RANGE"], table.hash_key_attr)
    backwards = not request.get("ScanIndexForward", True)
    found = sorted(
        (item for item in _items(table) if all(holds(item) for holds in keys)),
        key=lambda item: _place(item.attrs, order),
        reverse=backwards,
    )
    rest = _after(found, request.get("ExclusiveStartKey"), order, backwards=backwards)
    page, whole = _page(rest, request.get("Limit"))
    items = [item for item in page if all(holds(item) for holds in filters)]
    names = {*order, kinds["HASH"], *([table.range_key_attr] if table.range_key_attr else [])}
    last = {name: plain(page[-1].attrs[name]) for name in names} if page and not whole else None
    projected = [_project(item, request) for item in items]
    answer = {"Items": projected, "Count": len(items), "ScannedCount": len(page)}
    return answer | ({"LastEvaluatedKey": last} if last else {})


def batch_get(backend: DynamoDBBackend, request: Request) -> dict[str, Any] | None:
    """The answer to a BatchGetItem; None if it is for moto."""
    wanted = request.get("RequestItems", {})
    if set(request) - _BATCH or not set(wanted) <= set(backend.tables):
        return None
    if any(set(each) - _KEYS or len(each["Keys"]) > 100 for each in wanted.values()):
        return None
    responses = {}
    for name, each in wanted.items():
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
    """What an expression asks of an item; None if it is more than comparisons joined by AND."""
    found = list(_CONDITION.finditer(expression))
    if " AND ".join(each[0] for each in found) != expression:
        return None
    names = request.get("ExpressionAttributeNames", {})
    values = request.get("ExpressionAttributeValues", {})
    return [_condition(each, names, values) for each in found]


def _condition(match: re.Match[str], names: Request, values: Request) -> Condition:
    name = names.get(match["name"], match["name"])
    bounds = [values[match[each]] for each in ("value", "least", "most") if match[each]]
    ((kind, _),) = bounds[0].items()
    known = [_value(kind, next(iter(each.values()))) for each in bounds]

    def holds(item: Any) -> bool:
        attribute = item.attrs.get(name)
        if attribute is None or attribute.type != kind:
            return False
        value = _value(kind, attribute.value)
        if match["sign"]:
            return _SIGNS[match["sign"]](value, known[0])
        return bool(known[0] <= value <= known[1])

    return holds


def _value(kind: str, value: Any) -> Any:
    return Decimal(value) if kind == "N" else value


def _items(table: Any) -> Iterator[Any]:
    """The table's items; others may write meanwhile."""
    for held in list(table.items.values()):
        yield from list(held.values())


def _place(attributes: Any, order: Sequence[str]) -> tuple[Any, ...]:
    return tuple(attributes[name].value for name in order)


def _after(
    found: Sequence[Any], start: Any, order: Sequence[str], *, backwards: bool
) -> Sequence[Any]:
    """What comes after the key at which the page before has ended."""
    if start is None:
        return found
    last = tuple(_text(start[name]) for name in order)
    passed = operator.ge if backwards else operator.le
    return [item for item in found if not passed(_place(item.attrs, order), last)]


def _page(found: Sequence[Any], limit: int | None) -> tuple[list[Any], bool]:
    """The items of one answer, and whether they are all there are."""
    page: list[Any] = []
    size = 0
    for item in found:
        size += _size(item)
        if (page and size > _PAGE_BYTES) or len(page) == limit:
            return page, False
        page.append(item)
    return page, True


def _size(item: Any) -> int:
    """About what DynamoDB counts; kept, because a page is cut anew at each read."""
    if not hasattr(item, "local_size"):
        item.local_size = len(json.dumps({n: plain(a) for n, a in item.attrs.items()})) * 2 // 3
    return int(item.local_size)


def _project(item: Any, request: Request) -> dict[str, Any]:
    expression = request.get("ProjectionExpression")
    if not expression:
        return {name: plain(attribute) for name, attribute in item.attrs.items()}
    names = request.get("ExpressionAttributeNames", {})
    found: dict[str, Any] = {}
    for path in expression.split(","):
        words = [names.get(word, word) for word in path.strip().split(".")]
        attribute = item.attrs.get(words[0])
        for word in words[1:]:
            attribute = attribute.value.get(word) if attribute is not None else None
        if attribute is None:
            continue
        place = found
        for word in words[:-1]:
            place = place.setdefault(word, {"M": {}})["M"]
        place[words[-1]] = plain(attribute)
    return found


def plain(attribute: Any) -> dict[str, Any]:
    """An attribute of moto's as JSON has it."""
    value = attribute.value
    if attribute.type == "M":
        value = {name: plain(each) for name, each in value.items()}
    elif attribute.type == "L":
        value = [plain(each) for each in value]
    return {attribute.type: value}


def _text(attribute: Request) -> Any:
    return next(iter(attribute.values()))
