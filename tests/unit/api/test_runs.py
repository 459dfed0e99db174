"""Runs as the API returns them, from the histories of executions."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib.api import runs
from tests.support.api import assert_conforms

START = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
CPU_RESULT = {
    "metric_type": "cpu",
    "status": "SUCCEEDED",
    "records": 3,
    "expected": 4,
    "reporting": 3,
    "missing": ["web-4"],
    "missing_count": 1,
}


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def entered(seconds: float, name: str) -> dict[str, Any]:
    return {"timestamp": at(seconds), "stateEnteredEventDetails": {"name": name}}


def exited(seconds: float, name: str, output: Any) -> dict[str, Any]:
    details = {"name": name, "output": json.dumps(output)}
    return {"timestamp": at(seconds), "stateExitedEventDetails": details}


def run(status: str, *events: dict[str, Any]) -> dict[str, Any]:
    execution = {"name": "run-1", "startDate": START, "status": status}
    if status != "RUNNING":
        execution["stopDate"] = at(6.3)
    response = runs.run(execution, events)
    assert_conforms(response, "Run")
    return response


def test_a_branch_has_its_duration_and_counts() -> None:
    response = run(
        "SUCCEEDED",
        entered(0.1, "InvokeCPUCollector"),
        exited(0.9, "InvokeCPUCollector", CPU_RESULT),
    )
    (branch,) = response["branches"]
    assert (branch["status"], branch["seconds"], branch["records"]) == ("SUCCEEDED", 0.8, 3)
    assert (response["expected"], response["reporting"], response["missing"]) == (4, 3, ["web-4"])
    assert response["seconds"] == 6.3


def test_a_run_in_progress_has_no_stop_and_no_duration() -> None:
    response = run("RUNNING", entered(0.1, "InvokeDiskCollector"))
    (branch,) = response["branches"]
    assert (response["stop"], branch["status"], branch["seconds"]) == (None, "RUNNING", None)


def test_a_running_branch_of_an_aborted_run_is_failed() -> None:
    response = run("ABORTED", entered(0.1, "InvokeDiskCollector"))
    assert response["branches"][0]["status"] == "FAILED"
    assert response["branches"][0]["error"] == "the run is ABORTED"


def test_a_failed_branch_has_its_reason() -> None:
    failed = {"metric_type": "cpu", "status": "FAILED", "error": "Boom", "cause": "no luck"}
    details = {"error": "CollectorFailed", "cause": "At least one collector failed"}
    response = run(
        "FAILED",
        entered(0.1, "InvokeCPUCollector"),
        exited(70.0, "InvokeCPUCollector", {"Error": "Boom", "Cause": "no luck"}),
        exited(70.0, "CPUCollectorFailed", failed),
        {"timestamp": at(71), "executionFailedEventDetails": details},
    )
    assert response["branches"][0]["error"] == "Boom: no luck"
    assert response["error"] == "CollectorFailed: At least one collector failed"


def test_a_branch_with_chunks_ends_when_they_are_merged() -> None:
    planned = {"metric_type": "cpu", "status": "PLANNED", "expected": 4}
    response = run(
        "SUCCEEDED",
        entered(0.0, "InvokeCPUCollector"),
        exited(1.0, "InvokeCPUCollector", planned),
        exited(1.1, "AggregateResults", {"results": [planned]}),
        exited(9.0, "MergeResults", CPU_RESULT),
        exited(9.1, "AggregateResults", {"results": [CPU_RESULT]}),
    )
    assert response["branches"][0]["seconds"] == 9.0
    assert response["branches"][0]["records"] == 3


def test_a_host_missing_in_one_branch_is_missing_in_the_run() -> None:
    """Different hosts can be missing in each branch."""
    disk = CPU_RESULT | {"metric_type": "disk", "reporting": 4, "missing": [], "missing_count": 0}
    memory = CPU_RESULT | {"metric_type": "memory", "missing": ["web-3"]}
    response = run(
        "SUCCEEDED",
        *(entered(0.0, f"Invoke{name}Collector") for name in ("CPU", "Memory", "Disk")),
        exited(1.0, "InvokeCPUCollector", CPU_RESULT),
        exited(1.0, "InvokeMemoryCollector", memory),
        exited(1.0, "InvokeDiskCollector", disk),
    )
    assert (response["expected"], response["reporting"]) == (4, 3)
    assert (response["missing"], response["missing_count"]) == (["web-4", "web-3"], 2)


@pytest.mark.parametrize("name", ["CountObjects", "NotifySuccess", "HasTime"])
def test_other_states_are_not_branches(name: str) -> None:
    assert run("RUNNING", entered(0, name), exited(1, name, {"status": "x"}))["branches"] == []
