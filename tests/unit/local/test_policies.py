"""Policies are evaluated as IAM does; an unsupported element is an error."""

import json
from typing import Any

import pytest

from infra.local.iam.policies import Call, Grant, PolicyError, evaluate, grants

OBJECT = "arn:aws:s3:::data-1/raw/a.json"
SAME_ACCOUNT = (("aws:ResourceAccount", "111122223333"), ("aws:PrincipalAccount", "111122223333"))
OTHER_ACCOUNT = (("aws:ResourceAccount", "444455556666"), ("aws:PrincipalAccount", "111122223333"))


def statement(**changes: Any) -> dict[str, Any]:
    return {
        "Sid": "Read",
        "Effect": "Allow",
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::data-*/raw/*",
        **changes,
    }


def policies(*statements: dict[str, Any]) -> dict[str, str]:
    return {"inline": json.dumps({"Version": "2012-10-17", "Statement": list(statements)})}


def allowed(call: Call, *statements: dict[str, Any]) -> bool:
    return bool(evaluate(call, policies(*statements)))


def test_evaluate_returns_the_grant_that_allows_a_call() -> None:
    two = statement(Action=["s3:PutObject", "s3:GetObject"])
    assert evaluate(Call("s3:GetObject", OBJECT), policies(two)) == [
        Grant("inline", "Read", "s3:GetObject", "arn:aws:s3:::data-*/raw/*")
    ]


@pytest.mark.parametrize(
    ("pattern", "resource", "matches"),
    [
        ("arn:aws:s3:::data-*/raw/*", OBJECT, True),
        ("arn:aws:s3:::data-*/raw/*", "arn:aws:s3:::data-1/processed/a.json", False),
        ("arn:aws:s3:::data-?/raw/*", OBJECT, True),
        ("arn:aws:s3:::data-?/raw/*", "arn:aws:s3:::data-12/raw/a", False),
        ("arn:aws:s3:::data-1", OBJECT, False),
        ("arn:aws:s3:::data-1/raw/a.json", "arn:aws:s3:::data-1/raw/aXjson", False),
        ("arn:aws:sqs:*:*:queue", "arn:aws:sqs:eu-west-1:111122223333:queue", True),
        ("arn:aws:sqs:*:queue", "arn:aws:sqs:eu-west-1:111122223333:queue", False),
        ("*", OBJECT, True),
        ("*", "*", True),
        ("arn:aws:ec2:*:*:instance/*", "*", False),
        (
            "arn:aws:s3:::data-${aws:PrincipalAccount}/*",
            "arn:aws:s3:::data-111122223333/x",
            True,
        ),
        ("arn:aws:s3:::data-${aws:PrincipalAccount}/*", OBJECT, False),
    ],
)
def test_a_resource_is_matched_as_in_iam(pattern: str, resource: str, matches: bool) -> None:
    call = Call("s3:GetObject", resource, SAME_ACCOUNT)
    assert allowed(call, statement(Resource=pattern)) is matches


@pytest.mark.parametrize(
    ("action", "matches"), [("s3:GetObject", True), ("S3:getobject", True), ("s3:Get", False)]
)
def test_an_action_is_matched_as_a_whole_and_case_insensitively(action: str, matches: bool) -> None:
    assert allowed(Call("s3:GetObject", OBJECT), statement(Action=action)) is matches


def test_a_call_without_a_matching_statement_is_denied() -> None:
    assert not allowed(Call("s3:PutObject", OBJECT), statement())


def test_a_deny_overrides_every_allow() -> None:
    deny = statement(Effect="Deny", Sid="No")
    assert not allowed(Call("s3:GetObject", OBJECT), statement(), deny, statement())


@pytest.mark.parametrize(("resource", "matches"), [(OBJECT, True), ("arn:aws:s3:::x/y", False)])
def test_a_deny_with_not_resource_does_not_deny_that_resource(resource: str, matches: bool) -> None:
    deny = statement(Effect="Deny", NotResource=["arn:aws:s3:::data-1/*"])
    del deny["Resource"]
    assert allowed(Call("s3:GetObject", resource), statement(Resource="*"), deny) is matches


@pytest.mark.parametrize(
    ("context", "matches"), [(SAME_ACCOUNT, True), (OTHER_ACCOUNT, False), ((), False)]
)
@pytest.mark.parametrize("operator", ["StringEquals", "StringLike"])
def test_a_condition_is_true_only_for_a_key_with_its_value(
    operator: str, context: tuple[tuple[str, str], ...], matches: bool
) -> None:
    condition = {operator: {"aws:ResourceAccount": "${aws:PrincipalAccount}"}}
    assert allowed(Call("s3:GetObject", OBJECT, context), statement(Condition=condition)) is matches


@pytest.mark.parametrize(
    "changes",
    [
        {"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}},
        {"NotAction": "s3:PutObject"},
        {"Principal": "*"},
        {"Resource": "arn:aws:s3:::${aws:username}/*"},
    ],
)
def test_an_unsupported_element_is_an_error(changes: dict[str, Any]) -> None:
    with pytest.raises(PolicyError):
        evaluate(Call("s3:GetObject", OBJECT), policies(statement(**changes)))


def test_there_is_a_grant_for_every_pair_of_action_and_resource() -> None:
    two = statement(Action=["s3:GetObject", "s3:PutObject"], Resource=["a", "b"])
    found = grants(policies(two, statement(Effect="Deny")))
    assert {(grant.action, grant.resource) for grant in found} == {
        ("s3:GetObject", "a"),
        ("s3:GetObject", "b"),
        ("s3:PutObject", "a"),
        ("s3:PutObject", "b"),
    }
