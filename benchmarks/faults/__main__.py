"""The command: runs of many seeds, side by side, and what came of them.

    .venv/bin/python -m benchmarks.faults --runs 2000 --seed 1

Prints a table for docs/faults.md. Ends with 1, and with the seed and the differences of each
run that is not exact. `--seed N --runs 1 -v` repeats one run.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from .outcome import CHECKS
from .pool import run_fast
from .scenario import ENVIRONMENT


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="how many seeds (default: 100)")
    parser.add_argument("--seed", type=int, default=1, help="the first seed (default: 1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="runs side by side")
    parser.add_argument("--full", action="store_true", help="runs in the whole local cloud")
    parser.add_argument("-v", "--verbose", action="store_true", help="a line for each run")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Run, print, and return the exit status."""
    wanted = parse(arguments)
    os.environ |= ENVIRONMENT  # for `infra verify`, here and in the processes that start here
    seeds = range(wanted.seed, wanted.seed + wanted.runs)
    console, started = Console(soft_wrap=True, highlight=False), time.monotonic()
    injected: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    if wanted.full:
        from .full import run_full  # noqa: PLC0415 - the whole local cloud is not always wanted

        outcomes = run_full(seeds)
    else:
        outcomes = run_fast(seeds, wanted.jobs)
    for number, outcome in enumerate(outcomes, 1):
        injected += outcome.injected
        counts += outcome.counts
        counts["runs"] += 1
        counts["runs that are not exact"] += bool(outcome.problems)
        for problem in outcome.problems:
            counts[problem.partition(":")[0]] += 1
            console.print(f"seed {outcome.seed}: {problem}", markup=False)
        if wanted.verbose:
            told = {**outcome.counts, **outcome.injected}
            console.print(f"seed {outcome.seed}: {told}", markup=False)
        elif number % 100 == 0:
            print(f"{number} runs, {time.monotonic() - started:.0f} s", file=sys.stderr)
    _report(console, counts, injected, time.monotonic() - started)
    return 1 if counts["runs that are not exact"] else 0


def _report(console: Console, counts: Counter[str], injected: Counter[str], seconds: float) -> None:
    table = Table("what", "how many")
    for name in ("runs", "requests", "events", "duplicated events", "two at once on one object"):
        table.add_row(name, f"{counts[name]:,}")
    for name in ("invocations", "continuations", "retries", "dead letters", "redriven"):
        table.add_row(name, f"{counts[name]:,}")
    table.add_section()
    for name, count in sorted(injected.items(), key=lambda each: -each[1]):
        table.add_row(name, f"{count:,}")
    table.add_row("faults injected", f"{injected.total():,}", end_section=True)
    for name in ("raw objects", "records", "versions", "lines", "bad pieces"):
        table.add_row(name, f"{counts[name]:,}")
    late = "without a window before, for it came later"
    table.add_row(late, f"{counts[late]:,}", end_section=True)
    for name in ("lost", "doubled", "wrong", "unexplained", "unexpected", *CHECKS):
        table.add_row(name, f"{counts[name]:,}")
    table.add_row("runs that are not exact", f"{counts['runs that are not exact']:,}")
    console.print(table)
    console.print(f"{seconds:.0f} s")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
