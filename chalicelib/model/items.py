"""Records as items of the DynamoDB table. Pure functions."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, cast

import msgspec

from .dynamodb import Item, decode, encode
from .enrichment import Enriched, Previous
from .metric_types import COUNTERS, base_of
from .records import Measurement, Record, metric_id
from .windows import Window, format_utc

# The attributes needed to compare with the previous window; keeps the read small.
PREVIOUS_ATTRIBUTES = ("metric_id", "timestamp", "collected_at", "measurements")

# The attributes needed to decide which of two records with the same key is newer.
VERSION_ATTRIBUTES = ("metric_id", "timestamp", "version", "source_object")

_STATISTICS = ("last", "avg", "min", "max", "p95")


def raw_item(record: Record, *, retention_days: int) -> Item:
    """The item that the collector writes: the record and its expiry time."""
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
    return encode(attributes)


def enriched_item(enriched: Enriched, *, retention_days: int) -> Item:
    """The item that the processor writes; `processed_at` marks it as enriched."""
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
    return raw_item(enriched.record, retention_days=retention_days) | encode(added)


def version(record: Record, stored_at: datetime) -> str:
    """When the record was read and when its object was stored; as text in the order of time."""
    return f"{_moment(record.collected_at or stored_at)} {_moment(stored_at)}"


def precedence(item: Item) -> tuple[str, str]:
    """The precedence of an item; of two enriched items with the same key, the higher one wins.

    It depends on the data alone, so the order in which objects are processed does not matter. An
    item without `version`, written by a collector or an earlier release, has the lowest one.
    """
    return item.get("version", {}).get("S", ""), item.get("source_object", {}).get("S", "")


# Upper bounds in bytes: the attributes with a fixed name or size; a measurement with its names,
# its longest numbers and its change; the suffix `_rate`, with which a counter gets a rate.
_FIXED_BYTES = 8_000
_MEASUREMENT_BYTES = 240
_SUFFIX_BYTES = 10


def largest_item(record: Record) -> int:
    """An upper bound in bytes of the record's item in DynamoDB, enriched."""
    names = [len(name.encode()) for name in record.measurements]
    counters = [
        len(name.encode()) + _SUFFIX_BYTES
        for name in record.measurements
        if base_of(name) in COUNTERS
    ]
    labels = sum(
        len(name.encode()) + len(text.encode()) + 1 for name, text in record.labels.items()
    )
    return _FIXED_BYTES + labels + sum(_MEASUREMENT_BYTES + 2 * each for each in names + counters)


def _measurement(measurement: Measurement) -> dict[str, Any]:
    values = {statistic: getattr(measurement, statistic) for statistic in _STATISTICS}
    values |= {"unit": measurement.unit, "samples": measurement.samples}
    if measurement.breach_seconds is not None:
        values["breach_seconds"] = measurement.breach_seconds
    return values


def previous_key(record: Record) -> Item | None:
    """The key of the same host's record of the previous window, computed from this record.

    None for a point in time (`window_seconds` 0), which has no previous window.
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
    return encode({"metric_id": str(identity), "timestamp": format_utc(end)})


def previous_from_item(item: Item) -> Previous:
    """The previous record from an item with PREVIOUS_ATTRIBUTES."""
    return msgspec.convert({"collected_at": None, **decode(item)}, Previous, strict=False)


def previous_from_record(record: Record) -> Previous:
    return Previous(
        timestamp=record.timestamp,
        collected_at=record.collected_at,
        measurements=cast(Mapping[str, Measurement], record.measurements),
    )


def _moment(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
