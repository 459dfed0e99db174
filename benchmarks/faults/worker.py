"""The functions of the fast level: the app's own handlers, in processes that can be killed.

    python -m benchmarks.faults.worker SOCKET

imports the app once and forks a process for each connection to the socket, as warm and as
mortal as an execution environment. It ends when its standard input does. Two things differ
from Lambda, to save time: waits between tries are 1/100 as long, and a client gives up on an
answer after READ_TIMEOUT.
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
from typing import Any

from botocore.config import Config

import app
from chalicelib.aws import store
from chalicelib.collect.sources.protocol import Harvest, Inventory, Scope, Target
from chalicelib.model import records
from chalicelib.model.errors import InfraMonitoringError
from chalicelib.model.windows import Window
from chalicelib.process import batching, writing

from .scenario import Json, reading

READ_TIMEOUT = 0.4  # seconds; the product's own is 8
_FASTER = 100


class GeneratedSource:
    """Measures what the scenario says: each time anew, as a real source does."""

    def __init__(self, seed: int, hosts: Sequence[str], version: int, *, restates: bool) -> None:
        self._seed, self._hosts, self._version = seed, hosts, version
        self._restates = restates

    def targets(self, scope: Scope, start: str = "") -> Inventory:  # noqa: ARG002 - `Source`'s own
        return Inventory([Target(host) for host in self._hosts])

    def collect(self, scope: Scope, targets: Sequence[Target]) -> Harvest:
        windows = [scope.window]
        if self._restates:
            windows.append(Window(scope.window.start, scope.window.seconds))
        found = [
            [self._record(scope, each.name, window.end) for each in targets] for window in windows
        ]
        return Harvest(records=found[0], restated=[record for more in found[1:] for record in more])

    def _record(self, scope: Scope, host: str, end: datetime) -> records.Record:
        values = (self._seed, host, scope.metric_type, end, self._version)
        encoded = json.dumps(reading(*values, source="cloudwatch")).encode()
        return records.decode(encoded).identified(account_id=scope.account_id, region=scope.region)


class Context:
    """What the handlers ask of Lambda's context; its time passes with each look at it."""

    function_name = "log-processor"
    invoked_function_arn = "arn:aws:lambda:eu-west-1:123456789012:function:log-processor"
    aws_request_id = "fault-run"

    def __init__(self, *, hurried: bool) -> None:
        self._left, self._step = 30_000, 400 if hurried else 0

    def get_remaining_time_in_millis(self) -> int:
        self._left -= self._step
        return self._left


def invoke(call: Json) -> Json:
    """One invocation; an error of the product's own kind is told from any other."""
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
    except Exception as error:  # noqa: BLE001 - told to the harness, which takes it for a fault
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
        # Looked at here and not in a thread: a process with threads should not fork.
        if select.select([sys.stdin], [], [], 0)[0]:
            os._exit(0)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: the harness is gone, or is about to kill this process anyway."""


def _faster(sleep: Callable[[float], None]) -> Callable[[Any], None]:
    return lambda seconds: sleep(float(seconds) / _FASTER)


def main(path: str) -> None:
    logging.disable(logging.CRITICAL)
    store._CONFIG = store._CONFIG.merge(Config(connect_timeout=2, read_timeout=READ_TIMEOUT))
    # Makes the clients, which every process then has.
    app.get_store()._sleep = time.sleep = _faster(time.sleep)
    with _Server(path, _Process) as server:
        server.serve_forever(0.05)


if __name__ == "__main__":
    main(sys.argv[1])
