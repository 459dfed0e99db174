"""The product's own ledger, `infra verify`, beside the harness's: both must be exact, and agree.

The two have no code in common. What they count is compared too: a check that finds nothing
because it looked at nothing is not exact.
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

from .audit import Verdict
from .scenario import ENVIRONMENT

ROOT = Path(__file__).resolve().parents[2]

# What the harness counts -> where `infra verify` has the same number.
_SAME = {
    "raw objects": (("raw", "objects"),),
    "records": (("raw", "distinct"), ("dynamodb", "distinct")),
    "lines": (("processed", "lines"),),
    "bad pieces": (("raw", "rejected"), ("quarantine", "rejected")),
}


@dataclass(frozen=True, slots=True)
class Verified:
    """What `infra verify` says: its counts, by store, and each difference in words."""

    counts: Mapping[str, Mapping[str, int]]
    differences: Sequence[str]


def verify(stage: Stage, days: Days) -> Verified:
    """What the command does, in this process; on the credentials of the environment."""
    reconciliation = Reconciliation(stage, days)
    differences = [_told(each) for each in reconciliation.differences(Progress(disable=True))]
    return Verified(counts(reconciliation.summary), differences)


def verify_by_command(endpoint: str, days: Days) -> Verified:
    """`python -m infra verify`, as anybody runs it; that it does not end as it should is told."""
    options = ["--from", str(days.first), "--to", str(days.last), "--endpoint", endpoint, "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "infra", "verify", *options],
        cwd=ROOT,
        env=os.environ | ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    told = json.loads(done.stdout or "{}")
    exact = not told.get("differences", True)
    if (done.returncode, told.get("exact")) != (0 if exact else 1, exact):
        return Verified({}, [f"ended with {done.returncode}: {done.stdout}{done.stderr}"])
    return Verified(told["counts"], [_told(Difference(**each)) for each in told["differences"]])


def _told(difference: Difference) -> str:
    return f"{difference.store}: {describe(difference)}"


def problems_of(own: Verdict, product: Verified) -> list[str]:
    """What either check finds, and where the two do not say the same."""
    return [
        *own.problems,
        *(f"infra verify: {each}" for each in product.differences),
        *(f"disagree: {each}" for each in _disagreements(own, product)),
    ]


def _disagreements(own: Verdict, product: Verified) -> list[str]:
    found, named = len(own.problems), len(product.differences)
    if bool(found) != bool(named):
        return [f"the harness finds {found} differences, infra verify {named}"]
    if found:
        return []  # each counts in its own way what should not be there
    return [
        f"{own.counts[name]} {name} by the harness, {product.counts[store][what]} {what} of"
        f" {store} by infra verify"
        for name, places in _SAME.items()
        for store, what in places
        if own.counts[name] != product.counts[store][what]
    ]
