"""Writing what an object is made into: items, lines of `processed/`, lines of `quarantine/`."""

import base64
import gzip
import io
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from itertools import groupby

import msgspec
from msgspec import Struct

from ..model.enrichment import Enriched, Previous, enrich
from ..model.items import (
    PREVIOUS_ATTRIBUTES,
    VERSION_ATTRIBUTES,
    Item,
    enriched_item,
    precedence,
    previous_from_item,
    previous_from_record,
    previous_key,
    version,
)
from ..model.items import key as item_key
from ..model.records import Record
from ..model.settings import Settings
from ..model.storage import Store
from ..telemetry.metrics import Emit, of_records
from . import processed_lines as lines
from .output_keys import Names
from .parsing import Position, Rejected

# In JSON each of these takes six bytes.
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")

# Written one by one, so many items take 0.3 s longer at 128 MB than in a batch.
FEW = 25

# After every precedence that an item has.
_LAST = ("~", "")

_encoder = msgspec.json.Encoder()


class Written(Struct, frozen=True):
    """How many objects a batch's records became, and how many are too old for the table."""

    objects: int
    expired: int


class Writer(Struct, frozen=True, kw_only=True):
    """Writes what is made of one object, batch by batch; the same batch gives the same keys.

    `emit` gets the metrics of what is written.

    Every method raises StorageError.
    """

    source_object: str
    stored_at: datetime
    names: Names
    settings: Settings
    store: Store
    emit: Emit

    def records(self, good: list[Record], batch: int, now: datetime) -> Written:
        """Write records enriched, into the table and into `processed/`."""
        add = partial(
            enrich,
            settings=self.settings,
            source_object=self.source_object,
            stored_at=self.stored_at,
            now=now,
        )
        enriched = _enrich_all(_latest(good, self.stored_at), add, self.store)
        retention = timedelta(days=self.settings.retention_days)
        # DynamoDB would delete the others at once, for the price of a write each.
        kept = [each for each in enriched if each.record.timestamp + retention > now]
        _put_items(_items(kept, self.settings), self.store)
        objects = _put_processed(enriched, self.names, batch, self.store)
        self.emit(of_records(enriched, settings=self.settings, now=now))
        return Written(objects, len(enriched) - len(kept))

    def rejected(self, bad: list[Rejected], batch: int, unread_from: Position | None) -> str:
        """Write pieces into `quarantine/`; the key of the object that they are in."""
        key = self.names.quarantine(batch)
        extra = {"unread_from_byte": unread_from.offset} if unread_from else {}
        body = b"".join(_quarantine_line(piece, self.source_object, extra) for piece in bad)
        self.store.put_object(key, body, content_type="application/x-ndjson")
        return key


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

    Batches are cheap but take no conditions. So a few items are written one by one, on condition
    that what is stored is no later; of more, only those that are stored already, as in a replay.
    """
    if len(items) <= FEW:
        store.put_later(items)
        return
    found = store.get_items([item_key(item) for item in items], VERSION_ATTRIBUTES)
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


def _put_processed(enriched: list[Enriched], names: Names, batch: int, store: Store) -> int:
    """Write the lines, an object a day; how many objects."""
    count = 0
    for day, group in groupby(sorted(enriched, key=lines.partition), key=lines.partition):
        store.put_object(
            names.processed(day, batch), _gzipped(group), content_type="application/gzip"
        )
        count += 1
    return count


def _gzipped(group: Iterator[Enriched]) -> bytes:
    """The lines, packed one by one: together they may be many times as long."""
    packed = io.BytesIO()
    # mtime 0: the same lines are the same bytes.
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=6, mtime=0) as file:
        for each in group:
            file.writelines(line + b"\n" for line in lines.lines(each))
    return packed.getvalue()


def _quarantine_line(piece: Rejected, source_object: str, extra: Mapping[str, int]) -> bytes:
    line = {"reason": piece.reason, "line": piece.line, "source_object": source_object, **extra}
    return _encoder.encode(line | _original(piece.original)) + b"\n"


def _original(original: bytes) -> dict[str, str]:
    if not _CONTROL.search(original):
        try:
            return {"original": original.decode("utf-8")}
        except UnicodeDecodeError:
            pass
    return {"original_base64": base64.b64encode(original).decode("ascii")}
