"""The state machine of the pipeline, in the transformed template of the app."""

import pytest

from chalicelib.model.metric_types import SPECS
from tests.conftest import Template

BRANCHES: dict[str, str] = {spec.name: spec.state for spec in SPECS.values()}


def test_the_clock_starts_the_state_machine_and_the_rule_of_the_collector_is_disabled(
    transformed: Template,
) -> None:
    resources = transformed["Resources"]
    clock = resources["Clock"]["Properties"]
    assert clock["ScheduleExpression"] == "rate(3 hours)"
    assert clock["State"] == "ENABLED"
    assert clock["Targets"][0]["Arn"] == {"Ref": "Orchestrator"}
    assert resources["DataCollectorDataCollectorEvent"]["Properties"]["State"] == "DISABLED"


def definition(template: Template) -> Template:
    machine = template["Resources"]["Orchestrator"]["Properties"]
    assert machine["StateMachineName"] == {"Fn::Sub": "InfraMonitoring-Pipeline-Orch${Suffix}"}
    assert machine["StateMachineType"] == "STANDARD"
    states: Template = machine["Definition"]["States"]
    return states


def test_the_state_machine_has_a_branch_for_each_metric_type(transformed: Template) -> None:
    branches = definition(transformed)["CollectMetrics"]["Branches"]
    invoked = {
        state["Parameters"]["Payload"]["detail"]["metric_type"]: name
        for branch in branches
        for name, state in branch["States"].items()
        if state["Type"] == "Task"
    }
    assert invoked == BRANCHES


@pytest.mark.parametrize("metric_type", BRANCHES)
def test_a_branch_retries_after_10_20_and_40_seconds_and_then_reports_failed(
    metric_type: str, transformed: Template
) -> None:
    name = BRANCHES[metric_type]
    (branch,) = (
        branch
        for branch in definition(transformed)["CollectMetrics"]["Branches"]
        if name in branch["States"]
    )
    (retry,) = branch["States"][name]["Retry"]
    waits = [
        retry["IntervalSeconds"] * retry["BackoffRate"] ** n for n in range(retry["MaxAttempts"])
    ]
    assert waits == [10, 20, 40]
    assert retry["ErrorEquals"] == ["States.ALL"]
    (catch,) = branch["States"][name]["Catch"]
    report = branch["States"][catch["Next"]]["Parameters"]
    assert (report["metric_type"], report["status"]) == (metric_type, "FAILED")


def test_a_run_with_a_failed_branch_sends_a_message_and_fails(
    transformed: Template,
) -> None:
    states = definition(transformed)
    assert states["NotifyFailure"]["Next"] == states["PublishFailure"]["Next"] == "PipelineFailed"
    assert states["PipelineFailed"]["Type"] == "Fail"


def test_a_normal_run_stays_within_the_free_state_transitions(transformed: Template) -> None:
    """4,000 transitions a month are free; 240 runs may have 16 each."""
    states = definition(transformed)
    name, count = "HasTime", 1
    while name != "NotifySuccess":
        state = states[name]
        if state["Type"] == "Parallel":
            count += sum(
                each["Type"] != "Pass" for b in state["Branches"] for each in b["States"].values()
            )
        normal = {"HasTime": "CollectMetrics", "AnyFailed": "NotifySuccess"}
        name, count = normal.get(name) or state["Next"], count + 1
    assert count <= 16
