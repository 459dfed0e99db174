"""`python -m infra redrive`: what failed for good, why, and all of it sent once more."""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

from botocore.exceptions import ClientError
from rich import box
from rich.console import Console
from rich.table import Table

from chalicelib.model.windows import format_utc

from ..command_line import exit_statuses
from .arguments import add_stores
from .aws_errors import aws_errors, describe_error
from .dead_letters import Letter, Letters
from .deployment import Stage, stage_of
from .executions import (
    Run,
    reason,
    runs_since,
    start_again,
)


@dataclass(frozen=True, slots=True)
class Case:
    """Executions that did the same: the latest, and the letters about any of them that failed."""

    latest: Run
    letters: Sequence[Letter]
    why: str

    @property
    def open(self) -> bool:
        """Whether there is something to do: the latest neither runs nor has succeeded."""
        return self.latest.failed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Send the events in the dead-letter queue to their targets again, and start failed"
        " executions of the state machines again for the same scheduled time. A message is deleted"
        " only after it was sent; a message that is not from this stage is left. Events that fail"
        " again return to the queue. Running the command twice changes no count."
    )
    parser.epilog = exit_statuses("everything was sent", "something is left")
    parser.add_argument(
        "--list",
        "--dry-run",
        action="store_true",
        help="only show what failed, why and since when",
    )
    parser.add_argument(
        "--hours",
        type=float,
        default=24,
        help="how far back to look for failed executions that left no dead letter; 0: not at all"
        " (default: %(default)g)",
    )
    add_stores(parser)


@aws_errors()
def run(options: argparse.Namespace) -> int:
    """List, or send again; 0 if nothing is left that was to be sent."""
    stage = stage_of(options)
    console = Console(highlight=False, soft_wrap=True)
    with Letters(stage) as letters:
        # All are read before the first is sent: what fails again at once comes back meanwhile.
        found = list(letters)
        events = [each for each in found if each.run is None]
        cases = cases_of(stage, found, timedelta(hours=options.hours))
        if options.list:
            _print(console, events, cases)
            return 0
        done = [_send_again(console, stage, letters, each) for each in events]
        for case in cases:
            if case.open:
                done.append(_start_again(console, stage, letters, case))
            else:
                console.print(f"no longer to be sent: {case.why}", markup=False)
                _delete(letters, case)
    sent, left = done.count(True), done.count(False)
    console.print(f"{sent} sent again, {left} left")
    return 1 if left else 0


def _send_again(console: Console, stage: Stage, letters: Letters, letter: Letter) -> bool:
    if letter.target and _tried(console, letter.what, partial(send, stage, letter)):
        letters.delete(letter)
        return True
    console.print(f"left: {letter.what}: {letter.why}", style="red", markup=False)
    return False


def _start_again(console: Console, stage: Stage, letters: Letters, case: Case) -> bool:
    done = _tried(console, case.latest.name, partial(start_again, stage, case.latest))
    if done:
        _delete(letters, case)
    return done


def _delete(letters: Letters, case: Case) -> None:
    for letter in case.letters:
        letters.delete(letter)


def send(stage: Stage, letter: Letter) -> None:
    """Give the event to its target once more; what had been started already stays one."""
    if letter.target not in stage.machine_arns:
        stage.client("lambda").invoke(
            FunctionName=letter.target, InvocationType="Event", Payload=letter.payload
        )
        return
    sfn = stage.client("stepfunctions")
    try:
        sfn.start_execution(
            stateMachineArn=letter.target,
            name=json.loads(letter.payload)["id"],
            input=letter.payload,
        )
    except sfn.exceptions.ExecutionAlreadyExists:
        return


def cases_of(stage: Stage, letters: Sequence[Letter], within: timedelta) -> list[Case]:
    """What the letters about executions say, and Step Functions of those that started in this time.

    Step Functions sends its events as best it can, so one that failed may have no letter. And
    only the list tells what became of one that has: it is looked at from the oldest of them on.
    """
    begin = datetime.now(UTC) - within
    told = [(each, each.run) for each in letters if each.run]
    runs = {run.arn: run for _, run in told}
    runs |= {run.arn: run for run in runs_since(stage, min([begin, *(r.since for _, r in told)]))}
    tries = defaultdict[tuple[str, str], list[Run]](list)
    for run in runs.values():
        tries[run.machine, run.root].append(run)
    cases = []
    for same in tries.values():
        latest, arns = max(same, key=lambda each: each.number), {each.arn for each in same}
        own = [letter for letter, run in told if run.arn in arns]
        if own or (latest.failed and latest.since >= begin):
            cases.append(Case(latest, own, _why(stage, latest, own)))
    return cases


def _why(stage: Stage, latest: Run, letters: Sequence[Letter]) -> str:
    if not latest.failed:
        return f"{letters[0].what} was started again: {latest.name} is {latest.status}"
    for letter in letters:
        if letter.run and letter.run.arn == latest.arn:
            return letter.why
    return reason(stage.client("stepfunctions").describe_execution(executionArn=latest.arn))


def _tried(console: Console, what: str, work: Callable[[], None]) -> bool:
    try:
        work()
    except ClientError as error:
        console.print(f"not sent: {what}: {describe_error(error)}", style="red", markup=False)
        return False
    console.print(f"sent again: {what}", markup=False)
    return True


def _print(console: Console, events: Sequence[Letter], cases: Sequence[Case]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("since", no_wrap=True)
    for name in ("for", "what", "why"):
        table.add_column(name, overflow="fold")
    for letter in sorted(events, key=lambda each: each.since):
        target = letter.target.rpartition(":")[2] or "unknown"
        table.add_row(format_utc(letter.since), target, letter.what, letter.why)
    for case in sorted(cases, key=lambda each: each.latest.since):
        run = case.latest
        machine = run.machine.rpartition(":")[2]
        table.add_row(format_utc(run.since), machine, run.name, case.why)
    console.print(table)
    started = sum(each.open for each in cases)
    console.print(f"to be sent again: events {len(events)}, executions {started}")
