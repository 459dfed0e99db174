"""Executions of the stage's state machines: list them, and start failed ones again."""

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
from .replay import remaining_prefixes

_UNSUCCESSFUL = frozenset(("FAILED", "TIMED_OUT", "ABORTED"))
_REDRIVEN = re.compile(r"(?P<original>.+)-redrive-(?P<attempt>\d+)")
_REPLAY = re.compile(r"(?P<original>replay-.+)-(?P<attempt>\d+)")


@dataclass(frozen=True, slots=True)
class Execution:
    """An execution; `original` is the name without the number of the attempt."""

    arn: str
    state_machine_arn: str
    original: str
    attempt: int
    started_at: datetime
    status: str

    @property
    def name(self) -> str:
        return self.arn.rpartition(":")[2]

    @property
    def failed(self) -> bool:
        return self.status in _UNSUCCESSFUL


def parse_execution(described: Mapping[str, Any], stage: Stage) -> Execution:
    """An execution from an element of ListExecutions."""
    state_machine_arn, name = described["stateMachineArn"], described["name"]
    match = (_REPLAY if state_machine_arn == stage.replay_arn else _REDRIVEN).fullmatch(name)
    return Execution(
        arn=described["executionArn"],
        state_machine_arn=state_machine_arn,
        original=match["original"] if match else name,
        attempt=int(match["attempt"]) if match else 0,
        started_at=described["startDate"],
        status=described["status"],
    )


def end_reason(described: Mapping[str, Any]) -> str:
    """Status, error and cause, from DescribeExecution or from the status change event."""
    return join_reason(described["status"], described.get("error"), described.get("cause"))


def executions_since(stage: Stage, start: datetime) -> Iterator[Execution]:
    """The executions of all state machines that started at `start` or later."""
    pages = stage.client("stepfunctions").get_paginator("list_executions")
    for arn in stage.state_machine_arns:
        # ListExecutions returns the newest first.
        for page in pages.paginate(stateMachineArn=arn):
            listed = [parse_execution(each, stage) for each in page["executions"]]
            yield from (each for each in listed if each.started_at >= start)
            if any(each.started_at < start for each in listed):
                break


def start_again(stage: Stage, execution: Execution) -> None:
    """Start a new execution with the same input; for a replay, with its remaining prefixes.

    RedriveExecution would not help: the branches have caught their errors, so it would resume at
    the final Fail state.
    """
    sfn = stage.client("stepfunctions")
    if execution.state_machine_arn == stage.replay_arn:
        remaining = [{"prefix": each} for each in remaining_prefixes(sfn, execution.arn)]
        name, document = f"{execution.original}-{execution.attempt + 1}", {"prefixes": remaining}
    else:
        name = f"{execution.original}-redrive-{execution.attempt + 1}"
        document = json.loads(sfn.describe_execution(executionArn=execution.arn)["input"])
        # An execution that was started by hand may have no time; its start is used instead.
        document.setdefault("time", format_utc(execution.started_at))
    # Another operator may have started it at the same time.
    with suppress(sfn.exceptions.ExecutionAlreadyExists):
        sfn.start_execution(
            stateMachineArn=execution.state_machine_arn, name=name, input=json.dumps(document)
        )
