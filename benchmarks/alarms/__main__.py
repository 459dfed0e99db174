"""Replay scenarios and compare the alarms with the traces.

    .venv/bin/python -m benchmarks.alarms

Prints the tables of docs/alarm-replay.md. The exit status is 1 if a sustained breach or an incident
was not reported.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from rich import box
from rich.console import Console
from rich.table import Table

from .detections import (
    HOST_ALARMS,
    Detection,
    Incident,
    detections,
    incidents,
    period_breaches,
    sustained_breaches,
    threshold,
)
from .replay import Outcome, replay
from .scenarios import SCENARIOS, Scenario
from .traces import across_windows

_CONSOLE = Console(width=200, highlight=False)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.alarms",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [each.name for each in SCENARIOS]
    parser.add_argument(
        "--only", choices=names, action="append", metavar="NAME", help=f"one of: {', '.join(names)}"
    )
    parser.add_argument("--days", type=float, default=14, help="days to replay (14)")
    parser.add_argument("--cpu", type=float, help="critical CPU threshold (percent)")
    parser.add_argument("--memory", type=float, help="critical memory threshold (percent)")
    parser.add_argument("--late", type=int, help="delay of points in CloudWatch (minutes, 10)")
    parser.add_argument("--breach-minutes", default="15", help="BreachMinutes of the template")
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="print each breach and each alarm"
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Replay, print the tables and return the exit status."""
    options = parse(arguments)
    selected = [each for each in SCENARIOS if not options.only or each.name in options.only]
    outcomes = [replay(_apply_options(each, options)) for each in selected]
    _CONSOLE.print(_summary(outcomes))
    _CONSOLE.print(_emails(outcomes))
    for outcome in outcomes:
        if rows := incidents(outcome):
            _CONSOLE.print(_incidents(outcome, rows))
        for alarm in HOST_ALARMS:
            if sustained_breaches(outcome, alarm) and (options.verbose or outcome is outcomes[0]):
                _CONSOLE.print(_breaches(outcome, alarm))
                _CONSOLE.print(_alarm_periods(outcome, alarm))
    return int(any(map(_has_misses, outcomes)))


def _apply_options(scenario: Scenario, options: argparse.Namespace) -> Scenario:
    return replace(
        scenario,
        days=min(options.days, scenario.days),
        cpu=options.cpu or scenario.cpu,
        memory=options.memory or scenario.memory,
        late=scenario.late if options.late is None else timedelta(minutes=options.late),
        parameters={"BreachMinutes": options.breach_minutes},
    )


def _has_misses(outcome: Outcome) -> bool:
    missed = any(
        each.period is None for alarm in HOST_ALARMS for each in detections(outcome, alarm)
    )
    return missed or not all(each.is_reported for each in incidents(outcome))


def _summary(outcomes: Iterable[Outcome]) -> Table:
    columns = (
        "scenario, alarm, threshold, sustained breaches, across windows, missed, new alarm,"
        " already in ALARM, alarm periods, with a sustained breach, shorter breaches only"
    )
    rows = []
    for outcome in outcomes:
        for alarm in HOST_ALARMS:
            found, periods = detections(outcome, alarm), period_breaches(outcome, alarm)
            new = sum(each.is_new for each in found)
            missed = sum(each.period is None for each in found)
            breaches = sustained_breaches(outcome, alarm)
            justified = sum(bool(each.sustained) for each in periods)
            rows.append(
                (
                    outcome.scenario.name,
                    alarm,
                    f"{threshold(outcome.scenario, alarm):g} %",
                    len(breaches),
                    len(across_windows(breaches)),
                    missed,
                    new,
                    len(found) - new - missed,
                    len(periods),
                    justified,
                    len(periods) - justified,
                )
            )
    return _table("Breaches of 30 minutes or more", columns, rows)


def _emails(outcomes: Iterable[Outcome]) -> Table:
    columns = "scenario, days, runs, alarm changes, alarm e-mails, sent by CloudWatch,"
    columns += " run e-mails, pages"
    rows = []
    for outcome in outcomes:
        counts, days = outcome.emails_by_kind(), f"{outcome.scenario.days:g}"
        emails = [counts[kind] for kind in ("alarm", "direct", "run", "page")]
        rows.append((outcome.scenario.name, days, outcome.runs, outcome.transitions, *emails))
    return _table("E-mails", columns, rows)


def _incidents(outcome: Outcome, found: Sequence[Incident]) -> Table:
    columns = "incident, from, to, alarm, due by, began, ended, e-mails, in time"
    rows = []
    for each in found:
        times = {time for period in each.periods for time in (period.start, period.end)}
        emails = sum(
            email.at in times and email.kind in {"alarm", "direct"} for email in outcome.emails
        )
        rows.append(
            (
                each.description,
                _time(each.start),
                _time(each.end),
                each.alarm,
                _time(each.due),
                ", ".join(_time(period.start) for period in each.periods),
                ", ".join(_time(period.end) for period in each.periods),
                emails,
                "yes" if each.is_reported else "NO",
            )
        )
    return _table(f"{outcome.scenario.name}: incidents", columns, rows)


def _breaches(outcome: Outcome, alarm: str) -> Table:
    columns = "host, above from, to, minutes, across windows, detected at, delay, reported by"
    across = across_windows(sustained_breaches(outcome, alarm))
    rows = [
        (
            each.breach.host,
            _time(each.breach.start),
            f"{each.breach.end:%H:%M}",
            each.breach.minutes,
            "yes" if each.breach in across else "no",
            _time(each.at),
            _hours(each.delay),
            _reported_by(each),
        )
        for each in detections(outcome, alarm)
    ]
    return _table(f"{outcome.scenario.name}: sustained breaches, {alarm}", columns, rows)


def _reported_by(each: Detection) -> str:
    if each.period is None:
        return "MISSED"
    if not each.is_new:
        return f"in ALARM since {_time(each.period.start)}"
    return "e-mail that names the host" if each.names_host else "e-mail"


def _alarm_periods(outcome: Outcome, alarm: str) -> Table:
    columns = "in ALARM from, to, sustained breaches in its windows, most minutes of a host"
    rows = [
        (
            _time(each.period.start),
            _time(each.period.end),
            ", ".join(f"{one.host} {one.start:%H:%M} ({one.minutes})" for one in each.sustained)
            or "none",
            each.max_minutes,
        )
        for each in period_breaches(outcome, alarm)
    ]
    return _table(f"{outcome.scenario.name}: {alarm}", columns, rows)


def _table(title: str, columns: str, rows: Iterable[Sequence[object]]) -> Table:
    table = Table(title=title, title_justify="left", box=box.MARKDOWN)
    for column in columns.split(","):
        table.add_column(column.strip())
    for row in rows:
        table.add_row(*map(str, row))
    return table


def _time(time: datetime | None) -> str:
    return "-" if time is None else f"{time:%d %H:%M}"


def _hours(duration: timedelta | None) -> str:
    return "-" if duration is None else f"{duration / timedelta(hours=1):.1f} h"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
