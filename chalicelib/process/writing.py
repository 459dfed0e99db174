"""Writes enriched records and rejected entries: DynamoDB items, `processed/`, `quarantine/`."""

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

from ..model import dynamodb, items
from ..model.dynamodb import Item
from ..model.enrichment import Enriched, Previous, enrich
from ..model.records import Record
from ..model.settings import Settings
from ..model.storage import Store
from ..telemetry.metrics import Emit, record_metrics
from . import processed_lines
from .output_keys import OutputKeys
from .parsing import Position, RejectedEntry

# JSON escapes each of these control characters as six bytes.
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")

# Up to this many items are written by conditional single writes: 0.3 s slower than a batch at
# 128 MB, but without a read.
SINGLE_WRITE_LIMIT = 25

# Greater than the precedence of any item.
_HIGHEST_PRECEDENCE = ("~", "")

_encoder = msgspec.json.Encoder()


class WriteResult(Struct, frozen=True):
    """Objects written to `processed/`, and records that are too old for the table."""

    objects: int
    expired: int


class Writer(Struct, frozen=True, kw_only=True):
    """Writes the batches of one raw object. A batch that is written again gets the same keys.

    `emit` receives the metrics of the records written.

    Every method raises StorageError.
    """

    source_object: str
    stored_at: datetime
    keys: OutputKeys
    settings: Settings
    store: Store
    emit: Emit

    def write_records(self, records: list[Record], batch: int, now: datetime) -> WriteResult:
        """Enrich records and write them to the table and to `processed/`."""
        add_context = partial(
            enrich,
            settings=self.settings,
            source_object=self.source_object,
            stored_at=self.stored_at,
            now=now,
        )
        enriched = _enrich_all(_latest(records, self.stored_at), add_context, self.store)
        retention_days = self.settings.retention_days
        oldest = now - timedelta(days=retention_days)
        # DynamoDB would delete older items at once, at the cost of a write each.
        kept = [each for each in enriched if each.record.timestamp > oldest]
        _put_items(
            [items.enriched_item(each, retention_days=retention_days) for each in kept], self.store
        )
        objects = _put_processed(enriched, self.keys, batch, self.store)
        self.emit(record_metrics(enriched, settings=self.settings, now=now))
        return WriteResult(objects, len(enriched) - len(kept))

    def write_rejected(
        self, entries: list[RejectedEntry], batch: int, unread_from: Position | None
    ) -> str:
        """Write rejected entries to `quarantine/`; return the object's key."""
        key = self.keys.quarantine(batch)
        extra = {"unread_from_byte": unread_from.offset} if unread_from else {}
        body = b"".join(_quarantine_line(entry, self.source_object, extra) for entry in entries)
        self.store.put_object(key, body, content_type="application/x-ndjson")
        return key


def _latest(records: list[Record], stored_at: datetime) -> Collection[Record]:
    """One record per key: the one with the greatest version, or else the last in the object."""
    by_version = sorted(records, key=lambda record: items.version(record, stored_at))
    return {(record.metric_id, record.timestamp): record for record in by_version}.values()


def _enrich_all(
    records: Collection[Record],
    add_context: Callable[[Record, Previous | None], Enriched],
    store: Store,
) -> list[Enriched]:
    previous = _previous_windows(records, store)
    return [add_context(record, previous.get(_previous_id(record))) for record in records]


def _put_items(new: list[Item], store: Store) -> None:
    """Write items, except where an enriched item of greater precedence is stored.

    Batch writes are cheap but cannot be conditional. Up to SINGLE_WRITE_LIMIT items are written
    by conditional single writes. Of more items, only those with a stored version are, as in a
    replay; the others are written in batches.
    """
    if len(new) <= SINGLE_WRITE_LIMIT:
        store.put_later(new)
        return
    found = store.get_items([dynamodb.key(item) for item in new], items.VERSION_ATTRIBUTES)
    stored = {_key(item): items.precedence(item) for item in found if "version" in item}
    store.put_items([item for item in new if _key(item) not in stored])
    store.put_later(
        [
            item
            for item in new
            if stored.get(_key(item), _HIGHEST_PRECEDENCE) <= items.precedence(item)
        ]
    )


def _previous_windows(records: Collection[Record], store: Store) -> dict[str, Previous]:
    """Previous windows by metric_id: from this batch if included, otherwise from the table."""
    in_batch = {str(record.metric_id): items.previous_from_record(record) for record in records}
    keys = {_metric_id(key): key for key in map(items.previous_key, records) if key}
    wanted = [key for metric_id, key in keys.items() if metric_id not in in_batch]
    found = store.get_items(wanted, items.PREVIOUS_ATTRIBUTES) if wanted else []
    return in_batch | {_metric_id(item): items.previous_from_item(item) for item in found}


def _previous_id(record: Record) -> str:
    key = items.previous_key(record)
    return _metric_id(key) if key else ""


def _metric_id(item: Item) -> str:
    return str(item["metric_id"]["S"])


def _key(item: Item) -> tuple[str, str]:
    return item["metric_id"]["S"], item["timestamp"]["S"]


def _put_processed(enriched: list[Enriched], keys: OutputKeys, batch: int, store: Store) -> int:
    """Write one object of lines per day; return the number of objects."""
    by_day = sorted(enriched, key=processed_lines.partition)
    count = 0
    for day, group in groupby(by_day, key=processed_lines.partition):
        store.put_object(
            keys.processed(day, batch), _compress(group), content_type="application/gzip"
        )
        count += 1
    return count


def _compress(group: Iterator[Enriched]) -> bytes:
    """The gzipped lines. They are compressed one by one to keep the memory small."""
    compressed = io.BytesIO()
    # mtime 0 makes the output depend on the lines only.
    with gzip.GzipFile(fileobj=compressed, mode="wb", compresslevel=6, mtime=0) as file:
        for each in group:
            file.writelines(line + b"\n" for line in processed_lines.lines(each))
    return compressed.getvalue()


def _quarantine_line(entry: RejectedEntry, source_object: str, extra: Mapping[str, int]) -> bytes:
    line = {"reason": entry.reason, "line": entry.line, "source_object": source_object, **extra}
    return _encoder.encode(line | _original(entry.original)) + b"\n"


def _original(original: bytes) -> dict[str, str]:
    if not _CONTROL.search(original):
        try:
            return {"original": original.decode("utf-8")}
        except UnicodeDecodeError:
            pass
    return {"original_base64": base64.b64encode(original).decode("ascii")}
