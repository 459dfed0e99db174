"""Full runs: the complete local cloud, with the proxy between its functions and its API.

Includes the built zip under AWS's runtime client, the state machine, EventBridge, and retries of
asynchronous invocations. Only the delays of these retries are shorter than on AWS. The clients have
the product's waits and timeouts, so faults are rarer than in fast runs.
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

from .audit import audit, read_stored
from .events import object_created
from .outcome import Outcome
from .plan import Plan
from .proxy import Proxy
from .scenario import BUCKET, Json, Scenario, draw
from .verification import find_problems, verify_by_command

_RETRY_SECONDS = (0.5, 1.0)
_HANG_SECONDS = 10  # the functions' clients time out after 8
_DRAIN_SECONDS = 240


def run_full(seeds: Sequence[int]) -> Iterator[Outcome]:
    """Yield the outcomes of the seeds, one after another in one local cloud."""
    with FullCloud() as cloud:
        for seed in seeds:
            yield cloud.run(seed)


def _today() -> date:
    return datetime.now(UTC).date()


class FullCloud(ExitStack):
    """The local cloud behind the proxy. Data of earlier runs stays and is audited again."""

    def __init__(self) -> None:
        super().__init__()
        self._records: dict[str, Sequence[Json]] = {}
        self._rejected: dict[str, Sequence[bytes]] = {}
        self._earlier_counts: Counter[str] = Counter()
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
        self._proxy = self.enter_context(Proxy(endpoint, hang_seconds=_HANG_SECONDS))
        return self._proxy.url

    def run(self, seed: int) -> Outcome:
        """Run one seed: upload, inject faults, drain, redrive and audit."""
        scenario, counts = draw(seed), Counter[str]()
        self._first = min(self._first, scenario.day)
        earlier_invocations = self._invocations()
        self._proxy.injected = Counter()
        self._proxy.plan = Plan(seed, mild=True)
        execution = self._cloud.client("stepfunctions").start_execution(
            stateMachineArn=self._machine, input="{}"
        )
        self._upload(scenario, counts)
        counts[f"executions {self._await_execution(execution['executionArn'])}"] += 1
        self._await_idle()
        self._proxy.plan = None
        while dead := self._dead_letters():
            counts["dead letters"] += len(dead)
            for payload in dead:
                self._invoke(payload)
            self._await_idle()
        counts["invocations"] = self._invocations() - earlier_invocations
        counts["requests"], self._proxy.requests = self._proxy.requests, 0
        stored = read_stored(self._cloud.client("s3"), self._cloud.client("dynamodb"))
        for key in stored.raw.keys() - self._records.keys():
            # Objects of the collector: the measurements of this machine have no other record.
            self._records[key] = [json.loads(line) for line in stored.raw[key].splitlines()]
        audited = audit(self._records, self._rejected, stored)
        verified = verify_by_command(self._cloud.endpoint, Days(self._first, _today()))
        new_counts = audited.counts - self._earlier_counts
        self._earlier_counts = audited.counts
        problems = find_problems(audited, verified)
        return Outcome(seed, problems, self._proxy.injected, counts + new_counts)

    def _upload(self, scenario: Scenario, counts: Counter[str]) -> None:
        rng = Random(f"deliveries {scenario.seed}")
        for upload in scenario.uploads:
            self._records[upload.key] = upload.records
            self._rejected[upload.key] = upload.rejected
            self._cloud.client("s3").put_object(Bucket=BUCKET, Key=upload.key, Body=upload.body)
            counts["events"] += 1
            while rng.random() < scenario.duplicates:
                self._invoke(object_created(BUCKET, upload.key))
                counts["duplicated events"] += 1

    def _invoke(self, event: Json) -> None:
        self._cloud.client("lambda").invoke(
            FunctionName="log-processor", InvocationType="Event", Payload=json.dumps(event)
        )

    def _invocations(self) -> int:
        return sum(map(len, self._cloud.functions.invocations.values()))

    def _await_execution(self, arn: str) -> str:
        sfn = self._cloud.client("stepfunctions")
        deadline = time.monotonic() + _DRAIN_SECONDS
        while time.monotonic() < deadline:
            status = str(sfn.describe_execution(executionArn=arn)["status"])
            if status != "RUNNING":
                return status.lower()
            time.sleep(0.1)
        return "timed out"

    def _await_idle(self) -> None:
        deadline = time.monotonic() + _DRAIN_SECONDS
        while not self._cloud.wiring.idle and time.monotonic() < deadline:
            time.sleep(0.05)

    def _dead_letters(self) -> list[Json]:
        """Remove all messages from the dead-letter queue; return the payloads of invocations.

        Messages about failed executions have no payload: their objects have events.
        """
        sqs: Any = self._cloud.client("sqs")
        url = sqs.get_queue_url(QueueName="InfraMonitoring-DeadLetters")["QueueUrl"]
        payloads: list[Json] = []
        while found := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            for message in found:
                body = json.loads(message["Body"])
                if "requestPayload" in body:
                    payloads.append(body["requestPayload"])
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return payloads
