"""The rules by which CloudWatch evaluates alarms: from values to a state and its reason.

Sources: the CloudWatch user guide ("Using CloudWatch alarms", "Configuring how CloudWatch alarms
treat missing data", "Combining alarms", "Using math expressions") and the API reference of
PutMetricAlarm and PutCompositeAlarm.
"""

import ast
import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeAlias, cast

from ..errors import LocalCloudError

State: TypeAlias = Literal["OK", "ALARM", "INSUFFICIENT_DATA"]

# One value for each period, oldest first; None for a period without data.
Datapoints: TypeAlias = Sequence[float | None]

# Periods that CloudWatch retrieves in addition to the evaluation periods. AWS documents that the
# number depends on the period, and one case: 5 datapoints for 3 periods. Here it is constant.
_EXTRA_PERIODS = 2

DAY, WEEK = 86_400, 604_800

_OPERATORS: dict[str, tuple[Callable[[float, float], bool], str]] = {
    "GreaterThanOrEqualToThreshold": (operator.ge, "greater than or equal to"),
    "GreaterThanThreshold": (operator.gt, "greater than"),
    "LessThanOrEqualToThreshold": (operator.le, "less than or equal to"),
    "LessThanThreshold": (operator.lt, "less than"),
}
_TREATMENTS = ("breaching", "notBreaching", "ignore", "missing")
_TREATED_AS = {"breaching": "Breaching", "notBreaching": "NonBreaching"}


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule of a metric alarm: `to_alarm` (M) out of `periods` (N) datapoints must breach.

    `period` is in seconds; `treatment` is the alarm's TreatMissingData.
    """

    operator: str
    threshold: float
    period: int
    periods: int
    to_alarm: int
    treatment: str = "missing"

    @property
    def evaluation_range(self) -> int:
        """The number of periods that CloudWatch retrieves."""
        return self.periods + _EXTRA_PERIODS

    def breaches(self, value: float) -> bool:
        return _OPERATORS[self.operator][0](value, self.threshold)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The state of a metric alarm and the datapoints used for it.

    `datapoints` are (age, value) pairs, newest first; the newest period has age 1. `missing` is
    the number of evaluation periods without a datapoint.
    """

    state: State
    datapoints: Sequence[tuple[int, float]]
    missing: int


# --- Metric alarms ------------------------------------------------------------------------


def evaluate(rule: Rule, datapoints: Datapoints, current: State) -> Evaluation:
    """Evaluate a metric alarm; `datapoints` cover the evaluation range."""
    received = [
        (age, value) for age, value in enumerate(reversed(datapoints), 1) if value is not None
    ]
    used = received[: rule.periods]
    missing = rule.periods - len(used)
    return Evaluation(_state(rule, used, missing, current), used, missing)


def _state(rule: Rule, used: Sequence[tuple[int, float]], missing: int, current: State) -> State:
    breaching = sum(rule.breaches(value) for _, value in used)
    counted = breaching + (missing if rule.treatment == "breaching" else 0)
    if counted >= rule.to_alarm:
        return "ALARM"
    if not missing or rule.treatment in _TREATED_AS or breaching < len(used):
        return "OK"
    # Every received datapoint breaches, but there are fewer than M.
    if rule.treatment == "ignore":
        return current
    if not used:
        return "INSUFFICIENT_DATA"
    # AWS avoids a premature ALARM: while the oldest datapoint is newer than M periods, the next
    # datapoint can still be within the threshold.
    oldest, _ = used[-1]
    return "ALARM" if oldest >= rule.to_alarm else current


def state_reason(rule: Rule, evaluation: Evaluation, start: Callable[[int], datetime]) -> str:
    """Return the StateReason in CloudWatch's wording; `start` maps an age to its period's start."""
    if evaluation.state == "INSUFFICIENT_DATA":
        return f"Insufficient Data: {_count(rule.periods, 'datapoint')} unknown."
    missing = f"{_count(evaluation.missing, 'missing datapoint')} treated as"
    treated = f"{missing} [{_TREATED_AS.get(rule.treatment, rule.treatment)}]."
    if not evaluation.datapoints:
        received = f"no datapoints were received for {_plural(rule.periods, 'period')}"
        return f"Threshold Crossed: {received} and {treated}"
    alarm = evaluation.state == "ALARM"
    decisive = [each for each in evaluation.datapoints if rule.breaches(each[1]) is alarm]
    values = ", ".join(f"{value!r} ({start(age):%d/%m/%y %H:%M:%S})" for age, value in decisive)
    was = ("was" if len(decisive) == 1 else "were") + ("" if alarm else " not")
    threshold = f"{was} {_OPERATORS[rule.operator][1]} the threshold ({rule.threshold!r})"
    if evaluation.missing and rule.treatment in _TREATED_AS:
        datapoints = f"{_plural(len(decisive), 'datapoint')} [{values}]"
        return f"Threshold Crossed: {datapoints} {threshold} and {treated}"
    needed = rule.to_alarm if alarm else rule.periods - rule.to_alarm + 1
    transition = "OK -> ALARM" if alarm else "ALARM -> OK"
    return (
        f"Threshold Crossed: {len(decisive)} out of the last {rule.periods} datapoints [{values}]"
        f" {threshold} (minimum {_plural(needed, 'datapoint')} for {transition} transition)."
    )


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _count(count: int, noun: str) -> str:
    return f"{_plural(count, noun)} {'was' if count == 1 else 'were'}"


def window_end(rule: Rule, now: datetime) -> datetime:
    """Return the end of the newest period: the next full minute.

    For an alarm of more than a day it is the last full hour. The current minute is included, so
    that its data counts at once.
    """
    if rule.period * rule.periods > DAY:
        return now.replace(minute=0, second=0, microsecond=0)
    return now.replace(second=0, microsecond=0) + timedelta(minutes=1)


# --- Validation -----------------------------------------------------------------------------


def validation_error(rule: Rule, *, statistics: Collection[str]) -> str:
    """Return CloudWatch's error message for an invalid alarm, or '' for a valid one."""
    total = rule.period * rule.periods
    for invalid, message in (
        (rule.operator not in _OPERATORS, f"Unknown ComparisonOperator {rule.operator}"),
        (
            rule.treatment not in _TREATMENTS,
            f"Option {rule.treatment} is not supported. Supported options for parameter"
            f" TreatMissingData are {', '.join(_TREATMENTS)}",
        ),
        (not all(map(_is_statistic, statistics)), "Unknown statistic"),
        (
            rule.period not in {10, 20, 30} and (rule.period < 60 or rule.period % 60 != 0),
            "Period must be 10, 20, 30 or a multiple of 60",
        ),
        (rule.periods < 1, "EvaluationPeriods must be at least 1"),
        (
            rule.to_alarm > rule.periods,
            "DatapointsToAlarm must be less than or equal to EvaluationPeriods",
        ),
        (
            rule.period < 3600 and total > DAY,
            "Metrics cannot be checked across more than a day (EvaluationPeriods * Period must"
            " be <= 86400) for alarms using period < 3600",
        ),
        (
            total > WEEK,
            "Metrics cannot be checked across more than a week (EvaluationPeriods * Period must"
            " be <= 604800) for alarms using period >= 3600",
        ),
    ):
        if invalid:
            return message
    return ""


def _is_statistic(name: str) -> bool:
    if name in {"Average", "Maximum", "Minimum", "SampleCount", "Sum"}:
        return True
    return bool(re.fullmatch(r"p(\d{1,2}(\.\d{1,10})?|100)", name))


# --- Metric math ----------------------------------------------------------------------------


def compute(expression: str, metrics: Mapping[str, Datapoints]) -> list[float | None]:
    """Evaluate a metric math expression; `metrics` are datapoints of equal length by ID.

    Supports what the templates use: `+`, FILL(metric, number), SUM([...]) and MAX([...]).

    Raises:
        LocalCloudError: for any other expression.
    """
    try:
        return _compute(ast.parse(expression, mode="eval").body, metrics)
    except (SyntaxError, KeyError, ValueError) as error:
        raise LocalCloudError(f"metric math expression {expression!r}: {error}") from error


def _compute(node: ast.expr, metrics: Mapping[str, Datapoints]) -> list[float | None]:
    match node:
        case ast.Name(name):
            return list(metrics[name])
        case ast.BinOp(left, ast.Add(), right):
            # The sum is missing if either operand is.
            pairs = zip(_compute(left, metrics), _compute(right, metrics), strict=True)
            return [None if a is None or b is None else a + b for a, b in pairs]
        case ast.Call(ast.Name("FILL"), [metric, ast.Constant(int() | float() as value)]):
            return [float(value) if v is None else v for v in _compute(metric, metrics)]
        case ast.Call(ast.Name("SUM" | "MAX" as name), [ast.List(elements)]):
            reduce = sum if name == "SUM" else max
            columns = zip(*(_compute(each, metrics) for each in elements), strict=True)
            received = [[v for v in column if v is not None] for column in columns]
            return [reduce(values) if values else None for values in received]
        case _:
            raise ValueError(f"{ast.unparse(node)} is not supported")


# --- Composite alarms -----------------------------------------------------------------------

_TERM = re.compile(r'\b(ALARM|OK|INSUFFICIENT_DATA)\s*\(\s*"?([^")]+?)"?\s*\)')
_KEYWORDS = {"TRUE": "True", "FALSE": "False", "AND": "and", "OR": "or", "NOT": "not"}


def children(rule: str) -> list[str]:
    """Return the names of the child alarms in a composite alarm's rule, which may have ARNs."""
    return [_alarm_name(term[2]) for term in _TERM.finditer(rule)]


def evaluate_composite(rule: str, states: Mapping[str, State]) -> bool:
    """Return whether a composite alarm's rule is true; `states` are those of all alarms by name.

    Raises:
        LocalCloudError: the rule is invalid, or names an alarm that does not exist.
    """
    if unknown := sorted(set(children(rule)) - set(states)):
        raise LocalCloudError(f"AlarmRule refers to alarms that do not exist: {unknown}")
    terms = _TERM.sub(lambda term: str(states[_alarm_name(term[2])] == term[1]), rule)
    python = re.sub(r"[A-Z]{2,}", lambda word: _KEYWORDS.get(word[0], word[0]), terms)
    try:
        return _truth(ast.parse(" ".join(python.split()), mode="eval").body)
    except (SyntaxError, ValueError) as error:
        raise LocalCloudError(f"AlarmRule {rule!r}: {error}") from error


def _alarm_name(name_or_arn: str) -> str:
    return name_or_arn.rpartition(":alarm:")[2]


def _truth(node: ast.expr) -> bool:
    match node:
        case ast.Constant(bool(value)):
            return value
        case ast.UnaryOp(ast.Not(), operand):
            return not _truth(operand)
        case ast.BoolOp(ast.And(), values):
            return all(map(_truth, values))
        case ast.BoolOp(ast.Or(), values):
            return any(map(_truth, values))
        case _:
            raise ValueError(f"{ast.unparse(node)} is not supported")


def as_state(text: str) -> State:
    """Cast moto's state, a plain string."""
    return cast("State", text)
