"""The Runtime API, which a function's process polls for events and answers to.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import sys
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

_RUNTIME = "/2018-06-01/runtime"


class Work(Protocol):
    """What a server hands out and takes back."""

    def next_work(self) -> tuple[str, bytes, dict[str, str]] | None:
        """Request ID, event and headers; blocks until there is an event. None ends the polling."""

    def report(self, body: bytes, *, error: bool) -> None:
        """Take the outcome of an invocation, or of the initialization."""


class RuntimeApiServer(ThreadingHTTPServer):
    """Serves one execution environment, on a free port of loopback."""

    daemon_threads = True

    def __init__(self, work: Work) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.work = work

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a connection that broke: a process that is killed leaves it as it is."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RuntimeApiServer

    def do_GET(self) -> None:
        if self.path != f"{_RUNTIME}/invocation/next":
            self._answer(404, b"{}")
            return
        work = self.server.work.next_work()
        if work is None:
            self.close_connection = True
            return
        request_id, payload, headers = work
        self._answer(200, payload, {"Lambda-Runtime-Aws-Request-Id": request_id, **headers})

    def do_POST(self) -> None:
        body = self._body()
        failed = self.path.endswith("/error")
        # The outcome counts also if the process is gone before it is told so.
        with suppress(ConnectionError):
            self._answer(202, b'{"status":"OK"}')
        self.server.work.report(body, error=failed)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing: the cloud's log is about functions, not about this server."""
