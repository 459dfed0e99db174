"""Lambda execution environments: processes under AWS's runtime interface client.

As on AWS, a process starts cold, polls its own Runtime API server, and is killed on a timeout or
above the memory limit. Unlike on AWS, its CPU is not limited (7 % of a core at 128 MB).
"""

import fcntl
import json
import os
import queue
import select
import signal
import subprocess
import sys
import termios
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..iam.enforcement import Session
from .runtime_api import Event, RuntimeApiServer

_POLL_SECONDS = 0.05

# AWS's limit for the initialization. The function's timeout starts after it.
_INIT_SECONDS = 10

# (role ARN, log group, stream, lines)
LogSink = Callable[[str, str, str, Sequence[str]], None]


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """The configuration and code of a deployed function."""

    name: str
    arn: str
    role: str
    handler: str
    runtime: str
    region: str
    memory_mb: int
    timeout: float
    environment: Mapping[str, str]
    code: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Invocation:
    """The result of an invocation; times in milliseconds, memory in MB."""

    request_id: str
    payload: bytes
    error: bool
    duration_ms: float
    init_ms: float | None
    memory_mb: float
    log_tail: str

    @property
    def cold(self) -> bool:
        return self.init_ms is not None


class Environment:
    """A process with its Runtime API server and its log stream."""

    def __init__(
        self,
        spec: FunctionSpec,
        key: str,
        *,
        python: Path,
        task_root: Path,
        endpoint: str,
        session: Session,
        log: LogSink,
    ) -> None:
        self.key = key
        self._spec = spec
        self._session = session
        self._log = log
        self._stream = f"{datetime.now(UTC):%Y/%m/%d}/[$LATEST]{uuid.uuid4().hex}"
        self._events: queue.Queue[Event | None] = queue.Queue()
        self._results: queue.Queue[tuple[bytes, bool]] = queue.Queue()
        self._lines: deque[str] = deque()
        self._read_lock = threading.Lock()
        self._initialized = threading.Event()
        self._peak_mb = 0.0
        self._started = time.perf_counter()
        self._init_ms: float | None = None
        self._server = RuntimeApiServer(self)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        self._process = subprocess.Popen(  # nosec B603 # noqa: S603 - our own interpreter
            [python, "-m", "awslambdaric", spec.handler],
            cwd=task_root,
            env=self._variables(python, task_root, endpoint),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._read_output, daemon=True)
        self._reader.start()

    def _variables(self, python: Path, task_root: Path, endpoint: str) -> dict[str, str]:
        """Return the process's environment variables, none of them from this machine."""
        spec, credentials = self._spec, self._session.credentials
        return {
            "PATH": f"{python.parent}:/usr/local/bin:/usr/bin:/bin",
            "LANG": "en_US.UTF-8",
            "TZ": ":UTC",
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{spec.runtime}",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_FUNCTION_NAME": spec.name,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(spec.memory_mb),
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{spec.name}",
            "AWS_LAMBDA_LOG_STREAM_NAME": self._stream,
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self._server.server_port}",
            "LAMBDA_TASK_ROOT": str(task_root),
            "_HANDLER": spec.handler,
            # On AWS, /var/task is read-only, so each cold start compiles the modules.
            "PYTHONDONTWRITEBYTECODE": "1",
            **spec.environment,
            "AWS_REGION": spec.region,
            "AWS_DEFAULT_REGION": spec.region,
            "AWS_ACCESS_KEY_ID": credentials.access_key,
            "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
            "AWS_SESSION_TOKEN": str(credentials.token),
            "AWS_ENDPOINT_URL": endpoint,
        }

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def invoke(self, payload: bytes) -> Invocation:
        """Invoke the function; wait for the initialization first."""
        request_id = str(uuid.uuid4())
        is_ready = self._await_init()
        started = time.perf_counter()
        if is_ready:
            self._events.put((request_id, payload, self._headers()))
            result, error = self._await_result(request_id)
        else:
            result, error = self._failure(request_id)
        duration_ms = 1000 * (time.perf_counter() - started)
        init_ms, self._init_ms = self._init_ms, None
        return self._finish(request_id, result, error, duration_ms, init_ms)

    def _headers(self) -> dict[str, str]:
        return {
            "Lambda-Runtime-Invoked-Function-Arn": self._spec.arn,
            "Lambda-Runtime-Deadline-Ms": str(int(1000 * (time.time() + self._spec.timeout))),
            "Lambda-Runtime-Trace-Id": f"Root=1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]}",
        }

    def _await_init(self) -> bool:
        """Wait until the process polls for an event; False if its initialization fails."""
        elapsed = self._stopwatch()
        while not self._initialized.wait(_POLL_SECONDS):
            if not self.alive or not self._results.empty() or elapsed() > _INIT_SECONDS:
                return False
            self._watch_memory()
        return True

    def _stopwatch(self) -> Callable[[], float]:
        """Return a function that returns the seconds since now, without waits for a CPU.

        Other programs on a busy machine must not cause timeouts.
        """
        started, waited = time.monotonic(), self._cpu_wait()
        return lambda: time.monotonic() - started - (self._cpu_wait() - waited)

    def _cpu_wait(self) -> float:
        """Return the seconds in which the process's main thread was runnable but had no CPU."""
        try:
            schedstat = Path(f"/proc/{self._process.pid}/schedstat").read_text()
        except OSError:
            return 0.0
        return int(schedstat.split()[1]) / 1e9

    def _await_result(self, request_id: str) -> tuple[bytes, bool]:
        elapsed = self._stopwatch()
        while True:
            try:
                return self._results.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if not self.alive or not self._watch_memory():
                    return self._failure(request_id)
                if elapsed() > self._spec.timeout:
                    self.kill()
                    message = f"Task timed out after {self._spec.timeout:.2f} seconds"
                    return _error("Sandbox.Timedout", request_id, message), True

    def _failure(self, request_id: str) -> tuple[bytes, bool]:
        """Return the error of a process that exited or did not initialize."""
        self._reader.join(timeout=0.5)
        code = self._process.poll()
        self.kill()
        if not self._results.empty():
            return self._results.get()
        ending = "signal: killed" if code == -signal.SIGKILL else f"exit status {code}"
        if code is None:
            ending = f"initialization took more than {_INIT_SECONDS} seconds"
        return _error("Runtime.ExitError", request_id, f"Runtime exited with error: {ending}"), True

    def _watch_memory(self) -> bool:
        """Update the peak; kill the process and return False if it is above the limit."""
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text()
        except OSError:
            return True
        for line in status.splitlines():
            if line.startswith("VmHWM:"):
                self._peak_mb = max(self._peak_mb, int(line.split()[1]) / 1024)
        if self._peak_mb > self._spec.memory_mb:
            self.kill()
            return False
        return True

    def _finish(
        self, request_id: str, result: bytes, error: bool, duration_ms: float, init_ms: float | None
    ) -> Invocation:
        self._watch_memory()
        self._await_output()
        report = (
            f"REPORT RequestId: {request_id}\tDuration: {duration_ms:.2f} ms\t"
            f"Billed Duration: {duration_ms + (init_ms or 0):.0f} ms\t"
            f"Memory Size: {self._spec.memory_mb} MB\tMax Memory Used: {self._peak_mb:.0f} MB"
        )
        if init_ms is not None:
            report += f"\tInit Duration: {init_ms:.2f} ms"
        lines = [f"START RequestId: {request_id} Version: $LATEST"]
        while self._lines:
            lines.append(self._lines.popleft())
        lines += [f"END RequestId: {request_id}", report]
        self._log(self._spec.role, f"/aws/lambda/{self._spec.name}", self._stream, lines)
        return Invocation(
            request_id, result, error, duration_ms, init_ms, self._peak_mb, "\n".join(lines)[-4096:]
        )

    def _read_output(self) -> None:
        output: Any = self._process.stdout
        poll, data, rest = select.poll(), b"\n", b""
        poll.register(output, select.POLLIN)
        with output:
            while data:
                poll.poll()
                with self._read_lock:
                    data = os.read(output.fileno(), 65_536)
                    *lines, rest = (rest + (data or b"\n")).split(b"\n")
                    self._lines += [line.decode("utf-8", "replace") for line in lines]

    def _await_output(self) -> None:
        """Wait until all output that the process wrote before its result has been read."""
        while self._reader.is_alive():
            with self._read_lock:
                if not _unread(self._process.stdout):
                    return
            time.sleep(0.001)

    def next_event(self) -> Event | None:
        """Return the next event, for the Runtime API; block until there is one."""
        if not self._initialized.is_set():
            self._init_ms = 1000 * (time.perf_counter() - self._started)
            self._initialized.set()
        return self._events.get()

    def put_result(self, body: bytes, *, error: bool) -> None:
        """Take the result of an invocation or initialization, from the Runtime API."""
        self._results.put((body, error))

    def kill(self) -> None:
        """Kill the process and stop its Runtime API server."""
        self._process.kill()
        self._process.wait()
        self._events.put(None)
        self._server.shutdown()
        self._server.server_close()


def _unread(pipe: Any) -> int:
    """Return the number of unread bytes in a pipe; 0 for a closed one."""
    try:
        return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)
    except (OSError, ValueError):
        return 0


def _error(kind: str, request_id: str, message: str) -> bytes:
    return json.dumps(
        {"errorType": kind, "errorMessage": f"RequestId: {request_id} Error: {message}"}
    ).encode()
