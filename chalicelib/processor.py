"""The use case of `log-processor`: parse a raw object, enrich its records, store them.

An object that one invocation has no time for is read on by the next one: see
docs/adr/0009-an-object-is-read-on-by-the-next-invocation.md.
"""

import base64
import gzip
import hashlib
import io
import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import groupby
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from . import lines
from .enrichment import Enriched, Previous, enrich
from .errors import ObjectChangedError, ObjectNotFoundError, OutOfTimeError
from .items import (
    PREVIOUS_ATTRIBUTES,
    VERSION_ATTRIBUTES,
    Item,
    enriched_item,
    largest_item,
    precedence,
    previous_from_item,
    previous_from_record,
    previous_key,
    version,
)
from .items import (
    key as item_key,
)
from .metrics import Emit, nowhere, of_records
from .parsing import Position, Reader, Rejected
from .records import Record
from .settings import Settings
from .storage import Store, StoredObject
from .ticks import RAW_PREFIX
from .windows import format_utc

PROCESSED_PREFIX = "processed/"
QUARANTINE_PREFIX = "quarantine/"

# What is in memory at once, whatever the object's size: this many pieces, or about this
# many bytes of them, if they are large. A batch writes an object for each day in it.
BATCH = 500
BATCH_BYTES = 4_000_000
BATCH_DAYS = 50

# An object of a gigabyte takes a few hundred invocations at 128 MB; no sound one takes these.
MAX_CONTINUATIONS = 1_000

# The rest of an object goes unread if more of its pieces are bad than good, and what they
# take in quarantine is more than the object itself and this many bytes.
MAX_JUNK_BYTES = 16 << 20
_QUARANTINE_LINE_BYTES = 200

# DynamoDB takes 400 KB.
_MAX_ITEM_BYTES = 400_000

_DATED = re.compile(r"\d{4}/\d{2}/\d{2}/", re.ASCII)
_ODD = re.compile(r"[^\w-]+", re.ASCII)
# In JSON each of these takes six bytes.
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")

# After every precedence that an item has.
_LAST = ("~", "")

_encoder = msgspec.json.Encoder()


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
        self._settings = settings
        self._store = store
        self._now = now
        self._emit = emit
        self._names = Names(arrival.key, stored.stored_at)
        self._mark = replace(arrival.mark, etag=stored.etag)

    def run(self, deadline: _Deadline) -> None:
        ahead = timedelta(seconds=self._settings.max_ahead_seconds)
        reader = Reader(
            self._stored.chunks,
            start=self._mark.position,
            pause=deadline.check,
            refuse=partial(refusal, latest=self._stored.stored_at + ahead),
        )
        try:
            for batch in _batches(reader, self._stored.size):
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
        self._store_batch(_Batch([piece], self._mark.position), unread_from)

    def _store_batch(self, batch: "_Batch", unread_from: Position | None = None) -> None:
        """Store a batch, count it, and move the mark behind it."""
        good = [
            piece.identified(account_id=self._arrival.account_id, region=self._arrival.region)
            for piece in batch.pieces
            if isinstance(piece, Record)
        ]
        bad = [piece for piece in batch.pieces if isinstance(piece, Rejected)]
        if good:
            self._store_records(good)
        if bad:
            self._quarantine(bad, unread_from)
        mark = self._mark
        self._mark = replace(
            mark,
            position=batch.end,
            batch=mark.batch + bool(batch.pieces),
            records=mark.records + len(good),
            rejected=mark.rejected + len(bad),
            rejected_bytes=mark.rejected_bytes
            + sum(len(piece.original) + _QUARANTINE_LINE_BYTES for piece in bad),
        )
        self._tally.records += len(good)
        self._tally.rejected += len(bad)

    def _store_records(self, good: list[Record]) -> None:
        now = self._now()
        add = partial(
            enrich,
            settings=self._settings,
            source_object=self._arrival.uri,
            stored_at=self._stored.stored_at,
            now=now,
        )
        enriched = _enrich_all(_latest(good, self._stored.stored_at), add, self._store)
        retention = timedelta(days=self._settings.retention_days)
        # DynamoDB would delete the others at once, for the price of a write each.
        kept = [each for each in enriched if each.record.timestamp + retention > now]
        _put_items(_items(kept, self._settings), self._store)
        self._tally.expired += len(enriched) - len(kept)
        for key in _put_processed(enriched, self._names, self._mark.batch, self._store):
            self._tally.processed_objects += bool(key)
        self._tally.execution_id = self._tally.execution_id or good[0].execution_id
        self._emit(of_records(enriched, settings=self._settings, now=now))

    def _quarantine(self, bad: list[Rejected], unread_from: Position | None) -> None:
        key = self._names.quarantine(self._mark.batch)
        extra = {"unread_from_byte": unread_from.offset} if unread_from else {}
        body = b"".join(_quarantine_line(piece, self._arrival.uri, extra) for piece in bad)
        self._store.put_object(key, body, content_type="application/x-ndjson")
        self._tally.quarantine_objects += 1
        self._tally.first_quarantine_object = self._tally.first_quarantine_object or key


def refusal(record: Record, latest: datetime) -> str:
    """Why a record that can be decoded is none to store, or nothing."""
    for name, moment in (("timestamp", record.timestamp), ("collected_at", record.collected_at)):
        if moment is not None and moment > latest:
            return (
                f"its {name} {format_utc(moment)} is in the future: when this object came,"
                f" nothing later than {format_utc(latest)} was taken"
            )
    if (size := largest_item(record)) > _MAX_ITEM_BYTES:
        return (
            f"it has too many measurements or labels for one item of DynamoDB: up to {size} bytes,"
            f" and {_MAX_ITEM_BYTES} are taken"
        )
    return ""


def _is_junk(mark: Mark, size: int) -> bool:
    return mark.rejected > mark.records and mark.rejected_bytes > size + MAX_JUNK_BYTES


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


@dataclass(slots=True)
class _Batch:
    """Pieces to be stored together, and the position behind them."""

    pieces: Sequence[Record | Rejected]
    end: Position
    last: bool = False


@dataclass(slots=True)
class _Basket:
    """A batch being filled. What fills it follows from the pieces alone, not from the time."""

    pieces: list[Record | Rejected] = field(default_factory=list)
    weight: int = 0
    days: set[Any] = field(default_factory=set)

    def add(self, piece: Record | Rejected) -> None:
        self.pieces.append(piece)
        self.weight += _weight(piece)
        if isinstance(piece, Record):
            self.days.add(piece.timestamp.date())

    @property
    def full(self) -> bool:
        return (
            len(self.pieces) >= BATCH or self.weight >= BATCH_BYTES or len(self.days) >= BATCH_DAYS
        )


def _batches(reader: Reader, size: int) -> Iterator[_Batch]:
    """The object in batches; the last one is empty, but for blanks, if the time is over."""
    basket = _Basket()
    try:
        for piece in reader:
            basket.add(piece)
            if basket.full:
                position = reader.position
                at_end = position.form == "end" or (not position.packed and position.offset >= size)
                yield _Batch(basket.pieces, position, last=at_end)
                basket = _Basket()
    except OutOfTimeError:
        # A batch that time cut short would not be the same one in a retry: it is read again.
        if not basket.pieces:
            yield _Batch([], reader.position)
        raise
    yield _Batch(basket.pieces, reader.position, last=True)


def _weight(piece: Record | Rejected) -> int:
    """About how many bytes of memory, or of lines in `processed/`, a piece takes."""
    if isinstance(piece, Rejected):
        return len(piece.original)
    labels = sum(len(name) + len(text) for name, text in piece.labels.items())
    return 1_000 + (400 + labels) * len(piece.measurements)


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


def _put_processed(
    enriched: list[Enriched], names: Names, batch: int, store: Store
) -> Iterator[str]:
    for day, group in groupby(sorted(enriched, key=lines.partition), key=lines.partition):
        key = names.processed(day, batch)
        store.put_object(key, _gzipped(group), content_type="application/gzip")
        yield key


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
