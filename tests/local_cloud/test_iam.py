"""Least privilege: the pipeline in all its modes with its deployed roles, in the local cloud.

Every call of a role is evaluated against the policies that CloudFormation deployed. These tests
fail if a missing permission denies a call, and if a permission is unused.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
import requests
from botocore.exceptions import ClientError

from infra.local.iam.policies import Call, Grant, evaluate, grants
from tests.conftest import ACCOUNT, BUCKET, REGION, ROOT, start_cloud, stop_cloud
from tests.local_cloud.test_pipeline import control, execute, machine_arn
from tests.support.pipeline_modes import (
    API,
    CLOCK,
    COLLECTOR,
    EXTERNAL_ID,
    MARKER,
    NOTIFIER,
    ORCHESTRATOR,
    PROCESSOR,
    READER,
    ROLES,
    SCHEDULED_TIME,
    THIS_STAGE_ONLY,
    Modes,
    arrival,
)
from tests.support.unused_permissions import unseen
from tests.unit.notify.test_messages import alarm_event


@pytest.fixture(scope="module")
def modes() -> Iterator[Modes]:
    cloud = start_cloud("--no-tick")
    try:
        yield Modes(cloud)
    finally:
        stop_cloud(cloud)


def used(modes: Modes, role: str) -> set[Grant]:
    return {
        Grant(each["policy"], each["sid"], each["action"], each["resource"])
        for each in modes.iam["uses"]
        if each["role"] == role
    }


def calls(modes: Modes, role: str) -> list[Call]:
    return [
        Call(
            each["call"]["action"],
            each["call"]["resource"],
            tuple(map(tuple, each["call"]["context"])),
        )
        for each in modes.iam["calls"]
        if each["role"] == role
    ]


def test_no_call_is_denied(modes: Modes) -> None:
    assert modes.iam["denied"] == []


def test_every_role_of_the_templates_made_a_call(modes: Modes) -> None:
    made = {each["role"] for each in modes.iam["calls"]}
    assert made == {*ROLES, "InfraMonitoringReader"}
    deployed = {role["RoleName"] for role in modes.cloud.client("iam").list_roles()["Roles"]}
    assert deployed == set(ROLES)


@pytest.mark.parametrize("role", ROLES)
def test_every_permission_is_used(role: str, modes: Modes) -> None:
    granted = grants(modes.policies_of(role))
    assert {use for use in granted - used(modes, role) if not unseen(role, use)} == set()


@pytest.mark.parametrize("role", ROLES)
def test_every_exception_is_unused(role: str, modes: Modes) -> None:
    assert not {use for use in used(modes, role) if unseen(role, use)}


@pytest.mark.parametrize("role", ROLES)
def test_without_any_one_statement_a_call_would_be_denied(role: str, modes: Modes) -> None:
    """No statement repeats another one."""
    policies, made = modes.policies_of(role), calls(modes, role)
    for name, document in policies.items():
        for statement in json.loads(document)["Statement"]:
            if statement["Effect"] == "Deny" or entirely_unseen(role, name, statement):
                continue
            less = policies | {name: without(document, statement["Sid"])}
            assert not all(evaluate(call, less) for call in made), statement["Sid"]


def entirely_unseen(role: str, policy: str, statement: dict[str, Any]) -> bool:
    granted = grants({policy: json.dumps({"Statement": [statement]})})
    return all(unseen(role, use) for use in granted)


def without(document: str, sid: str) -> str:
    policy = json.loads(document)
    kept = [each for each in policy["Statement"] if each["Sid"] != sid]
    assert len(kept) == len(policy["Statement"]) - 1, sid
    return json.dumps(policy | {"Statement": kept})


# --- Without a permission, the pipeline fails -------------------------------------------------


@pytest.fixture
def less(modes: Modes, request: pytest.FixtureRequest) -> Iterator[str]:
    """Remove one statement of a deployed role for the test; returns its Sid."""
    role, sid = request.param
    iam = modes.cloud.client("iam")
    before = modes.policies_of(role)
    (name,) = [name for name, text in before.items() if f'"Sid": "{sid}"' in text]
    changed = without(before[name], sid)
    if json.loads(changed)["Statement"]:
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=changed)
    else:
        iam.delete_role_policy(RoleName=role, PolicyName=name)
    yield sid
    iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=before[name])


@pytest.mark.parametrize(
    ("less", "code"),
    [
        ((COLLECTOR, "InsertAndCompareItems"), "AccessDeniedException"),
        ((COLLECTOR, "WriteRawObjectsAndPlans"), "AccessDenied"),
        ((COLLECTOR, "AssumeReadersInOtherAccounts"), "AccessDenied"),
    ],
    indirect=["less"],
)
def test_a_collector_without_a_permission_fails_with_the_error_code_of_aws(
    modes: Modes, less: str, code: str
) -> None:
    # A changed setting causes a cold start, in which no role has been assumed yet.
    modes.configure("data-collector", ASSUME_ROLES=f"{less.lower()}={READER}")
    tick = {"time": f"{SCHEDULED_TIME:%Y-%m-%dT%H:%M:%SZ}", "detail": {"metric_type": "cpu"}}
    response = modes.invoke("data-collector", arrival("") | tick)
    principal = f"arn:aws:sts::{ACCOUNT}:assumed-role/{COLLECTOR}/data-collector"
    assert f"{code}: User: {principal} is not authorized" in response["errorMessage"]


@pytest.mark.parametrize(
    "less",
    [
        (PROCESSOR, "ReadRawObjects"),
        (PROCESSOR, "ReadAndWriteItems"),
        (PROCESSOR, "WriteProcessedAndQuarantined"),
    ],
    indirect=True,
)
def test_a_processor_without_a_permission_fails(modes: Modes, less: str) -> None:
    s3 = modes.cloud.client("s3")
    listed = s3.list_objects_v2(Bucket=BUCKET, Prefix="raw-metrics/")["Contents"]
    key = next(each["Key"] for each in listed if "broken" not in each["Key"])
    response = modes.invoke("log-processor", arrival(key))
    assert "AccessDenied" in response["errorMessage"], less


@pytest.mark.parametrize("less", [(PROCESSOR, "GetNotFoundForMissingObjects")], indirect=True)
@pytest.mark.usefixtures("less")
def test_without_list_permission_a_missing_object_is_access_denied(modes: Modes) -> None:
    response = modes.invoke("log-processor", arrival("raw-metrics/2026/11/22/gone.json"))
    assert "AccessDenied" in response["errorMessage"]


@pytest.mark.parametrize("less", [(ORCHESTRATOR, "Publish")], indirect=True)
@pytest.mark.usefixtures("less")
def test_a_run_without_permission_to_publish_fails(modes: Modes) -> None:
    """The notifier has no topic, and the state machine has no permission."""
    modes.configure("data-collector", METRIC_SOURCES="host", ASSUME_ROLES="")
    topic = modes.break_notifier()
    try:
        execution = execute(
            modes.cloud, machine_arn(modes.cloud), {"time": SCHEDULED_TIME.isoformat()}
        )
    finally:
        modes.configure("notifier", TOPIC_ARN=topic)
    assert execution["status"] == "FAILED"
    assert "sns:Publish" in execution["cause"]


@pytest.mark.parametrize("less", [(NOTIFIER, "ReadNewestRecords")], indirect=True)
@pytest.mark.usefixtures("less")
def test_a_notifier_without_read_permission_still_sends_the_message(modes: Modes) -> None:
    assert modes.invoke("notifier", alarm_event())["published"]
    mails = control(modes.cloud, "mails")
    assert any("The affected hosts could not be read" in each["body"] for each in mails)


@pytest.mark.parametrize("less", [(NOTIFIER, "Publish")], indirect=True)
@pytest.mark.usefixtures("less")
def test_a_notifier_without_permission_to_publish_fails(modes: Modes) -> None:
    response = modes.invoke("notifier", alarm_event())
    assert "AuthorizationError" in response["errorMessage"]


@pytest.mark.parametrize("less", [(ORCHESTRATOR, "InvokeNotifier")], indirect=True)
@pytest.mark.usefixtures("less")
def test_a_run_without_permission_to_invoke_the_notifier_sends_a_plain_message(
    modes: Modes,
) -> None:
    modes.configure("data-collector", METRIC_SOURCES="host", ASSUME_ROLES="")
    execution = execute(modes.cloud, machine_arn(modes.cloud), {"time": SCHEDULED_TIME.isoformat()})
    assert execution["status"] == "SUCCEEDED", execution
    mails = control(modes.cloud, "mails")
    assert any("the function notifier failed" in each["body"] for each in mails)


@pytest.mark.parametrize("less", [(CLOCK, "StartPipeline")], indirect=True)
@pytest.mark.usefixtures("less")
def test_a_clock_without_permission_does_not_start_the_pipeline(modes: Modes) -> None:
    sfn = modes.cloud.client("stepfunctions")
    before = sfn.list_executions(stateMachineArn=machine_arn(modes.cloud))["executions"]
    requests.post(f"{modes.cloud.endpoint}/_local/tick", timeout=300)
    after = sfn.list_executions(stateMachineArn=machine_arn(modes.cloud))["executions"]
    assert modes.iam["denied"][-1]["call"]["action"] == "states:StartExecution"
    assert len(after) == len(before)


# --- Names of other stages and of `chalice deploy` --------------------------------------------


@pytest.mark.parametrize(
    ("role", "action", "resource"),
    [
        (COLLECTOR, "dynamodb:PutItem", f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/InfraMetrics"),
        (COLLECTOR, "s3:PutObject", f"arn:aws:s3:::{BUCKET}%/raw-metrics/x"),
        (PROCESSOR, "s3:GetObject", f"arn:aws:s3:::{BUCKET}%/raw-metrics/x"),
        (PROCESSOR, "s3:ListBucket", f"arn:aws:s3:::{BUCKET}%"),
        (
            NOTIFIER,
            "dynamodb:Query",
            f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/InfraMetrics%/index/"
            "metric_type-timestamp-index",
        ),
        (NOTIFIER, "sns:Publish", f"arn:aws:sns:{REGION}:{ACCOUNT}:InfraMonitoring-Alarms"),
        (
            NOTIFIER,
            "states:ListExecutions",
            f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:InfraMonitoring-Pipeline-Orch",
        ),
        (
            PROCESSOR,
            "sqs:SendMessage",
            f"arn:aws:sqs:{REGION}:{ACCOUNT}:InfraMonitoring-DeadLetters",
        ),
        (
            PROCESSOR,
            "logs:PutLogEvents",
            f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/log-processor%:log-stream:x",
        ),
    ],
)
def test_a_stage_reaches_only_its_own_resources(
    role: str, action: str, resource: str, modes: Modes
) -> None:
    """The policy files alone allow both; the managed policy denies the other stage's."""
    context = (("aws:ResourceAccount", ACCOUNT), ("aws:PrincipalAccount", ACCOUNT))
    policies = modes.policies_of(role)
    own = resource.replace("%", "")
    other = resource.replace("%", "-dev") if "%" in resource else f"{resource}-dev"
    assert evaluate(Call(action, own, context), policies)
    assert not evaluate(Call(action, other, context), policies)
    alone = {name: text for name, text in policies.items() if name != THIS_STAGE_ONLY}
    assert evaluate(Call(action, other, context), alone)


def test_the_managed_policy_covers_every_service_with_resources_of_a_stage(modes: Modes) -> None:
    (deny,) = json.loads(modes.policies_of(COLLECTOR)[THIS_STAGE_ONLY])["Statement"]
    services = {
        use.action.partition(":")[0]
        for role in (COLLECTOR, PROCESSOR, NOTIFIER, API)
        for use in grants(modes.policies_of(role))
        if "*" in use.resource.split(":")[-1] and use.resource != "*"
    }
    assert set(deny["Action"]) == {f"{service}:*" for service in services}


@pytest.mark.parametrize("stage", ["dev", "prod"])
@pytest.mark.parametrize(
    ("file", "suffix"),
    [
        ("data-collector", "-data-collector"),
        ("log-processor", "-log-processor"),
        ("notifier", "-notifier"),
        ("api", ""),
    ],
)
def test_functions_of_chalice_deploy_can_write_logs(file: str, suffix: str, stage: str) -> None:
    policy = {file: (ROOT / ".chalice" / f"policy-{file}.json").read_text()}
    group = (
        f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/infra-monitoring-{stage}{suffix}"
    )
    assert evaluate(Call("logs:CreateLogStream", group), policy)
    assert evaluate(Call("logs:PutLogEvents", f"{group}:log-stream:x"), policy)


@pytest.mark.parametrize("stage", ["dev", "prod"])
def test_the_processor_of_chalice_deploy_can_invoke_itself(stage: str) -> None:
    policy = {"file": (ROOT / ".chalice" / "policy-log-processor.json").read_text()}
    context = (("aws:ResourceAccount", ACCOUNT), ("aws:PrincipalAccount", ACCOUNT))
    name = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:infra-monitoring-{stage}"
    assert evaluate(Call("lambda:InvokeFunction", f"{name}-log-processor", context), policy)
    assert not evaluate(Call("lambda:InvokeFunction", f"{name}-data-collector", context), policy)


# --- Log lines --------------------------------------------------------------------------------


def test_the_quarantined_entries_contain_the_marker(modes: Modes) -> None:
    """Otherwise the next test could not fail."""
    s3 = modes.cloud.client("s3")
    (entry,) = s3.list_objects_v2(Bucket=BUCKET, Prefix="quarantine/")["Contents"]
    body = s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read().decode()
    assert len(body.splitlines()) == 3
    assert all(MARKER in line for line in body.splitlines())


@pytest.mark.parametrize(
    "forbidden",
    [MARKER, EXTERNAL_ID, r"ASIA[A-Z0-9]{16}", "(?i)secret_?access_?key", "(?i)session_?token"],
)
def test_no_log_line_contains_a_payload_or_a_credential(forbidden: str, modes: Modes) -> None:
    logs = modes.cloud.client("logs")
    groups = [group["logGroupName"] for group in logs.describe_log_groups()["logGroups"]]
    pages = [
        page
        for group in groups
        for page in logs.get_paginator("filter_log_events").paginate(logGroupName=group)
    ]
    lines = [event["message"] for page in pages for event in page["events"]]
    assert {"/aws/lambda/data-collector", "/aws/lambda/log-processor"} <= set(groups)
    assert any('"message":"processed"' in line for line in lines)
    assert not [line for line in lines if re.search(forbidden, line)]


# --- Error responses --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "operation", "arguments", "code"),
    [
        ("s3", "get_object", {"Bucket": BUCKET, "Key": "a"}, "AccessDenied"),
        ("s3", "list_buckets", {}, "AccessDenied"),
        ("dynamodb", "scan", {"TableName": "InfraMetrics"}, "AccessDeniedException"),
        ("ec2", "describe_instances", {}, "UnauthorizedOperation"),
        ("sns", "list_topics", {}, "AuthorizationError"),
        ("sqs", "list_queues", {}, "AccessDenied"),
        ("lambda", "list_functions", {}, "AccessDeniedException"),
        ("stepfunctions", "list_state_machines", {}, "AccessDeniedException"),
        ("cloudwatch", "list_metrics", {}, "AccessDenied"),
        ("logs", "describe_log_groups", {}, "AccessDeniedException"),
        ("iam", "list_roles", {}, "AccessDenied"),
    ],
)
def test_each_service_returns_its_own_error(
    service: str, operation: str, arguments: dict[str, Any], code: str, modes: Modes
) -> None:
    """For a role without policies."""
    iam = modes.cloud.client("iam")
    iam.create_role(RoleName="no-policies", AssumeRolePolicyDocument="{}")
    try:
        role = f"arn:aws:iam::{ACCOUNT}:role/no-policies"
        credentials = modes.cloud.client("sts").assume_role(RoleArn=role, RoleSessionName="test")
        factory: Any = boto3.client
        client = factory(
            service,
            region_name=REGION,
            endpoint_url=modes.cloud.endpoint,
            aws_access_key_id=credentials["Credentials"]["AccessKeyId"],
            aws_secret_access_key=credentials["Credentials"]["SecretAccessKey"],
            aws_session_token=credentials["Credentials"]["SessionToken"],
        )
        with pytest.raises(ClientError) as denied:
            getattr(client, operation)(**arguments)
    finally:
        iam.delete_role(RoleName="no-policies")
    assert denied.value.response["Error"]["Code"] == code
    assert "assumed-role/no-policies/test is not authorized" in str(denied.value)
