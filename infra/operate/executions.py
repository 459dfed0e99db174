"""Executions of the state machines: which of them failed, and starting them again."""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from chalicelib.model.execution_history import join_reason
from chalicelib.model.windows import format_utc

from .deployment import Stage
from .replay import prefixes_left

_UNSUCCESSFUL = frozenset(("FAILED", "TIMED_OUT", "ABORTED"))
_AGAIN = re.compile(r"(?P<root>.+)-redrive-(?P<number>\d+)")
_REPLAY = re.compile(r"(?P<root>replay-.+)-(?P<number>\d+)")


@dataclass(frozen=True, slots=True)
class Run:
    """An execution, the try `number` of what the one called `root` was the first to do."""

    arn: str
    machine: str
    root: str
    number: int
    since: datetime
    status: str

    @property
    def name(self) -> str:
        return self.arn.rpartition(":")[2]

    @property
    def failed(self) -> bool:
        return self.status in _UNSUCCESSFUL


def run_of(execution: Mapping[str, Any], stage: Stage) -> Run:
    """An execution as Step Functions lists it."""
    machine, name = execution["stateMachineArn"], execution["name"]
    match = (_REPLAY if machine == stage.replay_arn else _AGAIN).fullmatch(name)
    return Run(
        arn=execution["executionArn"],
        machine=machine,
        root=match["root"] if match else name,
        number=int(match["number"]) if match else 0,
        since=execution["startDate"],
        status=execution["status"],
    )


def reason(execution: Mapping[str, Any]) -> str:
    """The status, error and cause, from an execution's description or its end's event."""
    return join_reason(execution["status"], execution.get("error"), execution.get("cause"))


def runs_since(stage: Stage, since: datetime) -> Iterator[Run]:
    """The executions of all state machines that started since then."""
    pages = stage.client("stepfunctions").get_paginator("list_executions")
    for machine in stage.machine_arns:
        # They are listed newest first.
        for page in pages.paginate(stateMachineArn=machine):
            listed = [run_of(each, stage) for each in page["executions"]]
            yield from (each for each in listed if each.since >= since)
            if any(each.since < since for each in listed):
                break


def start_again(stage: Stage, run: Run) -> None:
    """A new execution for the same tick, so the same keys or days; a replay does what is left.

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
    # Somebody else may have done it just now.
    with suppress(sfn.exceptions.ExecutionAlreadyExists):
        sfn.start_execution(stateMachineArn=run.machine, name=name, input=json.dumps(document))
