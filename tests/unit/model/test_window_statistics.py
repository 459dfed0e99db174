"""Window statistics, compared with the standard library and with exact fractions."""

from fractions import Fraction
from statistics import quantiles

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chalicelib.model.window_statistics import Period, percentile, reduce_window

values = st.floats(min_value=0, max_value=1e15)
readings = st.lists(values, min_size=1, max_size=100)
at_least_two = st.lists(values, min_size=2, max_size=100)


def flat(averages: list[float]) -> list[Period]:
    """Periods of five minutes, each with one reading."""
    return [Period(300.0 * n, value, value, value) for n, value in enumerate(averages)]


def known(*statistics: float | None) -> list[float]:
    return [each for each in statistics if each is not None]


@given(at_least_two)
def test_the_95th_percentile_is_that_of_the_standard_library(numbers: list[float]) -> None:
    expected = quantiles(numbers, n=100, method="inclusive")[94]
    assert percentile(numbers, 0.95) == pytest.approx(expected, rel=1e-9)


def exact(numbers: list[float], fraction: Fraction) -> Fraction:
    ordered = sorted(map(Fraction, numbers))
    position = fraction * (len(ordered) - 1)
    whole = int(position)
    if position == whole:
        return ordered[whole]
    return ordered[whole] + (position - whole) * (ordered[whole + 1] - ordered[whole])


@given(readings, st.integers(min_value=0, max_value=100))
def test_a_percentile_is_exact_except_for_rounding(numbers: list[float], percent: int) -> None:
    expected = float(exact(numbers, Fraction(percent, 100)))
    assert percentile(numbers, percent / 100) == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(readings, st.floats(min_value=0, max_value=1))
def test_a_percentile_is_between_minimum_and_maximum(numbers: list[float], fraction: float) -> None:
    assert min(numbers) <= percentile(numbers, fraction) <= max(numbers)


@given(readings)
def test_percentiles_0_and_100_are_minimum_and_maximum(numbers: list[float]) -> None:
    assert (percentile(numbers, 0), percentile(numbers, 1)) == (min(numbers), max(numbers))


@given(st.permutations([4.0, 8.0, 15.0, 16.0, 23.0, 42.0]))
def test_a_percentile_does_not_depend_on_the_order(numbers: list[float]) -> None:
    assert percentile(numbers, 0.95) == pytest.approx(37.25)


def test_a_single_value_is_every_percentile() -> None:
    assert percentile([7.5], 0.95) == 7.5


@given(readings)
def test_the_average_is_exact_except_for_rounding(numbers: list[float]) -> None:
    found = reduce_window(flat(numbers), unit="percent", period_seconds=300, threshold=None)
    expected = sum(map(Fraction, numbers)) / len(numbers)
    assert found.avg == pytest.approx(float(expected), rel=1e-12)


@given(readings)
@example([0.1, 0.1, 0.1])
def test_average_and_p95_are_between_minimum_and_maximum(numbers: list[float]) -> None:
    found = reduce_window(flat(numbers), unit="percent", period_seconds=300, threshold=None)
    low, average, p95, high = known(found.min, found.avg, found.p95, found.max)
    assert low <= average <= high
    assert low <= p95 <= high


@given(readings, values)
def test_breach_is_the_time_of_the_periods_above_the_threshold(
    numbers: list[float], threshold: float
) -> None:
    found = reduce_window(flat(numbers), unit="percent", period_seconds=60, threshold=threshold)
    assert found.breach_seconds == 60 * len([each for each in numbers if each > threshold])


def test_the_breach_time_is_unknown_without_a_threshold() -> None:
    found = reduce_window(flat([99.0]), unit="percent", period_seconds=300, threshold=None)
    assert found.breach_seconds is None


def test_minimum_and_maximum_are_those_within_the_periods() -> None:
    periods = [Period(0, 10, 1, 90), Period(300, 20, 15, 25)]
    found = reduce_window(periods, unit="percent", period_seconds=300, threshold=80)
    assert (found.min, found.max, found.avg, found.breach_seconds) == (1, 90, 15, 0)


def test_p95_is_the_95th_percentile_of_the_period_averages() -> None:
    periods = [Period(0, 10, 1, 90), Period(300, 20, 15, 25)]
    found = reduce_window(periods, unit="percent", period_seconds=300, threshold=None)
    assert found.p95 == 19.5


def test_last_is_the_average_of_the_latest_period() -> None:
    found = reduce_window(flat([1, 3, 2]), unit="count", period_seconds=300, threshold=None)
    assert found.last == 2


@given(readings)
def test_samples_is_the_number_of_periods_with_data(numbers: list[float]) -> None:
    found = reduce_window(flat(numbers), unit="bytes", period_seconds=300, threshold=None)
    assert found.samples == len(numbers)
