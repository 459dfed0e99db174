"""IAM's decision by itself: what a policy allows, and what is not guessed at."""

import json
from typing import Any

import pytest

from infra.local.iam.policies import (
    Call,
    Grant,
    PolicyError,
    evaluate,
    grants,
)

OBJECT = "arn:aws:s3:::data-1/raw/a.json"
OWN = (("aws:ResourceAccount", "111122223333"), ("aws:PrincipalAccount", "111122223333"))
FOREIGN = (("aws:ResourceAccount", "444455556666"), ("aws:PrincipalAccount", "111122223333"))


def statement(**changes: Any) -> dict[str, Any]:
    return {
        "Sid": "Read",
        "Effect": "Allow",
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::data-*/raw/*",
        **changes,
    }


def policies(*statements: dict[str, Any]) -> dict[str, str]:
    return {"own": json.dumps({"Version": "2012-10-17", "Statement": list(statements)})}


def allowed(call: Call, *statements: dict[str, Any]) -> bool:
    return bool(evaluate(call, policies(*statements)))


def test_what_allows_a_call_is_told_to_the_resource() -> None:
    two = statement(Action=["s3:PutObject", "s3:GetObject"])
    assert evaluate(Call("s3:GetObject", OBJECT), policies(two)) == [
        Grant("own", "Read", "s3:GetObject", "arn:aws:s3:::data-*/raw/*")
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
def test_a_resource_is_matched_as_iam_does(pattern: str, resource: str, matches: bool) -> None:
    call = Call("s3:GetObject", resource, OWN)
    assert allowed(call, statement(Resource=pattern)) is matches


@pytest.mark.parametrize(
    ("action", "matches"), [("s3:GetObject", True), ("S3:getobject", True), ("s3:Get", False)]
)
def test_an_action_is_matched_whole_and_whatever_its_case(action: str, matches: bool) -> None:
    assert allowed(Call("s3:GetObject", OBJECT), statement(Action=action)) is matches


def test_what_no_statement_names_is_denied() -> None:
    assert not allowed(Call("s3:PutObject", OBJECT), statement())


def test_a_deny_wins_over_every_allow() -> None:
    deny = statement(Effect="Deny", Sid="No")
    assert not allowed(Call("s3:GetObject", OBJECT), statement(), deny, statement())


@pytest.mark.parametrize(("resource", "matches"), [(OBJECT, True), ("arn:aws:s3:::x/y", False)])
def test_a_deny_of_everything_else_leaves_what_it_names(resource: str, matches: bool) -> None:
    deny = statement(Effect="Deny", NotResource=["arn:aws:s3:::data-1/*"])
    del deny["Resource"]
    assert allowed(Call("s3:GetObject", resource), statement(Resource="*"), deny) is matches


@pytest.mark.parametrize(("context", "matches"), [(OWN, True), (FOREIGN, False), ((), False)])
@pytest.mark.parametrize("operator", ["StringEquals", "StringLike"])
def test_a_condition_holds_only_on_a_key_with_that_value(
    operator: str, context: tuple[tuple[str, str], ...], matches: bool
) -> None:
    own = {operator: {"aws:ResourceAccount": "${aws:PrincipalAccount}"}}
    assert allowed(Call("s3:GetObject", OBJECT, context), statement(Condition=own)) is matches


@pytest.mark.parametrize(
    "changes",
    [
        {"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}},
        {"NotAction": "s3:PutObject"},
        {"Principal": "*"},
        {"Resource": "arn:aws:s3:::${aws:username}/*"},
    ],
)
def test_what_is_not_known_is_an_error_and_not_a_guess(changes: dict[str, Any]) -> None:
    with pytest.raises(PolicyError):
        evaluate(Call("s3:GetObject", OBJECT), policies(statement(**changes)))


def test_grants_are_every_pair_of_action_and_resource() -> None:
    two = statement(Action=["s3:GetObject", "s3:PutObject"], Resource=["a", "b"])
    found = grants(policies(two, statement(Effect="Deny")))
    assert {(use.action, use.resource) for use in found} == {
        ("s3:GetObject", "a"),
        ("s3:GetObject", "b"),
        ("s3:PutObject", "a"),
        ("s3:PutObject", "b"),
    }
