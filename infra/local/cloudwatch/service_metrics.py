"""What AWS's services tell CloudWatch of themselves, from what happens in the local cloud.

Names, units and dimensions are those of AWS's documentation of each service's metrics.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from ..lambda_.environment import FunctionSpec, Invocation
from .clock import Clock
from .embedded_metrics import EmbeddedMetricError, parse_line
from .metrics import Metrics

# A queue is measured each minute on AWS; here also when its number has changed.
_QUEUE_INTERVAL = timedelta(minutes=1)

_ENDS = {
    "SUCCEEDED": "ExecutionsSucceeded",
    "FAILED": "ExecutionsFailed",
    "TIMED_OUT": "ExecutionsTimedOut",
    "ABORTED": "ExecutionsAborted",
}

_THROTTLES = frozenset(
    {"ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"}
)
READS = frozenset({"GetItem", "BatchGetItem", "Query", "Scan"})
WRITES = frozenset({"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem"})


class ServiceMetrics:
    """Puts metrics for what it is told of."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._queues: dict[str, tuple[int, datetime]] = {}

    def record_log_lines(self, group: str, lines: Iterable[str]) -> None:
        """Log lines have come to a log group: those in embedded metric format are metrics."""
        now = datetime.now(UTC)  # the lines have this one's time
        for line in lines:
            try:
                found = parse_line(line, now)
            except EmbeddedMetricError:
                # CloudWatch says no more than this either.
                own = {"LogGroupName": group}
                self._count("AWS/Logs", "EMFValidationErrors", own, self._clock.now())
                continue
            for each in found:
                at = self._clock.when(each.at)
                self._metrics.put(
                    each.namespace, each.name, each.dimensions, each.values, each.unit, at
                )

    def record_invocation(self, spec: FunctionSpec, invocation: Invocation) -> None:
        """A function has answered, or failed."""
        own = {"FunctionName": spec.name}
        began = self._clock.now() - timedelta(milliseconds=invocation.duration_ms)
        for name, value in (
            ("Invocations", 1),
            ("Errors", int(invocation.error)),
            ("Throttles", 0),
        ):
            self._count("AWS/Lambda", name, own, began, value)
        self._metrics.put(
            "AWS/Lambda", "Duration", own, [invocation.duration_ms], "Milliseconds", began
        )

    def record_execution_start(self, machine_arn: str, execution: Mapping[str, Any]) -> None:
        """An execution has been seen for the first time."""
        own = {"StateMachineArn": machine_arn}
        started = self._clock.when(execution["startDate"])
        self._count("AWS/States", "ExecutionsStarted", own, started)

    def record_execution_end(self, machine_arn: str, execution: Mapping[str, Any]) -> None:
        """An execution does not run any more."""
        own = {"StateMachineArn": machine_arn}
        stopped = self._clock.when(execution["stopDate"])
        self._count("AWS/States", _ENDS[execution["status"]], own, stopped)
        milliseconds = 1000 * (execution["stopDate"] - execution["startDate"]).total_seconds()
        self._metrics.put(
            "AWS/States", "ExecutionTime", own, [milliseconds], "Milliseconds", stopped
        )

    def record_queue_depth(self, name: str, visible: int) -> None:
        """So many messages wait in a queue."""
        now = self._clock.now()
        before, when = self._queues.get(name, (-1, now))
        if visible == before and now - when < _QUEUE_INTERVAL:
            return
        self._queues[name] = visible, now
        self._count(
            "AWS/SQS", "ApproximateNumberOfMessagesVisible", {"QueueName": name}, now, visible
        )

    def record_dynamodb_response(
        self, target: str, request: bytes, status: int, answer: bytes
    ) -> None:
        """DynamoDB has answered a request (`target` is its X-Amz-Target)."""
        now = self._clock.now()
        for name, dimensions, count in throttles(target, request, status, answer):
            self._count("AWS/DynamoDB", name, dimensions, now, count)

    def _count(
        self, namespace: str, name: str, dimensions: Mapping[str, str], at: datetime, value: int = 1
    ) -> None:
        self._metrics.put(namespace, name, dimensions, [value], "Count", at)


Throttle = tuple[str, dict[str, str], int]


def throttles(target: str, request: bytes, status: int, answer: bytes) -> Iterator[Throttle]:
    """The metrics of a throttled answer of DynamoDB: name, dimensions, count.

    A request that is refused is a throttled request, and an event of its table or, where
    AWS says so in ThrottlingReasons, of an index. A batch of which a part comes back is
    throttle events only.
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/metrics-dimensions.html
    """
    operation = target.rpartition(".")[2]
    kind = "ReadThrottleEvents" if operation in READS else "WriteThrottleEvents"
    if status == 200:
        if operation.startswith("Batch"):
            for table, count in _unprocessed(json.loads(answer or b"{}")).items():
                yield kind, {"TableName": table}, count
        return
    refusal = json.loads(answer or b"{}") if answer.lstrip().startswith(b"{") else {}
    if str(refusal.get("__type", "")).rpartition("#")[2] not in _THROTTLES:
        return
    for table, count in items(json.loads(request)).items():
        yield "ThrottledRequests", {"TableName": table, "Operation": operation}, 1
        indexes = [{"GlobalSecondaryIndexName": index} for index in _indexes(refusal)]
        for where in indexes or [{}]:
            yield kind, {"TableName": table, **where}, count


def _unprocessed(answer: Mapping[str, Any]) -> Counter[str]:
    left = answer.get("UnprocessedItems") or answer.get("UnprocessedKeys") or {}
    return items({"RequestItems": left})


def items(request: Mapping[str, Any]) -> Counter[str]:
    """How many items a request is about, by table."""
    if "TableName" in request:
        return Counter({request["TableName"]: 1})
    return Counter(
        {
            table: len(wanted["Keys"] if isinstance(wanted, dict) else wanted)
            for table, wanted in request.get("RequestItems", {}).items()
        }
    )


def _indexes(refusal: Mapping[str, Any]) -> set[str]:
    reasons = refusal.get("ThrottlingReasons") or refusal.get("throttlingReasons") or []
    named = [str(reason.get("resource", "")).partition("/index/")[2] for reason in reasons]
    return {index for index in named if index}
