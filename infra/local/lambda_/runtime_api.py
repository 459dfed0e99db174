"""The Lambda Runtime API, through which a function's process gets events and returns results.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import sys
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

_RUNTIME = "/2018-06-01/runtime"

# Request ID, event, headers
Event = tuple[str, bytes, dict[str, str]]


class EventQueue(Protocol):
    """The source of a server's events and the destination of their results."""

    def next_event(self) -> Event | None:
        """Block until there is an event; None ends the polling."""

    def put_result(self, body: bytes, *, error: bool) -> None:
        """Take the result of an invocation, or the error of the initialization."""


class RuntimeApiServer(ThreadingHTTPServer):
    """Serves one execution environment, on a free port of the loopback interface."""

    daemon_threads = True

    def __init__(self, events: EventQueue) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.events = events

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore broken connections, which a killed process leaves behind."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RuntimeApiServer

    def do_GET(self) -> None:
        if self.path != f"{_RUNTIME}/invocation/next":
            self._respond(404, b"{}")
            return
        event = self.server.events.next_event()
        if event is None:
            self.close_connection = True
            return
        request_id, payload, headers = event
        self._respond(200, payload, {"Lambda-Runtime-Aws-Request-Id": request_id, **headers})

    def do_POST(self) -> None:
        body = self._body()
        is_error = self.path.endswith("/error")
        # The result counts even if the process exits before it receives the response.
        with suppress(ConnectionError):
            self._respond(202, b'{"status":"OK"}')
        self.server.events.put_result(body, error=is_error)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _respond(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Log no requests."""
