"""Batches of an object's entries; an invocation stores one batch after another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date

from ..model.errors import OutOfTimeError
from ..model.records import Record
from .parsing import EntryReader, Position, RejectedEntry

# Limits of one batch, so that memory does not depend on the object's size. Records of each day
# become one object in `processed/`, so MAX_BATCH_DAYS limits the number of writes.
MAX_BATCH_ENTRIES = 500
MAX_BATCH_BYTES = 4_000_000
MAX_BATCH_DAYS = 50


@dataclass(slots=True)
class Batch:
    """Entries to store together, and the position after the last of them."""

    entries: Sequence[Record | RejectedEntry]
    end: Position
    last: bool = False


@dataclass(slots=True)
class _BatchBuilder:
    """The batch being filled. Its limits depend on the entries only, so retries repeat batches."""

    entries: list[Record | RejectedEntry] = field(default_factory=list)
    size: int = 0
    days: set[date] = field(default_factory=set)

    def add(self, entry: Record | RejectedEntry) -> None:
        self.entries.append(entry)
        self.size += _approximate_size(entry)
        if isinstance(entry, Record):
            self.days.add(entry.timestamp.date())

    @property
    def full(self) -> bool:
        return (
            len(self.entries) >= MAX_BATCH_ENTRIES
            or self.size >= MAX_BATCH_BYTES
            or len(self.days) >= MAX_BATCH_DAYS
        )


def batches(reader: EntryReader, size: int) -> Iterator[Batch]:
    """Yield the entries of an object of `size` bytes in batches.

    The last batch can be empty.

    Raises:
        OutOfTimeError: the reader's deadline has passed. Entries read since the last batch are
            dropped, because a batch cut by the deadline would differ in a retry. If only blanks
            were read since, an empty batch carries the position after them.
    """
    builder = _BatchBuilder()
    try:
        for entry in reader:
            builder.add(entry)
            if builder.full:
                yield Batch(builder.entries, reader.position, last=_is_end(reader.position, size))
                builder = _BatchBuilder()
    except OutOfTimeError:
        if not builder.entries:
            yield Batch([], reader.position)
        raise
    yield Batch(builder.entries, reader.position, last=True)


def _is_end(position: Position, size: int) -> bool:
    return position.form == "end" or (not position.compressed and position.offset >= size)


def _approximate_size(entry: Record | RejectedEntry) -> int:
    """Approximate bytes that an entry takes in memory, or as lines in `processed/`."""
    if isinstance(entry, RejectedEntry):
        return len(entry.original)
    labels = sum(len(name) + len(value) for name, value in entry.labels.items())
    return 1_000 + (400 + labels) * len(entry.measurements)
