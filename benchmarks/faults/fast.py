"""The fast level: the app's handlers in processes of their own, through the proxy, on moto.

Events are delivered as Lambda delivers asynchronous invocations: at least once, in any order,
with two retries, then to the dead letters, which are redriven when the faults have stopped.
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

from .audit import Verdict, audit, read
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
    Tick,
    draw,
    reading,
)
from .verification import ROOT, problems_of, verify

_RETRIES = 2


@dataclass(slots=True, eq=False)
class Delivery:
    """An event on its way to a function; `name` is the object's key or the tick's time."""

    name: str
    call: Json
    tick: Tick | None = None
    tries: int = 0


@dataclass(slots=True)
class Deliveries:
    """The events of a run, in an order that the seed decides."""

    rng: Random
    duplicates: float
    counts: Counter[str] = field(default_factory=Counter)
    dead: list[Delivery] = field(default_factory=list)
    _waiting: list[Delivery] = field(default_factory=list)
    _running: list[Delivery] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def add(self, make: Callable[[], Delivery]) -> None:
        """An event; perhaps twice or more, and perhaps two of them at once."""
        with self._changed:
            place = self.rng.randint(0, len(self._waiting))
            self._waiting.insert(place, make())
            self.counts["events"] += 1
            while self.rng.random() < self.duplicates:
                beside = self.rng.random() < 0.5
                place = place if beside else self.rng.randint(0, len(self._waiting))
                self._waiting.insert(place, make())
                self.counts["duplicated events"] += 1
            self._changed.notify_all()

    def take(self) -> Delivery | None:
        """The next event; None when there are no more and none will come."""
        with self._changed:
            while True:
                delivery = next(filter(self._may_start, self._waiting), None)
                if delivery:
                    self._waiting.remove(delivery)
                    if any(each.name == delivery.name for each in self._running):
                        self.counts["two at once on one object"] += 1
                    self._running.append(delivery)
                    return delivery
                if not self._running:
                    return None
                self._changed.wait()

    def _may_start(self, delivery: Delivery) -> bool:
        if delivery.tick:  # Step Functions waits for one try before it starts the next
            return all(each.name != delivery.name for each in self._running)
        return True

    def ended(self, delivery: Delivery, *, failed: bool) -> None:
        with self._changed:
            self._running.remove(delivery)
            self.counts["invocations"] += 1
            if failed and delivery.tries < _RETRIES:
                delivery.tries += 1
                self.counts["retries"] += 1
                self._waiting.insert(self.rng.randint(0, len(self._waiting)), delivery)
            elif failed:
                self.counts["dead letters"] += 1
                self.dead.append(delivery)
            self._changed.notify_all()

    def redrive(self) -> int:
        with self._changed:
            dead, self.dead = self.dead, []
            for each in dead:
                each.tries = 0
            self._waiting += dead
            return len(dead)


class FastCloud(ExitStack):
    """moto, the proxy, and the processes of the functions; a context manager.

    `functions` is what runs those: arguments of the interpreter, before the socket's path. The
    environment has to have `scenario.ENVIRONMENT`, or credentials like it.
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
            Proxy(self._cloud, patience=2 * 0.4, created=self._created, invoked=self._invoked)
        )
        work = self.enter_context(tempfile.TemporaryDirectory(prefix="faults-"))
        self._socket = f"{work}/functions"
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
        """Everything of one seed: put in, break, drain, count."""
        scenario = draw(seed)
        self._reset()
        rng = Random(f"deliveries {seed}")
        deliveries = self._deliveries = Deliveries(rng, scenario.duplicates)
        attempts: Counter[str] = Counter()
        self._proxy.injected = Counter()
        self._proxy.plan = Plan(seed)
        for drop in scenario.drops:
            self._s3.put_object(Bucket=BUCKET, Key=drop.key, Body=drop.body)
            self._created(BUCKET, drop.key)
        for tick in scenario.ticks:
            call = {"handler": "data_collector", "event": tick.event}
            deliveries.add(partial(Delivery, tick.event["time"], call, tick))
        problems: list[str] = []
        self._deliver(scenario, attempts, problems)
        self._proxy.plan = None
        redriven = deliveries.redrive()
        deliveries.counts["redriven"] += redriven
        if redriven:
            self._deliver(scenario, attempts, problems)
        problems += [f"lost: {each.name} does not drain" for each in deliveries.dead]
        verdict = self._audit(scenario, attempts)
        problems += problems_of(verdict, verify(self._stage, Days(scenario.day, scenario.day)))
        counts = deliveries.counts + verdict.counts
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
            KeySchema=_key("metric_id"),
            GlobalSecondaryIndexes=[
                {
                    "IndexName": "metric_type-timestamp-index",
                    "KeySchema": _key("metric_type"),
                    "Projection": {"ProjectionType": "ALL"},
                }
            ],
            BillingMode="PAY_PER_REQUEST",
        )

    def _created(self, bucket: str, key: str) -> None:
        """S3 took an object: EventBridge tells of it."""
        if key.startswith(RAW) and self._deliveries:
            event = object_created(bucket, key)
            self._deliveries.add(
                lambda: Delivery(key, {"handler": "log_processor", "event": event})
            )

    def _invoked(self, payload: bytes) -> None:
        """The processor hands an object to its next invocation."""
        event = json.loads(payload)
        key = event["detail"]["object"]["key"]
        if self._deliveries:
            self._deliveries.counts["continuations"] += 1
            self._deliveries.add(
                lambda: Delivery(key, {"handler": "log_processor", "event": event})
            )

    def _deliver(self, scenario: Scenario, attempts: Counter[str], problems: list[str]) -> None:
        lanes = [
            threading.Thread(target=self._lane, args=(scenario, attempts, problems))
            for _ in range(scenario.lanes)
        ]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()

    def _lane(self, scenario: Scenario, attempts: Counter[str], problems: list[str]) -> None:
        deliveries = self._deliveries
        assert deliveries is not None
        with _Process(self._socket) as process:
            while delivery := deliveries.take():
                call = delivery.call | {"batch": scenario.batch, "few": scenario.few}
                call["hurried"] = scenario.hurried
                call["random"] = f"{scenario.seed} {delivery.name} {delivery.tries}"
                if delivery.tick:
                    attempts[delivery.name] += 1
                    call["source"] = {
                        "seed": scenario.seed,
                        "hosts": delivery.tick.hosts,
                        "version": attempts[delivery.name],
                        "restates": delivery.tick.restates,
                    }
                answer = process.invoke(call)
                if answer.get("unexpected"):
                    problems.append(f"unexpected: {delivery.name}: {answer['failed']}")
                deliveries.ended(delivery, failed=bool(answer))

    def _audit(self, scenario: Scenario, attempts: Counter[str]) -> Verdict:
        stored = read(self._s3, self._dynamodb)
        good = {drop.key: drop.good for drop in scenario.drops}
        bad = {drop.key: drop.bad for drop in scenario.drops}
        problems = [
            f"wrong: {drop.key} is not what was put"
            for drop in scenario.drops
            if stored.raw.get(drop.key) != drop.body
        ]
        for tick in scenario.ticks:
            for metric_type, prefix in zip(tick.metric_types, tick.keys(), strict=True):
                found = [key for key in stored.raw if key.startswith(prefix)]
                for key in found:
                    good[key] = [json.loads(line) for line in stored.raw[key].splitlines()]
                    problems += _collected(
                        scenario.seed, tick, metric_type, good[key], attempts[tick.event["time"]]
                    )
                if len(found) != 1:
                    kind = "doubled" if found else "lost"
                    problems.append(f"{kind}: {prefix} gave {found}")
        problems += [f"unexplained: {key}" for key in stored.raw.keys() - good.keys()]
        replaced = [
            reading(scenario.seed, host, metric_type, end, version, source="cloudwatch")
            for tick in scenario.ticks
            for host in tick.hosts
            for metric_type in tick.metric_types
            for end in (tick.window_end - WINDOW, tick.window_end)
            for version in range(1, attempts[tick.event["time"]] + 1)
        ]
        verdict = audit(good, bad, stored, replaced)
        verdict.problems[:0] = problems
        return verdict


def _key(partition: str) -> list[dict[str, str]]:
    """A key of the table's: a partition's name, and the time."""
    return [
        {"AttributeName": partition, "KeyType": "HASH"},
        {"AttributeName": "timestamp", "KeyType": "RANGE"},
    ]


def _collected(
    seed: int, tick: Tick, metric_type: str, lines: Sequence[Json], attempts: int
) -> list[str]:
    """What is wrong with a raw object of the collector's: it is one whole attempt's reading."""
    end = tick.window_end
    wanted = dict.fromkeys(tick.hosts, f"{end:%Y-%m-%dT%H:%M:%SZ}")
    versions = {line["labels"]["version"] for line in lines}
    if {line["resource_id"]: line["timestamp"] for line in lines[: len(wanted)]} != wanted:
        return [f"lost: {metric_type} of {tick.time} has not every host once"]
    if len(versions) != 1 or not 1 <= int(min(versions)) <= attempts:
        return [f"wrong: {metric_type} of {tick.time} is of the attempts {versions}"]
    for line in lines:
        moment = end if line["timestamp"] == f"{end:%Y-%m-%dT%H:%M:%SZ}" else end - WINDOW
        made = reading(
            seed, line["resource_id"], metric_type, moment, int(min(versions)), source="cloudwatch"
        )
        for name, values in made["measurements"].items():
            stored = line["measurements"][name]
            if any(stored[each] != value for each, value in values.items()):
                return [f"wrong: {name} in {metric_type} of {tick.time}: {stored}"]
    return []


class _Process:
    """One process of a function at a time, a new one after each death."""

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
            self._answers = self._connection.makefile("rb")
        answer = b""
        with suppress(OSError):
            self._connection.sendall(json.dumps(call).encode() + b"\n")
            answer = self._answers.readline()
        if not answer:
            self._close()
            return {"failed": "killed"}
        decoded: Json = json.loads(answer)
        return decoded

    def _close(self) -> None:
        if self._connection is not None:
            self._answers.close()
            self._connection.close()
        self._connection = None


def _connect(path: str) -> socket.socket:
    until = time.monotonic() + 30
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(path)
        except OSError:
            connection.close()
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return connection


def _environment(endpoint: str) -> dict[str, str]:
    """The stage's settings, and what Lambda sets."""
    stage = json.loads((ROOT / ".chalice" / "config.json").read_text())["environment_variables"]
    return {
        "PATH": os.environ["PATH"],
        **stage,
        **ENVIRONMENT,
        "AWS_REGION": REGION,
        "AWS_ENDPOINT_URL": endpoint,
    }
