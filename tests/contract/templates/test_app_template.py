"""The template of the app: packaged, merged with the overlay, transformed and linted."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from infra.develop.lint import CFN_LINT
from infra.develop.templates import STANDALONE
from infra.local.package import OVERLAY, STORAGE
from tests.conftest import ROOT, Template
from tests.conftest import load_template as load

from .conftest import references, values


def test_cfn_lint_reports_nothing(out: Path, transformed: Template) -> None:
    (out / "transformed.json").write_text(json.dumps(transformed))
    templates = [*STANDALONE, out / "sam.yaml", out / "transformed.json"]
    done = subprocess.run(
        [sys.executable, "-c", CFN_LINT, *templates], capture_output=True, text=True, check=False
    )
    assert done.stdout + done.stderr == ""


def test_a_resource_of_the_overlay_exists_in_chalices_template_or_has_a_type(
    without_overlay: Template,
) -> None:
    """A mistyped logical ID would add an incomplete resource."""
    for name, resource in load(OVERLAY)["Resources"].items():
        assert name in without_overlay["Resources"] or "Type" in resource, name


def test_the_overlay_never_changes_a_type(without_overlay: Template) -> None:
    for name, resource in load(OVERLAY)["Resources"].items():
        if name in without_overlay["Resources"]:
            assert "Type" not in resource, name


def test_the_overlay_changes_only_events_that_exist(without_overlay: Template) -> None:
    for name, resource in load(OVERLAY)["Resources"].items():
        events = resource.get("Properties", {}).get("Events", {})
        chalices = (
            without_overlay["Resources"].get(name, {}).get("Properties", {}).get("Events", {})
        )
        assert set(events) <= set(chalices)


def test_chalices_log_group_of_the_api_still_refers_to_a_missing_function(
    without_overlay: Template,
) -> None:
    """If this fails, Chalice has fixed it: remove the name from the overlay's log group."""
    name = without_overlay["Resources"]["ApiHandlerLogGroup"]["Properties"]["LogGroupName"]
    assert name == {"Fn::Sub": "/aws/lambda/${ApiHandler}"}
    assert "ApiHandler" not in without_overlay["Resources"]


def test_every_function_and_the_pipeline_are_traced(transformed: Template) -> None:
    resources = transformed["Resources"]
    functions = [each for each in resources.values() if each["Type"] == "AWS::Lambda::Function"]
    assert {each["Properties"]["TracingConfig"]["Mode"] for each in functions} == {"Active"}
    assert resources["Orchestrator"]["Properties"]["TracingConfiguration"] == {"Enabled": True}


def test_each_stage_has_a_separate_metric_namespace_but_local_uses_prods() -> None:
    config = json.loads((ROOT / ".chalice" / "config.json").read_text())
    name = "POWERTOOLS_METRICS_NAMESPACE"
    namespaces = {
        stage: settings.get("environment_variables", {}).get(
            name, config["environment_variables"][name]
        )
        for stage, settings in config["stages"].items()
    }
    assert namespaces == {
        "local": "InfraMonitoring",
        "prod": "InfraMonitoring",
        "dev": "InfraMonitoring-dev",
    }


@pytest.mark.parametrize(
    "which", ["storage", "queries", "maintenance", "observability", "transformed"]
)
def test_there_is_no_dependency_cycle(which: str, transformed: Template) -> None:
    standalone = {path.stem: path for path in STANDALONE}
    template = load(standalone[which]) if which in standalone else transformed
    resources = template["Resources"]
    pending = {name: references(each) & set(resources) for name, each in resources.items()}
    while ready := {name for name, needs in pending.items() if not needs & set(pending)}:
        pending = {name: needs for name, needs in pending.items() if name not in ready}
    assert not pending


def test_every_reference_resolves(transformed: Template) -> None:
    known = set(transformed["Resources"]) | set(transformed["Parameters"])
    unknown = references(transformed["Resources"]) - known
    assert not {name for name in unknown if not name.startswith("AWS::")}


def test_every_import_is_exported_by_storage(transformed: Template) -> None:
    exported = [each["Name"] for each in values(load(STORAGE)["Outputs"], "Export")]
    imported = values(transformed, "Fn::ImportValue")
    assert imported
    assert all(each in exported for each in imported)


@pytest.mark.parametrize("name", ["data-collector", "log-processor", "notifier"])
def test_a_function_has_the_documented_name_size_and_role(name: str, transformed: Template) -> None:
    logical = name.title().replace("-", "")
    function = transformed["Resources"][logical]["Properties"]
    assert function["FunctionName"] == {"Fn::Sub": f"{name}${{Suffix}}"}
    assert (function["MemorySize"], function["Timeout"]) == (128, 30)
    assert function["Role"] == {"Fn::GetAtt": [f"{logical}Role", "Arn"]}
    role = transformed["Resources"][f"{logical}Role"]["Properties"]
    assert role["RoleName"] == {"Fn::Sub": f"DataPipelineLambdaRole-{name}${{Suffix}}"}


def test_the_processor_can_invoke_only_itself(
    transformed: Template,
) -> None:
    """By default, Lambda stops a function that has invoked itself 16 times."""
    assert transformed["Resources"]["LogProcessor"]["Properties"]["RecursiveLoop"] == "Allow"
    policy = json.loads((ROOT / ".chalice" / "policy-log-processor.json").read_text())
    (invoke,) = (each for each in policy["Statement"] if "lambda:InvokeFunction" in each["Action"])
    assert all("log-processor" in resource for resource in invoke["Resource"])


@pytest.mark.parametrize("name", ["LogProcessor", "Notifier"])
def test_failed_events_go_to_the_dead_letter_queue(name: str, transformed: Template) -> None:
    queue = {"Fn::ImportValue": {"Fn::Sub": "InfraMonitoring-DeadLetterQueueArn${Suffix}"}}
    config = transformed["Resources"][f"{name}InvokeConfig"]["Properties"]
    assert config["FunctionName"] == {"Ref": name}
    assert config["MaximumRetryAttempts"] == 2
    assert config["DestinationConfig"]["OnFailure"]["Destination"] == queue
    (target,) = transformed["Resources"][f"{name}{name}Event"]["Properties"]["Targets"]
    assert target["DeadLetterConfig"]["Arn"] == queue


def test_the_notifier_receives_alarms_and_their_end(transformed: Template) -> None:
    pattern = transformed["Resources"]["NotifierNotifierEvent"]["Properties"]["EventPattern"]
    assert pattern["detail-type"] == ["CloudWatch Alarm State Change"]
    assert pattern["detail"]["alarmName"] == [{"prefix": "InfraMonitoring-"}]
    assert pattern["detail"]["state"] == {"value": ["ALARM", "OK"]}


def test_log_groups_expire_after_a_month(transformed: Template) -> None:
    groups = {
        name: each["Properties"]["RetentionInDays"]
        for name, each in transformed["Resources"].items()
        if each["Type"] == "AWS::Logs::LogGroup"
    }
    assert groups.keys() >= {"DataCollectorLogGroup", "LogProcessorLogGroup", "NotifierLogGroup"}
    assert set(groups.values()) == {30}


def test_the_runtime_is_the_packaging_interpreters(transformed: Template) -> None:
    """Wheels are compiled for it. `make package` rejects other versions than 3.14."""
    function = transformed["Resources"]["DataCollector"]["Properties"]
    assert function["Runtime"] == f"python3.{sys.version_info.minor}"


@pytest.mark.usefixtures("merged")
def test_the_zip_is_small_and_contains_no_sdk(out: Path) -> None:
    archive = out / "deployment.zip"
    # Chalice also packs the .pyc files that it finds: 0.3 MB.
    assert archive.stat().st_size < 2_500_000
    with zipfile.ZipFile(archive) as opened:
        names = {name.split("/")[0] for name in opened.namelist()}
    assert {"app.py", "chalicelib", "msgspec", "prometheus_client", "psutil"} <= names
    assert not {"boto3", "botocore", "infra", "tests"} & names


@pytest.mark.parametrize("name", ["DataCollector", "LogProcessor", "Notifier", "APIHandler"])
def test_items_expire_with_the_objects(name: str, transformed: Template) -> None:
    """One parameter of the storage stack sets both."""
    function = transformed["Resources"][name]["Properties"]
    retention = function["Environment"]["Variables"]["RETENTION_DAYS"]
    assert retention == {
        "Fn::ImportValue": {"Fn::Sub": "InfraMonitoring-DataRetentionDays${Suffix}"}
    }
    output = load(STORAGE)["Outputs"]["DataRetentionDays"]
    assert output["Value"] == {"Fn::Sub": "${DataRetentionDays}"}
