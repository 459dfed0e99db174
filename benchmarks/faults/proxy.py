"""A proxy between the functions and the cloud that injects faults.

It injects faults at both the TCP and the API level: it can reset a connection after the write, and
apply half of a batch. (Toxiproxy does not support HTTP and is not written in Python; mitmproxy does
not support batches.)
"""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import psutil

from .plan import Plan

_RST = struct.pack("ii", 1, 0)  # SO_LINGER with a timeout of zero
_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "host"}
_UUID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PARTIAL_RESPONSES = ("reset within the response", "body truncated", "reset within the body")
_THROTTLING_CODES = (
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "RequestLimitExceeded",
)

OnPut = Callable[[str, str], None]


class Proxy(ThreadingHTTPServer):
    """Forward requests to `upstream` with the faults of the plan; without a plan, no faults.

    `on_put` is called with the bucket and key of each object that S3 stored, whatever response the
    function received. `on_invoke` replaces Lambda for asynchronous invocations. A hanging request
    is closed after `hang_seconds`.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        upstream: str,
        *,
        hang_seconds: float,
        on_put: OnPut | None = None,
        on_invoke: Callable[[bytes], None] | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.hang_seconds = hang_seconds
        self.on_put = on_put
        self.on_invoke = on_invoke
        self.plan: Plan | None = None
        self.injected: Counter[str] = Counter()
        self.requests = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def next_fault(self, operation: str, target: str) -> str:
        with self._lock:
            self.requests += 1
            fault = self.plan.draw(operation, target) if self.plan else ""
            if fault:
                self.injected[fault] += 1
            return fault

    def shutdown_request(self, request: Any) -> None:
        # A shutdown would send FIN before the reset.
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors: faults close connections on purpose."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Proxy

    def setup(self) -> None:
        super().setup()
        self._cloud = http.client.HTTPConnection(self.server.upstream, timeout=60)

    def finish(self) -> None:
        self._cloud.close()
        with contextlib.suppress(OSError):
            super().finish()

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        target = self.headers.get("X-Amz-Target", "")
        operation = target.rpartition(".")[2] or f"{self.command.title()}Object"
        # Without the body, only S3 requests can be identified, by their path.
        body = b"" if "reset within" in operation else self.rfile.read(length)
        fault = self.server.next_fault(operation, self._target(body))
        if not fault:
            self._respond(*self._forward(body))
        elif fault.endswith("after the write") or fault in _PARTIAL_RESPONSES:
            self._fail_after_write(fault, *self._forward(body))
        elif fault.startswith("Unprocessed"):
            self._respond(*self._apply_half(operation, body))
        elif "half-way" in fault:
            self._apply_half(operation, body)
            self._cut(killed="killed" in fault)
        else:
            self._fail_before_write(fault, s3=not target)

    do_PUT = do_POST = do_HEAD = do_DELETE = do_GET  # noqa: N815 - http.server's names

    def _target(self, body: bytes) -> str:
        """The target of a request, which is the same for all retries."""
        if self.path != "/":
            return self.path
        match = _UUID.search(body)
        return match.group().decode() if match else ""

    # --- Without a fault --------------------------------------------------------------------

    def _forward(self, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        if self.server.on_invoke and self.path.endswith("/invocations"):
            self.server.on_invoke(body)
            return 202, {}, b""
        headers = {
            name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP
        }
        headers.pop("Expect", None)
        for is_retry in (False, True):
            try:
                self._cloud.request(self.command, self.path, body, headers)
                response = self._cloud.getresponse()
                break
            except (http.client.BadStatusLine, ConnectionError):
                # The cloud closed the idle connection before it received the request.
                self._cloud.close()
                if is_retry:
                    raise
        content = response.read()
        if self.command == "PUT" and response.status == 200 and self.server.on_put:
            bucket, _, key = unquote(urlsplit(self.path).path)[1:].partition("/")
            self.server.on_put(bucket, key)
        return response.status, dict(response.getheaders()), content

    def _respond(
        self, status: int, headers: Mapping[str, str], body: bytes, missing: int = 0
    ) -> None:
        """Send a response, without the last `missing` bytes of its body."""
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        length = headers.get("Content-Length") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        self.wfile.write(body[: len(body) - missing])
        self.wfile.flush()

    # --- With a fault -----------------------------------------------------------------------

    def _fail_before_write(self, fault: str, *, s3: bool) -> None:
        if fault == "throttled":
            code = _THROTTLING_CODES[
                len(self.path + str(self.server.requests)) % len(_THROTTLING_CODES)
            ]
            self._fail(503, "SlowDown", s3=True) if s3 else self._fail(400, code, s3=False)
        elif fault == "500":
            self._fail(500, "InternalError" if s3 else "InternalServerError", s3=s3)
        elif fault == "503":
            self._fail(503, "ServiceUnavailable", s3=s3)
        elif fault == "timeout":
            self._hang()
        else:
            self._cut(killed="killed" in fault)

    def _fail_after_write(
        self, fault: str, status: int, headers: Mapping[str, str], body: bytes
    ) -> None:
        """The cloud applied the request; send an error, part of the response, or nothing."""
        if fault == "500 after the write":
            self._fail(500, "InternalError", s3=self.path != "/")
        elif fault == "timeout after the write":
            self._hang()
        elif fault in _PARTIAL_RESPONSES:
            self._respond(status, headers, body, missing=len(body) // 2 + 1)
            self.close_connection = True
            if fault != "body truncated":
                self._reset()
        else:
            self._cut(killed="killed" in fault)

    def _apply_half(self, operation: str, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """Forward the first half of a batch; list the rest as unprocessed in the response."""
        request = json.loads(body)
        ((table, batch),) = request["RequestItems"].items()
        entries = batch if operation == "BatchWriteItem" else batch["Keys"]
        middle = (len(entries) + 1) // 2
        first, rest = entries[:middle], entries[middle:]
        if operation == "BatchWriteItem":
            forwarded, unprocessed = first, rest
        else:
            forwarded, unprocessed = {**batch, "Keys": first}, {**batch, "Keys": rest}
        request["RequestItems"] = {table: forwarded}
        status, headers, content = self._forward(json.dumps(request).encode())
        response = json.loads(content)
        if rest and status == 200:
            name = "UnprocessedItems" if operation == "BatchWriteItem" else "UnprocessedKeys"
            response[name] = {table: unprocessed}
        kept = {name: value for name, value in headers.items() if name.lower() != "x-amz-crc32"}
        return status, kept, json.dumps(response).encode()

    def _fail(self, status: int, code: str, *, s3: bool) -> None:
        if s3:
            text = f"<Error><Code>{code}</Code><Message>injected</Message></Error>"
            content_type = "application/xml"
        else:
            content_type = "application/x-amz-json-1.0"
            text = json.dumps({"__type": f"com.amazonaws#{code}", "message": "injected"})
        self._respond(status, {"Content-Type": content_type}, text.encode())

    def _hang(self) -> None:
        """Send nothing until the client has timed out."""
        self.connection.settimeout(self.server.hang_seconds)
        with contextlib.suppress(OSError):
            self.connection.recv(1)
        self.close_connection = True

    def _cut(self, *, killed: bool) -> None:
        if killed:
            kill_owner(self.client_address[1])
        self._reset()

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Log nothing: the server counts the injected faults."""


def kill_owner(port: int) -> None:
    """Send SIGKILL to the child process whose connection has a local port."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(each.laddr and each.laddr.port == port for each in process.net_connections()):
                os.kill(process.pid, signal.SIGKILL)
                return
