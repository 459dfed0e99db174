"""Metrics of the local cloud: what is put is what statistics and the API tell."""

from datetime import UTC, datetime, timedelta

import pytest
from moto.cloudwatch.models import CloudWatchBackend

from infra.local.cloudwatch import metric_index
from infra.local.cloudwatch.metrics import Metrics

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
OF_A_FUNCTION = {"FunctionName": "log-processor"}


@pytest.fixture
def backend() -> CloudWatchBackend:
    metric_index.install()
    return CloudWatchBackend("eu-west-1", "123456789012")


def put(backend: CloudWatchBackend, values: list[float], *, after: timedelta) -> Metrics:
    metrics = Metrics(backend)
    metrics.put("AWS/Lambda", "Duration", OF_A_FUNCTION, values, "Milliseconds", START + after)
    return metrics


def statistic(metrics: Metrics, name: str, periods: int = 1) -> list[float | None]:
    return metrics.statistic(
        "AWS/Lambda", "Duration", OF_A_FUNCTION, name, start=START, period=3600, periods=periods
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Sum", 5050),
        ("Average", 50.5),
        ("Minimum", 1),
        ("Maximum", 100),
        ("SampleCount", 100),
        ("p0", 1),
        ("p50", 50.5),
        ("p95", 95.05),
    ],
)
def test_a_statistic_is_of_each_value(backend: CloudWatchBackend, name: str, value: float) -> None:
    metrics = put(backend, [float(number) for number in range(100, 0, -1)], after=HOUR / 2)
    assert statistic(metrics, name) == [pytest.approx(value)]


def test_a_period_has_what_was_put_from_its_start_on_and_before_its_end(
    backend: CloudWatchBackend,
) -> None:
    for after in (HOUR, timedelta(0), 3 * HOUR - timedelta(seconds=1), 4 * HOUR):
        metrics = put(backend, [after.total_seconds()], after=after)
    assert statistic(metrics, "Sum", periods=4) == [0, 3600, 10799, None]


def test_other_dimensions_are_another_metric(backend: CloudWatchBackend) -> None:
    metrics = put(backend, [1.0], after=HOUR)
    for dimensions in ({}, {"FunctionName": "data-collector"}, {**OF_A_FUNCTION, "more": "x"}):
        (found,) = metrics.statistic(
            "AWS/Lambda", "Duration", dimensions, "Sum", start=START, period=7200, periods=1
        )
        assert found is None


def test_no_value_is_no_datum(backend: CloudWatchBackend) -> None:
    assert statistic(put(backend, [], after=HOUR), "SampleCount") == [None]


def test_the_api_tells_of_what_was_put(backend: CloudWatchBackend) -> None:
    put(backend, [1.0, 2.0], after=HOUR / 2)
    dimensions = [{"Name": name, "Value": value} for name, value in OF_A_FUNCTION.items()]
    metric = {"Namespace": "AWS/Lambda", "MetricName": "Duration", "Dimensions": dimensions}
    (answer,) = backend.get_metric_data(
        [{"Id": "p", "MetricStat": {"Metric": metric, "Period": 3600, "Stat": "p50"}}],
        START,
        START + HOUR,
    )
    assert answer["values"] == [1.5]
    _, listed = backend.list_metrics(None, "AWS/Lambda", "", [])
    assert [each.name for each in listed] == ["Duration"]
