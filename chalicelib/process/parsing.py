"""Parsing of raw objects into records and rejected entries, in constant memory.

Three forms are supported: JSON lines, one JSON array, and one JSON document that spans several
lines; each plain or gzip, detected from the first bytes and not from the name. The boundaries
between entries depend only on the object, never on how its bytes arrive, so reading can stop
after any entry and resume in another invocation.
"""

import codecs
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import msgspec
from msgspec import Struct

from ..model import records
from ..model.errors import InvalidRecordError
from ..model.records import Record
from .decompression import DecompressedStream

# Longer than any record, and short enough that input without line ends cannot exhaust memory.
MAX_ENTRY_BYTES = 1 << 20

_SPACE = re.compile(rb"[ \t\r\n]*+")
_SEPARATORS = re.compile(rb"[ \t\r\n,]*+")

_AFTER_ARRAY = "unexpected data after the end of the array"
_UNCLOSED = "the array is not closed"
_TRUNCATED_ELEMENT = f"array element truncated or longer than {MAX_ENTRY_BYTES} bytes"


@dataclass(frozen=True, slots=True)
class RejectedEntry:
    """Bytes that are not a record: their first line (from 1), and the reason."""

    line: int
    reason: str
    original: bytes


class Position(Struct, frozen=True, rename={"compressed": "packed"}):
    """A position between two entries, from which an object can be read on.

    `offset` counts bytes, decompressed ones if the object is gzip (`compressed`). `form` is
    empty at the start, before it is detected, and `end` when nothing is left. `fault` is the
    reason to reject the bytes that follow: the remainder of an overlong line, or of a broken
    array (`rest`). The field names are part of the checkpoint's JSON.
    """

    form: Literal["", "lines", "array", "rest", "end"] = ""
    offset: int = 0
    line: int = 1
    fault: str = ""
    compressed: bool = False


def _no_deadline() -> None:
    """Read to the end."""


def _accept(_: Record) -> str:
    """Accept every record that can be decoded."""
    return ""


class EntryReader:
    """An iterator over the records and rejected entries of an object, in order.

    `chunks` are the object's bytes in blocks of any size: from `start.offset` on, or from the
    first byte of a gzip object. Corrupt data does not raise: unreadable bytes become a
    `RejectedEntry`, and the records before them are kept. `check_deadline` is called for each
    block read; an exception from it ends the reading, at `position`. `validate` returns the
    reason to reject a decoded record, or ''.
    """

    def __init__(
        self,
        chunks: Iterable[bytes],
        *,
        start: Position | None = None,
        check_deadline: Callable[[], None] = _no_deadline,
        validate: Callable[[Record], str] = _accept,
    ) -> None:
        start = start or Position()
        self._stream = DecompressedStream(
            iter(chunks), start.offset, check_deadline, compressed=start.compressed
        )
        self._buffer = _Buffer(self._stream, start)
        self._form, self._fault = start.form, start.fault
        self._validate = validate
        self._entries = self._read()

    def __iter__(self) -> Iterator[Record | RejectedEntry]:
        return self

    def __next__(self) -> Record | RejectedEntry:
        return next(self._entries)

    @property
    def position(self) -> Position:
        """The position after the last entry and after any blanks skipped since."""
        buffer = self._buffer
        compressed = self._stream.compressed
        return Position(self._form, buffer.offset, buffer.line, self._fault, compressed)

    def _read(self) -> Iterator[Record | RejectedEntry]:
        if self._form == "end":
            return
        if not self._form:
            document = self._detect_form()
            if document is not None:
                yield document
                return
        if self._form == "lines":
            yield from self._lines()
            return
        if self._form == "array":
            yield from self._elements()
        yield from self._remainder()

    def _detect_form(self) -> Record | RejectedEntry | None:
        """Set the form from the first bytes; the entry if the object is a single document."""
        if not self._buffer.offset:
            self._buffer.skip_byte_order_mark()
        first = self._buffer.skip(_SPACE)
        if first == b"[":
            self._buffer.take(1)
            self._form = "array"
        elif first and (document := self._document()):
            self._form = "end"
            return document
        else:
            self._form = "lines"
        return None

    def _document(self) -> Record | RejectedEntry | None:
        """The object as one document that spans several lines, if it is one."""
        buffer = self._buffer
        while (end := buffer.find(b"\n")) < 0 and buffer.available <= MAX_ENTRY_BYTES:
            if not buffer.fill():
                break
        if _is_json(buffer.peek(end if end >= 0 else buffer.available)):
            return None  # the first line is complete JSON: the form is JSON lines
        while buffer.available <= MAX_ENTRY_BYTES and buffer.fill():
            pass
        text = buffer.peek(buffer.available)
        if len(text) > MAX_ENTRY_BYTES or self._stream.error or not _is_json(text):
            return None
        line = buffer.line
        buffer.take(len(text))
        return self._entry(text, line)

    def _lines(self) -> Iterator[Record | RejectedEntry]:
        buffer = self._buffer
        while buffer.available or buffer.fill():
            line, end = buffer.line, buffer.find(b"\n")
            if end < 0 and buffer.available <= MAX_ENTRY_BYTES and buffer.fill():
                continue
            if end > MAX_ENTRY_BYTES or (end < 0 and not buffer.ended):
                original = buffer.take(MAX_ENTRY_BYTES)
                self._fault = f"the line is longer than {MAX_ENTRY_BYTES} bytes"
                yield RejectedEntry(line, self._fault, original)
                continue
            size = buffer.available if end < 0 else end + 1
            original = buffer.take(size).removesuffix(b"\n")
            fault, self._fault = self._fault, ""
            if end < 0 and self._stream.error:
                self._form = "end"
                yield RejectedEntry(line, self._stream.error, original)
                return
            if fault:
                yield RejectedEntry(line, fault, original)
            elif original.strip():
                yield self._entry(original, line)
        yield from self._stream_error()

    def _elements(self) -> Iterator[Record | RejectedEntry]:
        buffer = self._buffer
        while (first := buffer.skip(_SEPARATORS)) not in (b"", b"]"):
            line, size = buffer.line, buffer.value_size()
            if size is None:
                break
            yield self._entry(buffer.take(size), line)
        self._form, self._fault = "rest", _TRUNCATED_ELEMENT
        if first == b"]":
            buffer.take(1)
            self._fault = _AFTER_ARRAY
        elif not first:
            self._fault = _UNCLOSED
            if not self._stream.error:
                self._form = "end"
                yield RejectedEntry(buffer.line, _UNCLOSED, b"")

    def _remainder(self) -> Iterator[RejectedEntry]:
        """The bytes after an array, or from its first broken element on."""
        buffer = self._buffer
        while buffer.skip(_SPACE):
            while buffer.available < MAX_ENTRY_BYTES and buffer.fill():
                pass
            line, size = buffer.line, min(buffer.available, MAX_ENTRY_BYTES)
            yield RejectedEntry(line, self._fault, buffer.take(size))
        yield from self._stream_error()

    def _stream_error(self) -> Iterator[RejectedEntry]:
        if self._stream.error:
            self._form = "end"
            yield RejectedEntry(self._buffer.line, self._stream.error, b"")

    def _entry(self, original: bytes, line: int) -> Record | RejectedEntry:
        try:
            record = records.decode(original.strip())
        except InvalidRecordError as error:
            return RejectedEntry(line, str(error), original)
        reason = self._validate(record)
        return RejectedEntry(line, reason, original) if reason else record


def parse(chunks: Iterable[bytes]) -> Iterator[Record | RejectedEntry]:
    """Parse a whole object without a deadline or validation; see `EntryReader`."""
    return EntryReader(chunks)


# A string (group 1 is its closing quote, if present) or a bracket. The quantifiers are
# possessive: backtracking cannot help, and its state would take megabytes.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+("?)|[\[\]{}]', re.DOTALL)
_SCALAR_END = re.compile(rb"[,\] \t\r\n]")


class _Buffer:
    """The part of the object in memory. `offset` and `line` are those of the next byte."""

    def __init__(self, stream: DecompressedStream, start: Position) -> None:
        self._stream = stream
        self._data = b""
        self._index = 0
        self.offset = start.offset
        self.line = start.line
        self.ended = False

    @property
    def available(self) -> int:
        """The number of buffered bytes not yet taken."""
        return len(self._data) - self._index

    def fill(self) -> bool:
        """Read another block from the stream; False at its end."""
        block = next(self._stream, None)
        if block is None:
            self.ended = True
            return False
        self._data = self._data[self._index :] + block
        self._index = 0
        return True

    def find(self, byte: bytes) -> int:
        """The distance to the next occurrence of a byte; -1 if it is not in the buffer."""
        found = self._data.find(byte, self._index)
        return found - self._index if found >= 0 else -1

    def peek(self, size: int) -> bytes:
        return self._data[self._index : self._index + size]

    def take(self, size: int) -> bytes:
        taken = self._data[self._index : self._index + size]
        self._index += size
        self.offset += size
        self.line += taken.count(b"\n")
        return taken

    def skip(self, pattern: re.Pattern[bytes]) -> bytes:
        """Skip all bytes that match; return the next byte without taking it, or b'' at the end."""
        while True:
            matched = pattern.match(self._data, self._index)
            self.take(matched.end() - self._index if matched else 0)
            if self.available:
                return self.peek(1)
            if not self.fill():
                return b""

    def skip_byte_order_mark(self) -> None:
        mark = codecs.BOM_UTF8
        while self.available < len(mark) and self.fill():
            pass
        if self.peek(len(mark)) == mark:
            self.take(len(mark))

    def value_size(self) -> int | None:
        """The length of the JSON value at the current position; None if it does not end.

        Only brackets and strings are matched, so an error inside the value rejects this value
        and not the whole array.
        """
        while True:
            end = _value_end(self._data, self._index)
            if end is not None and end - self._index <= MAX_ENTRY_BYTES:
                return end - self._index
            if end is not None or self.available > MAX_ENTRY_BYTES or not self.fill():
                return None


def _value_end(text: bytes, start: int) -> int | None:
    if text[start] not in b'{["':
        found = _SCALAR_END.search(text, start)
        return found.start() if found else None
    depth = 0
    for token in _TOKEN.finditer(text, start):
        if text[token.start()] == ord('"'):
            if not token[1]:
                return None
        else:
            depth += 1 if token[0] in b"[{" else -1
        if depth == 0:
            return token.end()
    return None


def _is_json(data: bytes) -> bool:
    try:
        msgspec.json.decode(data, type=msgspec.Raw)  # validates without building a value
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True
