"""Records as DynamoDB items. Pure functions, in the low-level form that boto3's client takes."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, cast

import msgspec

from .enrichment import COUNTERS, Enriched, Previous
from .records import Measurement, Record, metric_id
from .windows import Window, format_utc

Item = dict[str, Any]

# All that comparing with the window before needs; keeps the read small.
PREVIOUS_ATTRIBUTES = ("metric_id", "timestamp", "collected_at", "measurements")

# All that telling the later of two records of one identity needs.
VERSION_ATTRIBUTES = ("metric_id", "timestamp", "version", "source_object")

_STATISTICS = ("last", "avg", "min", "max", "p95")


def raw_item(record: Record, *, retention_days: int) -> Item:
    """The item as the collector writes it: the record, and when it expires."""
    attributes: dict[str, Any] = {
        "schema_version": record.schema_version,
        "metric_id": str(record.metric_id),
        "timestamp": format_utc(record.timestamp),
        "metric_type": record.metric_type,
        "account_id": record.account_id,
        "region": record.region,
        "resource_id": record.resource_id,
        "source": record.source,
        "window_seconds": record.window_seconds,
        "execution_id": record.execution_id,
        "measurements": {name: _measurement(each) for name, each in record.measurements.items()},
        "labels": record.labels,
        "expires_at": int((record.timestamp + timedelta(days=retention_days)).timestamp()),
    }
    if record.collected_at is not None:
        attributes["collected_at"] = _moment(record.collected_at)
    return _attributes(attributes)


def enriched_item(enriched: Enriched, *, retention_days: int) -> Item:
    """The item as the processor writes it; `processed_at` marks it as enriched."""
    added: dict[str, Any] = {
        "status": enriched.status,
        "change": enriched.change,
        "counter_reset": enriched.counter_reset,
        "collection_lag_seconds": enriched.collection_lag_seconds,
        "source_object": enriched.source_object,
        "version": version(enriched.record, enriched.stored_at),
        "processed_at": _moment(enriched.processed_at),
    }
    if enriched.previous_timestamp is not None:
        added["previous_timestamp"] = format_utc(enriched.previous_timestamp)
    return raw_item(enriched.record, retention_days=retention_days) | _attributes(added)


def version(record: Record, stored_at: datetime) -> str:
    """When a record was read, then when its object was stored; sorts as text in time order."""
    return f"{_moment(record.collected_at or stored_at)} {_moment(stored_at)}"


def precedence(item: Item) -> tuple[str, str]:
    """Of two enriched items of one key the one with the greater precedence stays.

    Made of the data alone, so it is the same in whatever order objects are processed. An
    item without `version`, written by a collector or an earlier release, gives way to any.
    """
    return item.get("version", {}).get("S", ""), item.get("source_object", {}).get("S", "")


# Upper bounds, in bytes: all that has a fixed name or form in an item; a measurement with the
# names and the longest numbers in it, and its change; the `_rate` that a name grows by.
_FIXED_BYTES = 8_000
_MEASUREMENT_BYTES = 240
_SUFFIX_BYTES = 10


def largest_item(record: Record) -> int:
    """The most bytes that the record's item can have in DynamoDB, whatever enriching adds."""
    names = [len(name.encode()) for name in record.measurements]
    counters = [
        len(name.encode()) + _SUFFIX_BYTES
        for name in record.measurements
        if name.partition(":")[0] in COUNTERS
    ]
    labels = sum(
        len(name.encode()) + len(text.encode()) + 1 for name, text in record.labels.items()
    )
    return _FIXED_BYTES + labels + sum(_MEASUREMENT_BYTES + 2 * each for each in names + counters)


def _measurement(measurement: Measurement) -> dict[str, Any]:
    plain = {statistic: getattr(measurement, statistic) for statistic in _STATISTICS}
    plain |= {"unit": measurement.unit, "samples": measurement.samples}
    if measurement.breach_seconds is not None:
        plain["breach_seconds"] = measurement.breach_seconds
    return plain


def key(item: Item) -> Item:
    """The primary key of an item."""
    return {"metric_id": item["metric_id"], "timestamp": item["timestamp"]}


def previous_key(record: Record) -> Item | None:
    """The key of the same resource's record one window earlier: it can be computed.

    A record of a mere moment (`window_seconds` 0) has none.
    """
    if not record.window_seconds:
        return None
    end = record.timestamp - timedelta(seconds=record.window_seconds)
    identity = metric_id(
        account_id=record.account_id,
        region=record.region,
        resource_id=record.resource_id,
        metric_type=record.metric_type,
        window=Window(end, record.window_seconds),
    )
    return _attributes({"metric_id": str(identity), "timestamp": format_utc(end)})


def previous_from_item(item: Item) -> Previous:
    """What comparing needs of a stored item (one with PREVIOUS_ATTRIBUTES)."""
    return msgspec.convert({"collected_at": None, **plain(item)}, Previous, strict=False)


def plain(item: Item) -> dict[str, Any]:
    """The attributes as plain values; numbers are floats."""
    return {name: _plain(value) for name, value in item.items()}


def previous_from_record(record: Record) -> Previous:
    return Previous(
        timestamp=record.timestamp,
        collected_at=record.collected_at,
        measurements=cast(Mapping[str, Measurement], record.measurements),
    )


def _attributes(values: Mapping[str, Any]) -> Item:
    return {name: _attribute(value) for name, value in values.items()}


def _attribute(value: Any) -> Item:
    # boto3's TypeSerializer insists on Decimal and takes several times as long.
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
            return {"M": _attributes(value)}


def _number(value: float) -> str:
    # DynamoDB ends at 1e-130 below; what is smaller than 1e-100 is rounding dust.
    if abs(value) < 1e-100:
        return "0"
    return str(int(value)) if value == int(value) else repr(value)


def _plain(attribute: Item) -> Any:
    ((kind, value),) = attribute.items()
    match kind:
        case "M":
            return {name: _plain(each) for name, each in value.items()}
        case "N":
            return float(value)
        case "NULL":
            return None
        case _:
            return value


def _moment(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
