"""The harness's own ledger: what went in, as plain JSON, against what is stored.

It uses nothing of the product's: a ledger that reads with the product's parser would not see
what that parser gets wrong.
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

from .scenario import (
    BUCKET,
    RAW,
    TABLE,
    Json,
)

STATISTICS = ("last", "avg", "min", "max", "p95")


class Identity(NamedTuple):
    """What makes two records the same one."""

    resource_id: str
    metric_type: str
    timestamp: str
    window_seconds: int


@dataclass(slots=True)
class Stored:
    """Everything of a run that is in the bucket and in the table."""

    raw: dict[str, bytes] = field(default_factory=dict)
    lines: list[Json] = field(default_factory=list)
    quarantined: list[Json] = field(default_factory=list)
    items: list[Json] = field(default_factory=list)


@dataclass(slots=True)
class Verdict:
    """What is wrong, a sentence each, and how much was looked at."""

    problems: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def read(s3: Any, dynamodb: Any) -> Stored:
    """What is stored, by plain clients."""
    stored = Stored()
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
    plain = TypeDeserializer()
    for page in dynamodb.get_paginator("scan").paginate(TableName=TABLE, ConsistentRead=True):
        for item in page["Items"]:
            stored.items.append({name: plain.deserialize(each) for name, each in item.items()})
    return stored


def audit(
    good: Mapping[str, Sequence[Json]],
    bad: Mapping[str, Sequence[bytes]],
    stored: Stored,
    replaced: Iterable[Json] = (),
) -> Verdict:
    """Hold what each raw object holds, its records and its other pieces, against what is stored.

    `replaced` are readings that a collector's later try replaced: what a record was compared
    with may have been one of them.
    """
    verdict = Verdict()
    in_objects = {key: _latest(records) for key, records in good.items()}
    versions: dict[Identity, list[tuple[Json, str]]] = defaultdict(list)
    for key, records in in_objects.items():
        for identity, record in records.items():
            versions[identity].append((record, key))
    seen = {identity: [record for record, _ in found] for identity, found in versions.items()}
    for record in replaced:
        seen.setdefault(_identity(record), []).append(record)
    verdict.problems += _items(versions, seen, stored.items)
    verdict.problems += _lines(in_objects, versions, stored.lines)
    verdict.problems += _quarantine(bad, stored.quarantined)
    verdict.counts["records"] = len(versions)
    verdict.counts["versions"] = sum(map(len, versions.values()))
    verdict.counts["lines"] = len(stored.lines)
    verdict.counts["bad pieces"] = sum(map(len, bad.values()))
    verdict.counts["raw objects"] = len(stored.raw)
    verdict.counts["without a window before, for it came later"] = sum(
        "previous_timestamp" not in item and _before(_identity(item)) in versions
        for item in stored.items
    )
    return verdict


def _identity(record: Mapping[str, Any]) -> Identity:
    names = (record["resource_id"], record["metric_type"], record["timestamp"])
    return Identity(*names, int(record["window_seconds"]))


def _before(identity: Identity) -> Identity:
    end = datetime.fromisoformat(identity.timestamp) - timedelta(seconds=identity.window_seconds)
    return identity._replace(timestamp=f"{end:%Y-%m-%dT%H:%M:%SZ}")


def _latest(records: Iterable[Json]) -> dict[Identity, Json]:
    """Of records of one identity in one object, the one that was read last."""
    ordered = sorted(records, key=lambda record: str(record["collected_at"]))
    return {_identity(record): record for record in ordered}


def _items(
    versions: Mapping[Identity, Sequence[tuple[Json, str]]],
    seen: Mapping[Identity, Sequence[Json]],
    items: Sequence[Json],
) -> Iterator[str]:
    stored: dict[Identity, list[Json]] = defaultdict(list)
    for item in items:
        stored[_identity(item)].append(item)
    for identity in versions.keys() - stored.keys():
        yield f"lost: no item of {_name(identity)}"
    for identity, found in stored.items():
        if identity not in versions:
            yield f"unexplained: an item of {_name(identity)}, which is in no object"
            continue
        if len(found) > 1:
            yield f"doubled: {len(found)} items of {_name(identity)}"
        latest, _ = max(versions[identity], key=lambda each: str(each[0]["collected_at"]))
        sources = {f"s3://{BUCKET}/{key}" for each, key in versions[identity] if each == latest}
        for item in found:
            yield from _item(item, latest, sources, seen.get(_before(identity), ()))


def _item(item: Json, record: Json, sources: set[str], before: Sequence[Json]) -> Iterator[str]:
    name = _name(_identity(record))
    if "processed_at" not in item:
        yield f"lost: the item of {name} was not enriched"
        return
    if item["labels"] != record["labels"]:
        yield f"wrong: the item of {name} is version {item['labels']}, not {record['labels']}"
        return
    if item["source_object"] not in sources:
        yield f"wrong: the item of {name} names {item['source_object']}"
    yield from _measured(name, item["measurements"], record, before)
    for measurement, change in item["change"].items():
        known = measurement in record["measurements"]
        if known and float(change) not in _changes(record, measurement, before):
            yield f"wrong: the change {change} of {measurement} in the item of {name}"


def _measured(
    name: str, measured: Mapping[str, Json], record: Json, before: Sequence[Json]
) -> Iterator[str]:
    for measurement, values in record["measurements"].items():
        here = {each: _number(measured.get(measurement, {}).get(each)) for each in STATISTICS}
        if here != _statistics(values):
            yield f"wrong: {measurement} in the item of {name}: {here}, put in was {values}"
    for measurement in measured.keys() - record["measurements"].keys():
        value = _number(measured[measurement]["last"])
        if value is not None and value not in _rates(record, _counter(measurement), before):
            yield f"wrong: {measurement}={value} in the item of {name} follows from nothing"


def _lines(
    in_objects: Mapping[str, Mapping[Identity, Json]],
    versions: Mapping[Identity, Sequence[tuple[Json, str]]],
    lines: Sequence[Json],
) -> Iterator[str]:
    """One line for each measurement of each record of each object, and no other."""
    expected = {
        (f"s3://{BUCKET}/{key}", identity, measurement): (record, values)
        for key, records in in_objects.items()
        for identity, record in records.items()
        for measurement, values in record["measurements"].items()
    }
    found: Counter[tuple[str, Identity, str]] = Counter()
    for line in lines:
        timestamp = line["ts"].replace(" ", "T").removesuffix(".000") + "Z"
        identity = _identity(line | {"timestamp": timestamp})
        where = line["source_object"], identity, line["measurement"]
        told = f"{line['measurement']} of {_name(identity)} from {line['source_object']}"
        if where not in expected:
            sources = {f"s3://{BUCKET}/{key}" for _, key in versions.get(identity, ())}
            if not _counter(line["measurement"]) or line["source_object"] not in sources:
                yield f"unexplained: a line for {told}"
        else:
            record, values = expected[where]
            here = {name: _number(line[f"value_{name}"]) for name in STATISTICS}
            if here != _statistics(values) or line["labels"] != record["labels"]:
                yield f"wrong: the line for {told}: {here} {line['labels']}, put in was {values}"
        found[where] += 1
    yield from (f"lost: no line for {where}" for where in expected.keys() - found.keys())
    yield from (f"doubled: {n} lines for {where}" for where, n in found.items() if n > 1)


def _quarantine(bad: Mapping[str, Sequence[bytes]], quarantined: Sequence[Json]) -> Iterator[str]:
    """Each bad piece of each object once, byte by byte, and nothing else."""
    expected = Counter(
        (f"s3://{BUCKET}/{key}", each) for key, found in bad.items() for each in found
    )
    found = Counter((line["source_object"], _original(line)) for line in quarantined)
    for piece, count in (expected - found).items():
        yield f"lost: {piece} is in quarantine {found[piece]} times, {count} missing"
    for piece in found - expected:
        kind = "doubled" if piece in expected else "unexplained"
        yield f"{kind}: {piece} is in quarantine {found[piece]} times"


def _original(line: Json) -> bytes:
    if "original_base64" in line:
        return base64.b64decode(line["original_base64"])
    return str(line["original"]).encode()


def _statistics(values: Json) -> dict[str, float | None]:
    """What is to be stored of a measurement: a single reading is every statistic of itself."""
    single = values["last"] if values.get("samples", 1) == 1 else None
    return {each: _number(values.get(each, single)) for each in STATISTICS}


def _changes(record: Json, name: str, before: Sequence[Json]) -> set[float]:
    """What a change may be: there may have been several versions of the window before."""
    now = _statistics(record["measurements"].get(name, {"last": None}))["avg"]
    earlier = [
        _statistics(each["measurements"][name])["avg"]
        for each in before
        if name in each["measurements"]
    ]
    return {round(now - each, 6) for each in earlier if each is not None and now is not None}


def _rates(record: Json, counter: str, before: Sequence[Json]) -> set[float]:
    if counter not in record["measurements"]:
        return set()
    return {
        round(
            (record["measurements"][counter]["last"] - each["measurements"][counter]["last"])
            / (_moment(record) - _moment(each)),
            6,
        )
        for each in before
    }


def _counter(rate: str) -> str:
    """The counter of bytes that a rate was made of, as the product does; empty if it is none."""
    base, colon, part = rate.partition(":")
    return f"{base.removesuffix('_rate')}{colon}{part}" if base.endswith("_rate") else ""


def _moment(record: Json) -> float:
    return datetime.fromisoformat(record["collected_at"]).timestamp()


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _name(identity: Identity) -> str:
    return f"{identity.resource_id} {identity.metric_type} {identity.timestamp}"
