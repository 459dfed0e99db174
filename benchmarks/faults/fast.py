"""Fast runs: the app's handlers in separate processes, through the proxy, on moto.

Events are delivered like Lambda's asynchronous invocations: at least once, in any order, with two
retries and a dead-letter queue. Dead letters are redriven after the faults have stopped.
"""

import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from random import Random
from typing import Self
from urllib.request import Request, urlopen

from moto.server import ThreadedMotoServer

from infra.local import moto_fixes
from infra.operate.deployment import Days, Stage

from .audit import AuditResult, audit, read_stored
from .events import object_created
from .outcome import Outcome
from .plan import Plan
from .proxy import Proxy
from .scenario import (
    BUCKET,
    ENVIRONMENT,
    RAW,
    REGION,
    TABLE,
    WINDOW,
    Json,
    Scenario,
    ScheduledRun,
    draw,
    reading,
)
from .verification import ROOT, find_problems, verify

_RETRIES = 2


@dataclass(slots=True, eq=False)
class Delivery:
    """An event for a function; `name` is the object's key or the run's scheduled time."""

    name: str
    call: Json
    run: ScheduledRun | None = None
    retries: int = 0


@dataclass(slots=True)
class Deliveries:
    """The pending events of a fault run, in an order that depends on the seed."""

    rng: Random
    duplicates: float
    counts: Counter[str] = field(default_factory=Counter)
    dead_letters: list[Delivery] = field(default_factory=list)
    _pending: list[Delivery] = field(default_factory=list)
    _running: list[Delivery] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def add(self, make: Callable[[], Delivery]) -> None:
        """Add an event, and by chance duplicates of it, some of them adjacent."""
        with self._changed:
            position = self.rng.randint(0, len(self._pending))
            self._pending.insert(position, make())
            self.counts["events"] += 1
            while self.rng.random() < self.duplicates:
                adjacent = self.rng.random() < 0.5
                position = position if adjacent else self.rng.randint(0, len(self._pending))
                self._pending.insert(position, make())
                self.counts["duplicated events"] += 1
            self._changed.notify_all()

    def take(self) -> Delivery | None:
        """Wait for the next event; None when all events have been processed."""
        with self._changed:
            while True:
                delivery = next(filter(self._may_start, self._pending), None)
                if delivery:
                    self._pending.remove(delivery)
                    if any(each.name == delivery.name for each in self._running):
                        self.counts["concurrent deliveries"] += 1
                    self._running.append(delivery)
                    return delivery
                if not self._running:
                    return None
                self._changed.wait()

    def _may_start(self, delivery: Delivery) -> bool:
        if delivery.run:  # Step Functions retries only after the previous attempt has ended
            return all(each.name != delivery.name for each in self._running)
        return True

    def end(self, delivery: Delivery, *, failed: bool) -> None:
        with self._changed:
            self._running.remove(delivery)
            self.counts["invocations"] += 1
            if failed and delivery.retries < _RETRIES:
                delivery.retries += 1
                self.counts["retries"] += 1
                self._pending.insert(self.rng.randint(0, len(self._pending)), delivery)
            elif failed:
                self.counts["dead letters"] += 1
                self.dead_letters.append(delivery)
            self._changed.notify_all()

    def redrive(self) -> int:
        with self._changed:
            redriven, self.dead_letters = self.dead_letters, []
            for each in redriven:
                each.retries = 0
            self._pending += redriven
            return len(redriven)


class FastCloud(ExitStack):
    """moto, the proxy and the processes of the functions; a context manager.

    `functions` are the interpreter's arguments that start those processes; the socket's path is
    appended. The environment must contain `scenario.ENVIRONMENT` or equivalent credentials.
    """

    def __init__(self, functions: Sequence[str] = ("-m", "benchmarks.faults.worker")) -> None:
        super().__init__()
        self._command = [sys.executable, *functions]
        self._deliveries: Deliveries | None = None

    def __enter__(self) -> Self:
        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
        moto_fixes.install()
        self._moto = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
        self._moto.start()
        self.callback(self._moto.stop)
        host, port = self._moto.get_host_and_port()
        self._cloud = f"http://{host}:{port}"
        self._proxy = self.enter_context(
            Proxy(self._cloud, hang_seconds=2 * 0.4, on_put=self._on_put, on_invoke=self._on_invoke)
        )
        folder = self.enter_context(tempfile.TemporaryDirectory(prefix="faults-"))
        self._socket = f"{folder}/functions"
        self._functions = subprocess.Popen(
            [*self._command, self._socket],
            cwd=ROOT,
            env=_environment(self._proxy.url),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        self.callback(self._stop_functions)
        self._stage = Stage("local", BUCKET, TABLE, self._cloud)
        self._s3, self._dynamodb = self._stage.client("s3"), self._stage.client("dynamodb")
        return self

    def _stop_functions(self) -> None:
        assert self._functions.stdin is not None
        self._functions.stdin.close()
        self._functions.wait()

    # --- A run ------------------------------------------------------------------------------

    def run(self, seed: int) -> Outcome:
        """Run one seed: upload, inject faults, drain, redrive and audit."""
        scenario = draw(seed)
        self._reset()
        rng = Random(f"deliveries {seed}")
        deliveries = self._deliveries = Deliveries(rng, scenario.duplicates)
        attempts: Counter[str] = Counter()
        self._proxy.injected = Counter()
        self._proxy.plan = Plan(seed)
        for upload in scenario.uploads:
            self._s3.put_object(Bucket=BUCKET, Key=upload.key, Body=upload.body)
            self._on_put(BUCKET, upload.key)
        for run in scenario.runs:
            call = {"handler": "data_collector", "event": run.event}
            deliveries.add(partial(Delivery, run.event["time"], call, run))
        problems: list[str] = []
        self._deliver(scenario, attempts, problems)
        self._proxy.plan = None
        redriven = deliveries.redrive()
        deliveries.counts["redriven"] += redriven
        if redriven:
            self._deliver(scenario, attempts, problems)
        problems += [
            f"lost: {each.name} still fails without faults" for each in deliveries.dead_letters
        ]
        audited = self._audit(scenario, attempts)
        problems += find_problems(audited, verify(self._stage, Days(scenario.day, scenario.day)))
        counts = deliveries.counts + audited.counts
        counts["requests"] = self._proxy.requests
        self._proxy.requests = 0
        return Outcome(seed, problems, self._proxy.injected, counts)

    def _reset(self) -> None:
        urlopen(Request(f"{self._cloud}/moto-api/reset", method="POST")).close()
        self._s3.create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        names = ("metric_id", "metric_type", "timestamp")
        self._dynamodb.create_table(
            TableName=TABLE,
            AttributeDefinitions=[{"AttributeName": each, "AttributeType": "S"} for each in names],
            KeySchema=_key_schema("metric_id"),
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "metric_type-timestamp-index",
                    "KeySchema": _key_schema("metric_type"),
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
            BillingMode="PAY_PER_REQUEST",
        )

    def _on_put(self, bucket: str, key: str) -> None:
        """Deliver the event of an object that was put into S3."""
        if key.startswith(RAW) and self._deliveries:
            event = object_created(bucket, key)
            self._deliveries.add(
                lambda: Delivery(key, {"handler": "log_processor", "event": event})
            )

    def _on_invoke(self, payload: bytes) -> None:
        """Deliver the processor's asynchronous invocation of itself."""
        event = json.loads(payload)
        key = event["detail"]["object"]["key"]
        if self._deliveries:
            self._deliveries.counts["continuations"] += 1
            self._deliveries.add(
                lambda: Delivery(key, {"handler": "log_processor", "event": event})
            )

    def _deliver(self, scenario: Scenario, attempts: Counter[str], problems: list[str]) -> None:
        workers = [
            threading.Thread(target=self._work, args=(scenario, attempts, problems))
            for _ in range(scenario.workers)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    def _work(self, scenario: Scenario, attempts: Counter[str], problems: list[str]) -> None:
        deliveries = self._deliveries
        assert deliveries is not None
        with _Process(self._socket) as process:
            while delivery := deliveries.take():
                call = delivery.call | {"batch": scenario.batch_size, "few": scenario.few}
                call["hurried"] = scenario.hurried
                call["random"] = f"{scenario.seed} {delivery.name} {delivery.retries}"
                if delivery.run:
                    attempts[delivery.name] += 1
                    call["source"] = {
                        "seed": scenario.seed,
                        "hosts": delivery.run.hosts,
                        "version": attempts[delivery.name],
                        "restates": delivery.run.restates,
                    }
                response = process.invoke(call)
                if response.get("unexpected"):
                    problems.append(f"unexpected: {delivery.name}: {response['failed']}")
                deliveries.end(delivery, failed=bool(response))

    def _audit(self, scenario: Scenario, attempts: Counter[str]) -> AuditResult:
        stored = read_stored(self._s3, self._dynamodb)
        records = {upload.key: upload.records for upload in scenario.uploads}
        rejected = {upload.key: upload.rejected for upload in scenario.uploads}
        problems = [
            f"wrong: {upload.key} differs from the uploaded object"
            for upload in scenario.uploads
            if stored.raw.get(upload.key) != upload.body
        ]
        for run in scenario.runs:
            for metric_type, prefix in zip(run.metric_types, run.key_prefixes(), strict=True):
                found = [key for key in stored.raw if key.startswith(prefix)]
                for key in found:
                    records[key] = [json.loads(line) for line in stored.raw[key].splitlines()]
                    problems += _check_collected(
                        scenario.seed, run, metric_type, records[key], attempts[run.event["time"]]
                    )
                if len(found) != 1:
                    kind = "duplicated" if found else "lost"
                    problems.append(f"{kind}: objects of {prefix}: {found}")
        problems += [f"unexplained: {key}" for key in stored.raw.keys() - records.keys()]
        replaced = [
            reading(scenario.seed, host, metric_type, end, version, source="cloudwatch")
            for run in scenario.runs
            for host in run.hosts
            for metric_type in run.metric_types
            for end in (run.window_end - WINDOW, run.window_end)
            for version in range(1, attempts[run.event["time"]] + 1)
        ]
        result = audit(records, rejected, stored, replaced)
        result.problems[:0] = problems
        return result


def _key_schema(partition: str) -> list[dict[str, str]]:
    """A key schema with the timestamp as the sort key."""
    return [
        {"AttributeName": partition, "KeyType": "HASH"},
        {"AttributeName": "timestamp", "KeyType": "RANGE"},
    ]


def _check_collected(
    seed: int, run: ScheduledRun, metric_type: str, lines: Sequence[Json], attempts: int
) -> list[str]:
    """Problems of a raw object of the collector, which must contain one complete attempt."""
    end = run.window_end
    expected = dict.fromkeys(run.hosts, f"{end:%Y-%m-%dT%H:%M:%SZ}")
    versions = {line["labels"]["version"] for line in lines}
    if {line["resource_id"]: line["timestamp"] for line in lines[: len(expected)]} != expected:
        return [f"lost: {metric_type} of {run.scheduled_time} does not have every host once"]
    if len(versions) != 1 or not 1 <= int(min(versions)) <= attempts:
        return [f"wrong: {metric_type} of {run.scheduled_time} mixes the attempts {versions}"]
    for line in lines:
        window_end = end if line["timestamp"] == f"{end:%Y-%m-%dT%H:%M:%SZ}" else end - WINDOW
        measured = reading(
            seed,
            line["resource_id"],
            metric_type,
            window_end,
            int(min(versions)),
            source="cloudwatch",
        )
        for name, values in measured["measurements"].items():
            stored = line["measurements"][name]
            if any(stored[each] != value for each, value in values.items()):
                return [f"wrong: {name} in {metric_type} of {run.scheduled_time}: {stored}"]
    return []


class _Process:
    """A process of a function, replaced after it was killed."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._connection: socket.socket | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def invoke(self, call: Json) -> Json:
        if self._connection is None:
            self._connection = _connect(self._path)
            self._responses = self._connection.makefile("rb")
        response = b""
        with suppress(OSError):
            self._connection.sendall(json.dumps(call).encode() + b"\n")
            response = self._responses.readline()
        if not response:
            self._close()
            return {"failed": "killed"}
        decoded: Json = json.loads(response)
        return decoded

    def _close(self) -> None:
        if self._connection is not None:
            self._responses.close()
            self._connection.close()
        self._connection = None


def _connect(path: str) -> socket.socket:
    deadline = time.monotonic() + 30
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(path)
        except OSError:
            connection.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return connection


def _environment(endpoint: str) -> dict[str, str]:
    """The environment variables of the stage and of Lambda."""
    stage = json.loads((ROOT / ".chalice" / "config.json").read_text())["environment_variables"]
    return {
        "PATH": os.environ["PATH"],
        **stage,
        **ENVIRONMENT,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": endpoint,
    }
