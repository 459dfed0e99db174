"""The use case of `log-processor`: parse a raw object, enrich its records, store them."""

import base64
import gzip
import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from typing import Any

import msgspec

from . import lines
from .enrichment import Enriched, Previous, enrich
from .errors import ObjectNotFoundError
from .items import (
    PREVIOUS_ATTRIBUTES,
    VERSION_ATTRIBUTES,
    Item,
    enriched_item,
    key,
    precedence,
    previous_from_item,
    previous_from_record,
    previous_key,
    version,
)
from .parsing import Rejected, parse
from .records import Record
from .settings import Settings
from .storage import Store
from .ticks import RAW_PREFIX

PROCESSED_PREFIX = "processed/"
QUARANTINE_PREFIX = "quarantine/"

# What is in memory at once, whatever the object's size: this many pieces, or about this
# many bytes of them, if they are large.
BATCH = 500
BATCH_BYTES = 4_000_000

_DATED = re.compile(r"\d{4}/\d{2}/\d{2}/")
_ODD = re.compile(r"[^\w-]+", re.ASCII)

# After every precedence that an item has.
_LAST = ("~", "")

_encoder = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class Arrival:
    """An object that S3 says was created."""

    bucket: str
    key: str
    account_id: str
    region: str

    @classmethod
    def from_event(cls, event: dict[str, Any]) -> "Arrival":
        """From S3's "Object Created" event; its keys, unlike notifications', are not quoted."""
        return cls(
            bucket=event["detail"]["bucket"]["name"],
            key=event["detail"]["object"]["key"],
            account_id=event["account"],
            region=event["region"],
        )

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(slots=True)
class Tally:
    """What became of an object; `records + rejected` is every piece it held."""

    source_object: str
    status: str = "PROCESSED"
    records: int = 0
    rejected: int = 0
    processed_objects: list[str] = field(default_factory=list)
    quarantine_objects: list[str] = field(default_factory=list)


def process(
    arrival: Arrival,
    *,
    settings: Settings,
    store: Store,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Tally:
    """Store every record of the object enriched, and every other piece in quarantine.

    Doing it again writes the same keys, so a repeated event changes nothing.

    Raises:
        StorageError: AWS failed; what was written before will be written again.
    """
    tally = Tally(source_object=arrival.uri)
    try:
        stored = store.open_object(arrival.key)
    except ObjectNotFoundError:
        tally.status = "MISSING"  # deleted since: there is nothing that a retry could find
        return tally
    names = Names(arrival.key, stored.stored_at)
    for number, batch in enumerate(_batches(parse(stored.chunks))):
        good = [
            piece.identified(account_id=arrival.account_id, region=arrival.region)
            for piece in batch
            if isinstance(piece, Record)
        ]
        bad = [piece for piece in batch if isinstance(piece, Rejected)]
        if good:
            add = partial(
                enrich,
                settings=settings,
                source_object=arrival.uri,
                stored_at=stored.stored_at,
                now=now(),
            )
            enriched = _enrich_all(_latest(good, stored.stored_at), add, store)
            _put_items(_items(enriched, settings), store)
            tally.processed_objects += _put_processed(enriched, names, number, store)
        if bad:
            tally.quarantine_objects.append(_put_quarantined(bad, arrival, names, number, store))
        tally.records += len(good)
        tally.rejected += len(bad)
    return tally


class Names:
    """The keys of what is made of an object: made of its own key, so that they repeat.

    `stem` begins the names of them all and of nothing else, after the day that they are under.
    """

    def __init__(self, key: str, stored_at: datetime) -> None:
        tail = key.removeprefix(RAW_PREFIX)
        dated = _DATED.match(tail)
        self.date = dated.group() if dated else f"{stored_at:%Y/%m/%d/}"
        # The digest keeps apart keys that differ only in folder or in odd letters.
        stem = _ODD.sub("_", tail.rpartition("/")[2].partition(".")[0])[:80]
        self.stem = f"{stem}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"

    def processed(self, day: str, batch: int) -> str:
        return f"{PROCESSED_PREFIX}dt={day}/{self.stem}-{batch:05d}.json.gz"

    def quarantine(self, batch: int) -> str:
        return f"{QUARANTINE_PREFIX}{self.date}{self.stem}-{batch:05d}.jsonl"


def _batches(pieces: Iterable[Record | Rejected]) -> Iterator[list[Record | Rejected]]:
    batch: list[Record | Rejected] = []
    weight = 0
    for piece in pieces:
        batch.append(piece)
        weight += _weight(piece)
        if len(batch) >= BATCH or weight >= BATCH_BYTES:
            yield batch
            batch, weight = [], 0
    if batch:
        yield batch


def _weight(piece: Record | Rejected) -> int:
    """About how many bytes of memory a piece takes."""
    if isinstance(piece, Rejected):
        return len(piece.original)
    labels = sum(len(name) + len(text) for name, text in piece.labels.items())
    return 1_000 + 400 * len(piece.measurements) + labels


def _latest(good: list[Record], stored_at: datetime) -> Collection[Record]:
    """A record that comes twice counts once: the one read last, or else the last one."""
    by_version = sorted(good, key=lambda record: version(record, stored_at))
    return {(record.metric_id, record.timestamp): record for record in by_version}.values()


def _enrich_all(
    distinct: Collection[Record], add: Callable[[Record, Previous | None], Enriched], store: Store
) -> list[Enriched]:
    before = _previous(distinct, store)
    return [add(record, before.get(_previous_identity(record))) for record in distinct]


def _put_items(items: list[Item], store: Store) -> None:
    """Write the items that are later than what is stored enriched of the same record.

    Batches are cheap but take no conditions, so only what is stored already, as in a replay,
    is written one by one, on condition that it has not been overtaken meanwhile.
    """
    found = store.get_items([key(item) for item in items], VERSION_ATTRIBUTES)
    stored = {_key(item): precedence(item) for item in found if "version" in item}
    store.put_items([item for item in items if _key(item) not in stored])
    store.put_later([item for item in items if stored.get(_key(item), _LAST) <= precedence(item)])


def _previous(good: Collection[Record], store: Store) -> dict[str, Previous]:
    """The windows before, by metric_id: from this batch where they are in it, else stored."""
    here = {str(record.metric_id): previous_from_record(record) for record in good}
    keys = {_identity(key): key for key in map(previous_key, good) if key}
    wanted = [key for identity, key in keys.items() if identity not in here]
    found = store.get_items(wanted, PREVIOUS_ATTRIBUTES) if wanted else []
    return here | {_identity(item): previous_from_item(item) for item in found}


def _previous_identity(record: Record) -> str:
    key = previous_key(record)
    return _identity(key) if key else ""


def _identity(item: Item) -> str:
    return str(item["metric_id"]["S"])


def _key(item: Item) -> tuple[str, str]:
    return item["metric_id"]["S"], item["timestamp"]["S"]


def _items(enriched: list[Enriched], settings: Settings) -> list[Item]:
    return [enriched_item(each, retention_days=settings.retention_days) for each in enriched]


def _put_processed(
    enriched: list[Enriched], names: Names, batch: int, store: Store
) -> Iterator[str]:
    for day, group in groupby(sorted(enriched, key=lines.partition), key=lines.partition):
        body = b"".join(line + b"\n" for each in group for line in lines.lines(each))
        key = names.processed(day, batch)
        # mtime 0: the same lines are the same bytes.
        store.put_object(key, gzip.compress(body, 6, mtime=0), content_type="application/gzip")
        yield key


def _put_quarantined(
    bad: list[Rejected], arrival: Arrival, names: Names, batch: int, store: Store
) -> str:
    key = names.quarantine(batch)
    body = b"".join(_quarantine_line(piece, arrival.uri) for piece in bad)
    store.put_object(key, body, content_type="application/x-ndjson")
    return key


def _quarantine_line(piece: Rejected, source_object: str) -> bytes:
    try:
        original = {"original": piece.original.decode("utf-8")}
    except UnicodeDecodeError:
        original = {"original_base64": base64.b64encode(piece.original).decode("ascii")}
    line = {"reason": piece.reason, "line": piece.line, "source_object": source_object}
    return _encoder.encode(line | original) + b"\n"
