"""Compare the stored data with the input.

This module uses none of the product's code: an audit with the product's parser would not detect
the parser's errors.
"""

import base64
import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from boto3.dynamodb.types import TypeDeserializer

from .scenario import BUCKET, RAW, TABLE, Json

STATISTICS = ("last", "avg", "min", "max", "p95")
LATE_PREVIOUS_WINDOW = "items processed before their previous window"


class Identity(NamedTuple):
    """Fields that identify a record."""

    resource_id: str
    metric_type: str
    timestamp: str
    window_seconds: int


@dataclass(slots=True)
class StoredData:
    """All contents of the bucket and the table."""

    raw: dict[str, bytes] = field(default_factory=dict)
    lines: list[Json] = field(default_factory=list)
    quarantined: list[Json] = field(default_factory=list)
    items: list[Json] = field(default_factory=list)


@dataclass(slots=True)
class AuditResult:
    """Problems, as sentences, and the number of objects, records and lines compared."""

    problems: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def read_stored(s3: Any, dynamodb: Any) -> StoredData:
    """Read the bucket and the table."""
    stored = StoredData()
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
        for entry in page.get("Contents", []):
            key = entry["Key"]
            body = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
            if key.startswith(RAW):
                stored.raw[key] = body
            elif key.startswith("processed/"):
                stored.lines += map(json.loads, gzip.decompress(body).splitlines())
            elif key.startswith("quarantine/"):
                stored.quarantined += map(json.loads, body.splitlines())
    deserializer = TypeDeserializer()
    for page in dynamodb.get_paginator("scan").paginate(TableName=TABLE, ConsistentRead=True):
        for item in page["Items"]:
            stored.items.append(
                {name: deserializer.deserialize(each) for name, each in item.items()}
            )
    return stored


def audit(
    records: Mapping[str, Sequence[Json]],
    rejected: Mapping[str, Sequence[bytes]],
    stored: StoredData,
    replaced: Iterable[Json] = (),
) -> AuditResult:
    """Compare the stored data with the contents of the raw objects.

    `records` and `rejected` are the valid records and the rejected entries by object key.
    `replaced` are readings that a retry of the collector replaced: the change of a record may have
    been computed from them.
    """
    result = AuditResult()
    by_object = {key: _newest(each) for key, each in records.items()}
    versions: dict[Identity, list[tuple[Json, str]]] = defaultdict(list)
    for key, by_identity in by_object.items():
        for identity, record in by_identity.items():
            versions[identity].append((record, key))
    known = {identity: [record for record, _ in each] for identity, each in versions.items()}
    for record in replaced:
        known.setdefault(_identity(record), []).append(record)
    result.problems += _check_items(versions, known, stored.items)
    result.problems += _check_lines(by_object, versions, stored.lines)
    result.problems += _check_quarantine(rejected, stored.quarantined)
    result.counts["records"] = len(versions)
    result.counts["versions"] = sum(map(len, versions.values()))
    result.counts["lines"] = len(stored.lines)
    result.counts["rejected entries"] = sum(map(len, rejected.values()))
    result.counts["raw objects"] = len(stored.raw)
    result.counts[LATE_PREVIOUS_WINDOW] = sum(
        "previous_timestamp" not in item and _previous(_identity(item)) in versions
        for item in stored.items
    )
    return result


def _identity(record: Mapping[str, Any]) -> Identity:
    names = (record["resource_id"], record["metric_type"], record["timestamp"])
    return Identity(*names, int(record["window_seconds"]))


def _previous(identity: Identity) -> Identity:
    """The identity of the same record in the previous window."""
    end = datetime.fromisoformat(identity.timestamp) - timedelta(seconds=identity.window_seconds)
    return identity._replace(timestamp=f"{end:%Y-%m-%dT%H:%M:%SZ}")


def _newest(records: Iterable[Json]) -> dict[Identity, Json]:
    """The newest record of each identity, by `collected_at`."""
    ordered = sorted(records, key=lambda record: str(record["collected_at"]))
    return {_identity(record): record for record in ordered}


def _check_items(
    versions: Mapping[Identity, Sequence[tuple[Json, str]]],
    known: Mapping[Identity, Sequence[Json]],
    items: Sequence[Json],
) -> Iterator[str]:
    """Each record has one item with the values of its newest version."""
    stored: dict[Identity, list[Json]] = defaultdict(list)
    for item in items:
        stored[_identity(item)].append(item)
    for identity in versions.keys() - stored.keys():
        yield f"lost: no item of {_describe(identity)}"
    for identity, found in stored.items():
        if identity not in versions:
            yield f"unexplained: item of {_describe(identity)}, which no raw object contains"
            continue
        if len(found) > 1:
            yield f"duplicated: {len(found)} items of {_describe(identity)}"
        newest, _ = max(versions[identity], key=lambda each: str(each[0]["collected_at"]))
        sources = {f"s3://{BUCKET}/{key}" for each, key in versions[identity] if each == newest}
        for item in found:
            yield from _check_item(item, newest, sources, known.get(_previous(identity), ()))


def _check_item(
    item: Json, record: Json, sources: set[str], previous: Sequence[Json]
) -> Iterator[str]:
    name = _describe(_identity(record))
    if "processed_at" not in item:
        yield f"lost: the item of {name} was not enriched"
        return
    if item["labels"] != record["labels"]:
        yield f"wrong: the item of {name} is version {item['labels']}, not {record['labels']}"
        return
    if item["source_object"] not in sources:
        yield f"wrong: the item of {name} has the source object {item['source_object']}"
    yield from _check_measurements(name, item["measurements"], record, previous)
    for measurement, change in item["change"].items():
        is_measured = measurement in record["measurements"]
        if is_measured and float(change) not in _possible_changes(record, measurement, previous):
            yield f"wrong: the change {change} of {measurement} in the item of {name}"


def _check_measurements(
    name: str, measurements: Mapping[str, Json], record: Json, previous: Sequence[Json]
) -> Iterator[str]:
    for measurement, values in record["measurements"].items():
        stored = {each: _number(measurements.get(measurement, {}).get(each)) for each in STATISTICS}
        if stored != _statistics(values):
            yield f"wrong: {measurement} in the item of {name}: {stored}, expected {values}"
    for measurement in measurements.keys() - record["measurements"].keys():
        value = _number(measurements[measurement]["last"])
        rates = _possible_rates(record, _counter(measurement), previous)
        if value is not None and value not in rates:
            yield f"wrong: {measurement}={value} in the item of {name} matches no counter"


def _check_lines(
    by_object: Mapping[str, Mapping[Identity, Json]],
    versions: Mapping[Identity, Sequence[tuple[Json, str]]],
    lines: Sequence[Json],
) -> Iterator[str]:
    """Each measurement of each record of each object has one line, and there are no others."""
    expected = {
        (f"s3://{BUCKET}/{key}", identity, measurement): (record, values)
        for key, by_identity in by_object.items()
        for identity, record in by_identity.items()
        for measurement, values in record["measurements"].items()
    }
    found: Counter[tuple[str, Identity, str]] = Counter()
    for line in lines:
        timestamp = line["ts"].replace(" ", "T").removesuffix(".000") + "Z"
        identity = _identity(line | {"timestamp": timestamp})
        key = line["source_object"], identity, line["measurement"]
        name = f"{line['measurement']} of {_describe(identity)} from {line['source_object']}"
        if key not in expected:
            sources = {f"s3://{BUCKET}/{each}" for _, each in versions.get(identity, ())}
            if not _counter(line["measurement"]) or line["source_object"] not in sources:
                yield f"unexplained: line for {name}"
        else:
            record, values = expected[key]
            stored = {each: _number(line[f"value_{each}"]) for each in STATISTICS}
            if stored != _statistics(values) or line["labels"] != record["labels"]:
                yield f"wrong: line for {name}: {stored} {line['labels']}, expected {values}"
        found[key] += 1
    yield from (f"lost: no line for {key}" for key in expected.keys() - found.keys())
    yield from (f"duplicated: {n} lines for {key}" for key, n in found.items() if n > 1)


def _check_quarantine(
    rejected: Mapping[str, Sequence[bytes]], quarantined: Sequence[Json]
) -> Iterator[str]:
    """Each rejected entry of each object is stored once and unchanged, and there are no others."""
    expected = Counter(
        (f"s3://{BUCKET}/{key}", each) for key, entries in rejected.items() for each in entries
    )
    found = Counter((line["source_object"], _original(line)) for line in quarantined)
    for entry, count in (expected - found).items():
        yield f"lost: {entry} is in quarantine {found[entry]} times, {count} missing"
    for entry in found - expected:
        kind = "duplicated" if entry in expected else "unexplained"
        yield f"{kind}: {entry} is in quarantine {found[entry]} times"


def _original(line: Json) -> bytes:
    if "original_base64" in line:
        return base64.b64decode(line["original_base64"])
    return str(line["original"]).encode()


def _statistics(values: Json) -> dict[str, float | None]:
    """The expected statistics of a measurement; a single reading is all of them."""
    single = values["last"] if values.get("samples", 1) == 1 else None
    return {each: _number(values.get(each, single)) for each in STATISTICS}


def _possible_changes(record: Json, name: str, previous: Sequence[Json]) -> set[float]:
    """The possible changes of a measurement, one for each version of the previous window."""
    current = _statistics(record["measurements"].get(name, {"last": None}))["avg"]
    earlier = [
        _statistics(each["measurements"][name])["avg"]
        for each in previous
        if name in each["measurements"]
    ]
    return {
        round(current - each, 6) for each in earlier if each is not None and current is not None
    }


def _possible_rates(record: Json, counter: str, previous: Sequence[Json]) -> set[float]:
    """The possible rates of a counter, one for each version of the previous window."""
    if counter not in record["measurements"]:
        return set()
    return {
        round(
            (record["measurements"][counter]["last"] - each["measurements"][counter]["last"])
            / (_collected_at(record) - _collected_at(each)),
            6,
        )
        for each in previous
    }


def _counter(rate: str) -> str:
    """The counter from which the product computes a rate; '' if the name is not a rate."""
    base, colon, suffix = rate.partition(":")
    return f"{base.removesuffix('_rate')}{colon}{suffix}" if base.endswith("_rate") else ""


def _collected_at(record: Json) -> float:
    return datetime.fromisoformat(record["collected_at"]).timestamp()


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _describe(identity: Identity) -> str:
    return f"{identity.resource_id} {identity.metric_type} {identity.timestamp}"
