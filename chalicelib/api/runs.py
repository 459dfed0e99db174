"""Runs of the pipeline: which there were, how they went, and starting one."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from ..model.errors import BusyError
from ..model.records import METRIC_TYPES
from ..model.windows import format_utc
from . import parameters

MOST = 50

# The branches of infra/overlay.yaml by the state that each begins with.
_BRANCHES = {
    "InvokeCPUCollector": "cpu",
    "InvokeMemoryCollector": "memory",
    "InvokeDiskCollector": "disk",
    "InvokeNetworkCollector": "network",
}
_CAUGHT = {state.replace("Invoke", "") + "Failed": name for state, name in _BRANCHES.items()}
_SUMMARY = 600  # characters of an error

Execution = Mapping[str, Any]
Event = Mapping[str, Any]
Branches = dict[str, dict[str, Any]]


class Pipeline(Protocol):
    """The state machine. Every method raises StorageError."""

    def executions(self, limit: int) -> Sequence[Execution]:
        """The newest executions as Step Functions lists them, newest first."""

    def histories(self, executions: Sequence[Execution]) -> Sequence[Sequence[Event]]:
        """The events of each, oldest first."""

    def is_running(self) -> bool:
        """Whether an execution is under way."""

    def start(self, name: str, document: Mapping[str, str]) -> None:
        """Start an execution; one that was started under this name already stays the only one."""


def answer(given: parameters.Given | None, *, pipeline: Pipeline) -> dict[str, Any]:
    """The newest runs.

    Raises:
        InvalidRequestError: a parameter is wrong.
        StorageError: AWS failed.
    """
    values = parameters.single(given, ("limit",))
    executions = pipeline.executions(parameters.limit(values, default=10, most=MOST))
    histories = pipeline.histories(executions)
    return {"runs": [run(*each) for each in zip(executions, histories, strict=True)]}


def start(given: parameters.Given | None, *, pipeline: Pipeline, now: datetime) -> dict[str, str]:
    """Start a run; two requests of one second start the same one.

    Raises:
        BusyError: one is under way.
        StorageError: AWS failed.
    """
    parameters.single(given, ())
    if pipeline.is_running():
        raise BusyError("a run is under way: GET /runs tells when it has ended")
    name = f"api-{now:%Y%m%dT%H%M%SZ}"
    pipeline.start(name, {"time": format_utc(now)})
    return {"name": name}


def run(execution: Execution, history: Sequence[Event]) -> dict[str, Any]:
    """An execution with its branches, as far as they have come."""
    branches = branches_of(history)
    began, stopped = execution["startDate"], execution.get("stopDate")
    if stopped is not None:
        for branch in branches.values():
            if branch["status"] == "RUNNING":
                branch |= {"status": "FAILED", "error": f"the run is {execution['status']}"}
    return {
        "name": execution["name"],
        "start": format_utc(began),
        "stop": format_utc(stopped) if stopped else None,
        "seconds": _seconds(began, stopped),
        "status": execution["status"],
        "error": _error(history),
        "records": sum(each["records"] for each in branches.values()),
        **_hosts(branches.values()),
        "branches": list(branches.values()),
    }


def _hosts(branches: Collection[Mapping[str, Any]]) -> dict[str, Any]:
    """A host that one branch misses is missing, whatever the others have of it."""
    missing = list(dict.fromkeys(name for each in branches for name in each["missing"]))
    done = [each for each in branches if each["status"] == "SUCCEEDED"]
    return {
        "expected": max((each["expected"] for each in branches), default=0),
        "reporting": min((each["reporting"] for each in done), default=0),
        "missing_count": max([len(missing), *(each["missing_count"] for each in branches)]),
        "missing": missing,
    }


def branches_of(history: Iterable[Event]) -> Branches:
    """What became of each metric type, from the events of an execution."""
    found: Branches = {}
    began: dict[str, datetime] = {}
    for event in history:
        at = event["timestamp"]
        if entered := event.get("stateEnteredEventDetails"):
            metric_type = _BRANCHES.get(entered["name"])
            if metric_type and metric_type not in found:
                began[metric_type] = at
                found[metric_type] = _branch(metric_type, at)
        elif exited := event.get("stateExitedEventDetails"):
            for result in _results(exited):
                # A fleet in chunks is told of when it is planned, and again when it is measured.
                metric_type = result["metric_type"]
                if found[metric_type]["status"] == "RUNNING":
                    found[metric_type] |= _outcome(result, _seconds(began[metric_type], at))
    return {name: found[name] for name in METRIC_TYPES if name in found}


def _results(exited: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The results of branches in the output of a state."""
    name = exited["name"]
    if name not in {*_BRANCHES, *_CAUGHT, "MergeResults", "ChunksFailed", "AggregateResults"}:
        return ()
    output = json.loads(exited["output"])
    results = output["results"] if name == "AggregateResults" else [output]
    # A state whose error was caught is exited with the error; the next one has the result.
    return [each for each in results if "metric_type" in each]


def _branch(metric_type: str, at: datetime) -> dict[str, Any]:
    return {
        "metric_type": metric_type,
        "status": "RUNNING",
        "start": format_utc(at),
        "seconds": None,
        "records": 0,
        "expected": 0,
        "reporting": 0,
        "missing": [],
        "missing_count": 0,
        "error": None,
    }


def _outcome(result: Mapping[str, Any], seconds: float | None) -> dict[str, Any]:
    counted = {
        name: result.get(name, 0) for name in ("records", "expected", "reporting", "missing_count")
    }
    outcome = {**counted, "missing": result.get("missing", [])}
    if result["status"] == "PLANNED":
        return outcome
    return outcome | {"status": result["status"], "seconds": seconds, "error": _reason(result)}


def _reason(result: Mapping[str, Any]) -> str | None:
    if result["status"] != "FAILED":
        return None
    return f"{result.get('error', '')}: {result.get('cause', '')}"[:_SUMMARY]


def _error(history: Iterable[Event]) -> str | None:
    """Why an execution failed."""
    for event in history:
        for name, details in event.items():
            if name in {
                "executionFailedEventDetails",
                "executionAbortedEventDetails",
                "executionTimedOutEventDetails",
            }:
                words = (details.get("error"), details.get("cause"))
                return ": ".join(word for word in words if word)[:_SUMMARY] or None
    return None


def _seconds(start: datetime, stop: datetime | None) -> float | None:
    return round((stop - start).total_seconds(), 3) if stop else None
