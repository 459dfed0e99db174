"""One HTTP GET, line by line, from a server that is not to be trusted with time or memory."""

import io
import socket
import time
import zlib
from collections.abc import Generator, Iterable, Iterator
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING

from ...model.errors import CollectionError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_CHUNK_BYTES = 1 << 16
# Headers, and the lengths between the chunks of a chunked body.
_FRAMING_BYTES = 1 << 16
# The longest line: label values are paths at most. Parsing time grows with its square.
_LINE_BYTES = 1 << 13
_GZIP = 16 + zlib.MAX_WBITS


def get_lines(
    host: str, port: int, path: str, *, timeout: float, max_bytes: int
) -> Generator[bytes, None, None]:
    """The lines of the answer to `GET http://host:port/path`, each without its end.

    `timeout` (seconds) covers everything up to the last line, however slowly it comes;
    `max_bytes` is the longest answer, on the wire and unpacked. Redirects are not followed.

    Raises:
        CollectionError: there was no whole answer; the message says why.
    """
    deadline = time.monotonic() + timeout
    try:
        with _connect(host, port, deadline) as connection:
            connection.sendall(_request(host, port, path))
            wire = _Wire(connection, deadline, max_bytes)
            yield from _lines(_body(_answer(wire), max_bytes))
    except TimeoutError as error:
        raise CollectionError(f"no whole answer within {timeout:g} s") from error
    except (OSError, HTTPException, zlib.error, ValueError) as error:
        # http.client quotes what it does not understand, up to 64 KiB of it.
        raise CollectionError(f"{type(error).__name__}: {error}"[:200]) from error


class _Wire(io.RawIOBase):
    """What http.client reads from instead of a socket.

    A socket's own time-out starts again with every byte, and http.client bounds neither a
    chunk's length nor, where that is negative, what it reads at once.
    """

    def __init__(self, connection: socket.socket, deadline: float, max_bytes: int) -> None:
        self._connection = connection
        self._deadline = deadline
        self._max_bytes = max_bytes
        self._left = max_bytes + _FRAMING_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        if self._left <= 0:
            raise _too_long(self._max_bytes)
        self._connection.settimeout(_left(self._deadline))
        count = self._connection.recv_into(memoryview(buffer)[: self._left])
        self._left -= count
        return count

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self, _CHUNK_BYTES)


def _too_long(max_bytes: int) -> CollectionError:
    return CollectionError(f"the answer is longer than {max_bytes} bytes")


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _connect(host: str, port: int, deadline: float) -> socket.socket:
    """A connection to the first address of `host` that takes one."""
    failure = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(_left(deadline))
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure


def _request(host: str, port: int, path: str) -> bytes:
    name = f"[{host}]" if ":" in host else host
    return (
        f"GET {path} HTTP/1.1\r\nHost: {name}:{port}\r\nConnection: close\r\n"
        "Accept: text/plain;version=0.0.4\r\nAccept-Encoding: gzip\r\n\r\n"
    ).encode("ascii")


def _answer(wire: _Wire) -> HTTPResponse:
    # Of a socket it uses nothing but `makefile`.
    response = HTTPResponse(wire, method="GET")  # type: ignore[arg-type]
    response.begin()
    if response.status != 200:
        raise CollectionError(f"the answer is {response.status} {response.reason[:100]}".rstrip())
    return response


def _body(response: HTTPResponse, max_bytes: int) -> Iterator[bytes]:
    unpack = zlib.decompressobj(_GZIP) if _is_gzip(response) else None
    left = max_bytes
    while packed := response.read(_CHUNK_BYTES):
        # One byte too many tells that there is more; 0 would mean no limit.
        chunk = unpack.decompress(packed, left + 1) if unpack else packed
        left -= len(chunk)
        if left < 0:
            raise _too_long(max_bytes)
        if unpack and unpack.unused_data:
            raise CollectionError("something follows the end of the gzip stream")
        yield chunk
    # For a given length, http.client takes the connection's end for the body's.
    if response.length or (unpack and not unpack.eof):
        raise CollectionError("the connection was closed before the end of the answer")


def _is_gzip(response: HTTPResponse) -> bool:
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip"}:
        raise CollectionError(f"the answer is encoded as {encoding[:100]!r}")
    return encoding == "gzip"


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Whole lines; the last one has to be whole as well, or something is cut off."""
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        for line in (*whole, rest):
            if len(line) > _LINE_BYTES:
                raise CollectionError(f"a line is longer than {_LINE_BYTES} bytes")
        yield from whole
    if rest:
        raise CollectionError("the connection was closed in the middle of a line")
