"""The bytes of an object, unpacked if they are gzip, in constant memory."""

import zlib
from collections.abc import Callable, Iterator

# Metrics shrink to a tenth or a fiftieth; what grows more than this, from a size on that says
# something, was made to do harm. Deflate ends at 1,032.
MAX_UNPACKED_RATIO = 200
MAX_UNPACKED_BYTES = 1 << 28

_GZIP_MAGIC = b"\x1f\x8b"
_INFLATE_STEP = 1 << 17
# zlib copies what is behind a member's end: many tiny members must not be many long copies.
_DEFLATED_STEP = 1 << 14


class _DamageError(Exception):
    """A gzip object cannot be read on; the message is the reason kept in quarantine."""


class Unpacked:
    """The object's bytes from `offset` on, which counts unpacked ones; `packed` if it is gzip.

    At offset 0 the first bytes tell that; later it has to be said. Gzip that cannot be read
    on ends the bytes and leaves `damage`.
    """

    def __init__(
        self,
        chunks: Iterator[bytes],
        offset: int,
        pause: Callable[[], None],
        *,
        packed: bool,
    ) -> None:
        self._chunks = chunks
        self._pause = pause
        self._offset = offset
        self.packed = packed
        self.damage = ""
        self._pieces = self._read()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._pieces)

    def _read(self) -> Iterator[bytes]:
        head = b""
        while len(head) < len(_GZIP_MAGIC) and (chunk := next(self._chunks, None)) is not None:
            head += chunk
        if not self._offset:
            self.packed = head.startswith(_GZIP_MAGIC)
        if self.packed:
            try:
                yield from self._behind(self._offset, self._inflated(head))
            except _DamageError as error:
                self.damage = f"{error}; the object itself keeps what could not be read"
            return
        yield head
        for chunk in self._chunks:
            self._pause()
            yield chunk

    def _behind(self, offset: int, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            if offset < len(piece):
                yield piece[offset:]
            offset = max(0, offset - len(piece))

    def _inflated(self, head: bytes) -> Iterator[bytes]:
        inflater = _inflater()
        read = written = 0
        data: bytes | None = head
        while data is not None:
            read += len(data)
            for start in range(0, len(data), _DEFLATED_STEP):
                step = data[start : start + _DEFLATED_STEP]
                while step:
                    self._pause()
                    if inflater.eof:  # a gzip file may be several members, one after another
                        inflater = _inflater()
                    try:
                        piece = inflater.decompress(step, _INFLATE_STEP)
                    except zlib.error as error:
                        raise _DamageError(
                            f"the gzip data is damaged ({str(error).rpartition(': ')[2]})"
                        ) from error
                    written += len(piece)
                    if written > max(MAX_UNPACKED_BYTES, MAX_UNPACKED_RATIO * read):
                        raise _DamageError(
                            "the gzip data is a bomb: it unpacks to more than"
                            f" {MAX_UNPACKED_BYTES} bytes and {MAX_UNPACKED_RATIO} times its size"
                        )
                    if piece:
                        yield piece
                    step = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
            data = next(self._chunks, None)
        if not inflater.eof:
            raise _DamageError("the gzip data ends before its end")


def _inflater() -> "zlib._Decompress":
    return zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
