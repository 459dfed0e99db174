"""Functions of the fast runs: the app's handlers, in processes that can be killed.

    python -m benchmarks.faults.worker SOCKET

Imports the app once and forks a process for each connection to the socket, like a warm execution
environment. Exits when standard input is closed. To save time, two things differ from Lambda: waits
between retries are 1/100 as long, and clients time out after READ_TIMEOUT.
"""

import json
import logging
import os
import random
import select
import socketserver
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import chain
from typing import Any

from botocore.config import Config

import app
from chalicelib.aws import clients
from chalicelib.collect.sources.protocol import CollectionResult, Inventory, Scope, Target
from chalicelib.model import records
from chalicelib.model.errors import InfraMonitoringError
from chalicelib.model.windows import Window
from chalicelib.process import batching, writing

from .scenario import Json, reading

READ_TIMEOUT = 0.4  # seconds; the product's is 8
_SPEEDUP = 100


class GeneratedSource:
    """A source with generated readings, which differ with each version, as in a real source."""

    def __init__(self, seed: int, hosts: Sequence[str], version: int, *, restates: bool) -> None:
        self._seed, self._hosts, self._version = seed, hosts, version
        self._restates = restates

    def targets(self, scope: Scope, page_token: str = "") -> Inventory:  # noqa: ARG002 - one page
        return Inventory([Target(host) for host in self._hosts])

    def collect(self, scope: Scope, targets: Sequence[Target]) -> CollectionResult:
        windows = [scope.window]
        if self._restates:
            windows.append(Window(scope.window.start, scope.window.seconds))
        by_window = [
            [self._record(scope, each.name, window.end) for each in targets] for window in windows
        ]
        return CollectionResult(
            records=by_window[0], restated=list(chain.from_iterable(by_window[1:]))
        )

    def _record(self, scope: Scope, host: str, end: datetime) -> records.Record:
        values = (self._seed, host, scope.metric_type, end, self._version)
        encoded = json.dumps(reading(*values, source="cloudwatch")).encode()
        return records.decode(encoded).identified(account_id=scope.account_id, region=scope.region)


class Context:
    """The part of Lambda's context that the handlers use. Reading the remaining time reduces it."""

    function_name = "log-processor"
    invoked_function_arn = "arn:aws:lambda:eu-west-1:123456789012:function:log-processor"
    aws_request_id = "fault-run"

    def __init__(self, *, hurried: bool) -> None:
        self._remaining = 30_000
        self._step = 400 if hurried else 0

    def get_remaining_time_in_millis(self) -> int:
        self._remaining -= self._step
        return self._remaining


def invoke(call: Json) -> Json:
    """Invoke a handler. Errors that are not the product's are marked as unexpected."""
    random.seed(call["random"])
    batching.MAX_BATCH_ENTRIES = call["batch"]
    writing.SINGLE_WRITE_LIMIT = call["few"]
    if source := call.get("source"):
        generated = GeneratedSource(**source)
        app.get_sources = lambda: [generated]  # type: ignore[assignment] # that one is cached
    handler: Any = getattr(app, call["handler"])
    try:
        handler(call["event"], Context(hurried=call["hurried"]))
    except InfraMonitoringError as error:
        return {"failed": f"{type(error).__name__}: {error}"}
    except Exception as error:  # noqa: BLE001 - reported to the harness as a problem
        return {"failed": f"{type(error).__name__}: {error}", "unexpected": True}
    return {}


class _Process(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        for line in self.rfile:
            self.wfile.write(json.dumps(invoke(json.loads(line))).encode() + b"\n")


class _Server(socketserver.ForkingMixIn, socketserver.UnixStreamServer):
    request_queue_size = 16

    def service_actions(self) -> None:
        super().service_actions()
        # Checked here instead of in a thread, because a process with threads should not fork.
        if select.select([sys.stdin], [], [], 0)[0]:
            os._exit(0)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors: the harness has ended or is about to kill this process."""


def _speed_up(sleep: Callable[[float], None]) -> Callable[[Any], None]:
    return lambda seconds: sleep(float(seconds) / _SPEEDUP)


def main(path: str) -> None:
    logging.disable(logging.CRITICAL)
    clients.CONFIG = clients.CONFIG.merge(Config(connect_timeout=2, read_timeout=READ_TIMEOUT))
    # Creates the clients, which forked processes inherit.
    app.get_store()._sleep = time.sleep = _speed_up(time.sleep)
    with _Server(path, _Process) as server:
        server.serve_forever(0.05)


if __name__ == "__main__":
    main(sys.argv[1])
