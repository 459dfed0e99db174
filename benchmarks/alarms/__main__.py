"""The command: scenarios replayed, and each alarm held against what the rows say.

    .venv/bin/python -m benchmarks.alarms

Prints the tables of docs/alarm-replay.md. Ends with 1 if a sustained breach or a silence was
missed.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from rich import box
from rich.console import Console
from rich.table import Table

from .replay import Outcome, replay
from .scenarios import SCENARIOS, Scenario
from .traces import crossing
from .verdict import (
    WATCHED,
    Told,
    Trouble,
    fired,
    limit,
    sustained,
    told,
    troubles,
)

_CONSOLE = Console(width=200, highlight=False)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.alarms",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [each.name for each in SCENARIOS]
    parser.add_argument(
        "--only", choices=names, action="append", metavar="NAME", help=f"of: {', '.join(names)}"
    )
    parser.add_argument("--days", type=float, default=14, help="of the 14 that there are")
    parser.add_argument("--cpu", type=float, help="another critical threshold of CPU (percent)")
    parser.add_argument("--memory", type=float, help="the same of memory")
    parser.add_argument("--late", type=int, help="minutes until CloudWatch has a point (10)")
    parser.add_argument("--breach-minutes", default="15", help="the template's BreachMinutes")
    parser.add_argument("-v", "--verbose", action="store_true", help="each breach, each alarm")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    """Replay, print, and return the exit status."""
    wanted = parse(arguments)
    chosen = [each for each in SCENARIOS if not wanted.only or each.name in wanted.only]
    outcomes = [replay(_changed(each, wanted)) for each in chosen]
    _CONSOLE.print(_summary(outcomes))
    _CONSOLE.print(_mails(outcomes))
    for outcome in outcomes:
        if rows := troubles(outcome):
            _CONSOLE.print(_troubles(outcome, rows))
        for alarm in WATCHED:
            if sustained(outcome, alarm) and (wanted.verbose or outcome is outcomes[0]):
                _CONSOLE.print(_breaches(outcome, alarm))
                _CONSOLE.print(_fired(outcome, alarm))
    return int(any(map(_is_bad, outcomes)))


def _changed(scenario: Scenario, wanted: argparse.Namespace) -> Scenario:
    return replace(
        scenario,
        days=min(wanted.days, scenario.days),
        cpu=wanted.cpu or scenario.cpu,
        memory=wanted.memory or scenario.memory,
        late=scenario.late if wanted.late is None else timedelta(minutes=wanted.late),
        parameters={"BreachMinutes": wanted.breach_minutes},
    )


def _is_bad(outcome: Outcome) -> bool:
    missed = any(each.span is None for alarm in WATCHED for each in told(outcome, alarm))
    return missed or not all(each.is_told for each in troubles(outcome))


def _summary(outcomes: Iterable[Outcome]) -> Table:
    columns = (
        "scenario, alarm, above, sustained, across an edge, missed, told by a new alarm,"
        " while it was on, times in ALARM, with a sustained breach, only shorter ones"
    )
    rows = []
    for outcome in outcomes:
        for alarm in WATCHED:
            found, times = told(outcome, alarm), fired(outcome, alarm)
            new = sum(each.new for each in found)
            missed = sum(each.span is None for each in found)
            breaches = sustained(outcome, alarm)
            long = sum(bool(each.sustained) for each in times)
            rows.append(
                (
                    outcome.scenario.name,
                    alarm,
                    f"{limit(outcome.scenario, alarm):g} %",
                    len(breaches),
                    len(crossing(breaches)),
                    missed,
                    new,
                    len(found) - new - missed,
                    len(times),
                    long,
                    len(times) - long,
                )
            )
    return _table("Breaches of 30 minutes or more", columns, rows)


def _mails(outcomes: Iterable[Outcome]) -> Table:
    columns = "scenario, days, runs, alarms began or ended, mails of alarms, CloudWatch's own,"
    columns += " of runs, pages"
    rows = []
    for outcome in outcomes:
        counted, days = outcome.counted(), f"{outcome.scenario.days:g}"
        mails = [counted[kind] for kind in ("alarm", "direct", "run", "page")]
        rows.append((outcome.scenario.name, days, outcome.runs, outcome.transitions, *mails))
    return _table("Mails", columns, rows)


def _troubles(outcome: Outcome, found: Sequence[Trouble]) -> Table:
    columns = "what, true from, to, alarm, had to begin by, began, ended, mails, as it should"
    rows = []
    for each in found:
        times = [(_time(span.start), _time(span.end)) for span in each.spans]
        moments = {moment for span in each.spans for moment in (span.start, span.end)}
        mails = sum(
            mail.at in moments and mail.kind in {"alarm", "direct"} for mail in outcome.mails
        )
        rows.append(
            (
                each.what,
                _time(each.start),
                _time(each.end),
                each.alarm,
                _time(each.due),
                ", ".join(began for began, _ in times),
                ", ".join(ended for _, ended in times),
                mails,
                "yes" if each.is_told else "NO",
            )
        )
    return _table(f"{outcome.scenario.name}: what went wrong", columns, rows)


def _breaches(outcome: Outcome, alarm: str) -> Table:
    columns = "host, above from, to, minutes, across an edge, told at, after its beginning, how"
    edges = crossing(sustained(outcome, alarm))
    rows = [
        (
            each.breach.host,
            _time(each.breach.start),
            f"{each.breach.end:%H:%M}",
            each.breach.minutes,
            "yes" if each.breach in edges else "no",
            _time(each.at),
            _hours(each.after),
            _how(each),
        )
        for each in told(outcome, alarm)
    ]
    return _table(f"{outcome.scenario.name}: sustained breaches, {alarm}", columns, rows)


def _how(each: Told) -> str:
    if each.span is None:
        return "MISSED"
    if not each.new:
        return f"in ALARM since {_time(each.span.start)}"
    return "a mail that names the host" if each.named else "a mail"


def _fired(outcome: Outcome, alarm: str) -> Table:
    columns = "in ALARM from, to, sustained breaches in its windows, most minutes of a host there"
    rows = [
        (
            _time(each.span.start),
            _time(each.span.end),
            ", ".join(f"{one.host} {one.start:%H:%M} ({one.minutes})" for one in each.sustained)
            or "none",
            each.minutes,
        )
        for each in fired(outcome, alarm)
    ]
    return _table(f"{outcome.scenario.name}: {alarm}", columns, rows)


def _table(title: str, columns: str, rows: Iterable[Sequence[object]]) -> Table:
    table = Table(title=title, title_justify="left", box=box.MARKDOWN)
    for column in columns.split(","):
        table.add_column(column.strip())
    for row in rows:
        table.add_row(*map(str, row))
    return table


def _time(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment:%d %H:%M}"


def _hours(span: timedelta | None) -> str:
    return "-" if span is None else f"{span / timedelta(hours=1):.1f} h"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
