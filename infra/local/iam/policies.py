"""IAM's decision: does a role's policy allow a call.

What is evaluated is what identity policies of this project use: Allow and Deny, Action, Resource
and NotResource with wildcards and policy variables, and a few condition operators. Anything
else in a policy is an error, never a guess.

The rules: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
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
    """A policy says something that is not evaluated here."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request in IAM's terms; `context` holds the condition keys that it comes with."""

    action: str
    resource: str
    context: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Grant:
    """What allowed a call: one action on one resource of one statement."""

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
    """What in the policies (JSON by name) allows the call: nothing if nothing does, or one denies.

    Raises:
        PolicyError: for an element, operator or variable that is not known here.
    """
    context = dict(call.context)
    uses: list[Grant] = []
    for name, document in policies.items():
        for statement in _statements(document):
            found = list(_matches(statement, call, context))
            if found and statement.effect == "Deny":
                return []
            uses += [Grant(name, statement.sid, *each) for each in found]
    return uses


def grants(policies: Mapping[str, str]) -> set[Grant]:
    """Everything that the policies allow, in the pieces that `evaluate` answers with."""
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
        raise PolicyError(f"policies with {', '.join(sorted(unknown))} are not evaluated here")
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
    """The pairs of action and resource that the call falls under."""
    actions = [each for each in statement.actions if _like(call.action.lower(), each.lower(), {})]
    if not actions or not all(_holds(*each, context) for each in statement.conditions):
        return
    resources = [each for each in statement.resources if _names(each, call.resource, context)]
    if statement.inverted:
        resources = [] if resources else ["(any other)"]
    for action in actions:
        for resource in resources:
            yield action, resource


def _names(pattern: str, resource: str, context: Mapping[str, str]) -> bool:
    """Whether a pattern names a resource; a wildcard does not reach over an ARN's colons."""
    if pattern == "*" or resource == "*":
        return pattern == "*"
    wanted, found = pattern.split(":", maxsplit=5), resource.split(":", maxsplit=5)
    return len(wanted) == len(found) and all(
        _like(part, each, context) for each, part in zip(wanted, found, strict=True)
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
        raise PolicyError(f"the policy variable {token} has no value here")
    return context[name]


def _equals(value: str, wanted: str, context: Mapping[str, str]) -> bool:
    return value == re.sub(r"\$\{[^}]*\}", lambda found: _variable(found[0], context), wanted)


_OPERATORS: dict[str, Callable[[str, str, Mapping[str, str]], bool]] = {
    "StringEquals": _equals,
    "StringLike": _like,
    "ArnEquals": lambda value, wanted, context: _names(wanted, value, context),
    "ArnLike": lambda value, wanted, context: _names(wanted, value, context),
}


def _holds(operator: str, key: str, wanted: Sequence[str], context: Mapping[str, str]) -> bool:
    """Whether a condition holds; one on a key that the request does not have never does."""
    if operator not in _OPERATORS:
        raise PolicyError(f"the condition operator {operator} is not evaluated here")
    return key in context and any(
        _OPERATORS[operator](context[key], each, context) for each in wanted
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
