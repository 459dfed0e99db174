"""Runs as the API tells them, from the events of an execution."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib.api import runs
from tests.support.api import assert_conforms

BEGAN = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
DONE = {
    "metric_type": "cpu",
    "status": "SUCCEEDED",
    "records": 3,
    "expected": 4,
    "reporting": 3,
    "missing": ["web-4"],
    "missing_count": 1,
}


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def entered(seconds: float, name: str) -> dict[str, Any]:
    return {"timestamp": at(seconds), "stateEnteredEventDetails": {"name": name}}


def exited(seconds: float, name: str, output: Any) -> dict[str, Any]:
    details = {"name": name, "output": json.dumps(output)}
    return {"timestamp": at(seconds), "stateExitedEventDetails": details}


def run(status: str, *events: dict[str, Any]) -> dict[str, Any]:
    execution = {"name": "tick-1", "startDate": BEGAN, "status": status}
    if status != "RUNNING":
        execution["stopDate"] = at(6.3)
    told = runs.run(execution, events)
    assert_conforms(told, "Run")
    return told


def test_a_branch_has_its_time_and_its_counts() -> None:
    told = run(
        "SUCCEEDED",
        entered(0.1, "InvokeCPUCollector"),
        exited(0.9, "InvokeCPUCollector", DONE),
    )
    (branch,) = told["branches"]
    assert (branch["status"], branch["seconds"], branch["records"]) == ("SUCCEEDED", 0.8, 3)
    assert (told["expected"], told["reporting"], told["missing"]) == (4, 3, ["web-4"])
    assert told["seconds"] == 6.3


def test_what_has_not_ended_has_no_end() -> None:
    told = run("RUNNING", entered(0.1, "InvokeDiskCollector"))
    (branch,) = told["branches"]
    assert (told["stop"], branch["status"], branch["seconds"]) == (None, "RUNNING", None)


def test_a_branch_of_a_run_that_was_stopped_failed() -> None:
    told = run("ABORTED", entered(0.1, "InvokeDiskCollector"))
    assert told["branches"][0]["status"] == "FAILED"
    assert told["branches"][0]["error"] == "the run is ABORTED"


def test_a_branch_that_failed_has_its_reason() -> None:
    failed = {"metric_type": "cpu", "status": "FAILED", "error": "Boom", "cause": "no luck"}
    ended = {"error": "CollectorFailed", "cause": "At least one collector failed"}
    told = run(
        "FAILED",
        entered(0.1, "InvokeCPUCollector"),
        exited(70.0, "InvokeCPUCollector", {"Error": "Boom", "Cause": "no luck"}),
        exited(70.0, "CPUCollectorFailed", failed),
        {"timestamp": at(71), "executionFailedEventDetails": ended},
    )
    assert told["branches"][0]["error"] == "Boom: no luck"
    assert told["error"] == "CollectorFailed: At least one collector failed"


def test_a_fleet_in_chunks_has_the_time_until_they_are_merged() -> None:
    planned = {"metric_type": "cpu", "status": "PLANNED", "expected": 4}
    told = run(
        "SUCCEEDED",
        entered(0.0, "InvokeCPUCollector"),
        exited(1.0, "InvokeCPUCollector", planned),
        exited(1.1, "AggregateResults", {"results": [planned]}),
        exited(9.0, "MergeResults", DONE),
        exited(9.1, "AggregateResults", {"results": [DONE]}),
    )
    assert told["branches"][0]["seconds"] == 9.0
    assert told["branches"][0]["records"] == 3


def test_a_host_that_one_branch_misses_has_not_reported() -> None:
    """Each branch may miss another one."""
    disk = DONE | {"metric_type": "disk", "reporting": 4, "missing": [], "missing_count": 0}
    memory = DONE | {"metric_type": "memory", "missing": ["web-3"]}
    told = run(
        "SUCCEEDED",
        *(entered(0.0, f"Invoke{name}Collector") for name in ("CPU", "Memory", "Disk")),
        exited(1.0, "InvokeCPUCollector", DONE),
        exited(1.0, "InvokeMemoryCollector", memory),
        exited(1.0, "InvokeDiskCollector", disk),
    )
    assert (told["expected"], told["reporting"]) == (4, 3)
    assert (told["missing"], told["missing_count"]) == (["web-4", "web-3"], 2)


@pytest.mark.parametrize("name", ["CountObjects", "NotifySuccess", "HasTime"])
def test_other_states_are_no_branches(name: str) -> None:
    assert run("RUNNING", entered(0, name), exited(1, name, {"status": "x"}))["branches"] == []
