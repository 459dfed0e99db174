"""Branches and failure reason, from the events of an execution."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chalicelib.model.execution_history import branches, failure_reason, state_outputs

START = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)


def entered(seconds: float, name: str) -> dict[str, Any]:
    at = START + timedelta(seconds=seconds)
    return {"timestamp": at, "stateEnteredEventDetails": {"name": name}}


def exited(seconds: float, name: str, output: Any) -> dict[str, Any]:
    at = START + timedelta(seconds=seconds)
    details = {"name": name, "output": json.dumps(output)}
    return {"timestamp": at, "stateExitedEventDetails": details}


def test_branches_are_in_the_order_of_the_metric_types() -> None:
    history = [entered(0, "InvokeDiskCollector"), entered(0, "InvokeCPUCollector")]
    assert [each.state for each in branches(history)] == [
        "InvokeCPUCollector",
        "InvokeDiskCollector",
    ]


def test_a_retried_branch_starts_at_its_first_attempt() -> None:
    (branch,) = branches([entered(0, "InvokeCPUCollector"), entered(10, "InvokeCPUCollector")])
    assert branch.start == START


def test_a_plan_does_not_end_a_branch() -> None:
    planned = {"metric_type": "cpu", "status": "PLANNED", "expected": 4}
    (branch,) = branches(
        [entered(0, "InvokeCPUCollector"), exited(1, "InvokeCPUCollector", planned)]
    )
    assert (branch.status, branch.expected, branch.seconds) == ("RUNNING", 4, None)


@pytest.mark.parametrize(
    ("details", "reason"),
    [
        (
            {"executionFailedEventDetails": {"error": "Boom", "cause": "disk full"}},
            "Boom: disk full",
        ),
        ({"executionAbortedEventDetails": {"cause": "stopped by hand"}}, "stopped by hand"),
        ({"executionTimedOutEventDetails": {}}, ""),
        ({"executionSucceededEventDetails": {"output": "{}"}}, ""),
    ],
    ids=["failed", "aborted", "timed out", "succeeded"],
)
def test_the_failure_reason_joins_error_and_cause(details: dict[str, Any], reason: str) -> None:
    assert failure_reason([{"timestamp": START, **details}]) == reason


def test_the_outputs_of_other_states_are_left_out() -> None:
    history = [exited(0, "Complete", {"prefix": "a"}), exited(1, "Done", {})]
    assert list(state_outputs(history, {"Complete"})) == [("Complete", {"prefix": "a"})]
