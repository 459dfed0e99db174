"""The full level: the whole local cloud, with the proxy between its functions and itself.

The built zip under AWS's runtime client, the state machine, EventBridge, and the retries of
asynchronous invocations, which alone do not wait as long as on AWS. The clients' own waits
and time-outs are the product's, so faults are rarer than on the fast level.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, date, datetime
from random import Random
from typing import Any, Self

from infra.local.cloud import LocalCloud
from infra.operate.deployment import Days

from .audit import audit, read
from .events import object_created
from .outcome import Outcome
from .plan import Plan
from .proxy import Proxy
from .scenario import (
    BUCKET,
    Json,
    Scenario,
    draw,
)
from .verification import problems_of, verify_by_command

_RETRY_SECONDS = (0.5, 1.0)
_PATIENCE = 10  # seconds; the functions' clients give up after 8
_DRAIN_SECONDS = 240


def run_full(seeds: Sequence[int]) -> Iterator[Outcome]:
    """The outcomes of the seeds, one after another in one local cloud."""
    with FullCloud() as cloud:
        for seed in seeds:
            yield cloud.run(seed)


def _today() -> date:
    return datetime.now(UTC).date()


class FullCloud(ExitStack):
    """The local cloud behind the proxy; what runs put in stays, and is counted again each time."""

    def __init__(self) -> None:
        super().__init__()
        self._good: dict[str, Sequence[Json]] = {}
        self._bad: dict[str, Sequence[bytes]] = {}
        self._counted: Counter[str] = Counter()
        self._first = _today()

    def __enter__(self) -> Self:
        cloud = LocalCloud(async_retry_seconds=_RETRY_SECONDS, proxy=self._start_proxy)
        self._cloud = self.enter_context(cloud)
        machines = cloud.client("stepfunctions").list_state_machines()["stateMachines"]
        (self._machine,) = [
            each["stateMachineArn"] for each in machines if each["name"].endswith("Pipeline-Orch")
        ]
        return self

    def _start_proxy(self, endpoint: str) -> str:
        self._proxy = self.enter_context(Proxy(endpoint, patience=_PATIENCE))
        return self._proxy.url

    def run(self, seed: int) -> Outcome:
        """Everything of one seed: put in, break, drain, count."""
        scenario, counts = draw(seed), Counter[str]()
        self._first = min(self._first, scenario.day)
        invoked = self._invocations()
        self._proxy.injected = Counter()
        self._proxy.plan = Plan(seed, mild=True)
        execution = self._cloud.client("stepfunctions").start_execution(
            stateMachineArn=self._machine, input="{}"
        )
        self._put(scenario, counts)
        counts[f"executions {self._await_execution(execution['executionArn'])}"] += 1
        self._await_idle()
        self._proxy.plan = None
        while dead := self._dead_letters():
            counts["dead letters"] += len(dead)
            for payload in dead:
                self._invoke(payload)
            self._await_idle()
        counts["invocations"] = self._invocations() - invoked
        counts["requests"], self._proxy.requests = self._proxy.requests, 0
        stored = read(self._cloud.client("s3"), self._cloud.client("dynamodb"))
        for key in stored.raw.keys() - self._good.keys():
            # What the collector measured of this machine is known from nowhere else.
            self._good[key] = [json.loads(line) for line in stored.raw[key].splitlines()]
        verdict = audit(self._good, self._bad, stored)
        verified = verify_by_command(self._cloud.endpoint, Days(self._first, _today()))
        added, self._counted = verdict.counts - self._counted, verdict.counts
        problems = problems_of(verdict, verified)
        return Outcome(seed, problems, self._proxy.injected, counts + added)

    def _put(self, scenario: Scenario, counts: Counter[str]) -> None:
        rng = Random(f"deliveries {scenario.seed}")
        for drop in scenario.drops:
            self._good[drop.key], self._bad[drop.key] = drop.good, drop.bad
            self._cloud.client("s3").put_object(Bucket=BUCKET, Key=drop.key, Body=drop.body)
            counts["events"] += 1
            while rng.random() < scenario.duplicates:
                self._invoke(object_created(BUCKET, drop.key))
                counts["duplicated events"] += 1

    def _invoke(self, event: Json) -> None:
        self._cloud.client("lambda").invoke(
            FunctionName="log-processor", InvocationType="Event", Payload=json.dumps(event)
        )

    def _invocations(self) -> int:
        return sum(map(len, self._cloud.functions.invocations.values()))

    def _await_execution(self, arn: str) -> str:
        sfn = self._cloud.client("stepfunctions")
        until = time.monotonic() + _DRAIN_SECONDS
        while time.monotonic() < until:
            status = str(sfn.describe_execution(executionArn=arn)["status"])
            if status != "RUNNING":
                return status.lower()
            time.sleep(0.1)
        return "not ended"

    def _await_idle(self) -> None:
        until = time.monotonic() + _DRAIN_SECONDS
        while not self._cloud.wiring.idle and time.monotonic() < until:
            time.sleep(0.05)

    def _dead_letters(self) -> list[Json]:
        """Take every message out of the dead-letter queue; the payloads of invocations.

        A run that failed left nothing behind that its own events do not tell.
        """
        sqs: Any = self._cloud.client("sqs")
        url = sqs.get_queue_url(QueueName="InfraMonitoring-DeadLetters")["QueueUrl"]
        taken: list[Json] = []
        while found := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in found:
                body = json.loads(message["Body"])
                if "requestPayload" in body:
                    taken.append(body["requestPayload"])
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return taken
