"""Evaluation of IAM identity policies.

Supports what the policies of this project use: Allow and Deny; Action, Resource and NotResource
with wildcards and policy variables; a few condition operators. Anything else is an error.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from ..errors import LocalCloudError

_ELEMENTS = frozenset(
    {"Sid", "Effect", "Action", "Resource", "NotResource", "Condition"},
)
_TOKEN = re.compile(r"(\$\{[^}]*\}|\*|\?)")


class PolicyError(LocalCloudError):
    """A policy uses an element, operator or variable that is not supported."""


@dataclass(frozen=True, slots=True)
class Call:
    """An API call: action, resource ARN and the condition keys of the request."""

    action: str
    resource: str
    context: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Grant:
    """One action on one resource that a policy statement allows."""

    policy: str
    sid: str
    action: str
    resource: str


@dataclass(frozen=True, slots=True)
class _Statement:
    sid: str
    effect: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    inverted: bool
    conditions: tuple[tuple[str, str, tuple[str, ...]], ...]


def evaluate(call: Call, policies: Mapping[str, str]) -> list[Grant]:
    """Return the grants that allow a call; empty if the call is denied.

    `policies` are JSON documents by name. A matching Deny statement overrides every Allow.

    Raises:
        PolicyError: a policy uses an element, operator or variable that is not supported.
    """
    context = dict(call.context)
    granted: list[Grant] = []
    for name, document in policies.items():
        for statement in _statements(document):
            matches = list(_matches(statement, call, context))
            if matches and statement.effect == "Deny":
                return []
            granted += [Grant(name, statement.sid, *each) for each in matches]
    return granted


def grants(policies: Mapping[str, str]) -> set[Grant]:
    """Return every grant in the policies, in the form in which `evaluate` returns them."""
    return {
        Grant(name, statement.sid, action, resource)
        for name, document in policies.items()
        for statement in _statements(document)
        if statement.effect == "Allow"
        for action in statement.actions
        for resource in statement.resources
    }


@cache
def _statements(document: str) -> tuple[_Statement, ...]:
    return tuple(map(_statement, _list(json.loads(document)["Statement"])))


def _statement(source: Mapping[str, Any]) -> _Statement:
    if unknown := set(source) - _ELEMENTS:
        raise PolicyError(f"policy element {', '.join(sorted(unknown))} is not supported")
    inverted = "NotResource" in source
    return _Statement(
        sid=source.get("Sid", ""),
        effect=source["Effect"],
        actions=tuple(_list(source["Action"])),
        resources=tuple(_list(source["NotResource" if inverted else "Resource"])),
        inverted=inverted,
        conditions=tuple(
            (operator, key, tuple(_list(values)))
            for operator, keys in source.get("Condition", {}).items()
            for key, values in keys.items()
        ),
    )


def _matches(
    statement: _Statement, call: Call, context: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Yield the (action, resource) pairs of a statement that match the call."""
    actions = [each for each in statement.actions if _like(call.action.lower(), each.lower(), {})]
    if not actions or not all(_condition_holds(*each, context) for each in statement.conditions):
        return
    resources = [each for each in statement.resources if _matches_arn(each, call.resource, context)]
    if statement.inverted:
        resources = [] if resources else ["(any other)"]
    for action in actions:
        for resource in resources:
            yield action, resource


def _matches_arn(pattern: str, resource: str, context: Mapping[str, str]) -> bool:
    """Whether a pattern matches a resource; a wildcard matches within one part of an ARN."""
    if pattern == "*" or resource == "*":
        return pattern == "*"
    patterns, parts = pattern.split(":", maxsplit=5), resource.split(":", maxsplit=5)
    return len(patterns) == len(parts) and all(
        _like(part, each, context) for each, part in zip(patterns, parts, strict=True)
    )


def _like(text: str, pattern: str, context: Mapping[str, str]) -> bool:
    return re.fullmatch("".join(_regex(pattern, context)), text, re.DOTALL) is not None


def _regex(pattern: str, context: Mapping[str, str]) -> Iterator[str]:
    for token in _TOKEN.split(pattern):
        if token.startswith("${"):
            yield re.escape(_variable(token, context))
        else:
            yield {"*": ".*", "?": "."}.get(token) or re.escape(token)


def _variable(token: str, context: Mapping[str, str]) -> str:
    name = token[2:-1]
    if name not in context:
        raise PolicyError(f"policy variable {token} is not supported")
    return context[name]


def _equals(value: str, expected: str, context: Mapping[str, str]) -> bool:
    return value == re.sub(r"\$\{[^}]*\}", lambda match: _variable(match[0], context), expected)


_OPERATORS: dict[str, Callable[[str, str, Mapping[str, str]], bool]] = {
    "StringEquals": _equals,
    "StringLike": _like,
    "ArnEquals": lambda value, pattern, context: _matches_arn(pattern, value, context),
    "ArnLike": lambda value, pattern, context: _matches_arn(pattern, value, context),
}


def _condition_holds(
    operator: str, key: str, values: Sequence[str], context: Mapping[str, str]
) -> bool:
    """Whether a condition is true; it is false if the request has no such key."""
    if operator not in _OPERATORS:
        raise PolicyError(f"condition operator {operator} is not supported")
    return key in context and any(
        _OPERATORS[operator](context[key], each, context) for each in values
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
