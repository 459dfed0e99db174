"""Compare the harness's audit with the product's reconciliation, `infra verify`.

Both must find no problems and agree. They share no code. Their counts are compared as well, because
a check that reads nothing finds no problems.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress

from infra.operate.deployment import Days, Stage
from infra.operate.reconciliation import Difference
from infra.operate.verify import Reconciliation, counts, describe

from .audit import AuditResult
from .scenario import ENVIRONMENT

ROOT = Path(__file__).resolve().parents[2]

# Count of the audit -> the same counts of `infra verify`, as store and name.
_SAME_COUNTS = {
    "raw objects": (("raw", "objects"),),
    "records": (("raw", "distinct"), ("dynamodb", "distinct")),
    "lines": (("processed", "lines"),),
    "rejected entries": (("raw", "rejected"), ("quarantine", "rejected")),
}


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """Result of `infra verify`: its counts by store, and its differences as sentences."""

    counts: Mapping[str, Mapping[str, int]]
    differences: Sequence[str]


def verify(stage: Stage, days: Days) -> VerifyResult:
    """Run the reconciliation in this process, with the credentials of the environment."""
    reconciliation = Reconciliation(stage, days)
    differences = [_describe(each) for each in reconciliation.differences(Progress(disable=True))]
    return VerifyResult(counts(reconciliation.summary), differences)


def verify_by_command(endpoint: str, days: Days) -> VerifyResult:
    """Run `python -m infra verify`; an inconsistent exit status is reported as a difference."""
    options = ["--from", str(days.first), "--to", str(days.last), "--endpoint", endpoint, "--json"]
    completed = subprocess.run(
        [sys.executable, "-m", "infra", "verify", *options],
        cwd=ROOT,
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    output = json.loads(completed.stdout or "{}")
    is_exact = not output.get("differences", True)
    if (completed.returncode, output.get("exact")) != (0 if is_exact else 1, is_exact):
        return VerifyResult(
            {}, [f"exit status {completed.returncode}: {completed.stdout}{completed.stderr}"]
        )
    return VerifyResult(
        output["counts"], [_describe(Difference(**each)) for each in output["differences"]]
    )


def _describe(difference: Difference) -> str:
    return f"{difference.store}: {describe(difference)}"


def find_problems(audited: AuditResult, product: VerifyResult) -> list[str]:
    """The problems found by either check, and their disagreements."""
    return [
        *audited.problems,
        *(f"infra verify: {each}" for each in product.differences),
        *(f"disagreement: {each}" for each in _disagreements(audited, product)),
    ]


def _disagreements(audited: AuditResult, product: VerifyResult) -> list[str]:
    problems, differences = len(audited.problems), len(product.differences)
    if bool(problems) != bool(differences):
        return [f"{problems} problems in the audit, {differences} differences in infra verify"]
    if problems:
        return []  # with problems, the two count differently
    return [
        f"{audited.counts[name]} {name} in the audit,"
        f" {product.counts[store][count]} {count} of {store} in infra verify"
        for name, same in _SAME_COUNTS.items()
        for store, count in same
        if audited.counts[name] != product.counts[store][count]
    ]
