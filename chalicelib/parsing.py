"""From the bytes of an object to records and rejected pieces, in constant memory.

Three forms are read: JSON lines, one JSON array, one JSON document over several lines; each
plain or gzip, which its first bytes tell and not its name.
"""

import codecs
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from . import records
from .errors import InvalidRecordError
from .records import Record

# Longer than any record, short enough that input without line ends cannot fill the memory.
MAX_RECORD_BYTES = 1 << 20

_GZIP_MAGIC = b"\x1f\x8b"
_INFLATE_STEP = 1 << 17
_WHITE_SPACE = " \t\r\n"


@dataclass(frozen=True, slots=True)
class Rejected:
    """Bytes that are no record, the line that they start on (from 1), and the reason."""

    line: int
    reason: str
    original: bytes


def parse(chunks: Iterable[bytes]) -> Iterator[Record | Rejected]:
    """Every record of an object, and every piece of it that is none, in order.

    `chunks` are the object's bytes in pieces of any size. Damage does not raise: what cannot
    be read comes out as `Rejected`, what was read before it as records.
    """
    stream = _Stream(iter(chunks))
    head = _head(stream)
    if head.lstrip().startswith(b"["):
        return _array(head, stream)
    if not _is_json(head.lstrip().partition(b"\n")[0]):
        # Either the first line is broken, or it is the first of a document over many lines.
        head = _read_ahead(head, stream)
        if len(head) <= MAX_RECORD_BYTES and not stream.damage and _is_json(head):
            return iter([_record(head.strip(), 1)])
    return _lines(head, stream)


@dataclass(slots=True)
class _Stream:
    """The object's bytes, decompressed. Corrupt gzip ends it early and leaves `damage`."""

    chunks: Iterator[bytes]
    damage: str = ""
    _pieces: Iterator[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self._pieces = self._read()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._pieces)

    def _read(self) -> Iterator[bytes]:
        head = b""
        while len(head) < len(_GZIP_MAGIC) and (chunk := next(self.chunks, None)) is not None:
            head += chunk
        if not head.startswith(_GZIP_MAGIC):
            yield head
            yield from self.chunks
            return
        try:
            yield from _inflated(head, self.chunks)
        except zlib.error as error:
            self.damage = f"gzip is damaged: {error}"
        except EOFError:
            self.damage = "gzip ends before its end"


def _inflated(data: bytes | None, chunks: Iterator[bytes]) -> Iterator[bytes]:
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    while data is not None:
        while data:
            if inflater.eof:  # a gzip file may be several members, one after another
                inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
            if piece := inflater.decompress(data, _INFLATE_STEP):
                yield piece
            data = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
        data = next(chunks, None)
    if not inflater.eof:
        raise EOFError


def _head(stream: _Stream) -> bytes:
    """The beginning, with the first line that is not blank whole, unless it is too long."""
    head = b""
    for piece in stream:
        head += piece
        if b"\n" in head.lstrip() or len(head) > MAX_RECORD_BYTES:
            break
    return head.removeprefix(codecs.BOM_UTF8)


def _read_ahead(head: bytes, stream: _Stream) -> bytes:
    """All that follows too, as far as one document may reach."""
    for piece in stream:
        head += piece
        if len(head) > MAX_RECORD_BYTES:
            break
    return head


def _lines(head: bytes, stream: _Stream) -> Iterator[Record | Rejected]:
    number, carry, reason = 1, b"", ""
    for piece in chain((head,), stream):
        *whole, carry = (carry + piece).split(b"\n")
        for line in whole:
            if reason:
                yield Rejected(number, reason, line)
                reason = ""
            elif stripped := line.strip():
                yield _record(stripped, number)
            number += 1
        if len(carry) > MAX_RECORD_BYTES:
            reason = f"no line end within {MAX_RECORD_BYTES} bytes"
            yield Rejected(number, reason, carry)
            carry = b""
    if stream.damage or (reason and carry):
        yield Rejected(number, stream.damage or reason, carry)
    elif carry.strip():
        yield _record(carry.strip(), number)


def _array(head: bytes, stream: _Stream) -> Iterator[Record | Rejected]:
    text = _Text(head, stream)
    text.skip(_WHITE_SPACE)
    text.take(text.position + 1)
    while (mark := text.skip(_WHITE_SPACE + ",")) not in ("", "]"):
        line = text.line
        end = text.value_end()
        if end is None:
            break
        yield _record(text.take(end), line)
    fault = text.fault or "the array is not closed"
    if mark == "]":
        text.take(text.position + 1)
        fault = "this stands behind the end of the array" if text.skip(_WHITE_SPACE) else ""
    while text.skip(_WHITE_SPACE):
        yield Rejected(text.line, fault, text.take(len(text.buffer)))
        fault = fault or "this stands behind the end of the array"
    if stream.damage or (mark == "" and fault):
        yield Rejected(text.line, stream.damage or fault, b"")


class _Text:
    """A window on the stream as text.

    surrogateescape carries bytes that are not UTF-8 through to the element that holds them,
    so that one bad string does not cost the array.
    """

    def __init__(self, head: bytes, stream: _Stream) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.buffer = self._decoder.decode(head)
        self.position = 0
        self.line = 1
        self.fault = ""

    def _fill(self) -> bool:
        piece = next(self._stream, None)
        if piece is None:
            return False
        self.buffer = self.buffer[self.position :] + self._decoder.decode(piece)
        self.position = 0
        return True

    def take(self, end: int) -> bytes:
        taken = self.buffer[self.position : end]
        self.position = end
        self.line += taken.count("\n")
        return taken.encode("utf-8", "surrogateescape")

    def skip(self, characters: str) -> str:
        """Pass over `characters`; the first other one, which stays, or nothing at the end."""
        while True:
            rest = self.position
            while rest < len(self.buffer) and self.buffer[rest] in characters:
                rest += 1
            self.take(rest)
            if rest < len(self.buffer):
                return self.buffer[rest]
            if not self._fill():
                return ""

    def value_end(self) -> int | None:
        """Where the JSON value that starts here ends; None, and a `fault`, if it does not.

        Only brackets and strings are looked at, so what is wrong between them costs this
        value and not the array.
        """
        while True:
            end = _value_end(self.buffer, self.position)
            if end is not None:
                return end
            if len(self.buffer) - self.position > MAX_RECORD_BYTES or not self._fill():
                self.fault = "the array is broken from here on: this value does not end"
                return None


# A string (its end captured, if it is there), or a bracket.
_MARK = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*("?)|[\[\]{}]', re.DOTALL)
_SCALAR_END = re.compile(r"[,\]\s]")


def _value_end(text: str, start: int) -> int | None:
    if text[start] not in '{["':
        found = _SCALAR_END.search(text, start)
        return found.start() if found else None
    depth = 0
    for mark in _MARK.finditer(text, start):
        if text[mark.start()] == '"':
            if not mark[1]:
                return None
        else:
            depth += 1 if mark[0] in "[{" else -1
        if depth == 0:
            return mark.end()
    return None


def _record(original: bytes, line: int) -> Record | Rejected:
    try:
        return records.decode(original)
    except InvalidRecordError as error:
        return Rejected(line, str(error), original)


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except (ValueError, RecursionError):
        return False
    return True
