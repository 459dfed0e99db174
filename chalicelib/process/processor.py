"""Use case of `log-processor`: parse a raw object, enrich its records, store them.

If the time of one invocation is not enough, the next one resumes from a checkpoint; see
docs/adr/0009-an-object-is-read-on-by-the-next-invocation.md.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from msgspec.structs import replace

from ..model.errors import ObjectChangedError, ObjectNotFoundError, OutOfTimeError
from ..model.object_keys import RAW_PREFIX
from ..model.records import Record
from ..model.settings import Settings
from ..model.storage import Store, StoredObject
from ..telemetry.metrics import Emit, discard
from .batching import Batch, batches
from .checkpoint import BEGINNING, Checkpoint, RawObjectEvent, resume_event
from .output_keys import OutputKeys
from .parsing import EntryReader, Position, RejectedEntry
from .validation import validate
from .writing import Writer

# An object of 1 GB takes a few hundred invocations at 128 MB; the limit is above any valid object.
MAX_CONTINUATIONS = 1_000

# Reading stops when most entries are rejected and their estimated size in quarantine exceeds the
# object's size by this much.
MAX_JUNK_BYTES = 16 << 20
# Estimated overhead of a rejected entry in quarantine.
_QUARANTINE_LINE_BYTES = 200


@dataclass(slots=True)
class ProcessingSummary:
    """The outcome of one invocation for one object.

    `status` is one of:
        PROCESSED: the whole object is stored.
        CONTINUED: the next invocation resumes at `checkpoint`.
        GIVEN_UP: the remainder is in quarantine by reference, unread.
        MISSING: the object does not exist any more.
        REPLACED: the object was overwritten; the next invocation reads the new one.
        IGNORED: the bucket or the prefix is not the pipeline's.

    `records` and `rejected` count the entries of this invocation, `records_so_far` and
    `rejected_so_far` those of earlier ones too. `expired` counts records older than the table's
    retention: they are in `processed/` only. `execution_id` is that of the first record.
    """

    source_object: str
    execution_id: str = ""
    status: str = "PROCESSED"
    continuation: int = 0
    records: int = 0
    rejected: int = 0
    expired: int = 0
    records_so_far: int = 0
    rejected_so_far: int = 0
    processed_objects: int = 0
    quarantine_objects: int = 0
    first_quarantine_object: str = ""
    checkpoint: Checkpoint | None = None

    def set_replaced(self) -> None:
        """Make the next invocation read the object that replaced this one, from its beginning."""
        self.status, self.checkpoint = "REPLACED", BEGINNING

    def fields(self) -> dict[str, Any]:
        """Fields of the log line and of the function's response."""
        omitted = {"checkpoint"} if self.execution_id else {"checkpoint", "execution_id"}
        return {name: getattr(self, name) for name in self.__slots__ if name not in omitted}

    def counts(self) -> dict[str, int]:
        """Counts of this invocation for CloudWatch metrics.

        Rare ones are omitted when 0, because a metric is billed for the hours it is used in.
        """
        rare = {
            "RecordsQuarantined": self.rejected,
            "ObjectsGivenUp": int(self.status == "GIVEN_UP"),
        }
        return {
            "RecordsReceived": self.records + self.rejected,
            "RecordsStored": self.records,
            **{name: count for name, count in rare.items() if count},
        }


def process_event(
    event: Mapping[str, Any],
    *,
    settings: Settings,
    store: Store,
    time_left: Callable[[], float],
    invoke: Callable[[Mapping[str, Any]], None],
    emit: Emit = discard,
) -> ProcessingSummary:
    """Process the object of an event; `invoke` starts the next invocation if time runs out.

    `emit` receives the metrics of each stored batch.

    Raises:
        StorageError: an AWS request failed; a retry writes the same objects and items again.
    """
    raw_object = RawObjectEvent.from_event(event)
    summary = process(raw_object, settings=settings, store=store, time_left=time_left, emit=emit)
    if summary.checkpoint is not None:
        invoke(resume_event(event, summary.checkpoint))
    return summary


def process(
    raw_object: RawObjectEvent,
    *,
    settings: Settings,
    store: Store,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    time_left: Callable[[], float] = lambda: math.inf,
    emit: Emit = discard,
) -> ProcessingSummary:
    """Store every record of the object enriched, and every other entry in quarantine.

    Idempotent: a repeated event writes the same keys. Processing stops between two batches when
    `time_left` (seconds) is not enough for another one.

    Raises:
        StorageError: an AWS request failed; a retry writes the same objects and items again.
    """
    checkpoint = raw_object.checkpoint
    summary = ProcessingSummary(raw_object.uri, continuation=checkpoint.continuation)
    if raw_object.bucket != settings.bucket or not raw_object.key.startswith(RAW_PREFIX):
        summary.status = "IGNORED"
        return summary
    try:
        stored = store.open_object(raw_object.key, start=checkpoint.start, etag=checkpoint.etag)
    except ObjectNotFoundError:
        summary.status = "MISSING"  # deleted since the event; a retry cannot find it either
    except ObjectChangedError:
        summary.set_replaced()
    else:
        processor = _ObjectProcessor(
            raw_object, stored, summary, settings=settings, store=store, now=now, emit=emit
        )
        processor.run(_Deadline(time_left))
        # If the new object was already processed, this invocation has overwritten its outputs, so
        # the new object is processed again. The ETag is empty if the object was deleted.
        if store.etag(raw_object.key) not in ("", stored.etag):
            summary.set_replaced()
    return summary


class _Deadline:
    """Reserves a third of the initial time or twice the longest batch, whichever is longer."""

    def __init__(self, time_left: Callable[[], float]) -> None:
        self._time_left = time_left
        self._batch_started = time_left()
        self._reserve = self._batch_started / 3

    def batch_done(self) -> None:
        left = self._time_left()
        if not math.isinf(left):
            self._reserve = max(self._reserve, 2 * (self._batch_started - left))
        self._batch_started = left

    def check(self) -> None:
        """Raise OutOfTimeError if only the reserve is left."""
        if self._time_left() < self._reserve:
            raise OutOfTimeError


class _ObjectProcessor:
    """Processes one object in one invocation."""

    def __init__(
        self,
        raw_object: RawObjectEvent,
        stored: StoredObject,
        summary: ProcessingSummary,
        *,
        settings: Settings,
        store: Store,
        now: Callable[[], datetime],
        emit: Emit,
    ) -> None:
        self._raw_object = raw_object
        self._stored = stored
        self._summary = summary
        self._max_ahead = timedelta(seconds=settings.max_ahead_seconds)
        self._now = now
        self._writer = Writer(
            source_object=raw_object.uri,
            stored_at=stored.stored_at,
            keys=OutputKeys(raw_object.key, stored.stored_at),
            settings=settings,
            store=store,
            emit=emit,
        )
        self._checkpoint = replace(raw_object.checkpoint, etag=stored.etag)

    def run(self, deadline: _Deadline) -> None:
        reader = EntryReader(
            self._stored.chunks,
            start=self._checkpoint.position,
            check_deadline=deadline.check,
            validate=partial(validate, latest=self._stored.stored_at + self._max_ahead),
        )
        try:
            for batch in batches(reader, self._stored.size):
                self._store_batch(batch)
                if _is_junk(self._checkpoint, self._stored.size):
                    self._give_up("most entries are invalid, and they would flood the quarantine")
                    break
                deadline.batch_done()
                if not batch.last:
                    deadline.check()
            else:
                self._reject_if_empty()
        except OutOfTimeError:
            self._continue()
        self._summary.records_so_far = self._checkpoint.records
        self._summary.rejected_so_far = self._checkpoint.rejected

    def _continue(self) -> None:
        checkpoint = self._checkpoint
        if checkpoint.position == self._raw_object.checkpoint.position:
            self._give_up(
                "one invocation made no progress; a gzip object is decompressed from its start"
                " each time, so decompress it or split it into smaller objects"
                if checkpoint.position.compressed
                else "one invocation made no progress; split the object into smaller ones"
            )
        elif checkpoint.continuation >= MAX_CONTINUATIONS:
            self._give_up(
                f"{MAX_CONTINUATIONS} continuations were not enough; split the object into"
                " smaller ones"
            )
        else:
            self._summary.status = "CONTINUED"
            self._summary.checkpoint = replace(checkpoint, continuation=checkpoint.continuation + 1)

    def _give_up(self, why: str) -> None:
        """Quarantine the unread remainder by reference; its bytes remain in the source object."""
        position = self._checkpoint.position
        decompressed = " of the decompressed data" if position.compressed else ""
        reason = f"the object was not read from byte {position.offset}{decompressed} on: {why}"
        self._summary.status = "GIVEN_UP"
        self._reject(RejectedEntry(position.line, reason, b""), position)

    def _reject_if_empty(self) -> None:
        """Reject an object without entries, except for `[]` and folder markers.

        Any other empty object is likely to be an error of its sender.
        """
        checkpoint = self._checkpoint
        empty = checkpoint.records + checkpoint.rejected == 0 and checkpoint.position.form != "rest"
        if empty and not self._raw_object.key.endswith("/"):
            self._reject(RejectedEntry(1, "the object is empty", b""))

    def _reject(self, entry: RejectedEntry, unread_from: Position | None = None) -> None:
        self._store_batch(Batch([entry], self._checkpoint.position), unread_from)

    def _store_batch(self, batch: Batch, unread_from: Position | None = None) -> None:
        """Store and count a batch, and advance the checkpoint past it."""
        records = [
            entry.identified(account_id=self._raw_object.account_id, region=self._raw_object.region)
            for entry in batch.entries
            if isinstance(entry, Record)
        ]
        rejected = [entry for entry in batch.entries if isinstance(entry, RejectedEntry)]
        self._write_records(records)
        self._write_rejected(rejected, unread_from)
        checkpoint = self._checkpoint
        self._checkpoint = replace(
            checkpoint,
            position=batch.end,
            batch=checkpoint.batch + bool(batch.entries),
            records=checkpoint.records + len(records),
            rejected=checkpoint.rejected + len(rejected),
            rejected_bytes=checkpoint.rejected_bytes
            + sum(len(entry.original) + _QUARANTINE_LINE_BYTES for entry in rejected),
        )

    def _write_records(self, records: list[Record]) -> None:
        if not records:
            return
        summary = self._summary
        written = self._writer.write_records(records, self._checkpoint.batch, self._now())
        summary.records += len(records)
        summary.processed_objects += written.objects
        summary.expired += written.expired
        summary.execution_id = summary.execution_id or records[0].execution_id

    def _write_rejected(self, entries: list[RejectedEntry], unread_from: Position | None) -> None:
        if not entries:
            return
        summary = self._summary
        key = self._writer.write_rejected(entries, self._checkpoint.batch, unread_from)
        summary.rejected += len(entries)
        summary.quarantine_objects += 1
        summary.first_quarantine_object = summary.first_quarantine_object or key


def _is_junk(checkpoint: Checkpoint, size: int) -> bool:
    return (
        checkpoint.rejected > checkpoint.records
        and checkpoint.rejected_bytes > size + MAX_JUNK_BYTES
    )
