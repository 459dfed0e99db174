"""From the bytes of an object to records and rejected pieces, in constant memory.

Three forms are read: JSON lines, one JSON array, one JSON document over several lines; each
plain or gzip, which its first bytes tell and not its name. Where one piece ends and the next
begins follows from the object alone, never from how its bytes arrive: reading may stop
between two pieces and go on from there in another invocation.
"""

import codecs
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec

from ..model import records
from ..model.errors import InvalidRecordError
from ..model.records import Record
from .decompression import Unpacked

# Longer than any record, short enough that input without line ends cannot fill the memory.
MAX_RECORD_BYTES = 1 << 20

_SPACE = re.compile(rb"[ \t\r\n]*+")
_BETWEEN = re.compile(rb"[ \t\r\n,]*+")

_BEHIND = "this stands behind the end of the array"
_UNCLOSED = "the array is not closed"
_BROKEN = "the array is broken from here on: this value does not end"


@dataclass(frozen=True, slots=True)
class Rejected:
    """Bytes that are no record, the line that they start on (from 1), and the reason."""

    line: int
    reason: str
    original: bytes


@dataclass(frozen=True, slots=True)
class Position:
    """A place between two pieces, from which an object can be read on.

    `offset` counts bytes, those of the unpacked text where `packed` (gzip). `form` is empty
    at the start, where it is not known; `fault` is why what follows is no record: the rest of
    a line that is too long, or of an array (`rest`). At the `end` nothing is left.
    """

    form: Literal["", "lines", "array", "rest", "end"] = ""
    offset: int = 0
    line: int = 1
    fault: str = ""
    packed: bool = False


def _go_on() -> None:
    """No pause: read to the end."""


def _accept(_: Record) -> str:
    """Nothing is wrong with a record that can be decoded."""
    return ""


class Reader:
    """Every record of an object, and every piece of it that is none, in order.

    `chunks` are the object's bytes in pieces of any size: from `start.offset` on, or from the
    first byte of an object that is packed. Damage does not raise: what cannot be read comes
    out as `Rejected`, what was read before it as records. `pause` is called again and again
    while bytes are read; what it raises ends the reading, at `position`. `refuse` gives the
    reason why a record is to be rejected, or nothing.
    """

    def __init__(
        self,
        chunks: Iterable[bytes],
        *,
        start: Position | None = None,
        pause: Callable[[], None] = _go_on,
        refuse: Callable[[Record], str] = _accept,
    ) -> None:
        start = start or Position()
        self._stream = Unpacked(iter(chunks), start.offset, pause, packed=start.packed)
        self._window = _Window(self._stream, start)
        self._form, self._fault = start.form, start.fault
        self._refuse = refuse
        self._pieces = self._read()

    def __iter__(self) -> Iterator[Record | Rejected]:
        return self

    def __next__(self) -> Record | Rejected:
        return next(self._pieces)

    @property
    def position(self) -> Position:
        """Behind the last piece that came out, and behind blanks that were passed since."""
        window = self._window
        return Position(self._form, window.offset, window.line, self._fault, self._stream.packed)

    def _read(self) -> Iterator[Record | Rejected]:
        if self._form == "end":
            return
        if not self._form:
            if not self._window.offset:
                self._window.skip_mark()
            first = self._window.skip(_SPACE)
            if first == b"[":
                self._window.take(1)
                self._form = "array"
            elif first and (document := self._document()):
                self._form = "end"
                yield document
                return
            else:
                self._form = "lines"
        if self._form == "lines":
            yield from self._lines()
            return
        if self._form == "array":
            yield from self._elements()
        yield from self._rest()

    def _document(self) -> Record | Rejected | None:
        """The object as one document over many lines, if it is one."""
        window = self._window
        while (end := window.find(b"\n")) < 0 and window.rest <= MAX_RECORD_BYTES:
            if not window.fill():
                break
        if _is_json(window.peek(end if end >= 0 else window.rest)):
            return None  # a whole first line is one of many
        while window.rest <= MAX_RECORD_BYTES and window.fill():
            pass
        text = window.peek(window.rest)
        if len(text) > MAX_RECORD_BYTES or self._stream.damage or not _is_json(text):
            return None
        line = window.line
        window.take(len(text))
        return self._record(text, line)

    def _lines(self) -> Iterator[Record | Rejected]:
        window = self._window
        while window.rest or window.fill():
            line, end = window.line, window.find(b"\n")
            if end < 0 and window.rest <= MAX_RECORD_BYTES and window.fill():
                continue
            if end > MAX_RECORD_BYTES or (end < 0 and not window.ended):
                original = window.take(MAX_RECORD_BYTES)
                self._fault = f"the line has no end within {MAX_RECORD_BYTES} bytes"
                yield Rejected(line, self._fault, original)
                continue
            original = window.take(window.rest if end < 0 else end + 1).removesuffix(b"\n")
            fault, self._fault = self._fault, ""
            if end < 0 and self._stream.damage:
                self._form = "end"
                yield Rejected(line, self._stream.damage, original)
                return
            if fault:
                yield Rejected(line, fault, original)
            elif original.strip():
                yield self._record(original, line)
        if self._stream.damage:
            self._form = "end"
            yield Rejected(window.line, self._stream.damage, b"")

    def _elements(self) -> Iterator[Record | Rejected]:
        window = self._window
        while (first := window.skip(_BETWEEN)) not in (b"", b"]"):
            line, size = window.line, window.value_size()
            if size is None:
                break
            yield self._record(window.take(size), line)
        self._form, self._fault = "rest", _BROKEN
        if first == b"]":
            window.take(1)
            self._fault = _BEHIND
        elif not first:
            self._fault = _UNCLOSED
            if not self._stream.damage:
                self._form = "end"
                yield Rejected(window.line, _UNCLOSED, b"")

    def _rest(self) -> Iterator[Rejected]:
        window = self._window
        while window.skip(_SPACE):
            while window.rest < MAX_RECORD_BYTES and window.fill():
                pass
            line = window.line
            yield Rejected(line, self._fault, window.take(min(window.rest, MAX_RECORD_BYTES)))
        if self._stream.damage:
            self._form = "end"
            yield Rejected(window.line, self._stream.damage, b"")

    def _record(self, original: bytes, line: int) -> Record | Rejected:
        try:
            record = records.decode(original.strip())
        except InvalidRecordError as error:
            return Rejected(line, str(error), original)
        reason = self._refuse(record)
        return Rejected(line, reason, original) if reason else record


def parse(chunks: Iterable[bytes]) -> Iterator[Record | Rejected]:
    """Every record of an object, and every piece of it that is none; see `Reader`."""
    return Reader(chunks)


# A string (its end captured, if it is there), or a bracket. Possessive: going back cannot
# help, and remembering where to would take memory by the megabyte.
_MARK = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+("?)|[\[\]{}]', re.DOTALL)
_SCALAR_END = re.compile(rb"[,\] \t\r\n]")


class _Window:
    """What is in memory of the object. `offset` and `line` are of where it stands."""

    def __init__(self, stream: Unpacked, start: Position) -> None:
        self._stream = stream
        self._buffer = b""
        self._at = 0
        self.offset = start.offset
        self.line = start.line
        self.ended = False

    @property
    def rest(self) -> int:
        """How many bytes there are to take."""
        return len(self._buffer) - self._at

    def fill(self) -> bool:
        """Get more bytes; False if there are none."""
        piece = next(self._stream, None)
        if piece is None:
            self.ended = True
            return False
        self._buffer = self._buffer[self._at :] + piece
        self._at = 0
        return True

    def find(self, byte: bytes) -> int:
        """How far off the next such byte is; negative if it is not in the window."""
        found = self._buffer.find(byte, self._at)
        return found - self._at if found >= 0 else -1

    def peek(self, size: int) -> bytes:
        return self._buffer[self._at : self._at + size]

    def take(self, size: int) -> bytes:
        taken = self._buffer[self._at : self._at + size]
        self._at += size
        self.offset += size
        self.line += taken.count(b"\n")
        return taken

    def skip(self, pattern: re.Pattern[bytes]) -> bytes:
        """Pass over what matches; the first byte behind, which stays, or nothing at the end."""
        while True:
            matched = pattern.match(self._buffer, self._at)
            self.take(matched.end() - self._at if matched else 0)
            if self.rest:
                return self.peek(1)
            if not self.fill():
                return b""

    def skip_mark(self) -> None:
        """Pass over a byte order mark."""
        mark = codecs.BOM_UTF8
        while self.rest < len(mark) and self.fill():
            pass
        if self.peek(len(mark)) == mark:
            self.take(len(mark))

    def value_size(self) -> int | None:
        """How long the JSON value is that starts here; None if it does not end.

        Only brackets and strings are looked at, so what is wrong between them costs this
        value and not the array.
        """
        while True:
            end = _value_end(self._buffer, self._at)
            if end is not None and end - self._at <= MAX_RECORD_BYTES:
                return end - self._at
            if end is not None or self.rest > MAX_RECORD_BYTES or not self.fill():
                return None


def _value_end(text: bytes, start: int) -> int | None:
    if text[start] not in b'{["':
        found = _SCALAR_END.search(text, start)
        return found.start() if found else None
    depth = 0
    for mark in _MARK.finditer(text, start):
        if text[mark.start()] == ord('"'):
            if not mark[1]:
                return None
        else:
            depth += 1 if mark[0] in b"[{" else -1
        if depth == 0:
            return mark.end()
    return None


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data, type=msgspec.Raw)  # looks through it, and keeps nothing
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
