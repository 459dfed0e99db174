"""Statistics and the CloudWatch API include the data that `Metrics` puts."""

from datetime import UTC, datetime, timedelta

import pytest
from moto.cloudwatch.models import CloudWatchBackend

from infra.local.cloudwatch import metric_index
from infra.local.cloudwatch.metrics import Metrics

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
DIMENSIONS = {"FunctionName": "log-processor"}


@pytest.fixture
def backend() -> CloudWatchBackend:
    metric_index.install()
    return CloudWatchBackend("eu-west-1", "123456789012")


def put(backend: CloudWatchBackend, values: list[float], *, after: timedelta) -> Metrics:
    metrics = Metrics(backend)
    metrics.put("AWS/Lambda", "Duration", DIMENSIONS, values, "Milliseconds", START + after)
    return metrics


def statistic(metrics: Metrics, name: str, periods: int = 1) -> list[float | None]:
    return metrics.statistic(
        "AWS/Lambda", "Duration", DIMENSIONS, name, start=START, period=3600, periods=periods
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
def test_a_statistic_includes_every_value(
    backend: CloudWatchBackend, name: str, value: float
) -> None:
    metrics = put(backend, [float(number) for number in range(100, 0, -1)], after=HOUR / 2)
    assert statistic(metrics, name) == [pytest.approx(value)]


def test_a_period_includes_its_start_and_excludes_its_end(
    backend: CloudWatchBackend,
) -> None:
    for after in (HOUR, timedelta(0), 3 * HOUR - timedelta(seconds=1), 4 * HOUR):
        metrics = put(backend, [after.total_seconds()], after=after)
    assert statistic(metrics, "Sum", periods=4) == [0, 3600, 10799, None]


def test_metrics_with_different_dimensions_are_different(backend: CloudWatchBackend) -> None:
    metrics = put(backend, [1.0], after=HOUR)
    for dimensions in ({}, {"FunctionName": "data-collector"}, {**DIMENSIONS, "more": "x"}):
        (value,) = metrics.statistic(
            "AWS/Lambda", "Duration", dimensions, "Sum", start=START, period=7200, periods=1
        )
        assert value is None


def test_an_empty_list_of_values_puts_no_datum(backend: CloudWatchBackend) -> None:
    assert statistic(put(backend, [], after=HOUR), "SampleCount") == [None]


def test_the_api_returns_the_data(backend: CloudWatchBackend) -> None:
    put(backend, [1.0, 2.0], after=HOUR / 2)
    dimensions = [{"Name": name, "Value": value} for name, value in DIMENSIONS.items()]
    metric = {"Namespace": "AWS/Lambda", "MetricName": "Duration", "Dimensions": dimensions}
    (result,) = backend.get_metric_data(
        [{"Id": "p", "MetricStat": {"Metric": metric, "Period": 3600, "Stat": "p50"}}],
        START,
        START + HOUR,
    )
    assert result["values"] == [1.5]
    _, listed = backend.list_metrics(None, "AWS/Lambda", "", [])
    assert [each.name for each in listed] == ["Duration"]
