"""infra/maintenance.yaml: replay, compaction and dead letters of failed executions."""

import json
from typing import Any

import pytest
import yaml
from moto.events.models import EventPattern

from infra.develop.templates import STANDALONE
from infra.local.package import MAINTENANCE, OVERLAY, STORAGE
from tests.conftest import load_template

from .conftest import values

TEMPLATE = load_template(MAINTENANCE)
RESOURCES = TEMPLATE["Resources"]
PIPELINE = "InfraMonitoring-Pipeline-Orch"
STATE_MACHINE_ARN = "arn:${AWS::Partition}:states:${AWS::Region}:${AWS::AccountId}:stateMachine"


def test_it_refers_to_the_app_by_the_names_in_the_overlay() -> None:
    overlay = load_template(OVERLAY)["Resources"]
    machine = overlay["Orchestrator"]["Properties"]["StateMachineName"]
    assert machine == {"Fn::Sub": f"{PIPELINE}${{Suffix}}"}
    function = overlay["LogProcessor"]["Properties"]["FunctionName"]
    assert function == {"Fn::Sub": "log-processor${Suffix}"}
    functions = {
        text.partition(":function:")[2]
        for text in values(TEMPLATE, "Fn::Sub")
        if isinstance(text, str) and ":function:" in text
    }
    assert functions == {"log-processor${Suffix}"}


def test_it_refers_to_the_work_group_and_database_of_storage() -> None:
    storage = load_template(STORAGE)["Resources"]
    steps = RESOURCES["Compaction"]["Properties"]["Definition"]
    groups = [value for value in values(steps, "WorkGroup") if "Fn::Sub" in value]
    assert groups
    assert all(each == storage["WorkGroup"]["Properties"]["Name"] for each in groups)
    (database,) = values(steps, "Database")
    assert database == storage["Database"]["Properties"]["DatabaseInput"]["Name"]


def test_every_import_is_exported_by_storage() -> None:
    exported = [each["Name"] for each in values(load_template(STORAGE)["Outputs"], "Export")]
    imported = values(TEMPLATE, "Fn::ImportValue")
    assert imported
    assert all(each in exported for each in imported)


@pytest.mark.parametrize(
    ("logical_id", "name"),
    [("Replay", "InfraMonitoring-Replay"), ("Compaction", "InfraMonitoring-Compaction")],
)
def test_a_state_machine_and_its_role_have_the_documented_name(logical_id: str, name: str) -> None:
    machine = RESOURCES[logical_id]["Properties"]
    role = RESOURCES[f"{logical_id}Role"]["Properties"]
    assert machine["StateMachineName"] == role["RoleName"] == {"Fn::Sub": f"{name}${{Suffix}}"}
    assert machine["RoleArn"] == {"Fn::GetAtt": [f"{logical_id}Role", "Arn"]}


def test_the_compaction_runs_every_night() -> None:
    rule = RESOURCES["CompactionClock"]["Properties"]
    assert rule["Name"] == {"Fn::Sub": "InfraMonitoring-Compaction${Suffix}"}
    assert rule["ScheduleExpression"] == "cron(30 3 * * ? *)"
    (target,) = rule["Targets"]
    assert target["Arn"] == {"Ref": "Compaction"}
    assert target["RoleArn"] == {"Fn::GetAtt": ["CompactionClockRole", "Arn"]}


@pytest.mark.parametrize("status", ["FAILED", "TIMED_OUT", "ABORTED", "SUCCEEDED", "RUNNING"])
@pytest.mark.parametrize("machine", ["pipeline", "Replay", "Compaction", "Replay/Objects", "other"])
def test_a_failed_execution_is_a_dead_letter_but_not_a_failed_child_execution(
    machine: str, status: str
) -> None:
    """Child executions of a Distributed Map have the ARN NAME/Label."""
    template = RESOURCES["Failures"]["Properties"]["EventPattern"]
    pipeline = {"Fn::Sub": f"{STATE_MACHINE_ARN}:{PIPELINE}${{Suffix}}"}
    arns = [
        "pipeline" if each == pipeline else each["Ref"]
        for each in template["detail"]["stateMachineArn"]
    ]
    pattern = template | {"detail": template["detail"] | {"stateMachineArn": arns}}
    event: Any = {
        "source": "aws.states",
        "detail-type": "Step Functions Execution Status Change",
        "detail": {"stateMachineArn": machine, "status": status},
    }
    matches = status in {"FAILED", "TIMED_OUT", "ABORTED"} and machine in {
        "pipeline",
        "Replay",
        "Compaction",
    }
    assert EventPattern.load(json.dumps(pattern)).matches_event(event) is matches


def test_sql_is_outside_the_definition() -> None:
    """CloudFormation inserts substitutions into the definition's JSON as they are."""
    for name in ("Replay", "Compaction"):
        properties = RESOURCES[name]["Properties"]
        substitutions = properties.get("DefinitionSubstitutions", {})
        queries = values(properties["Definition"], "QueryString")
        assert sorted(queries) == sorted(f"${{{each}}}" for each in substitutions)
        assert not [text for text in substitutions.values() if set('"\\\n') & set(text)]


@pytest.mark.parametrize("path", STANDALONE, ids=lambda path: path.stem)
def test_a_standalone_template_has_no_yaml_anchors(path: Any) -> None:
    """CloudFormation rejects them: only `aws cloudformation package` expands aliases."""
    events = yaml.parse(path.read_text())
    assert not [each for each in events if getattr(each, "anchor", None)]
