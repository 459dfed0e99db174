"""The Runtime API by itself, over real sockets."""

import queue
import socket
import struct
import threading
from collections.abc import Iterator

import pytest

from infra.local.lambda_.runtime_api import RuntimeApiServer

INIT_ERROR = b"POST /2018-06-01/runtime/init/error HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"

# As many as may wait to be accepted.
RESETS = RuntimeApiServer.request_queue_size


class Outcomes:
    """Takes what is reported, and has no work."""

    def __init__(self) -> None:
        self.reported: queue.Queue[tuple[bytes, bool]] = queue.Queue()

    def next_work(self) -> None:
        return None

    def report(self, body: bytes, *, error: bool) -> None:
        self.reported.put((body, error))


@pytest.fixture
def outcomes() -> Outcomes:
    return Outcomes()


@pytest.fixture
def server(outcomes: Outcomes) -> Iterator[RuntimeApiServer]:
    with RuntimeApiServer(outcomes) as made:
        # So that the server's end waits for its threads, and what they print is printed.
        made.daemon_threads = False
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def connection(server: RuntimeApiServer) -> socket.socket:
    """A client that, like the kernel for a killed process, resets what it has not read."""
    client = socket.create_connection(("127.0.0.1", server.server_port), timeout=300)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return client


def test_a_process_that_is_killed_after_its_report_leaves_no_traceback(
    server: RuntimeApiServer, outcomes: Outcomes, capfd: pytest.CaptureFixture[str]
) -> None:
    with connection(server) as client:
        client.sendall(INIT_ERROR)
        assert outcomes.reported.get(timeout=300) == (b"{}", True)
    server.server_close()
    assert capfd.readouterr().err == ""


def test_an_outcome_counts_though_nobody_reads_the_answer(
    server: RuntimeApiServer, outcomes: Outcomes, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(RESETS):
        with connection(server) as client:
            client.sendall(INIT_ERROR)
    for _ in range(RESETS):
        assert outcomes.reported.get(timeout=300) == (b"{}", True)
    server.server_close()
    assert capfd.readouterr().err == ""


def test_another_error_of_the_server_is_told(
    server: RuntimeApiServer, capfd: pytest.CaptureFixture[str]
) -> None:
    with connection(server) as client:
        client.sendall(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nno size\r\n")
        assert client.recv(1) == b""
    server.server_close()
    assert "ValueError" in capfd.readouterr().err
