"""The alarm rules give the states and reasons that AWS documents."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.local.cloudwatch.alarm_rules import (
    Rule,
    State,
    compute,
    evaluate,
    evaluate_composite,
    state_reason,
    validation_error,
    window_end,
)
from infra.local.errors import LocalCloudError

RULE = Rule("GreaterThanThreshold", 50.0, period=300, periods=3, to_alarm=3)
NOW = datetime(2026, 11, 22, 18, 0, 30, tzinfo=UTC)

TREATMENTS = ("missing", "ignore", "breaching", "notBreaching")
RETAIN = "Retain current state"

# "Configuring how CloudWatch alarms treat missing data": 3 out of 3, then 2 out of 3. The columns
# are M, the datapoints, the number of missing ones, and the state for each treatment.
DOCUMENTED: list[tuple[int, str, int, tuple[str, str, str, str]]] = [
    (3, "0 - X - X", 0, ("OK", "OK", "OK", "OK")),
    (3, "0 - - - -", 2, ("OK", "OK", "OK", "OK")),
    (3, "- - - - -", 3, ("INSUFFICIENT_DATA", RETAIN, "ALARM", "OK")),
    (3, "0 X X - X", 0, ("ALARM", "ALARM", "ALARM", "ALARM")),
    (3, "- - X - -", 2, ("ALARM", RETAIN, "ALARM", "OK")),
    (2, "0 - X - X", 0, ("ALARM", "ALARM", "ALARM", "ALARM")),
    (2, "0 0 X 0 X", 0, ("ALARM", "ALARM", "ALARM", "ALARM")),
    (2, "0 - X - -", 1, ("OK", "OK", "ALARM", "OK")),
    (2, "- - - - 0", 2, ("OK", "OK", "ALARM", "OK")),
    (2, "- - - X -", 2, ("ALARM", RETAIN, "ALARM", "OK")),
]


def datapoints(text: str) -> list[float | None]:
    values: dict[str, float | None] = {"0": 10.0, "X": 90.0, "-": None}
    return [values[each] for each in text.split()]


@pytest.mark.parametrize("current", ["OK", "ALARM", "INSUFFICIENT_DATA"])
@pytest.mark.parametrize("treatment", TREATMENTS)
@pytest.mark.parametrize(("to_alarm", "text", "missing", "states"), DOCUMENTED)
def test_states_are_those_in_the_user_guide(  # noqa: PLR0917 - the columns of a table
    to_alarm: int,
    text: str,
    missing: int,
    states: tuple[str, str, str, str],
    treatment: str,
    current: State,
) -> None:
    rule = replace(RULE, to_alarm=to_alarm, treatment=treatment)
    evaluation = evaluate(rule, datapoints(text), current)
    documented = states[TREATMENTS.index(treatment)]
    assert evaluation.missing == missing
    assert evaluation.state == (current if documented == RETAIN else documented)


def test_the_evaluation_range_of_three_periods_is_five() -> None:
    assert RULE.evaluation_range == 5


@pytest.mark.parametrize("text", ["- - - - X", "- - - X -"])
def test_an_alarm_is_not_premature(text: str) -> None:
    """The next datapoint can be within the threshold: "- - - X 0" or "- - X - 0"."""
    assert evaluate(RULE, datapoints(text), "OK").state == "OK"


@pytest.mark.parametrize(
    ("operator", "breaching"),
    [
        ("GreaterThanThreshold", [False, False, True]),
        ("GreaterThanOrEqualToThreshold", [False, True, True]),
        ("LessThanThreshold", [True, False, False]),
        ("LessThanOrEqualToThreshold", [True, True, False]),
    ],
)
def test_an_operator_compares_as_its_name_says(operator: str, breaching: list[bool]) -> None:
    rule = replace(RULE, operator=operator)
    assert [rule.breaches(value) for value in (49.0, 50.0, 51.0)] == breaching


def reason(rule: Rule, text: str, current: State = "OK") -> str:
    evaluation = evaluate(rule, datapoints(text), current)
    newest = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
    return state_reason(
        rule, evaluation, lambda age: newest - timedelta(seconds=(age - 1) * rule.period)
    )


ONE = replace(RULE, periods=1, to_alarm=1)


@pytest.mark.parametrize(
    ("rule", "text", "expected"),
    [
        (
            ONE,
            "- - X",
            "Threshold Crossed: 1 out of the last 1 datapoints [90.0 (22/11/26 18:00:00)] was"
            " greater than the threshold (50.0) (minimum 1 datapoint for OK -> ALARM transition).",
        ),
        (
            replace(RULE, to_alarm=2),
            "- - X 0 X",
            "Threshold Crossed: 2 out of the last 3 datapoints [90.0 (22/11/26 18:00:00), 90.0"
            " (22/11/26 17:50:00)] were greater than the threshold (50.0) (minimum 2 datapoints"
            " for OK -> ALARM transition).",
        ),
        (
            ONE,
            "- - 0",
            "Threshold Crossed: 1 out of the last 1 datapoints [10.0 (22/11/26 18:00:00)] was not"
            " greater than the threshold (50.0) (minimum 1 datapoint for ALARM -> OK transition).",
        ),
        (
            replace(ONE, treatment="breaching"),
            "- - -",
            "Threshold Crossed: no datapoints were received for 1 period and 1 missing datapoint"
            " was treated as [Breaching].",
        ),
        (ONE, "- - -", "Insufficient Data: 1 datapoint was unknown."),
        (RULE, "- - - - -", "Insufficient Data: 3 datapoints were unknown."),
    ],
)
def test_a_reason_has_cloudwatchs_wording(rule: Rule, text: str, expected: str) -> None:
    assert reason(rule, text) == expected


def test_the_newest_period_ends_with_the_current_minute() -> None:
    assert window_end(RULE, NOW) == NOW.replace(minute=1, second=0)


def test_the_newest_period_of_a_multi_day_alarm_ends_with_the_last_hour() -> None:
    rule = replace(RULE, period=43_200, periods=3)
    assert window_end(rule, NOW.replace(minute=59)) == NOW.replace(minute=0, second=0)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"period": 300, "periods": 289}, "more than a day"),
        ({"period": 86_400, "periods": 8}, "more than a week"),
        ({"period": 90}, "multiple of 60"),
        ({"to_alarm": 4}, "less than or equal to EvaluationPeriods"),
        ({"treatment": "silent"}, "TreatMissingData"),
        ({"operator": "Above"}, "ComparisonOperator"),
    ],
)
def test_an_invalid_alarm_is_rejected(changes: dict[str, Any], expected: str) -> None:
    assert expected in validation_error(replace(RULE, **changes), statistics=["Sum"])


@pytest.mark.parametrize(
    "changes", [{"period": 300, "periods": 288}, {"period": 86_400, "periods": 7}, {"period": 10}]
)
def test_a_valid_alarm_is_accepted(changes: dict[str, Any]) -> None:
    assert not validation_error(replace(RULE, **changes), statistics=["Sum", "p95", "p99.9"])


def test_an_unknown_statistic_is_rejected() -> None:
    assert validation_error(RULE, statistics=["Median"])


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("m1", [1.0, None, None]),
        ("FILL(m1, 0)", [1.0, 0.0, 0.0]),
        ("m1 + m2", [3.0, None, None]),
        ("FILL(m1, 0) + FILL(m2, 0)", [3.0, 4.0, 0.0]),
        ("SUM([m1, m2])", [3.0, 4.0, None]),
        ("MAX([m1, m2])", [2.0, 4.0, None]),
    ],
)
def test_a_metric_math_expression_is_computed_for_each_period(
    expression: str, expected: list[float | None]
) -> None:
    assert compute(expression, {"m1": [1.0, None, None], "m2": [2.0, 4.0, None]}) == expected


@pytest.mark.parametrize("expression", ["m3", "m1 / m2", "FILL(m1, REPEAT)", "m1 +"])
def test_an_unsupported_metric_math_expression_is_an_error(expression: str) -> None:
    with pytest.raises(LocalCloudError):
        compute(expression, {"m1": [1.0], "m2": [2.0]})


STATES: dict[str, State] = {"a": "ALARM", "b-2": "OK", "c": "INSUFFICIENT_DATA"}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("ALARM(a)", True),
        ('ALARM("b-2")', False),
        ("ALARM(arn:aws:cloudwatch:eu-west-1:123456789012:alarm:a)", True),
        ("OK(b-2) AND INSUFFICIENT_DATA(c)", True),
        ("ALARM(a) AND NOT OK(b-2)", False),
        ("ALARM(b-2) OR ALARM(a)", True),
        ("ALARM(a) OR ALARM(b-2) AND FALSE", True),
        ("(ALARM(a) OR ALARM(b-2)) AND FALSE", False),
        ("\n  ALARM(b-2)\n  OR\n  TRUE\n", True),
    ],
)
def test_a_composite_rule_is_evaluated(rule: str, expected: bool) -> None:
    assert evaluate_composite(rule, STATES) is expected


@pytest.mark.parametrize("rule", ["ALARM(unknown)", "ALARM(a) XOR OK(c)", "ALARM(a", ""])
def test_an_invalid_composite_rule_is_an_error(rule: str) -> None:
    with pytest.raises(LocalCloudError):
        evaluate_composite(rule, STATES)
