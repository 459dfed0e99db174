"""The pieces of an object in batches, which an invocation stores one after another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..model.errors import OutOfTimeError
from ..model.records import Record
from .parsing import Position, Reader, Rejected

# What is in memory at once, whatever the object's size: this many pieces, or about this
# many bytes of them, if they are large. A batch writes an object for each day in it.
BATCH = 500
BATCH_BYTES = 4_000_000
BATCH_DAYS = 50


@dataclass(slots=True)
class Batch:
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


def batches(reader: Reader, size: int) -> Iterator[Batch]:
    """The object in batches; the last one is empty, but for blanks, if the time is over."""
    basket = _Basket()
    try:
        for piece in reader:
            basket.add(piece)
            if basket.full:
                position = reader.position
                at_end = position.form == "end" or (not position.packed and position.offset >= size)
                yield Batch(basket.pieces, position, last=at_end)
                basket = _Basket()
    except OutOfTimeError:
        # A batch that time cut short would not be the same one in a retry: it is read again.
        if not basket.pieces:
            yield Batch([], reader.position)
        raise
    yield Batch(basket.pieces, reader.position, last=True)


def _weight(piece: Record | Rejected) -> int:
    """About how many bytes of memory, or of lines in `processed/`, a piece takes."""
    if isinstance(piece, Rejected):
        return len(piece.original)
    labels = sum(len(name) + len(text) for name, text in piece.labels.items())
    return 1_000 + (400 + labels) * len(piece.measurements)
