"""Exactly-once effect: some runs of the fault harness, and a proof that it bites.

Thousands of runs are a command's affair: docs/faults.md.
"""

import re
import time
from collections import Counter
from itertools import chain
from pathlib import Path
from types import BuiltinFunctionType
from typing import Any

import pytest

from benchmarks.faults.audit import Stored, Verdict, audit
from benchmarks.faults.fast import FastCloud
from benchmarks.faults.full import run_full
from benchmarks.faults.outcome import CHECKS, Outcome
from benchmarks.faults.plan import (
    AFTER,
    BEFORE,
    ONLY,
    Plan,
)
from benchmarks.faults.pool import run_fast
from benchmarks.faults.scenario import BUCKET, draw
from benchmarks.faults.verification import Verified, problems_of
from tests.support.broken_functions import BREAKAGES

pytestmark = pytest.mark.timeout(600)


def test_whatever_fails_nothing_is_lost_and_nothing_is_doubled() -> None:
    outcomes = list(run_fast(range(1, 101), jobs=4))
    assert [(each.seed, each.problems) for each in outcomes if each.problems] == []
    injected = set(chain.from_iterable(each.injected for each in outcomes))
    assert injected >= {*BEFORE, *AFTER, *chain.from_iterable(ONLY.values())}
    assert sum(each.counts["dead letters"] for each in outcomes) > 0


def test_nor_in_the_whole_local_cloud() -> None:
    outcomes = list(run_full([3, 4]))
    assert [(each.seed, each.problems) for each in outcomes if each.problems] == []
    assert sum(each.injected.total() for each in outcomes) > 0


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_both_checks_see(breakage: str) -> None:
    with FastCloud(("-m", "tests.support.broken_functions", breakage)) as cloud:
        assert any(kinds(cloud.run(seed)) == BOTH for seed in range(70, 130))


def test_only_the_harness_has_shorter_waits() -> None:
    assert isinstance(time.sleep, BuiltinFunctionType)


BOTH = {"the harness", "infra verify"}


def kinds(outcome: Outcome) -> set[str]:
    """Who found what is wrong with a run, or that they do not agree."""
    found = {problem.partition(":")[0] for problem in outcome.problems}
    return {each if each in CHECKS else "the harness" for each in found}


def test_a_seed_is_the_same_scenario_and_the_same_faults_each_time() -> None:
    assert draw(7) == draw(7)
    assert draw(7) != draw(8)
    requests = [("PutObject", f"/{number}") for number in range(100)]
    faults = [[plan.draw(*each) for each in requests] for plan in (Plan(7), Plan(7))]
    assert faults[0] == faults[1]


RECORD: dict[str, Any] = {
    "resource_id": "web-1",
    "metric_type": "cpu",
    "timestamp": "2026-11-22T18:00:00Z",
    "window_seconds": 10_800,
    "collected_at": "2026-11-22T18:05:00Z",
    "measurements": {"utilization": {"unit": "percent", "last": 42.5}},
    "labels": {},
}
ALL = {"last": 42.5, "avg": 42.5, "min": 42.5, "max": 42.5, "p95": 42.5}
SOURCE = f"s3://{BUCKET}/key"
ITEM = RECORD | {
    "processed_at": "2026-11-22T18:06:00Z",
    "source_object": SOURCE,
    "measurements": {"utilization": ALL},
    "change": {},
}
LINE = RECORD | {
    "ts": "2026-11-22 18:00:00.000",
    "measurement": "utilization",
    "source_object": SOURCE,
    **{f"value_{name}": value for name, value in ALL.items()},
}
REJECTED = {"source_object": SOURCE, "original": "{"}
EXACT = Stored(items=[ITEM], lines=[LINE], quarantined=[REJECTED])


def other(value: float) -> dict[str, Any]:
    return {"measurements": {"utilization": ALL | {"last": value}}}


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (EXACT, ""),
        (Stored({}, [LINE], [REJECTED], []), "lost: no item"),
        (Stored({}, [LINE], [REJECTED], [ITEM, ITEM]), "doubled: 2 items"),
        (Stored({}, [LINE], [REJECTED], [ITEM | other(1)]), "wrong: utilization"),
        (Stored({}, [], [REJECTED], [ITEM]), "lost: no line"),
        (Stored({}, [LINE, LINE], [REJECTED], [ITEM]), "doubled: 2 lines"),
        (Stored({}, [LINE | {"value_p95": 1}], [REJECTED], [ITEM]), "wrong: the line"),
        (Stored({}, [LINE], [], [ITEM]), "lost: "),
        (Stored({}, [LINE], [REJECTED, REJECTED], [ITEM]), "doubled: "),
        (Stored({}, [LINE], [REJECTED], [ITEM, ITEM | {"resource_id": "x"}]), "unexplained: an"),
    ],
)
def test_the_audit_names(stored: Stored, words: str) -> None:
    problems = audit({"key": [RECORD]}, {"key": [b"{"]}, stored).problems
    assert [problem[: len(words)] for problem in problems] == [words] * bool(words)


def test_the_audit_uses_nothing_of_the_product() -> None:
    for name in ("audit", "scenario", "plan", "proxy"):
        text = Path(f"benchmarks/faults/{name}.py").read_text()
        assert not re.search(
            r"^\s*(from|import) (chalicelib|infra|\.verification)", text, re.MULTILINE
        )


COUNTS = {
    "raw": {"objects": 1, "distinct": 2, "rejected": 3},
    "dynamodb": {"distinct": 2},
    "processed": {"lines": 4},
    "quarantine": {"rejected": 3},
}
COUNTED = Counter({"raw objects": 1, "records": 2, "bad pieces": 3, "lines": 4})


@pytest.mark.parametrize(
    ("own", "product", "said"),
    [
        (Verdict([], COUNTED), Verified(COUNTS, []), []),
        (
            Verdict(["lost: a"], COUNTED),
            Verified(COUNTS, ["dynamodb: a"]),
            ["lost: a", "infra verify: dynamodb: a"],
        ),
        (
            Verdict(["lost: a"], COUNTED),
            Verified(COUNTS, []),
            ["lost: a", "disagree: the harness finds 1 differences, infra verify 0"],
        ),
        (
            Verdict([], COUNTED),
            Verified(COUNTS, ["dynamodb: a"]),
            [
                "infra verify: dynamodb: a",
                "disagree: the harness finds 0 differences, infra verify 1",
            ],
        ),
        (
            Verdict([], COUNTED),
            Verified(COUNTS | {"processed": {"lines": 0}}, []),
            ["disagree: 4 lines by the harness, 0 lines of processed by infra verify"],
        ),
    ],
)
def test_both_checks_must_be_exact_and_agree(
    own: Verdict, product: Verified, said: list[str]
) -> None:
    assert problems_of(own, product) == said
