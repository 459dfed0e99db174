"""`python -m infra redrive`: resubmit failed events and start failed executions again."""

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
from .dead_letters import DeadLetter, DeadLetterQueue
from .deployment import Stage, stage_of
from .executions import Execution, end_reason, executions_since, start_again


@dataclass(frozen=True, slots=True)
class Attempts:
    """Executions of the same work: the latest one, and the dead letters of all of them."""

    latest: Execution
    dead_letters: Sequence[DeadLetter]
    reason: str

    @property
    def failed(self) -> bool:
        """Whether the latest execution failed; it may also run or have succeeded."""
        return self.latest.failed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.description = (
        "Send the events in the dead-letter queue to their targets again, and start failed"
        " executions of the state machines again for the same scheduled time. A message is deleted"
        " only after it was sent; messages of other stages are left. Events that fail"
        " again return to the queue. Running the command twice changes no count."
    )
    parser.epilog = exit_statuses("everything was sent", "a message or execution is left")
    parser.add_argument(
        "--list",
        "--dry-run",
        action="store_true",
        help="only list the failures, with reason and time",
    )
    parser.add_argument(
        "--hours",
        type=float,
        default=24,
        help="period to search for failed executions without a dead letter; 0: do not search"
        " (default: %(default)g)",
    )
    add_stores(parser)


@aws_errors()
def run(options: argparse.Namespace) -> int:
    """List or resubmit; 0 if nothing that can be resubmitted is left."""
    stage = stage_of(options)
    console = Console(highlight=False, soft_wrap=True)
    with DeadLetterQueue(stage) as queue:
        # Read all messages before the first is sent: one that fails again returns to the queue.
        dead_letters = list(queue)
        events = [each for each in dead_letters if each.execution is None]
        executions = group_attempts(stage, dead_letters, timedelta(hours=options.hours))
        if options.list:
            _print(console, events, executions)
            return 0
        done = [_send_again(console, stage, queue, each) for each in events]
        for attempts in executions:
            if attempts.failed:
                done.append(_start_again(console, stage, queue, attempts))
            else:
                console.print(f"no longer to be sent: {attempts.reason}", markup=False)
                _delete(queue, attempts)
    sent, left = done.count(True), done.count(False)
    console.print(f"{sent} sent again, {left} left")
    return 1 if left else 0


def _send_again(
    console: Console, stage: Stage, queue: DeadLetterQueue, dead_letter: DeadLetter
) -> bool:
    if dead_letter.target_arn and _try(
        console, dead_letter.subject, partial(send, stage, dead_letter)
    ):
        queue.delete(dead_letter)
        return True
    console.print(f"left: {dead_letter.subject}: {dead_letter.reason}", style="red", markup=False)
    return False


def _start_again(
    console: Console, stage: Stage, queue: DeadLetterQueue, attempts: Attempts
) -> bool:
    done = _try(console, attempts.latest.name, partial(start_again, stage, attempts.latest))
    if done:
        _delete(queue, attempts)
    return done


def _delete(queue: DeadLetterQueue, attempts: Attempts) -> None:
    for dead_letter in attempts.dead_letters:
        queue.delete(dead_letter)


def send(stage: Stage, dead_letter: DeadLetter) -> None:
    """Send the event to its target again; an execution that exists is not started twice."""
    if dead_letter.target_arn not in stage.state_machine_arns:
        stage.client("lambda").invoke(
            FunctionName=dead_letter.target_arn,
            InvocationType="Event",
            Payload=dead_letter.payload,
        )
        return
    sfn = stage.client("stepfunctions")
    try:
        sfn.start_execution(
            stateMachineArn=dead_letter.target_arn,
            name=json.loads(dead_letter.payload)["id"],
            input=dead_letter.payload,
        )
    except sfn.exceptions.ExecutionAlreadyExists:
        return


def group_attempts(
    stage: Stage, dead_letters: Sequence[DeadLetter], period: timedelta
) -> list[Attempts]:
    """The executions that have a dead letter, or whose latest attempt failed in this period.

    ListExecutions is needed for both: Step Functions sends its events at best effort, so a failed
    execution may have no dead letter, and one with a dead letter may have been started again.
    """
    start = datetime.now(UTC) - period
    failed = [(each, each.execution) for each in dead_letters if each.execution]
    executions = {execution.arn: execution for _, execution in failed}
    oldest = min([start, *(execution.started_at for _, execution in failed)])
    executions |= {each.arn: each for each in executions_since(stage, oldest)}
    groups = defaultdict[tuple[str, str], list[Execution]](list)
    for execution in executions.values():
        groups[execution.state_machine_arn, execution.original].append(execution)
    found = []
    for group in groups.values():
        latest, arns = max(group, key=lambda each: each.attempt), {each.arn for each in group}
        letters = [letter for letter, execution in failed if execution.arn in arns]
        if letters or (latest.failed and latest.started_at >= start):
            found.append(Attempts(latest, letters, _reason(stage, latest, letters)))
    return found


def _reason(stage: Stage, latest: Execution, dead_letters: Sequence[DeadLetter]) -> str:
    if not latest.failed:
        subject = dead_letters[0].subject
        return f"{subject} was started again: {latest.name} is {latest.status}"
    for each in dead_letters:
        if each.execution and each.execution.arn == latest.arn:
            return each.reason
    return end_reason(stage.client("stepfunctions").describe_execution(executionArn=latest.arn))


def _try(console: Console, subject: str, action: Callable[[], None]) -> bool:
    try:
        action()
    except ClientError as error:
        console.print(f"not sent: {subject}: {describe_error(error)}", style="red", markup=False)
        return False
    console.print(f"sent again: {subject}", markup=False)
    return True


def _print(console: Console, events: Sequence[DeadLetter], executions: Sequence[Attempts]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("since", no_wrap=True)
    for name in ("target", "subject", "reason"):
        table.add_column(name, overflow="fold")
    for each in sorted(events, key=lambda each: each.sent_at):
        target = each.target_arn.rpartition(":")[2] or "unknown"
        table.add_row(format_utc(each.sent_at), target, each.subject, each.reason)
    for attempts in sorted(executions, key=lambda each: each.latest.started_at):
        latest = attempts.latest
        state_machine = latest.state_machine_arn.rpartition(":")[2]
        table.add_row(format_utc(latest.started_at), state_machine, latest.name, attempts.reason)
    console.print(table)
    failed = sum(each.failed for each in executions)
    console.print(f"to be sent again: events {len(events)}, executions {failed}")
