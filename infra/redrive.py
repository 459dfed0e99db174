"""`python -m infra redrive`: what failed for good, why, and all of it sent once more."""

import argparse
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from botocore.exceptions import ClientError
from rich import box
from rich.console import Console
from rich.table import Table

from chalicelib.windows import format_utc

from .replay import prefixes_left
from .stage import Stage, failure, stage_of

# While messages are looked at and sent, nobody else sees them.
_HIDDEN_SECONDS = 300
_UNSUCCESSFUL = frozenset(("FAILED", "TIMED_OUT", "ABORTED"))
_AGAIN = re.compile(r"(?P<root>.+)-redrive-(?P<number>\d+)")
_REPLAY = re.compile(r"(?P<root>replay-.+)-(?P<number>\d+)")


@dataclass(frozen=True, slots=True)
class Letter:
    """A message of the dead-letter queue. One that cannot be sent again has no `target`."""

    receipt: str
    since: datetime
    target: str
    what: str
    why: str
    payload: str


@dataclass(frozen=True, slots=True)
class Run:
    """An execution that failed, the latest of those with its `root`; `number` is its try."""

    arn: str
    machine: str
    root: str
    number: int
    since: datetime
    status: str


def redrive(options: argparse.Namespace) -> int:
    """List, or send again; 0 if nothing is left that was to be sent."""
    stage = stage_of(options)
    console = Console(highlight=False, soft_wrap=True)
    runs = list(failed_runs(stage, timedelta(hours=options.hours)))
    if options.list:
        with _Letters(stage) as letters:
            _print(console, list(letters), runs)
        return 0
    sent, left = 0, 0
    with _Letters(stage) as letters:
        # All are read before the first is sent: what fails again at once comes back meanwhile.
        for letter in list(letters):
            done = letter.target and _tried(console, letter.what, partial(send, stage, letter))
            if done:
                letters.delete(letter)
                sent += 1
            else:
                left += 1
                console.print(f"left: {letter.what}: {letter.why}", style="red", markup=False)
    for run in runs:
        done = _tried(console, run.root, partial(start_again, stage, run))
        sent, left = sent + done, left + (not done)
    console.print(f"{sent} sent again, {left} left")
    return 1 if left else 0


# --- The dead-letter queue -----------------------------------------------------------------


class _Letters:
    """The messages of the queue; those that are not deleted are seen again on leaving."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._sqs = stage.client("sqs")
        self._held: set[str] = set()

    def __enter__(self) -> "_Letters":
        return self

    def __exit__(self, *_: object) -> None:
        for receipt in self._held:
            with suppress(ClientError):  # after so long a time they are seen already
                self._sqs.change_message_visibility(
                    QueueUrl=self._stage.queue_url, ReceiptHandle=receipt, VisibilityTimeout=0
                )

    def __iter__(self) -> Iterator[Letter]:
        while messages := self._sqs.receive_message(
            QueueUrl=self._stage.queue_url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=1,  # asks every server of the queue; 0 would miss some
            VisibilityTimeout=_HIDDEN_SECONDS,
            MessageAttributeNames=["All"],
            AttributeNames=["SentTimestamp"],
        ).get("Messages"):
            self._held |= {each["ReceiptHandle"] for each in messages}
            yield from (read_letter(each, self._stage) for each in messages)

    def delete(self, letter: Letter) -> None:
        self._sqs.delete_message(QueueUrl=self._stage.queue_url, ReceiptHandle=letter.receipt)
        self._held.remove(letter.receipt)


def read_letter(message: Mapping[str, Any], stage: Stage) -> Letter:
    """A message: of Lambda's on-failure destination, of EventBridge, or of somebody else's."""
    sent = int(message["Attributes"]["SentTimestamp"]) / 1000
    attributes = {
        name: each.get("StringValue", "")
        for name, each in message.get("MessageAttributes", {}).items()
    }
    try:
        body = json.loads(message["Body"])
        if "TARGET_ARN" in attributes:
            event, arn = body, attributes["TARGET_ARN"]
            why = f"{attributes.get('ERROR_CODE')}: {attributes.get('ERROR_MESSAGE')}"
        else:
            event, arn = body["requestPayload"], body["requestContext"]["functionArn"]
            why = _why(body)
        what = _what(event)
    except (ValueError, KeyError, TypeError, AttributeError):
        event, arn, what = None, "", f"message {message['MessageId']}"
        why = "it is neither of Lambda nor of EventBridge"
    target = arn.removesuffix(":$LATEST")
    if arn and not _is_ours(target, stage):
        target, why = "", f"it is for {arn}, which is not of stage {stage.name}"
    return Letter(
        receipt=message["ReceiptHandle"],
        since=datetime.fromtimestamp(sent, UTC),
        target=target,
        what=what,
        why=why,
        payload=json.dumps(event),
    )


def _is_ours(arn: str, stage: Stage) -> bool:
    return arn == stage.pipeline_arn or (
        arn.split(":")[2:3] == ["lambda"] and arn.rpartition(":")[2] in stage.function_names
    )


def _why(record: Mapping[str, Any]) -> str:
    answer = record.get("responsePayload") or {}
    words = (answer.get("errorType"), answer.get("errorMessage"))
    told = ": ".join(word for word in words if word)
    return told or str(record["requestContext"].get("condition", ""))


def _what(event: Mapping[str, Any]) -> str:
    key = event.get("detail", {}).get("object", {}).get("key")
    return str(key or f"{event['detail-type']} of {event['time']}")


def send(stage: Stage, letter: Letter) -> None:
    """Give the event to its target once more; what had been started already stays one."""
    if letter.target != stage.pipeline_arn:
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


# --- Executions ----------------------------------------------------------------------------


def failed_runs(stage: Stage, within: timedelta) -> Iterator[Run]:
    """The executions that started within this time and ended badly, and were not made good."""
    for machine, pattern in ((stage.pipeline_arn, _AGAIN), (stage.replay_arn, _REPLAY)):
        latest: dict[str, Run] = {}
        for each in _recent(stage, machine, datetime.now(UTC) - within):
            match = pattern.fullmatch(each["name"])
            root, number = (match["root"], int(match["number"])) if match else (each["name"], 0)
            if root not in latest or latest[root].number < number:
                latest[root] = Run(
                    each["executionArn"], machine, root, number, each["startDate"], each["status"]
                )
        yield from (run for run in latest.values() if run.status in _UNSUCCESSFUL)


def _recent(stage: Stage, machine: str, since: datetime) -> Iterator[dict[str, Any]]:
    """The executions since then; they are listed newest first."""
    pages = stage.client("stepfunctions").get_paginator("list_executions")
    for page in pages.paginate(stateMachineArn=machine):
        for each in page["executions"]:
            if each["startDate"] < since:
                return
            yield each


def start_again(stage: Stage, run: Run) -> None:
    """A new execution for the same tick, so the same keys; a replay goes on with what is left.

    Not RedriveExecution: it would go on behind the branches, which have caught their errors,
    at the very state that says that the run failed.
    """
    sfn = stage.client("stepfunctions")
    if run.machine == stage.replay_arn:
        left = [{"prefix": each} for each in prefixes_left(sfn, run.arn)]
        name, document = f"{run.root}-{run.number + 1}", {"prefixes": left}
    else:
        name = f"{run.root}-redrive-{run.number + 1}"
        document = json.loads(sfn.describe_execution(executionArn=run.arn)["input"])
        # One that was started by hand may have no time: then it is the run's own.
        document.setdefault("time", format_utc(run.since))
    sfn.start_execution(stateMachineArn=run.machine, name=name, input=json.dumps(document))


# --- Telling -------------------------------------------------------------------------------


def _tried(console: Console, what: str, work: Callable[[], None]) -> bool:
    try:
        work()
    except ClientError as error:
        console.print(f"not sent: {what}: {failure(error)}", style="red", markup=False)
        return False
    console.print(f"sent again: {what}", markup=False)
    return True


def _print(console: Console, letters: list[Letter], runs: list[Run]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("since", no_wrap=True)
    for name in ("for", "what", "why"):
        table.add_column(name, overflow="fold")
    for letter in sorted(letters, key=lambda each: each.since):
        target = letter.target.rpartition(":")[2] or "unknown"
        table.add_row(format_utc(letter.since), target, letter.what, letter.why)
    for run in sorted(runs, key=lambda each: each.since):
        name = run.machine.rpartition(":")[2]
        table.add_row(format_utc(run.since), name, run.arn.rpartition(":")[2], run.status)
    console.print(table)
    console.print(f"{len(letters)} dead letters, {len(runs)} executions")
