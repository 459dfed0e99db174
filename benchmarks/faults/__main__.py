"""Run the pipeline with injected faults, one run for each seed, and compare its output.

    .venv/bin/python -m benchmarks.faults --runs 2000 --seed 1

Prints the table of docs/faults.md. If a run has problems, prints them with its seed, and the exit
status is 1. `--seed N --runs 1 -v` repeats one run.
"""

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from .audit import LATE_PREVIOUS_WINDOW
from .outcome import CHECKS
from .pool import run_fast
from .scenario import ENVIRONMENT


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--runs", type=int, default=100, help="number of seeds (default: 100)")
    parser.add_argument("--seed", type=int, default=1, help="first seed (default: 1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="parallel runs")
    parser.add_argument("--full", action="store_true", help="run in the complete local cloud")
    parser.add_argument("-v", "--verbose", action="store_true", help="print a line for each run")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Run, print the results and return the exit status."""
    options = parse(arguments)
    os.environ |= ENVIRONMENT  # for `infra verify`, in this process and its children
    seeds = range(options.seed, options.seed + options.runs)
    console, started = Console(soft_wrap=True, highlight=False), time.monotonic()
    injected: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    if options.full:
        from .full import run_full  # noqa: PLC0415 - imports the complete local cloud

        outcomes = run_full(seeds)
    else:
        outcomes = run_fast(seeds, options.jobs)
    for number, outcome in enumerate(outcomes, 1):
        injected += outcome.injected
        counts += outcome.counts
        counts["runs"] += 1
        counts["runs with problems"] += bool(outcome.problems)
        for problem in outcome.problems:
            counts[problem.partition(":")[0]] += 1
            console.print(f"seed {outcome.seed}: {problem}", markup=False)
        if options.verbose:
            details = {**outcome.counts, **outcome.injected}
            console.print(f"seed {outcome.seed}: {details}", markup=False)
        elif number % 100 == 0:
            print(f"{number} runs, {time.monotonic() - started:.0f} s", file=sys.stderr)
    _print_summary(console, counts, injected, time.monotonic() - started)
    return 1 if counts["runs with problems"] else 0


def _print_summary(
    console: Console, counts: Counter[str], injected: Counter[str], seconds: float
) -> None:
    table = Table("count of", "number")
    for name in ("runs", "requests", "events", "duplicated events", "concurrent deliveries"):
        table.add_row(name, f"{counts[name]:,}")
    for name in ("invocations", "continuations", "retries", "dead letters", "redriven"):
        table.add_row(name, f"{counts[name]:,}")
    table.add_section()
    for name, count in sorted(injected.items(), key=lambda each: -each[1]):
        table.add_row(name, f"{count:,}")
    table.add_row("faults injected", f"{injected.total():,}", end_section=True)
    for name in ("raw objects", "records", "versions", "lines", "rejected entries"):
        table.add_row(name, f"{counts[name]:,}")
    late = counts[LATE_PREVIOUS_WINDOW]
    table.add_row(LATE_PREVIOUS_WINDOW, f"{late:,}", end_section=True)
    for name in ("lost", "duplicated", "wrong", "unexplained", "unexpected", *CHECKS):
        table.add_row(name, f"{counts[name]:,}")
    table.add_row("runs with problems", f"{counts['runs with problems']:,}")
    console.print(table)
    console.print(f"{seconds:.0f} s")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
