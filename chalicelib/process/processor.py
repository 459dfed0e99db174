"""The use case of `log-processor`: parse a raw object, enrich its records, store them.

An object that one invocation has no time for is read on by the next one: see
docs/adr/0009-an-object-is-read-on-by-the-next-invocation.md.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ..model.errors import ObjectChangedError, ObjectNotFoundError, OutOfTimeError
from ..model.object_keys import RAW_PREFIX
from ..model.records import Record
from ..model.settings import Settings
from ..model.storage import Store, StoredObject
from ..telemetry.metrics import Emit, nowhere
from .batching import Batch, batches
from .output_keys import Names
from .parsing import Position, Reader, Rejected
from .validation import refusal
from .writing import Writer

# An object of a gigabyte takes a few hundred invocations at 128 MB; no sound one takes these.
MAX_CONTINUATIONS = 1_000

# The rest of an object goes unread if more of its pieces are bad than good, and what they
# take in quarantine is more than the object itself and this many bytes.
MAX_JUNK_BYTES = 16 << 20
_QUARANTINE_LINE_BYTES = 200


class Mark(Struct, frozen=True, kw_only=True):
    """Where the next invocation goes on, and what came before; travels in the event's detail.

    `batch` numbers the next batch, `rejected_bytes` is about what all the rejected pieces
    take in quarantine.
    """

    etag: str
    position: Position
    batch: int = 0
    continuation: int = 0
    records: int = 0
    rejected: int = 0
    rejected_bytes: int = 0

    @property
    def start(self) -> int:
        """The byte from which the object has to be fetched."""
        return 0 if self.position.packed else self.position.offset


_BEGINNING = Mark(etag="", position=Position())


@dataclass(frozen=True, slots=True)
class Arrival:
    """An object that S3 says was created, and how far earlier invocations came with it."""

    bucket: str
    key: str
    account_id: str
    region: str
    mark: Mark = _BEGINNING

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> "Arrival":
        """From S3's "Object Created" event; its keys, unlike notifications', are not quoted."""
        resume = event["detail"].get("resume")
        return cls(
            bucket=event["detail"]["bucket"]["name"],
            key=event["detail"]["object"]["key"],
            account_id=event["account"],
            region=event["region"],
            mark=msgspec.convert(resume, Mark) if resume else _BEGINNING,
        )

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


@dataclass(slots=True)
class Tally:
    """What became of an object in one invocation.

    `status` is PROCESSED; CONTINUED if the next invocation goes on at `mark`; GIVEN_UP if the
    rest was quarantined unread; MISSING if it is not there any more; REPLACED if another one
    is, which the next invocation reads; IGNORED if it is none of ours. `records + rejected` is
    every piece that this invocation read, `records_so_far` and `rejected_so_far` count the
    earlier ones' too. `expired` records are older than the table keeps any: they are in
    `processed/` only. `execution_id` is the run's that the first record is of.
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
    mark: Mark | None = None

    def replaced(self) -> None:
        """Another object has come in the place of this one: it is to be read from its start."""
        self.status, self.mark = "REPLACED", _BEGINNING

    def fields(self) -> dict[str, Any]:
        """For the log; an execution that is not known is not there."""
        left_out = {"mark"} if self.execution_id else {"mark", "execution_id"}
        return {name: getattr(self, name) for name in self.__slots__ if name not in left_out}

    def counts(self) -> dict[str, int]:
        """For CloudWatch's metrics, of this invocation alone: they are added up there.

        What should not happen is there only when it did: a metric costs by the hours it is in.
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
    emit: Emit = nowhere,
) -> Tally:
    """Process the object of an event, as far as the time reaches; `invoke` starts the next.

    `emit` gets the metrics of each batch that is stored.

    Raises:
        StorageError: AWS failed; what was written before will be written again.
    """
    arrival = Arrival.from_event(event)
    tally = process(arrival, settings=settings, store=store, time_left=time_left, emit=emit)
    if tally.mark is not None:
        resume = msgspec.to_builtins(tally.mark)
        invoke({**event, "detail": {**event["detail"], "resume": resume}})
    return tally


def process(
    arrival: Arrival,
    *,
    settings: Settings,
    store: Store,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    time_left: Callable[[], float] = lambda: math.inf,
    emit: Emit = nowhere,
) -> Tally:
    """Store every record of the object enriched, and every other piece in quarantine.

    Doing it again writes the same keys, so a repeated event changes nothing. It stops between
    two batches when `time_left` (in seconds) would not do for another one.

    Raises:
        StorageError: AWS failed; what was written before will be written again.
    """
    tally = Tally(source_object=arrival.uri, continuation=arrival.mark.continuation)
    if arrival.bucket != settings.bucket or not arrival.key.startswith(RAW_PREFIX):
        tally.status = "IGNORED"
        return tally
    try:
        stored = store.open_object(arrival.key, start=arrival.mark.start, etag=arrival.mark.etag)
    except ObjectNotFoundError:
        tally.status = "MISSING"  # deleted since: there is nothing that a retry could find
    except ObjectChangedError:
        tally.replaced()
    else:
        work = _Work(arrival, stored, tally, settings=settings, store=store, now=now, emit=emit)
        work.run(_Deadline(time_left))
        # The new one has an event of its own, but that may be done with: then what was made of
        # the old one has just been written over it.
        if store.etag(arrival.key) not in ("", stored.etag):
            tally.replaced()
    return tally


class _Deadline:
    """Keeps a third of the time that there was at first, or what the longest batch took twice."""

    def __init__(self, time_left: Callable[[], float]) -> None:
        self._time_left = time_left
        self._batch_began = time_left()
        self._reserve = self._batch_began / 3

    def batch_is_done(self) -> None:
        left = self._time_left()
        if not math.isinf(left):
            self._reserve = max(self._reserve, 2 * (self._batch_began - left))
        self._batch_began = left

    def check(self) -> None:
        """Whether there is time to go on; raises OutOfTimeError if there is not."""
        if self._time_left() < self._reserve:
            raise OutOfTimeError


class _Work:
    """One invocation's share of one object."""

    def __init__(
        self,
        arrival: Arrival,
        stored: StoredObject,
        tally: Tally,
        *,
        settings: Settings,
        store: Store,
        now: Callable[[], datetime],
        emit: Emit,
    ) -> None:
        self._arrival = arrival
        self._stored = stored
        self._tally = tally
        self._ahead = timedelta(seconds=settings.max_ahead_seconds)
        self._now = now
        self._writer = Writer(
            source_object=arrival.uri,
            stored_at=stored.stored_at,
            names=Names(arrival.key, stored.stored_at),
            settings=settings,
            store=store,
            emit=emit,
        )
        self._mark = replace(arrival.mark, etag=stored.etag)

    def run(self, deadline: _Deadline) -> None:
        reader = Reader(
            self._stored.chunks,
            start=self._mark.position,
            pause=deadline.check,
            refuse=partial(refusal, latest=self._stored.stored_at + self._ahead),
        )
        try:
            for batch in batches(reader, self._stored.size):
                self._store_batch(batch)
                if _is_junk(self._mark, self._stored.size):
                    self._give_up("more of it is bad than good, and it would swamp the quarantine")
                    break
                deadline.batch_is_done()
                if not batch.last:
                    deadline.check()
            else:
                self._tell_if_empty()
        except OutOfTimeError:
            self._continue()
        self._tally.records_so_far = self._mark.records
        self._tally.rejected_so_far = self._mark.rejected

    def _continue(self) -> None:
        came, mark = self._arrival.mark, self._mark
        if mark.position == came.position:
            self._give_up(
                "one invocation could not read further: a gzip object has to be read from its"
                " start each time, so unpack it or cut it into smaller ones"
                if mark.position.packed
                else "one invocation could not read further: cut it into smaller objects"
            )
        elif mark.continuation >= MAX_CONTINUATIONS:
            self._give_up(
                f"{MAX_CONTINUATIONS} continuations were not enough: cut it into smaller objects"
            )
        else:
            self._tally.status = "CONTINUED"
            self._tally.mark = replace(mark, continuation=mark.continuation + 1)

    def _give_up(self, why: str) -> None:
        """Quarantine what has not been read, by reference: the object itself keeps its bytes."""
        position = self._mark.position
        unpacked = " of the unpacked text" if position.packed else ""
        reason = f"from byte {position.offset}{unpacked} on the object was not read: {why}"
        self._tally.status = "GIVEN_UP"
        self._reject(Rejected(position.line, reason, b""), position)

    def _tell_if_empty(self) -> None:
        """Nobody means to send nothing, unless they say so by `[]`, or the key is a folder."""
        mark = self._mark
        empty = mark.records + mark.rejected == 0 and mark.position.form != "rest"
        if empty and not self._arrival.key.endswith("/"):
            self._reject(Rejected(1, "the object is empty: there is no record in it", b""))

    def _reject(self, piece: Rejected, unread_from: Position | None = None) -> None:
        self._store_batch(Batch([piece], self._mark.position), unread_from)

    def _store_batch(self, batch: Batch, unread_from: Position | None = None) -> None:
        """Store a batch, count it, and move the mark behind it."""
        good = [
            piece.identified(account_id=self._arrival.account_id, region=self._arrival.region)
            for piece in batch.pieces
            if isinstance(piece, Record)
        ]
        bad = [piece for piece in batch.pieces if isinstance(piece, Rejected)]
        mark, tally = self._mark, self._tally
        if good:
            written = self._writer.records(good, mark.batch, self._now())
            tally.processed_objects += written.objects
            tally.expired += written.expired
            tally.execution_id = tally.execution_id or good[0].execution_id
        if bad:
            key = self._writer.rejected(bad, mark.batch, unread_from)
            tally.quarantine_objects += 1
            tally.first_quarantine_object = tally.first_quarantine_object or key
        self._mark = replace(
            mark,
            position=batch.end,
            batch=mark.batch + bool(batch.pieces),
            records=mark.records + len(good),
            rejected=mark.rejected + len(bad),
            rejected_bytes=mark.rejected_bytes
            + sum(len(piece.original) + _QUARANTINE_LINE_BYTES for piece in bad),
        )
        tally.records += len(good)
        tally.rejected += len(bad)


def _is_junk(mark: Mark, size: int) -> bool:
    return mark.rejected > mark.records and mark.rejected_bytes > size + MAX_JUNK_BYTES
