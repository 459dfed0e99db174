"""Which request of a run fails, and how: drawn from the seed, the request and how often it came.

Not from the order of requests, which threads decide: so a seed repeats its faults.
"""

from collections import Counter
from random import Random

# What the service never saw.
BEFORE = (
    "throttled",
    "500",
    "503",
    "time-out",
    "reset before the request",
    "reset within the request",
    "killed before the write",
)
# What the service did, and the function did not hear of.
AFTER = (
    "500 though applied",
    "time-out though applied",
    "reset though applied",
    "reset within the answer",
    "killed after the write",
)
# What only some operations can suffer. S3 and DynamoDB apply a request whole, but a batch.
ONLY = {
    "BatchWriteItem": (
        *["UnprocessedItems"] * 6,
        "reset half-way through a batch",
        "killed half-way through a batch",
    ),
    "BatchGetItem": ("UnprocessedKeys", "UnprocessedKeys"),
    "GetObject": ("body cut off", "body cut off", "reset within the body"),
}
# What an outage looks like.
_OUT = ("throttled", "500", "503")


class Plan:
    """The faults of one run; `mild` ones are rarer, where waits are as long as in earnest."""

    def __init__(self, seed: int, *, mild: bool = False) -> None:
        rng = Random(f"plan {seed}")
        self._seed = seed
        self._rate = rng.choice((0.03, 0.06, 0.1, 0.2, 0.3))
        self._outages = rng.choice((0, 0, 0.05, 0.1))
        self._kills = rng.choice((0.2, 1))
        self._slow = 1.0
        if mild:
            self._rate, self._outages, self._slow = min(self._rate, 0.12), 0, 0.2
        self._seen: Counter[tuple[str, str]] = Counter()

    def draw(self, operation: str, target: str) -> str:
        """The fault of the next request of this kind for this target; empty for none."""
        nth = self._seen[operation, target]
        self._seen[operation, target] += 1
        once = Random(f"{self._seed}/{operation}/{target}")
        if once.random() < self._outages and nth < once.randint(2, 14):
            return once.choice(_OUT)
        rng = Random(f"{self._seed}/{operation}/{target}/{nth}")
        if rng.random() >= self._rate:
            return ""
        fault = rng.choice((*BEFORE, *AFTER, *ONLY.get(operation, ()) * 2))
        # Each of these costs a new process, or the time until the client gives up.
        dear = self._kills if fault.startswith("killed") else 1.0
        dear = self._slow if fault.startswith("time-out") else dear
        return fault if rng.random() < dear else ""
