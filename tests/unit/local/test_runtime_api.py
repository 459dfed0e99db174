"""The Runtime API handles broken connections, over real sockets."""

import queue
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from infra.local.lambda_.runtime_api import RuntimeApiServer

INIT_ERROR = b"POST /2018-06-01/runtime/init/error HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"

# The length of the server's queue of connections.
RESETS = RuntimeApiServer.request_queue_size


class Results:
    """Collects results; has no events."""

    def __init__(self) -> None:
        self.received: queue.Queue[tuple[bytes, bool]] = queue.Queue()

    def next_event(self) -> None:
        return None

    def put_result(self, body: bytes, *, error: bool) -> None:
        self.received.put((body, error))


@pytest.fixture
def results() -> Results:
    return Results()


@pytest.fixture
def server(results: Results) -> Iterator[RuntimeApiServer]:
    with RuntimeApiServer(results) as created:
        # Closing the server then waits for its threads, which have printed their errors by then.
        created.daemon_threads = False
        thread = threading.Thread(target=created.serve_forever, args=(0.01,))
        thread.start()
        yield created
        created.shutdown()
        thread.join()


def connection(server: RuntimeApiServer) -> socket.socket:
    """Open a connection that resets on close, as the kernel does for a killed process."""
    client = socket.create_connection(("127.0.0.1", server.server_port), timeout=300)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return client


def test_a_process_killed_after_its_result_causes_no_traceback(
    server: RuntimeApiServer, results: Results, capfd: pytest.CaptureFixture[str]
) -> None:
    with connection(server) as client:
        client.sendall(INIT_ERROR)
        assert results.received.get(timeout=300) == (b"{}", True)
    server.server_close()
    assert capfd.readouterr().err == ""


def test_a_result_counts_although_the_response_cannot_be_sent(
    server: RuntimeApiServer, results: Results, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(RESETS):
        with connection(server) as client:
            client.sendall(INIT_ERROR)
    for _ in range(RESETS):
        assert results.received.get(timeout=300) == (b"{}", True)
    server.server_close()
    assert capfd.readouterr().err == ""


def test_any_other_error_is_printed(
    server: RuntimeApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    with connection(server) as client:
        client.sendall(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n")
        assert client.recv(1) == b""
    server.server_close()
    assert "ValueError" in capfd.readouterr().err
