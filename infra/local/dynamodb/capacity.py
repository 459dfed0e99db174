"""Throttling at DynamoDB's provisioned capacity, which moto does not enforce.

A table or index accepts as many items per second as it has capacity units; the request that
reaches the limit is still accepted as a whole. An item counts as one unit, whatever its size,
and there is no burst capacity. On-demand tables have no limit.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from moto.dynamodb.models import DynamoDBBackend

from ..cloudwatch.service_metrics import READS, WRITES, ServiceMetrics, items_by_table
from ..wsgi import WsgiApplication, read_body


class _Limit(NamedTuple):
    """The capacity of a table or index, in items per second."""

    arn: str
    reason: str
    units: int


class Capacity:
    """The capacity used in the current second, by table and index."""

    def __init__(self, backend: DynamoDBBackend) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self._second = 0
        self._used: dict[tuple[str, str], int] = {}

    def throttle(self, operation: str, body: bytes) -> bytes:
        """Count a request; return the error response if its capacity is used up, else b''."""
        if operation not in READS | WRITES:
            return b""
        kind = "Read" if operation in READS else "Write"
        with self._lock:
            if int(time.time()) != self._second:
                self._second, self._used = int(time.time()), {}
            for table, count in items_by_table(json.loads(body or b"{}")).items():
                for limit in self._limits(table, kind):
                    used = self._used.get((limit.arn, kind), 0)
                    if used >= limit.units:
                        return _error_response(limit)
                    self._used[limit.arn, kind] = used + count
        return b""

    def _limits(self, name: str, kind: str) -> Iterator[_Limit]:
        table = self._backend.tables.get(name)
        if table is None or table.billing_mode == "PAY_PER_REQUEST":
            return
        throughputs = [("Table", table.table_arn, table.throughput)]
        if kind == "Write":
            throughputs += [
                ("Index", f"{table.table_arn}/index/{each.name}", each.throughput)
                for each in table.global_indexes
            ]
        for resource, arn, throughput in throughputs:
            if units := int((throughput or {}).get(f"{kind}CapacityUnits", 0)):
                yield _Limit(arn, f"{resource}{kind}ProvisionedThroughputExceeded", units)


def _error_response(limit: _Limit) -> bytes:
    return json.dumps(
        {
            "__type": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
            "message": "The level of configured provisioned throughput was exceeded."
            " Consider increasing your provisioning level with the UpdateTable API.",
            "ThrottlingReasons": [{"reason": limit.reason, "resource": limit.arn}],
        }
    ).encode()


def with_capacity(
    application: WsgiApplication, capacity: Capacity, service_metrics: ServiceMetrics
) -> WsgiApplication:
    """Wrap an application so that DynamoDB throttles requests and records throttle metrics."""

    def handle(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        if not target.startswith("DynamoDB_"):
            return application(environ, start_response)
        request = read_body(environ)
        error = capacity.throttle(target.rpartition(".")[2], request)
        if error:
            start_response("400 Bad Request", [("Content-Type", "application/x-amz-json-1.0")])
            service_metrics.record_dynamodb_response(target, request, 400, error)
            return [error]
        statuses: list[str] = []

        def capture_status(status: str, *rest: Any) -> Any:
            statuses.append(status)
            return start_response(status, *rest)

        response = list(application(environ, capture_status))
        status = int(statuses[-1].split()[0])
        service_metrics.record_dynamodb_response(target, request, status, b"".join(response))
        return response

    return handle
