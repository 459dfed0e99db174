"""Branches and failure reason of a run, from the events of its Step Functions execution."""

import json
from collections.abc import Container, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from .metric_types import METRIC_TYPES, SPECS

# An event as GetExecutionHistory returns it; histories have the oldest event first.
Event = Mapping[str, Any]

# First state of each branch of infra/overlay.yaml -> metric type.
_BRANCHES = {spec.state: name for name, spec in SPECS.items()}
# The states that a caught error of these leads to.
_CAUGHT = frozenset(f"{state.removeprefix('Invoke')}Failed" for state in _BRANCHES)
_RESULT_STATES = frozenset(
    {*_BRANCHES, *_CAUGHT, "MergeResults", "ChunksFailed", "AggregateResults"}
)
_FAILURES = (
    "executionFailedEventDetails",
    "executionAbortedEventDetails",
    "executionTimedOutEventDetails",
)


class Branch(Struct, frozen=True):
    """The branch of one metric type; `seconds` is None and `status` RUNNING until it ends.

    `state` is the branch's first state, `error` is empty unless `status` is FAILED.
    """

    metric_type: str
    state: str
    start: datetime
    status: str = "RUNNING"
    seconds: float | None = None
    records: int = 0
    expected: int = 0
    reporting: int = 0
    missing: tuple[str, ...] = ()
    missing_count: int = 0
    error: str = ""


def branches(history: Iterable[Event]) -> list[Branch]:
    """The branches that have started, in the order of METRIC_TYPES."""
    found: dict[str, Branch] = {}
    for event in history:
        at = event["timestamp"]
        if entered := event.get("stateEnteredEventDetails"):
            state = entered["name"]
            if (metric_type := _BRANCHES.get(state)) and metric_type not in found:
                found[metric_type] = Branch(metric_type, state, at)
        for name, output in state_outputs([event], _RESULT_STATES):
            results = output["results"] if name == "AggregateResults" else [output]
            for result in results:
                # The output of a state whose error was caught is the error, not a result.
                if "metric_type" not in result:
                    continue
                branch = found[result["metric_type"]]
                # A branch that runs in chunks has two results: its plan, and its outcome.
                if branch.status == "RUNNING":
                    found[branch.metric_type] = _with_result(branch, result, at)
    return [found[name] for name in METRIC_TYPES if name in found]


def _with_result(branch: Branch, result: Mapping[str, Any], at: datetime) -> Branch:
    counted = replace(
        branch,
        records=result.get("records", 0),
        expected=result.get("expected", 0),
        reporting=result.get("reporting", 0),
        missing=tuple(result.get("missing", ())),
        missing_count=result.get("missing_count", 0),
    )
    if result["status"] == "PLANNED":
        return counted
    failed = result["status"] == "FAILED"
    return replace(
        counted,
        status=result["status"],
        seconds=seconds_between(branch.start, at),
        error=join_reason(result.get("error"), result.get("cause")) if failed else "",
    )


def state_outputs(
    history: Iterable[Event], names: Container[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The name and the output of each of these states, in the order of their ends."""
    for event in history:
        details = event.get("stateExitedEventDetails")
        if details and details["name"] in names:
            yield details["name"], json.loads(details["output"])


def failure_reason(history: Iterable[Event]) -> str:
    """Error and cause of a failed, aborted or timed-out execution; otherwise ''."""
    for event in history:
        for name in _FAILURES:
            if name in event:
                return join_reason(event[name].get("error"), event[name].get("cause"))
    return ""


def join_reason(*parts: str | None) -> str:
    """Error and cause in one text; empty parts are left out."""
    return ": ".join(part for part in parts if part)


def seconds_between(start: datetime, stop: datetime) -> float:
    """Seconds, to the millisecond."""
    return round((stop - start).total_seconds(), 3)
