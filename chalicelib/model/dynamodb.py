"""DynamoDB's attribute values, and the names of the table's index. Pure functions.

Items are in the low-level form of boto3's client. Its TypeSerializer is not used: it requires
Decimal and takes several times as long.
"""

from collections.abc import Mapping
from typing import Any

Item = dict[str, Any]

INDEX_NAME = "metric_type-timestamp-index"


def encode(values: Mapping[str, Any]) -> Item:
    """Attributes from values: None, bool, str, int, float, and mappings of these."""
    return {name: _attribute(value) for name, value in values.items()}


def decode(item: Item) -> dict[str, Any]:
    """Values from attributes; every number is a float."""
    return {name: _value(attribute, float) for name, attribute in item.items()}


def decode_exact(item: Item) -> dict[str, Any]:
    """Values from attributes; whole numbers are integers."""
    return {name: _value(attribute, _exact_number) for name, attribute in item.items()}


def text(item: Item, name: str) -> str:
    """The value of a string attribute; empty if the item does not have it."""
    return str(item.get(name, {}).get("S", ""))


def number(item: Item, name: str) -> float | None:
    """The value of a number attribute; None if it is null or the item does not have it."""
    found = item.get(name, {}).get("N")
    return None if found is None else float(found)


def mapping(item: Item, name: str) -> Item:
    """The attributes in a map attribute; empty if the item does not have it."""
    found: Item = item.get(name, {}).get("M", {})
    return found


def key(item: Item) -> Item:
    """The primary key of an item."""
    return {"metric_id": item["metric_id"], "timestamp": item["timestamp"]}


def key_values(item: Item) -> tuple[str, str]:
    """The primary key of an item as `metric_id` and `timestamp`."""
    return item["metric_id"]["S"], item["timestamp"]["S"]


def _attribute(value: Any) -> Item:
    match value:
        case None:
            return {"NULL": True}
        case bool():
            return {"BOOL": value}
        case str():
            return {"S": value}
        case int() | float():
            return {"N": _number(value)}
        case _:
            return {"M": encode(value)}


def _number(value: float) -> str:
    # DynamoDB's smallest positive number is 1e-130; below 1e-100 there are only rounding errors.
    if abs(value) < 1e-100:
        return "0"
    return str(int(value)) if value == int(value) else repr(value)


def _exact_number(digits: str) -> float:
    return int(digits) if digits.lstrip("-").isdecimal() else float(digits)


def _value(attribute: Item, to_number: Any) -> Any:
    ((kind, value),) = attribute.items()
    match kind:
        case "M":
            return {name: _value(each, to_number) for name, each in value.items()}
        case "N":
            return to_number(value)
        case "NULL":
            return None
        case _:
            return value
