"""An HTTP GET that reads lines from an untrusted server within limits of time and size.

http.client parses the response. Its socket timeout restarts with every byte, and it limits neither
the length of a chunk nor the total size, so it reads from a stream that does. urllib3 has the same
limits: with `Timeout(total=0.5)` it reads a response that arrives byte by byte to its end.
"""

import io
import socket
import ssl
import time
import zlib
from collections.abc import Generator, Iterable, Iterator
from functools import cache
from http.client import HTTPException, HTTPResponse
from typing import TYPE_CHECKING

from ...model.errors import CollectionError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_BLOCK_BYTES = 1 << 16
# Headers, and the sizes between the chunks of a chunked body.
_FRAMING_BYTES = 1 << 16
# Label values are paths at most. The parser's time grows with the square of the line length.
_MAX_LINE_BYTES = 1 << 13
_GZIP = 16 + zlib.MAX_WBITS


def get_lines(
    host: str, port: int, path: str, *, tls: bool = False, timeout: float, max_bytes: int
) -> Generator[bytes, None, None]:
    """Yield the lines of the response to `GET http://host:port/path`, without line ends.

    `tls` selects https; the certificate is verified with the system's CAs, or SSL_CERT_FILE.
    `timeout` (seconds) is the limit from the connection to the last line. `max_bytes` limits the
    response both as received and decompressed. Redirects are not followed.

    Raises:
        CollectionError: the response is not complete or not valid.
    """
    deadline = time.monotonic() + timeout
    try:
        with _connect(host, port, deadline, tls=tls) as connection:
            connection.sendall(_request(host, port, path))
            response = _response(_LimitedStream(connection, deadline, max_bytes))
            yield from _lines(_body(response, max_bytes))
    except TimeoutError as error:
        raise CollectionError(f"no complete response within {timeout:g} s") from error
    except (OSError, HTTPException, zlib.error, ValueError) as error:
        # http.client quotes invalid input, up to 64 KiB.
        raise CollectionError(f"{type(error).__name__}: {error}"[:200]) from error


class _LimitedStream(io.RawIOBase):
    """The receiving side of a socket with a deadline and a size limit."""

    def __init__(self, connection: socket.socket, deadline: float, max_bytes: int) -> None:
        self._connection = connection
        self._deadline = deadline
        self._max_bytes = max_bytes
        self._remaining = max_bytes + _FRAMING_BYTES

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        if self._remaining <= 0:
            raise _too_long(self._max_bytes)
        self._connection.settimeout(_time_left(self._deadline))
        count = self._connection.recv_into(memoryview(buffer)[: self._remaining])
        self._remaining -= count
        return count

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self, _BLOCK_BYTES)


def _too_long(max_bytes: int) -> CollectionError:
    return CollectionError(f"the response is longer than {max_bytes} bytes")


def _time_left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _connect(host: str, port: int, deadline: float, *, tls: bool) -> socket.socket:
    connection = _connect_tcp(host, port, deadline)
    if not tls:
        return connection
    try:
        connection.settimeout(_time_left(deadline))
        # Report a connection that closes without TLS's close_notify: the response may be cut off.
        return _tls_context().wrap_socket(
            connection, server_hostname=host, suppress_ragged_eofs=False
        )
    except (OSError, ValueError):
        connection.close()
        raise


@cache
def _tls_context() -> ssl.SSLContext:
    # Loading the CA certificates takes about 17 ms of CPU.
    return ssl.create_default_context()


def _connect_tcp(host: str, port: int, deadline: float) -> socket.socket:
    """Connect to the first address of `host` that accepts the connection."""
    failure = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(_time_left(deadline))
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


def _response(stream: _LimitedStream) -> HTTPResponse:
    # HTTPResponse calls only `makefile` of its socket.
    response = HTTPResponse(stream, method="GET")  # type: ignore[arg-type]
    response.begin()
    if response.status != 200:
        raise CollectionError(f"status {response.status} {response.reason[:100]}".rstrip())
    return response


def _body(response: HTTPResponse, max_bytes: int) -> Iterator[bytes]:
    decompressor = zlib.decompressobj(_GZIP) if _is_gzip(response) else None
    remaining = max_bytes
    while block := response.read(_BLOCK_BYTES):
        if decompressor:
            # One byte above the limit shows that there is more; 0 would mean no limit.
            block = decompressor.decompress(block, remaining + 1)
        remaining -= len(block)
        if remaining < 0:
            raise _too_long(max_bytes)
        if decompressor and decompressor.unused_data:
            raise CollectionError("unexpected data after the end of the gzip stream")
        yield block
    # http.client accepts a connection that closes before the announced length.
    if response.length or (decompressor and not decompressor.eof):
        raise CollectionError("the connection closed before the end of the response")


def _is_gzip(response: HTTPResponse) -> bool:
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip"}:
        raise CollectionError(f"unsupported content encoding {encoding[:100]!r}")
    return encoding == "gzip"


def _lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield complete lines. An incomplete last line is an error: the response was cut off."""
    rest = b""
    for block in blocks:
        *complete, rest = (rest + block).split(b"\n")
        for line in (*complete, rest):
            if len(line) > _MAX_LINE_BYTES:
                raise CollectionError(f"a line is longer than {_MAX_LINE_BYTES} bytes")
        yield from complete
    if rest:
        raise CollectionError("the connection closed in the middle of a line")
