"""The outcome of a run."""

from collections import Counter
from dataclasses import dataclass

# Prefixes of problems reported by `infra verify`, and of disagreements between the two checks.
CHECKS = ("infra verify", "disagreement")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The problems of a run, as sentences, with its injected faults and other counts."""

    seed: int
    problems: list[str]
    injected: Counter[str]
    counts: Counter[str]
