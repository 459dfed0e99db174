"""The ledger: what raw objects hold, and whether the stores hold just that. Pure.

The parser is the product's, so that both mean the same by a record; all else that the
processor does (batches, identities that repeat, enrichment, keys, writing) is not relied on.
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

from chalicelib.model.items import version
from chalicelib.model.records import Measurement, Record
from chalicelib.model.windows import format_utc
from chalicelib.process.parsing import EntryReader
from chalicelib.process.validation import validate

# Ends the name of an object beside a quarantined one that says which of its lines were fixed.
FIXED = ".fixed.json"

# metric_id and timestamp, as in the table's key.
Identity = tuple[str, str]

# A measurement's unit, last, avg, min, max, p95, samples and breach_seconds.
Value = tuple[Any, ...]
Values = Mapping[str, Value]

_STATISTICS = ("last", "avg", "min", "max", "p95", "samples", "breach_seconds")
_RATED = ("bytes_sent", "bytes_received")
_CPU_SECONDS = ("cpu_seconds_idle", "cpu_seconds_total")


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a store does not hold what the raw objects say; `object` is the S3 key."""

    store: str
    what: str
    object: str
    metric_type: str = ""
    resource: str = ""
    timestamp: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """What a raw object says of one record."""

    metric_type: str
    resource: str
    collected_at: datetime | None
    version: str
    values: Values

    def precedes(self, uri: str, other: "Claim", other_uri: str) -> bool:
        """Whether another object's claim must stay; two objects may hold the very same reading."""
        same = (self.collected_at, self.values) == (other.collected_at, other.values)
        return not same and (self.version, uri) < (other.version, other_uri)


@dataclass(frozen=True, slots=True)
class Content:
    """A raw object: its records, and the line and digest of each piece that is none."""

    key: str
    uri: str
    claims: Mapping[Identity, Claim]
    rejected: Counter[tuple[int, str]]
    records: int

    def difference(self, store: str, what: str, identity: Identity | None = None) -> Difference:
        if identity is None:
            return Difference(store, what, self.key)
        claim = self.claims[identity]
        return Difference(store, what, self.key, claim.metric_type, claim.resource, identity[1])


@dataclass(frozen=True, slots=True)
class Stored:
    """An item of the table; one that is not enriched has no `source`."""

    source: str
    version: str
    values: Values


@dataclass(frozen=True, slots=True)
class Line:
    """A line of `processed/`, and the object that it was found in."""

    key: str
    identity: Identity
    source: str
    measurement: str
    value: Value


@dataclass(slots=True)
class Tally:
    """What was counted; `explained` has a digest for each record and object that holds it."""

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
    identities: set[int] = field(default_factory=set)
    items: set[int] = field(default_factory=set)
    explained: set[int] = field(default_factory=set)


# --- Reading -----------------------------------------------------------------------------


def read_raw(
    chunks: Iterable[bytes],
    *,
    bucket: str,
    key: str,
    stored_at: datetime,
    place: tuple[str, str],
    ahead: timedelta,
) -> Content:
    """The content of a raw object; `place` is the account and region where it landed.

    What is more than `ahead` of the time it was stored at is no record.
    """
    account_id, region = place
    reader = EntryReader(chunks, validate=partial(validate, latest=stored_at + ahead))
    claims: dict[Identity, Claim] = {}
    rejected: Counter[tuple[int, str]] = Counter()
    records = 0
    for piece in reader:
        if not isinstance(piece, Record):
            rejected[piece.line, _digest(piece.original)] += 1
            continue
        records += 1
        record = piece.identified(account_id=account_id, region=region)
        identity = str(record.metric_id), format_utc(record.timestamp)
        claim = _claim(record, stored_at)
        if identity not in claims or claims[identity].version <= claim.version:
            claims[identity] = claim
    if not records and not rejected and reader.position.form != "rest":
        rejected[1, _digest(b"")] += 1  # an empty object is a fault, an empty array is none
    return Content(key, f"s3://{bucket}/{key}", claims, rejected, records)


def _claim(record: Record, stored_at: datetime) -> Claim:
    return Claim(
        metric_type=record.metric_type,
        resource=record.resource_id,
        collected_at=record.collected_at,
        version=version(record, stored_at),
        values={name: _value(each) for name, each in record.measurements.items()},
    )


def _value(measurement: Measurement) -> Value:
    return measurement.unit, *(getattr(measurement, name) for name in _STATISTICS)


def read_item(item: Mapping[str, Any]) -> tuple[Identity, Stored]:
    """An item in DynamoDB's form."""
    measurements = item.get("measurements", {}).get("M", {})
    return (item["metric_id"]["S"], item["timestamp"]["S"]), Stored(
        source=item.get("source_object", {}).get("S", ""),
        version=item.get("version", {}).get("S", ""),
        values={name: _item_value(each["M"]) for name, each in measurements.items()},
    )


def _item_value(measurement: Mapping[str, Any]) -> Value:
    numbers = (measurement.get(name, {}).get("N") for name in _STATISTICS)
    return measurement["unit"]["S"], *(None if n is None else float(n) for n in numbers)


def read_line(key: str, text: bytes) -> Line:
    """A line of the processed object `key`."""
    line = json.loads(text)
    names = ("value_last", "value_avg", "value_min", "value_max", "value_p95", "samples")
    day, _, clock = line["ts"].partition(" ")
    return Line(
        key=key,
        identity=(line["metric_id"], f"{day}T{clock[:8]}Z"),
        source=line["source_object"],
        measurement=line["measurement"],
        value=(line["unit"], *(line[name] for name in names), line["breach_seconds"]),
    )


def read_quarantined(text: bytes) -> tuple[str, tuple[int, str]]:
    """A line of quarantine: the raw object, and the piece of it as `Content.rejected` has it."""
    line = json.loads(text)
    return line["source_object"], (line["line"], _digest(original(line)))


def original(line: Mapping[str, Any]) -> bytes:
    """The bytes that were put into quarantine."""
    if "original_base64" in line:
        return base64.b64decode(line["original_base64"])
    return str(line["original"]).encode()


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def fingerprint(*parts: str) -> int:
    """Stands for a record or an object in a set of millions."""
    text = "\0".join(parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest())


# --- Judging -----------------------------------------------------------------------------


def judge_items(
    content: Content,
    items: Mapping[Identity, Stored],
    *,
    claims_of: Callable[[str], Mapping[Identity, Claim]],
    expired: Callable[[str], bool],
) -> Iterator[Difference]:
    """Each record must have one enriched item: of this object, or of one as late.

    `claims_of` gives what another object, named by its URI, holds; `expired` says of a
    timestamp that DynamoDB may have forgotten it.
    """
    for identity, claim in content.claims.items():
        item = items.get(identity)
        if item is None:
            if not expired(identity[1]):
                yield content.difference("dynamodb", "there is no item", identity)
        elif not item.source:
            yield content.difference("dynamodb", "the item is not enriched", identity)
        elif item.source != content.uri:
            other = claims_of(item.source).get(identity)
            if other is None:
                what = f"the item is of {item.source}, which does not hold this record"
                yield content.difference("dynamodb", what, identity)
            elif other.precedes(item.source, claim, content.uri):
                what = f"the item is of {item.source}, though this object's was read later"
                yield content.difference("dynamodb", what, identity)
        else:
            for what in _unequal(claim.values, item.values):
                yield content.difference("dynamodb", what, identity)


def judge_lines(
    content: Content, lines: Iterable[Line], items: Mapping[Identity, Stored]
) -> Iterator[Difference]:
    """Each measurement must have one line, with the record's value, in its day's partition."""
    found: dict[Identity, dict[str, Value]] = {identity: {} for identity in content.claims}
    for line in lines:
        what = _misplaced(line, content, found)
        if what:
            yield Difference("processed", what, line.key)
        else:
            found[line.identity][line.measurement] = line.value
    for identity, values in found.items():
        claimed, item = content.claims[identity].values, items.get(identity)
        for what in _unequal(claimed, values):
            yield content.difference("processed", what, identity)
        derived = _derived(claimed) if item and item.source == content.uri else ()
        for name in sorted(derived):
            if item and item.values.get(name) != values.get(name):
                what = f"{name}: the item and the line do not agree"
                yield content.difference("processed", what, identity)


def _misplaced(line: Line, content: Content, found: Mapping[Identity, Values]) -> str:
    """Why a line should not be where it is, if it should not."""
    named = f"{line.measurement} of {line.identity[0]} {line.identity[1]}"
    if line.source != content.uri or line.identity not in found:
        return f"a line of {named} that is not in {content.uri}"
    if f"/dt={line.identity[1][:10]}/" not in line.key:
        return f"a line of {named}, of another day"
    if line.measurement in found[line.identity]:
        return f"one more line of {named}"
    return ""


def judge_quarantine(
    content: Content, found: Iterable[tuple[str, tuple[int, str]]]
) -> Iterator[Difference]:
    """Each piece that is no record must be in quarantine once."""
    here: Counter[tuple[int, str]] = Counter()
    for source, piece in found:
        if source == content.uri:
            here[piece] += 1
        else:
            what = f"line {piece[0]} is in quarantine under this object's name, but is of {source}"
            yield content.difference("quarantine", what)
    for piece in sorted(content.rejected.keys() | here.keys()):
        wanted, there = content.rejected[piece], here[piece]
        if wanted != there:
            what = f"line {piece[0]}: {there} times in quarantine, not {wanted}"
            yield content.difference("quarantine", what)


def _unequal(claimed: Values, stored: Values) -> Iterator[str]:
    for name, value in claimed.items():
        if name not in stored:
            yield f"{name}: not there"
        elif stored[name] != value:
            yield f"{name}: {_text(stored[name])}, where the raw object has {_text(value)}"
    for name in stored.keys() - claimed.keys() - _derived(claimed):
        yield f"{name}: the raw object does not have it"


def _derived(claimed: Values) -> set[str]:
    """The measurements that the processor may add to these."""
    names = set()
    for name in claimed:
        base, colon, part = name.partition(":")
        if base in _RATED:
            names.add(f"{base}_rate{colon}{part}")
    return names | ({"utilization"} if claimed.keys() >= set(_CPU_SECONDS) else set())


def _text(value: Value) -> str:
    named = zip(_STATISTICS, value[1:], strict=True)
    return " ".join([*(f"{name} {each:g}" for name, each in named if each is not None), value[0]])
