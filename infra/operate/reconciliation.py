"""Reconciliation: compare the stores with the records that the raw objects contain. Pure.

It shares the parser with log-processor, so that both agree on what a record is. It does not use
the rest of log-processor: batching, deduplication, enrichment, keys and writing.
"""

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from chalicelib.model import dynamodb
from chalicelib.model.dynamodb import Item
from chalicelib.model.items import version
from chalicelib.model.records import Measurement, Record
from chalicelib.model.windows import format_utc
from chalicelib.process.parsing import EntryReader
from chalicelib.process.validation import validate

# Suffix of an object next to a quarantined one; it lists the entries that were fixed.
FIXED = ".fixed.json"

# metric_id and timestamp: the key of the DynamoDB table.
RecordKey = tuple[str, str]

# A measurement's unit, last, avg, min, max, p95, samples and breach_seconds.
Value = tuple[Any, ...]
Values = Mapping[str, Value]

_STATISTICS = ("last", "avg", "min", "max", "p95", "samples", "breach_seconds")
_RATED = ("bytes_sent", "bytes_received")
_CPU_SECONDS = ("cpu_seconds_idle", "cpu_seconds_total")


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference between a store and the raw objects, as in `verify --json`.

    `object` is an S3 key, `resource` is the host; fields that do not apply are empty.
    """

    store: str
    what: str
    object: str
    metric_type: str = ""
    resource: str = ""
    timestamp: str = ""


@dataclass(frozen=True, slots=True)
class ExpectedRecord:
    """A record of a raw object, as it must be stored."""

    metric_type: str
    resource: str
    collected_at: datetime | None
    version: str
    values: Values

    def is_replaced_by(self, other: "ExpectedRecord", uri: str, other_uri: str) -> bool:
        """Whether `other`, from object `other_uri`, must be stored instead of this one from `uri`.

        If both have the same values, either one may be stored.
        """
        same = (self.collected_at, self.values) == (other.collected_at, other.values)
        return not same and (self.version, uri) < (other.version, other_uri)


@dataclass(frozen=True, slots=True)
class RawContent:
    """The content of a raw object.

    `expected` has one record for each key, `records` counts duplicates too, `rejected` counts the
    rejected entries by line and digest.
    """

    key: str
    uri: str
    expected: Mapping[RecordKey, ExpectedRecord]
    rejected: Counter[tuple[int, str]]
    records: int

    def difference(self, store: str, what: str, key: RecordKey | None = None) -> Difference:
        """A difference of this object, or of one of its records."""
        if key is None:
            return Difference(store, what, self.key)
        record = self.expected[key]
        return Difference(store, what, self.key, record.metric_type, record.resource, key[1])


@dataclass(frozen=True, slots=True)
class StoredItem:
    """An item of the table; `source` is empty if it is not enriched."""

    source: str
    version: str
    values: Values


@dataclass(frozen=True, slots=True)
class ProcessedLine:
    """A line of the processed object `key`."""

    key: str
    record: RecordKey
    source: str
    measurement: str
    value: Value


@dataclass(slots=True)
class Summary:
    """The counts of a reconciliation, and fingerprints of the records seen.

    `distinct` has the keys of raw records, `items` those of enriched items, `sources` each record
    together with its raw object.
    """

    raw_objects: int = 0
    raw_records: int = 0
    raw_repeated: int = 0
    raw_rejected: int = 0
    processed_objects: int = 0
    processed_records: int = 0
    processed_lines: int = 0
    quarantine_objects: int = 0
    quarantine_lines: int = 0
    expired: int = 0
    distinct: set[int] = field(default_factory=set)
    items: set[int] = field(default_factory=set)
    sources: set[int] = field(default_factory=set)


# --- Reading -----------------------------------------------------------------------------


def read_raw(
    chunks: Iterable[bytes],
    *,
    bucket: str,
    key: str,
    stored_at: datetime,
    account_id: str,
    region: str,
    max_ahead: timedelta,
) -> RawContent:
    """Parse a raw object; account and region are the bucket's.

    Records whose times are more than `max_ahead` later than `stored_at` are rejected.
    """
    reader = EntryReader(chunks, validate=partial(validate, latest=stored_at + max_ahead))
    expected: dict[RecordKey, ExpectedRecord] = {}
    rejected: Counter[tuple[int, str]] = Counter()
    records = 0
    for entry in reader:
        if not isinstance(entry, Record):
            rejected[entry.line, _digest(entry.original)] += 1
            continue
        records += 1
        identified = entry.identified(account_id=account_id, region=region)
        record_key = str(identified.metric_id), format_utc(identified.timestamp)
        record = _expected_record(identified, stored_at)
        if record_key not in expected or expected[record_key].version <= record.version:
            expected[record_key] = record
    if not records and not rejected and reader.position.form != "rest":
        rejected[1, _digest(b"")] += 1  # an empty object is rejected, an empty array is not
    return RawContent(key, f"s3://{bucket}/{key}", expected, rejected, records)


def _expected_record(record: Record, stored_at: datetime) -> ExpectedRecord:
    return ExpectedRecord(
        metric_type=record.metric_type,
        resource=record.resource_id,
        collected_at=record.collected_at,
        version=version(record, stored_at),
        values={name: _value(each) for name, each in record.measurements.items()},
    )


def _value(measurement: Measurement) -> Value:
    return measurement.unit, *(getattr(measurement, name) for name in _STATISTICS)


def read_item(item: Item) -> tuple[RecordKey, StoredItem]:
    """Parse an item of the DynamoDB API."""
    measurements = dynamodb.mapping(item, "measurements")
    return dynamodb.key_values(item), StoredItem(
        source=dynamodb.text(item, "source_object"),
        version=dynamodb.text(item, "version"),
        values={name: _item_value(each["M"]) for name, each in measurements.items()},
    )


def _item_value(measurement: Item) -> Value:
    numbers = (dynamodb.number(measurement, name) for name in _STATISTICS)
    return dynamodb.text(measurement, "unit"), *numbers


def read_processed_line(key: str, text: bytes) -> ProcessedLine:
    """Parse a line of the processed object `key`."""
    line = json.loads(text)
    names = ("value_last", "value_avg", "value_min", "value_max", "value_p95", "samples")
    day, _, clock = line["ts"].partition(" ")
    return ProcessedLine(
        key=key,
        record=(line["metric_id"], f"{day}T{clock[:8]}Z"),
        source=line["source_object"],
        measurement=line["measurement"],
        value=(line["unit"], *(line[name] for name in names), line["breach_seconds"]),
    )


def read_quarantined(text: bytes) -> tuple[str, tuple[int, str]]:
    """Parse a quarantined line into its raw object's URI and its key in `RawContent.rejected`."""
    line = json.loads(text)
    return line["source_object"], (line["line"], _digest(original(line)))


def original(line: Mapping[str, Any]) -> bytes:
    """The rejected bytes of a quarantined line."""
    if "original_base64" in line:
        return base64.b64decode(line["original_base64"])
    return str(line["original"]).encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def fingerprint(*parts: str) -> int:
    """A 64-bit digest, for sets of millions of records."""
    text = "\0".join(parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


# --- Comparing ---------------------------------------------------------------------------


def compare_items(
    content: RawContent,
    items: Mapping[RecordKey, StoredItem],
    *,
    expected_in: Callable[[str], Mapping[RecordKey, ExpectedRecord]],
    expired: Callable[[str], bool],
) -> Iterator[Difference]:
    """Each record must have one enriched item, from this object or from one with a later record.

    `expected_in` returns the records of another object by its URI. `expired` returns True if
    DynamoDB's TTL may have deleted items with this timestamp.
    """
    for key, record in content.expected.items():
        item = items.get(key)
        if item is None:
            if not expired(key[1]):
                yield content.difference("dynamodb", "item is missing", key)
        elif not item.source:
            yield content.difference("dynamodb", "item is not enriched", key)
        elif item.source != content.uri:
            other = expected_in(item.source).get(key)
            if other is None:
                what = f"item is from {item.source}, which does not contain this record"
                yield content.difference("dynamodb", what, key)
            elif other.is_replaced_by(record, item.source, content.uri):
                what = f"item is from {item.source}, but this object has a later record"
                yield content.difference("dynamodb", what, key)
        else:
            for what in _unequal(record.values, item.values):
                yield content.difference("dynamodb", what, key)


def compare_lines(
    content: RawContent, lines: Iterable[ProcessedLine], items: Mapping[RecordKey, StoredItem]
) -> Iterator[Difference]:
    """Each measurement must have one line with its value, in the partition of its day."""
    found: dict[RecordKey, dict[str, Value]] = {key: {} for key in content.expected}
    for line in lines:
        what = _misplaced(line, content, found)
        if what:
            yield Difference("processed", what, line.key)
        else:
            found[line.record][line.measurement] = line.value
    for key, values in found.items():
        expected, item = content.expected[key].values, items.get(key)
        for what in _unequal(expected, values):
            yield content.difference("processed", what, key)
        derived = _derived(expected) if item and item.source == content.uri else ()
        for name in sorted(derived):
            if item and item.values.get(name) != values.get(name):
                what = f"{name} differs between the item and the line"
                yield content.difference("processed", what, key)


def _misplaced(line: ProcessedLine, content: RawContent, found: Mapping[RecordKey, Values]) -> str:
    """Reason why a line must not be where it is, or ''."""
    metric_id, timestamp = line.record
    description = f"line of {line.measurement} of {metric_id} {timestamp}"
    if line.source != content.uri or line.record not in found:
        return f"{description}, which is not in {content.uri}"
    if f"/dt={timestamp[:10]}/" not in line.key:
        return f"{description} in the partition of another day"
    if line.measurement in found[line.record]:
        return f"duplicate {description}"
    return ""


def compare_quarantine(
    content: RawContent, found: Iterable[tuple[str, tuple[int, str]]]
) -> Iterator[Difference]:
    """Each rejected entry must be in quarantine once."""
    quarantined: Counter[tuple[int, str]] = Counter()
    for source, entry in found:
        if source == content.uri:
            quarantined[entry] += 1
        else:
            what = f"line {entry[0]} is quarantined under this object's name, but is from {source}"
            yield content.difference("quarantine", what)
    for entry in sorted(content.rejected.keys() | quarantined.keys()):
        expected, actual = content.rejected[entry], quarantined[entry]
        if expected != actual:
            what = f"line {entry[0]}: {actual} times in quarantine, expected {expected}"
            yield content.difference("quarantine", what)


def _unequal(expected: Values, stored: Values) -> Iterator[str]:
    for name, value in expected.items():
        if name not in stored:
            yield f"{name} is missing"
        elif stored[name] != value:
            yield f"{name}: stored {_format(stored[name])}, expected {_format(value)}"
    for name in stored.keys() - expected.keys() - _derived(expected):
        yield f"{name} is not in the raw object"


def _derived(expected: Values) -> set[str]:
    """The measurements that log-processor may add to these."""
    names = set()
    for name in expected:
        base, colon, part = name.partition(":")
        if base in _RATED:
            names.add(f"{base}_rate{colon}{part}")
    return names | ({"utilization"} if expected.keys() >= set(_CPU_SECONDS) else set())


def _format(value: Value) -> str:
    named = zip(_STATISTICS, value[1:], strict=True)
    return " ".join([*(f"{name} {each:g}" for name, each in named if each is not None), value[0]])
