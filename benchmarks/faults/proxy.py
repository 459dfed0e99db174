"""A proxy between the functions and the cloud that breaks what it passes on.

Of TCP and of the two APIs at once: it can reset a connection after the write, and can apply
half a batch. (Toxiproxy knows no HTTP and is not Python; mitmproxy knows nothing of batches.)
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

_RST = struct.pack("ii", 1, 0)  # SO_LINGER with no time to linger
_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive", "host"}
_UUID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_THROTTLED = (
    "ProvisionedThroughputExceededException",
    "ThrottlingException",
    "RequestLimitExceeded",
)

Created = Callable[[str, str], None]


class Proxy(ThreadingHTTPServer):
    """Passes on to `upstream`, and fails as the plan says; without a plan it fails nothing.

    `created` is told of every object that S3 took, bucket and key, whatever the function heard
    of it; `invoked` takes Lambda's place for an asynchronous invocation. A hanging request is
    let go after `patience` seconds.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        upstream: str,
        *,
        patience: float,
        created: Created | None = None,
        invoked: Callable[[bytes], None] | None = None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.patience = patience
        self.created = created
        self.invoked = invoked
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
        # No shutdown first: it would send FIN where a reset is wanted.
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: that clients are gone is what this is for."""


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
        # Only S3's paths tell requests apart before the body is here.
        body = b"" if "reset within" in operation else self.rfile.read(length)
        fault = self.server.next_fault(operation, self._target(body))
        if not fault:
            self._answer(*self._pass_on(body))
        elif fault.startswith(("500 th", "time-out th", "reset th", "killed after")) or (
            fault in ("reset within the answer", "body cut off", "reset within the body")
        ):
            self._spoil(fault, *self._pass_on(body))
        elif fault.startswith("Unprocessed"):
            self._answer(*self._half(operation, body))
        elif "half-way" in fault:
            self._half(operation, body)
            self._cut(killed="killed" in fault)
        else:
            self._refuse(fault, s3=not target)

    do_PUT = do_POST = do_HEAD = do_DELETE = do_GET  # noqa: N815 - http.server's names

    def _target(self, body: bytes) -> str:
        """What a request is about, the same in every try of it."""
        if self.path != "/":
            return self.path
        found = _UUID.search(body)
        return found.group().decode() if found else ""

    # --- As it should be --------------------------------------------------------------------

    def _pass_on(self, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        if self.server.invoked and self.path.endswith("/invocations"):
            self.server.invoked(body)
            return 202, {}, b""
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        headers.pop("Expect", None)
        for last in (False, True):
            try:
                self._cloud.request(self.command, self.path, body, headers)
                answer = self._cloud.getresponse()
                break
            except (http.client.BadStatusLine, ConnectionError):
                # A connection that the cloud has closed meanwhile; it has not seen the request.
                self._cloud.close()
                if last:
                    raise
        content = answer.read()
        if self.command == "PUT" and answer.status == 200 and self.server.created:
            bucket, _, key = unquote(urlsplit(self.path).path)[1:].partition("/")
            self.server.created(bucket, key)
        return answer.status, dict(answer.getheaders()), content

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes, cut: int = 0) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in _HOP:
                self.send_header(name, value)
        length = headers.get("Content-Length") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        self.wfile.write(body[: len(body) - cut])
        self.wfile.flush()

    # --- As it should not be ----------------------------------------------------------------

    def _refuse(self, fault: str, *, s3: bool) -> None:
        if fault == "throttled":
            code = _THROTTLED[len(self.path + str(self.server.requests)) % len(_THROTTLED)]
            self._fail(503, "SlowDown", s3=True) if s3 else self._fail(400, code, s3=False)
        elif fault == "500":
            self._fail(500, "InternalError" if s3 else "InternalServerError", s3=s3)
        elif fault == "503":
            self._fail(503, "ServiceUnavailable", s3=s3)
        elif fault == "time-out":
            self._hang()
        else:
            self._cut(killed="killed" in fault)

    def _spoil(self, fault: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """The cloud has done it; the function is told something else, or part of it."""
        if fault == "500 though applied":
            self._fail(500, "InternalError", s3=self.path != "/")
        elif fault == "time-out though applied":
            self._hang()
        elif fault in ("reset within the answer", "body cut off", "reset within the body"):
            self._answer(status, headers, body, cut=len(body) // 2 + 1)
            self.close_connection = True
            if fault != "body cut off":
                self._reset()
        else:
            self._cut(killed="killed" in fault)

    def _half(self, operation: str, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        """Let the cloud do the first half of a batch, and name the rest in the answer."""
        request = json.loads(body)
        ((table, wanted),) = request["RequestItems"].items()
        whole = wanted if operation == "BatchWriteItem" else wanted["Keys"]
        first, rest = whole[: (len(whole) + 1) // 2], whole[(len(whole) + 1) // 2 :]
        if operation == "BatchWriteItem":
            part, left = first, rest
        else:
            part, left = {**wanted, "Keys": first}, {**wanted, "Keys": rest}
        request["RequestItems"] = {table: part}
        status, headers, content = self._pass_on(json.dumps(request).encode())
        answer = json.loads(content)
        if rest and status == 200:
            name = "UnprocessedItems" if operation == "BatchWriteItem" else "UnprocessedKeys"
            answer[name] = {table: left}
        kept = {name: value for name, value in headers.items() if name.lower() != "x-amz-crc32"}
        return status, kept, json.dumps(answer).encode()

    def _fail(self, status: int, code: str, *, s3: bool) -> None:
        if s3:
            text = f"<Error><Code>{code}</Code><Message>injected</Message></Error>"
            kind = "application/xml"
        else:
            kind = "application/x-amz-json-1.0"
            text = json.dumps({"__type": f"com.amazonaws#{code}", "message": "injected"})
        self._answer(status, {"Content-Type": kind}, text.encode())

    def _hang(self) -> None:
        """Say nothing until the client has given up."""
        self.connection.settimeout(self.server.patience)
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
        """Nothing: what was injected is counted."""


def kill_owner(port: int) -> None:
    """SIGKILL the process below this one whose connection comes from a port."""
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if any(each.laddr and each.laddr.port == port for each in process.net_connections()):
                os.kill(process.pid, signal.SIGKILL)
                return
