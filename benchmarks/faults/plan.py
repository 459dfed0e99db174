"""Choose the fault of each request.

A fault depends on the seed, the request and the number of earlier requests of that kind. It does
not depend on the order of requests, which varies with threads. A seed therefore repeats its faults.
"""

from collections import Counter
from random import Random

# The service did not receive the request, or rejected it.
NOT_APPLIED = (
    "throttled",
    "500",
    "503",
    "timeout",
    "reset before the request",
    "reset within the request",
    "killed before the write",
)
# The service applied the request, but the function received no success response.
APPLIED = (
    "500 after the write",
    "timeout after the write",
    "reset after the write",
    "reset within the response",
    "killed after the write",
)
# Faults of single operations. S3 and DynamoDB apply requests as a whole, except batches.
BY_OPERATION = {
    "BatchWriteItem": (
        *["UnprocessedItems"] * 6,
        "reset half-way through a batch",
        "killed half-way through a batch",
    ),
    "BatchGetItem": ("UnprocessedKeys", "UnprocessedKeys"),
    "GetObject": ("body truncated", "body truncated", "reset within the body"),
}
_OUTAGE_FAULTS = ("throttled", "500", "503")


class Plan:
    """The faults of one run. With `mild`, faults are rarer, for runs with the product's waits."""

    def __init__(self, seed: int, *, mild: bool = False) -> None:
        rng = Random(f"plan {seed}")
        self._seed = seed
        self._fault_rate = rng.choice((0.03, 0.06, 0.1, 0.2, 0.3))
        self._outage_rate = rng.choice((0, 0, 0.05, 0.1))
        self._kill_rate = rng.choice((0.2, 1))
        self._timeout_rate = 1.0
        if mild:
            self._fault_rate, self._outage_rate = min(self._fault_rate, 0.12), 0
            self._timeout_rate = 0.2
        self._seen: Counter[tuple[str, str]] = Counter()

    def draw(self, operation: str, target: str) -> str:
        """The fault of the next request with this operation and target, or ''."""
        nth = self._seen[operation, target]
        self._seen[operation, target] += 1
        outage = Random(f"{self._seed}/{operation}/{target}")
        if outage.random() < self._outage_rate and nth < outage.randint(2, 14):
            return outage.choice(_OUTAGE_FAULTS)
        rng = Random(f"{self._seed}/{operation}/{target}/{nth}")
        if rng.random() >= self._fault_rate:
            return ""
        fault = rng.choice((*NOT_APPLIED, *APPLIED, *BY_OPERATION.get(operation, ()) * 2))
        # These are expensive: a new process, or the wait until the client times out.
        rate = self._kill_rate if fault.startswith("killed") else 1.0
        rate = self._timeout_rate if fault.startswith("timeout") else rate
        return fault if rng.random() < rate else ""
