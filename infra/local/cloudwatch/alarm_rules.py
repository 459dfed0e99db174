"""CloudWatch's rules for alarms as AWS publishes them: values in, a state and its reason out.

From the CloudWatch user guide ("Using CloudWatch alarms", "Configuring how CloudWatch alarms
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

# A value for each period, oldest first; None where nothing was received.
Points: TypeAlias = Sequence[float | None]

# How far beyond the evaluation periods CloudWatch looks for data. AWS says that it depends on
# the period and publishes one case, 5 points for 3 periods; here it is the same for all.
_BEYOND = 2

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
    """When a metric alarm is in ALARM: `to_alarm` (M) of `periods` (N), each `period` seconds."""

    operator: str
    threshold: float
    period: int
    periods: int
    to_alarm: int
    treatment: str = "missing"

    @property
    def retrieved(self) -> int:
        """How many periods CloudWatch retrieves: the evaluation range."""
        return self.periods + _BEYOND

    def breaches(self, value: float) -> bool:
        return _OPERATORS[self.operator][0](value, self.threshold)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A state and what it rests on: (age in periods, value) of points, newest first at age 1."""

    state: State
    points: Sequence[tuple[int, float]]
    filled: int


# --- One alarm ----------------------------------------------------------------------------


def evaluate(rule: Rule, points: Points, current: State) -> Verdict:
    """The state after the points of the evaluation range, as far back as they are needed."""
    received = [(age, value) for age, value in enumerate(reversed(points), 1) if value is not None]
    used = received[: rule.periods]
    filled = rule.periods - len(used)
    return Verdict(_state(rule, used, filled, current), used, filled)


def _state(rule: Rule, used: Sequence[tuple[int, float]], filled: int, current: State) -> State:
    breaching = sum(rule.breaches(value) for _, value in used)
    seen = breaching + (filled if rule.treatment == "breaching" else 0)
    if seen >= rule.to_alarm:
        return "ALARM"
    if not filled or rule.treatment in _TREATED_AS or breaching < len(used):
        return "OK"
    # Whatever was received breaches, but it is less than M.
    if rule.treatment == "ignore":
        return current
    if not used:
        return "INSUFFICIENT_DATA"
    # "Premature": not while what comes next may still be good.
    oldest, _ = used[-1]
    return "ALARM" if oldest >= rule.to_alarm else current


def reason(rule: Rule, verdict: Verdict, start: Callable[[int], datetime]) -> str:
    """StateReason in CloudWatch's words; `start` gives the start of the period of an age."""
    if verdict.state == "INSUFFICIENT_DATA":
        return f"Insufficient Data: {_count(rule.periods, 'datapoint')} unknown."
    missing = f"{_count(verdict.filled, 'missing datapoint')} treated as"
    treated = f"{missing} [{_TREATED_AS.get(rule.treatment, rule.treatment)}]."
    if not verdict.points:
        received = f"no datapoints were received for {_plural(rule.periods, 'period')}"
        return f"Threshold Crossed: {received} and {treated}"
    alarm = verdict.state == "ALARM"
    of_state = [each for each in verdict.points if rule.breaches(each[1]) is alarm]
    values = ", ".join(f"{value!r} ({start(age):%d/%m/%y %H:%M:%S})" for age, value in of_state)
    was = ("was" if len(of_state) == 1 else "were") + ("" if alarm else " not")
    threshold = f"{was} {_OPERATORS[rule.operator][1]} the threshold ({rule.threshold!r})"
    if verdict.filled and rule.treatment in _TREATED_AS:
        points = f"{_plural(len(of_state), 'datapoint')} [{values}]"
        return f"Threshold Crossed: {points} {threshold} and {treated}"
    needed = rule.to_alarm if alarm else rule.periods - rule.to_alarm + 1
    change = "OK -> ALARM" if alarm else "ALARM -> OK"
    return (
        f"Threshold Crossed: {len(of_state)} out of the last {rule.periods} datapoints [{values}]"
        f" {threshold} (minimum {_plural(needed, 'datapoint')} for {change} transition)."
    )


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _count(count: int, noun: str) -> str:
    return f"{_plural(count, noun)} {'was' if count == 1 else 'were'}"


def window_end(rule: Rule, now: datetime) -> datetime:
    """The end of the newest period: periods slide with the minute, of multi-day alarms by hours.

    The minute that is under way counts here, so that nobody waits for its end.
    """
    if rule.period * rule.periods > DAY:
        return now.replace(minute=0, second=0, microsecond=0)
    return now.replace(second=0, microsecond=0) + timedelta(minutes=1)


# --- What CloudWatch refuses ----------------------------------------------------------------


def fault(rule: Rule, *, statistics: Collection[str]) -> str:
    """Why CloudWatch refuses an alarm, in its words; empty if it does not."""
    total = rule.period * rule.periods
    for wrong, words in (
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
        if wrong:
            return words
    return ""


def _is_statistic(name: str) -> bool:
    if name in {"Average", "Maximum", "Minimum", "SampleCount", "Sum"}:
        return True
    return bool(re.fullmatch(r"p(\d{1,2}(\.\d{1,10})?|100)", name))


# --- Metric maths ---------------------------------------------------------------------------


def compute(expression: str, series: Mapping[str, Points]) -> list[float | None]:
    """An expression of metric maths over series of equal length.

    Known are `+`, FILL(series, number), SUM([...]) and MAX([...]): what the templates use.

    Raises:
        LocalCloudError: for anything else.
    """
    try:
        return _series(ast.parse(expression, mode="eval").body, series)
    except (SyntaxError, KeyError, ValueError) as error:
        raise LocalCloudError(f"metric maths of {expression!r}: {error}") from error


def _series(node: ast.expr, series: Mapping[str, Points]) -> list[float | None]:
    match node:
        case ast.Name(name):
            return list(series[name])
        case ast.BinOp(left, ast.Add(), right):
            # Where one of both is missing, so is the sum.
            both = zip(_series(left, series), _series(right, series), strict=True)
            return [None if a is None or b is None else a + b for a, b in both]
        case ast.Call(ast.Name("FILL"), [filled, ast.Constant(int() | float() as value)]):
            return [float(value) if v is None else v for v in _series(filled, series)]
        case ast.Call(ast.Name("SUM" | "MAX" as name), [ast.List(elements)]):
            reduce = sum if name == "SUM" else max
            columns = zip(*(_series(each, series) for each in elements), strict=True)
            received = [[v for v in column if v is not None] for column in columns]
            return [reduce(values) if values else None for values in received]
        case _:
            raise ValueError(f"{ast.unparse(node)} is not known here")


# --- Composite alarms -----------------------------------------------------------------------

_TERM = re.compile(r'\b(ALARM|OK|INSUFFICIENT_DATA)\s*\(\s*"?([^")]+?)"?\s*\)')
_WORDS = {"TRUE": "True", "FALSE": "False", "AND": "and", "OR": "or", "NOT": "not"}


def children(rule: str) -> list[str]:
    """The names of the alarms in a composite alarm's rule, which may have them as ARNs."""
    return [_name(term[2]) for term in _TERM.finditer(rule)]


def holds(rule: str, states: Mapping[str, State]) -> bool:
    """Whether a composite alarm's rule is true.

    Raises:
        LocalCloudError: the rule is none, or names an alarm that is not there.
    """
    if unknown := sorted(set(children(rule)) - set(states)):
        raise LocalCloudError(f"AlarmRule refers to alarms that do not exist: {unknown}")
    truths = _TERM.sub(lambda term: str(states[_name(term[2])] == term[1]), rule)
    words = re.sub(r"[A-Z]{2,}", lambda word: _WORDS.get(word[0], word[0]), truths)
    try:
        return _truth(ast.parse(" ".join(words.split()), mode="eval").body)
    except (SyntaxError, ValueError) as error:
        raise LocalCloudError(f"AlarmRule {rule!r}: {error}") from error


def _name(term: str) -> str:
    return term.rpartition(":alarm:")[2]


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
            raise ValueError(f"{ast.unparse(node)} is not known")


def as_state(text: str) -> State:
    """What moto keeps as text."""
    return cast("State", text)
