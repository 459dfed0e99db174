"""Exactly-once effect: some runs of the fault harness, and a test that it detects errors.

`python -m benchmarks.faults` does thousands of runs; see docs/faults.md.
"""

import re
import time
from collections import Counter
from itertools import chain
from pathlib import Path
from types import BuiltinFunctionType
from typing import Any

import pytest

from benchmarks.faults.audit import AuditResult, StoredData, audit
from benchmarks.faults.fast import FastCloud
from benchmarks.faults.full import run_full
from benchmarks.faults.outcome import CHECKS, Outcome
from benchmarks.faults.plan import APPLIED, BY_OPERATION, NOT_APPLIED, Plan
from benchmarks.faults.pool import run_fast
from benchmarks.faults.scenario import BUCKET, draw
from benchmarks.faults.verification import VerifyResult, find_problems
from tests.support.broken_functions import BREAKAGES

pytestmark = pytest.mark.timeout(7200)


def test_no_fault_loses_or_duplicates_data() -> None:
    outcomes = list(run_fast(range(1, 101), jobs=4))
    assert [(each.seed, each.problems) for each in outcomes if each.problems] == []
    injected = set(chain.from_iterable(each.injected for each in outcomes))
    assert injected >= {
        *NOT_APPLIED,
        *APPLIED,
        *chain.from_iterable(BY_OPERATION.values()),
    }
    assert sum(each.counts["dead letters"] for each in outcomes) > 0


def test_no_fault_loses_or_duplicates_data_in_the_local_cloud() -> None:
    outcomes = list(run_full([3, 4]))
    assert [(each.seed, each.problems) for each in outcomes if each.problems] == []
    assert sum(each.injected.total() for each in outcomes) > 0


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_both_checks_detect_broken_functions(breakage: str) -> None:
    with FastCloud(("-m", "tests.support.broken_functions", breakage)) as cloud:
        assert any(checks_with_problems(cloud.run(seed)) == BOTH for seed in range(70, 130))


def test_waits_are_not_shortened_in_this_process() -> None:
    assert isinstance(time.sleep, BuiltinFunctionType)


BOTH = {"audit", "infra verify"}


def checks_with_problems(outcome: Outcome) -> set[str]:
    """The checks that found problems, and "disagreement" if they disagree."""
    kinds = {problem.partition(":")[0] for problem in outcome.problems}
    return {each if each in CHECKS else "audit" for each in kinds}


def test_seed_determines_scenario_and_faults() -> None:
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
ALL_STATISTICS = {"last": 42.5, "avg": 42.5, "min": 42.5, "max": 42.5, "p95": 42.5}
SOURCE = f"s3://{BUCKET}/key"
ITEM = RECORD | {
    "processed_at": "2026-11-22T18:06:00Z",
    "source_object": SOURCE,
    "measurements": {"utilization": ALL_STATISTICS},
    "change": {},
}
LINE = RECORD | {
    "ts": "2026-11-22 18:00:00.000",
    "measurement": "utilization",
    "source_object": SOURCE,
    **{f"value_{name}": value for name, value in ALL_STATISTICS.items()},
}
REJECTED = {"source_object": SOURCE, "original": "{"}
EXACT = StoredData(items=[ITEM], lines=[LINE], quarantined=[REJECTED])


def with_last(value: float) -> dict[str, Any]:
    return {"measurements": {"utilization": ALL_STATISTICS | {"last": value}}}


@pytest.mark.parametrize(
    ("stored", "problem"),
    [
        (EXACT, ""),
        (StoredData({}, [LINE], [REJECTED], []), "lost: no item"),
        (StoredData({}, [LINE], [REJECTED], [ITEM, ITEM]), "duplicated: 2 items"),
        (StoredData({}, [LINE], [REJECTED], [ITEM | with_last(1)]), "wrong: utilization"),
        (StoredData({}, [], [REJECTED], [ITEM]), "lost: no line"),
        (StoredData({}, [LINE, LINE], [REJECTED], [ITEM]), "duplicated: 2 lines"),
        (StoredData({}, [LINE | {"value_p95": 1}], [REJECTED], [ITEM]), "wrong: line"),
        (StoredData({}, [LINE], [], [ITEM]), "lost: "),
        (StoredData({}, [LINE], [REJECTED, REJECTED], [ITEM]), "duplicated: "),
        (
            StoredData({}, [LINE], [REJECTED], [ITEM, ITEM | {"resource_id": "x"}]),
            "unexplained: item",
        ),
    ],
)
def test_audit_reports_the_problem(stored: StoredData, problem: str) -> None:
    problems = audit({"key": [RECORD]}, {"key": [b"{"]}, stored).problems
    assert [each[: len(problem)] for each in problems] == [problem] * bool(problem)


def test_audit_uses_none_of_the_product_s_code() -> None:
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
AUDIT_COUNTS = Counter({"raw objects": 1, "records": 2, "rejected entries": 3, "lines": 4})


@pytest.mark.parametrize(
    ("audited", "product", "problems"),
    [
        (AuditResult([], AUDIT_COUNTS), VerifyResult(COUNTS, []), []),
        (
            AuditResult(["lost: a"], AUDIT_COUNTS),
            VerifyResult(COUNTS, ["dynamodb: a"]),
            ["lost: a", "infra verify: dynamodb: a"],
        ),
        (
            AuditResult(["lost: a"], AUDIT_COUNTS),
            VerifyResult(COUNTS, []),
            ["lost: a", "disagreement: 1 problems in the audit, 0 differences in infra verify"],
        ),
        (
            AuditResult([], AUDIT_COUNTS),
            VerifyResult(COUNTS, ["dynamodb: a"]),
            [
                "infra verify: dynamodb: a",
                "disagreement: 0 problems in the audit, 1 differences in infra verify",
            ],
        ),
        (
            AuditResult([], AUDIT_COUNTS),
            VerifyResult(COUNTS | {"processed": {"lines": 0}}, []),
            ["disagreement: 4 lines in the audit, 0 lines of processed in infra verify"],
        ),
    ],
)
def test_problems_of_both_checks_and_disagreements_are_reported(
    audited: AuditResult, product: VerifyResult, problems: list[str]
) -> None:
    assert find_problems(audited, product) == problems
