"""GET and POST /runs: the newest runs of the pipeline, and starting one."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from msgspec.structs import replace

from ..model import execution_history
from ..model.errors import BusyError
from ..model.execution_history import Branch, Event, failure_reason, seconds_between
from ..model.windows import format_utc
from . import parameters

MAX_RUNS = 50

_SUMMARY = 600  # characters of an error

Execution = Mapping[str, Any]


class Pipeline(Protocol):
    """The state machine. Every method raises StorageError."""

    def executions(self, limit: int) -> Sequence[Execution]:
        """The newest executions as Step Functions lists them, newest first."""

    def histories(self, executions: Sequence[Execution]) -> Sequence[Sequence[Event]]:
        """The events of each, oldest first."""

    def is_running(self) -> bool:
        """Whether an execution is running."""

    def start(self, name: str, document: Mapping[str, str]) -> None:
        """Start an execution; does nothing if one with this name was started before."""


def list_runs(query_params: parameters.QueryParams | None, *, pipeline: Pipeline) -> dict[str, Any]:
    """The newest runs.

    Raises:
        InvalidRequestError: a parameter is invalid.
        StorageError: AWS failed.
    """
    values = parameters.single(query_params, ("limit",))
    executions = pipeline.executions(parameters.limit(values, default=10, most=MAX_RUNS))
    histories = pipeline.histories(executions)
    return {"runs": [run(*each) for each in zip(executions, histories, strict=True)]}


def start_run(
    query_params: parameters.QueryParams | None, *, pipeline: Pipeline, now: datetime
) -> dict[str, str]:
    """Start a run; two requests within the same second start one run.

    Raises:
        BusyError: a run is in progress.
        StorageError: AWS failed.
    """
    parameters.single(query_params, ())
    if pipeline.is_running():
        raise BusyError("a run is in progress; GET /runs shows when it has ended")
    name = f"api-{now:%Y%m%dT%H%M%SZ}"
    pipeline.start(name, {"time": format_utc(now)})
    return {"name": name}


def run(execution: Execution, history: Sequence[Event]) -> dict[str, Any]:
    """A run as the API returns it."""
    start, stop = execution["startDate"], execution.get("stopDate")
    found = execution_history.branches(history)
    if stop is not None:
        reason = f"the run is {execution['status']}"
        found = [
            replace(each, status="FAILED", error=reason) if each.status == "RUNNING" else each
            for each in found
        ]
    return {
        "name": execution["name"],
        "start": format_utc(start),
        "stop": format_utc(stop) if stop else None,
        "seconds": seconds_between(start, stop) if stop else None,
        "status": execution["status"],
        "error": failure_reason(history)[:_SUMMARY] or None,
        "records": sum(each.records for each in found),
        **_hosts(found),
        "branches": [_branch(each) for each in found],
    }


def _branch(branch: Branch) -> dict[str, Any]:
    return {
        "metric_type": branch.metric_type,
        "status": branch.status,
        "start": format_utc(branch.start),
        "seconds": branch.seconds,
        "records": branch.records,
        "expected": branch.expected,
        "reporting": branch.reporting,
        "missing": list(branch.missing),
        "missing_count": branch.missing_count,
        "error": branch.error[:_SUMMARY] or None,
    }


def _hosts(branches: Sequence[Branch]) -> dict[str, Any]:
    """The run's host counts; a host is missing if it is missing in any branch."""
    missing = list(dict.fromkeys(name for each in branches for name in each.missing))
    done = [each for each in branches if each.status == "SUCCEEDED"]
    return {
        "expected": max((each.expected for each in branches), default=0),
        "reporting": min((each.reporting for each in done), default=0),
        "missing_count": max([len(missing), *(each.missing_count for each in branches)]),
        "missing": missing,
    }
