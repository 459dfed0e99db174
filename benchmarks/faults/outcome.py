"""How a run ended."""

from collections import Counter
from dataclasses import dataclass

# What a problem begins with if `infra verify` names it, or if the two checks do not agree.
CHECKS = ("infra verify", "disagree")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is wrong after a run, a sentence each, and what happened on the way."""

    seed: int
    problems: list[str]
    injected: Counter[str]
    counts: Counter[str]
