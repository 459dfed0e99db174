"""DynamoDB's provisioned capacity, which moto does not limit; and the answers, for the metrics.

A table or index with provisioned capacity takes as many items a second as it has units, plus
what is left of the request that reaches the limit: an item counts as one unit, whatever its
size, and there is no burst. On demand there is no limit.
"""

import io
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from moto.dynamodb.models import DynamoDBBackend

from ..cloudwatch.service_metrics import (
    READS,
    WRITES,
    ServiceMetrics,
    items,
)
from ..shared import Wsgi


class _Limited(NamedTuple):
    """A table, or an index of it, and how many items a second it takes."""

    arn: str
    reason: str
    units: int


class Capacity:
    """How much of each table's and index's capacity the present second has used."""

    def __init__(self, backend: DynamoDBBackend) -> None:
        self._backend = backend
        self._lock = threading.Lock()
        self._second = 0
        self._used: dict[tuple[str, str], int] = {}

    def refusal(self, operation: str, body: bytes) -> bytes:
        """The answer to a request that finds its capacity used up, or nothing."""
        if operation not in READS | WRITES:
            return b""
        way = "Read" if operation in READS else "Write"
        with self._lock:
            if int(time.time()) != self._second:
                self._second, self._used = int(time.time()), {}
            for table, count in items(json.loads(body or b"{}")).items():
                for each in self._limited(table, way):
                    used = self._used.get((each.arn, way), 0)
                    if used >= each.units:
                        return _exceeded(each)
                    self._used[each.arn, way] = used + count
        return b""

    def _limited(self, name: str, way: str) -> Iterator[_Limited]:
        table = self._backend.tables.get(name)
        if table is None or table.billing_mode == "PAY_PER_REQUEST":
            return
        held = [("Table", table.table_arn, table.throughput)]
        if way == "Write":
            held += [
                ("Index", f"{table.table_arn}/index/{each.name}", each.throughput)
                for each in table.global_indexes
            ]
        for kind, arn, throughput in held:
            if units := int((throughput or {}).get(f"{way}CapacityUnits", 0)):
                yield _Limited(arn, f"{kind}{way}ProvisionedThroughputExceeded", units)


def _exceeded(limited: _Limited) -> bytes:
    return json.dumps(
        {
            "__type": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException",
            "message": "The level of configured provisioned throughput was exceeded."
            " Consider increasing your provisioning level with the UpdateTable API.",
            "ThrottlingReasons": [{"reason": limited.reason, "resource": limited.arn}],
        }
    ).encode()


def with_capacity(application: Wsgi, capacity: Capacity, service_metrics: ServiceMetrics) -> Wsgi:
    """The application, whose DynamoDB has limits, and tells CloudWatch of each throttle."""

    def limited(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        if not target.startswith("DynamoDB_"):
            return application(environ, start_response)
        request = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(request)
        refusal = capacity.refusal(target.rpartition(".")[2], request)
        if refusal:
            start_response("400 Bad Request", [("Content-Type", "application/x-amz-json-1.0")])
            service_metrics.record_dynamodb_response(target, request, 400, refusal)
            return [refusal]
        statuses: list[str] = []

        def noted(status: str, *rest: Any) -> Any:
            statuses.append(status)
            return start_response(status, *rest)

        answer = list(application(environ, noted))
        service_metrics.record_dynamodb_response(
            target, request, int(statuses[-1].split()[0]), b"".join(answer)
        )
        return answer

    return limited
