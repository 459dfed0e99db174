"""Decompression of gzip objects in constant memory."""

import zlib
from collections.abc import Callable, Iterator

# Metrics compress to between a tenth and a fiftieth of their size. Above MAX_DECOMPRESSED_BYTES,
# a larger ratio is treated as a decompression bomb. Deflate's maximum is 1,032.
MAX_DECOMPRESSED_RATIO = 200
MAX_DECOMPRESSED_BYTES = 1 << 28

_GZIP_MAGIC = b"\x1f\x8b"
_OUTPUT_STEP = 1 << 17
# zlib copies the input that follows the end of a gzip member. Small input steps keep an object of
# many small members from causing many large copies.
_INPUT_STEP = 1 << 14


class _CorruptDataError(Exception):
    """A gzip object cannot be read further; the message is the reason stored in quarantine."""


class DecompressedStream:
    """The bytes of an object from `offset` on, decompressed if the object is gzip.

    `offset` counts decompressed bytes. At offset 0, `compressed` is set from the first bytes of
    the object; at any other offset the caller passes it. If the gzip data cannot be read, the
    stream ends and `error` holds the reason. `check_deadline` is called for each block read.
    """

    def __init__(
        self,
        chunks: Iterator[bytes],
        offset: int,
        check_deadline: Callable[[], None],
        *,
        compressed: bool,
    ) -> None:
        self._chunks = chunks
        self._check_deadline = check_deadline
        self._offset = offset
        self.compressed = compressed
        self.error = ""
        self._blocks = self._read()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._blocks)

    def _read(self) -> Iterator[bytes]:
        head = b""
        while len(head) < len(_GZIP_MAGIC) and (chunk := next(self._chunks, None)) is not None:
            head += chunk
        if not self._offset:
            self.compressed = head.startswith(_GZIP_MAGIC)
        if self.compressed:
            try:
                yield from _skip(self._offset, self._decompress(head))
            except _CorruptDataError as error:
                self.error = f"{error}; the unread data remains in the source object"
            return
        yield head
        for chunk in self._chunks:
            self._check_deadline()
            yield chunk

    def _decompress(self, head: bytes) -> Iterator[bytes]:
        decompressor = _decompressor()
        read = written = 0
        data: bytes | None = head
        while data is not None:
            read += len(data)
            for start in range(0, len(data), _INPUT_STEP):
                step = data[start : start + _INPUT_STEP]
                while step:
                    self._check_deadline()
                    if decompressor.eof:  # a gzip file can consist of several members
                        decompressor = _decompressor()
                    block = _decompress_step(decompressor, step)
                    written += len(block)
                    if written > max(MAX_DECOMPRESSED_BYTES, MAX_DECOMPRESSED_RATIO * read):
                        raise _CorruptDataError(
                            "the gzip data is a decompression bomb: it expands to more than"
                            f" {MAX_DECOMPRESSED_BYTES} bytes and {MAX_DECOMPRESSED_RATIO} times"
                            " its size"
                        )
                    if block:
                        yield block
                    step = (
                        decompressor.unused_data
                        if decompressor.eof
                        else decompressor.unconsumed_tail
                    )
            data = next(self._chunks, None)
        if not decompressor.eof:
            raise _CorruptDataError("truncated gzip data")


def _skip(offset: int, blocks: Iterator[bytes]) -> Iterator[bytes]:
    for block in blocks:
        if offset < len(block):
            yield block[offset:]
        offset = max(0, offset - len(block))


def _decompress_step(decompressor: "zlib._Decompress", step: bytes) -> bytes:
    try:
        return decompressor.decompress(step, _OUTPUT_STEP)
    except zlib.error as error:
        reason = str(error).rpartition(": ")[2]
        raise _CorruptDataError(f"the gzip data is corrupt ({reason})") from error


def _decompressor() -> "zlib._Decompress":
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
