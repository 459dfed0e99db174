"""Metrics that AWS services publish to CloudWatch, for the local cloud's services.

Names, units and dimensions are those in each service's documentation.
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

# AWS publishes a queue's depth each minute; here each change of the depth is published too.
_QUEUE_INTERVAL = timedelta(minutes=1)

_EXECUTION_METRICS = {
    "SUCCEEDED": "ExecutionsSucceeded",
    "FAILED": "ExecutionsFailed",
    "TIMED_OUT": "ExecutionsTimedOut",
    "ABORTED": "ExecutionsAborted",
}

_THROTTLING_ERRORS = frozenset(
    {"ProvisionedThroughputExceededException", "ThrottlingException", "RequestLimitExceeded"}
)
READS = frozenset({"GetItem", "BatchGetItem", "Query", "Scan"})
WRITES = frozenset({"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem"})


class ServiceMetrics:
    """Records the metrics of AWS/Logs, AWS/Lambda, AWS/States, AWS/SQS and AWS/DynamoDB."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock
        self._queues: dict[str, tuple[int, datetime]] = {}

    def record_log_lines(self, group: str, lines: Iterable[str]) -> None:
        """Record the metrics in log lines that are in embedded metric format."""
        now = datetime.now(UTC)  # EMF timestamps are in system time
        for line in lines:
            try:
                found = parse_line(line, now)
            except EmbeddedMetricError:
                # CloudWatch reports an invalid line only through this metric.
                dimensions = {"LogGroupName": group}
                self._count("AWS/Logs", "EMFValidationErrors", dimensions, self._clock.now())
                continue
            for each in found:
                at = self._clock.from_system_time(each.at)
                self._metrics.put(
                    each.namespace, each.name, each.dimensions, each.values, each.unit, at
                )

    def record_invocation(self, spec: FunctionSpec, invocation: Invocation) -> None:
        """Record a finished invocation."""
        dimensions = {"FunctionName": spec.name}
        started = self._clock.now() - timedelta(milliseconds=invocation.duration_ms)
        for name, value in (
            ("Invocations", 1),
            ("Errors", int(invocation.error)),
            ("Throttles", 0),
        ):
            self._count("AWS/Lambda", name, dimensions, started, value)
        durations = [invocation.duration_ms]
        self._metrics.put("AWS/Lambda", "Duration", dimensions, durations, "Milliseconds", started)

    def record_execution_start(self, machine_arn: str, execution: Mapping[str, Any]) -> None:
        """Record the start of an execution; `execution` is an entry of ListExecutions."""
        dimensions = {"StateMachineArn": machine_arn}
        started = self._clock.from_system_time(execution["startDate"])
        self._count("AWS/States", "ExecutionsStarted", dimensions, started)

    def record_execution_end(self, machine_arn: str, execution: Mapping[str, Any]) -> None:
        """Record the end of an execution; `execution` is an entry of ListExecutions."""
        dimensions = {"StateMachineArn": machine_arn}
        stopped = self._clock.from_system_time(execution["stopDate"])
        self._count("AWS/States", _EXECUTION_METRICS[execution["status"]], dimensions, stopped)
        milliseconds = 1000 * (execution["stopDate"] - execution["startDate"]).total_seconds()
        self._metrics.put(
            "AWS/States", "ExecutionTime", dimensions, [milliseconds], "Milliseconds", stopped
        )

    def record_queue_depth(self, name: str, visible: int) -> None:
        """Record the number of visible messages of a queue."""
        now = self._clock.now()
        last_visible, recorded = self._queues.get(name, (-1, now))
        if visible == last_visible and now - recorded < _QUEUE_INTERVAL:
            return
        self._queues[name] = visible, now
        self._count(
            "AWS/SQS", "ApproximateNumberOfMessagesVisible", {"QueueName": name}, now, visible
        )

    def record_dynamodb_response(
        self, target: str, request: bytes, status: int, response: bytes
    ) -> None:
        """Record the throttles in a DynamoDB response; `target` is the X-Amz-Target header."""
        now = self._clock.now()
        for name, dimensions, count in throttles(target, request, status, response):
            self._count("AWS/DynamoDB", name, dimensions, now, count)

    def _count(
        self, namespace: str, name: str, dimensions: Mapping[str, str], at: datetime, value: int = 1
    ) -> None:
        self._metrics.put(namespace, name, dimensions, [value], "Count", at)


# Metric name, dimensions, count
Throttle = tuple[str, dict[str, str], int]


def throttles(target: str, request: bytes, status: int, response: bytes) -> Iterator[Throttle]:
    """Yield the metrics of a response in which DynamoDB throttled a request.

    A throttled request counts as ThrottledRequests, and as throttle events of its table or of
    the indexes in ThrottlingReasons. Unprocessed items of a batch count only as throttle events.
    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/metrics-dimensions.html
    """
    operation = target.rpartition(".")[2]
    event_metric = "ReadThrottleEvents" if operation in READS else "WriteThrottleEvents"
    if status == 200:
        if operation.startswith("Batch"):
            for table, count in _unprocessed(json.loads(response or b"{}")).items():
                yield event_metric, {"TableName": table}, count
        return
    error = json.loads(response or b"{}") if response.lstrip().startswith(b"{") else {}
    if str(error.get("__type", "")).rpartition("#")[2] not in _THROTTLING_ERRORS:
        return
    for table, count in items_by_table(json.loads(request)).items():
        yield "ThrottledRequests", {"TableName": table, "Operation": operation}, 1
        indexes = [{"GlobalSecondaryIndexName": index} for index in _indexes(error)]
        for index in indexes or [{}]:
            yield event_metric, {"TableName": table, **index}, count


def _unprocessed(response: Mapping[str, Any]) -> Counter[str]:
    unprocessed = response.get("UnprocessedItems") or response.get("UnprocessedKeys") or {}
    return items_by_table({"RequestItems": unprocessed})


def items_by_table(request: Mapping[str, Any]) -> Counter[str]:
    """Count the items that a request reads or writes, by table."""
    if "TableName" in request:
        return Counter({request["TableName"]: 1})
    return Counter(
        {
            table: len(each["Keys"] if isinstance(each, dict) else each)
            for table, each in request.get("RequestItems", {}).items()
        }
    )


def _indexes(error: Mapping[str, Any]) -> set[str]:
    reasons = error.get("ThrottlingReasons") or error.get("throttlingReasons") or []
    names = [str(reason.get("resource", "")).partition("/index/")[2] for reason in reasons]
    return {name for name in names if name}
