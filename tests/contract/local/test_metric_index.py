"""The metric index returns the same results as moto."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from moto.cloudwatch.models import CloudWatchBackend

from infra.local.cloudwatch import metric_index
from infra.local.patching import original

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
STATISTICS = ["Average", "Minimum", "Maximum", "Sum", "SampleCount"]


@pytest.fixture(autouse=True)
def moto_get_metric_data(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Install the index for one test; return moto's own GetMetricData."""
    for name in ("get_metric_data", "get_filtered_metrics"):
        monkeypatch.setattr(CloudWatchBackend, name, getattr(CloudWatchBackend, name))
    metric_index.install()
    return original(CloudWatchBackend, "get_metric_data")


def dimensions(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"Name": name, "Value": value} for name, value in pairs]


def query(name: str, dimensions: list[dict[str, str]], stat: str, **more: Any) -> dict[str, Any]:
    metric = {"Namespace": "Test", "MetricName": name, "Dimensions": dimensions}
    metric_stat = {"Metric": metric, "Period": 300, "Stat": stat, **more}
    return {"Id": f"{name}{stat}".lower(), "MetricStat": metric_stat}


def random_datum(source: random.Random) -> dict[str, Any]:
    host = dimensions(("InstanceId", source.choice(["i-1", "i-2"])))
    datum: dict[str, Any] = {
        "MetricName": source.choice(["cpu", "memory"]),
        "Dimensions": host + source.choice([[], dimensions(("path", "/"))]),
        "Timestamp": START + timedelta(seconds=source.randint(-400, 4000)),
        "Unit": source.choice(["Percent", "Count"]),
    }
    value = source.randint(0, 100)
    return datum | source.choice(
        [
            {"Value": value},
            {"Values": [value, value + 1], "Counts": [2, 1]},
            {
                "StatisticValues": {
                    "SampleCount": 4,
                    "Sum": 4 * value + 2,
                    "Minimum": value,
                    "Maximum": value + 1,
                }
            },
        ]
    )


@pytest.mark.parametrize("seed", range(20))
def test_results_are_those_of_moto(seed: int, moto_get_metric_data: Any) -> None:
    source = random.Random(seed)
    backend = CloudWatchBackend("eu-west-1", "123456789012")
    queries = [
        query(name, dimensions(("InstanceId", host), *path), stat, **unit)
        for name in ("cpu", "memory")
        for host in ("i-1", "i-2", "i-unknown")
        for path in ((), (("path", "/"),))
        for stat in STATISTICS
        for unit in ({}, {"Unit": "Percent"})
    ]
    order = source.choice(["TimestampAscending", "TimestampDescending"])
    arguments: tuple[Any, ...] = (queries, START, START + timedelta(hours=1), order)
    for _ in range(2):  # the second time, the index has to add the new data
        backend.put_metric_data("Test", [random_datum(source) for _ in range(60)])
        assert backend.get_metric_data(*arguments) == moto_get_metric_data(backend, *arguments)


def test_moto_handles_an_unsupported_query(moto_get_metric_data: Any) -> None:
    backend = CloudWatchBackend("eu-west-1", "123456789012")
    where = dimensions(("InstanceId", "i-1"))
    backend.put_metric_data(
        "Test",
        [{"MetricName": "cpu", "Dimensions": where, "Timestamp": START, "Value": 1}],
    )
    total = query("cpu", where, "Sum")
    arguments: tuple[Any, ...] = (
        [total, {"Id": "same", "Expression": total["Id"]}],
        START,
        START + timedelta(hours=1),
    )
    results = backend.get_metric_data(*arguments)
    assert results == moto_get_metric_data(backend, *arguments)
    assert [each["values"] for each in results] == [[1.0], [1.0]]


def test_metrics_in_different_namespaces_are_different() -> None:
    backend = CloudWatchBackend("eu-west-1", "123456789012")
    where = dimensions(("InstanceId", "i-1"))
    datum = {"MetricName": "cpu", "Dimensions": where, "Timestamp": START, "Value": 1}
    backend.put_metric_data("Other", [datum])
    (result,) = backend.get_metric_data(
        [query("cpu", where, "Sum")], START, START + timedelta(hours=1)
    )
    assert result["values"] == []


def test_each_metric_is_listed_once() -> None:
    backend = CloudWatchBackend("eu-west-1", "123456789012")
    data = [
        {
            "MetricName": name,
            "Dimensions": dimensions(("InstanceId", f"i-{number}"), ("path", "/")),
            "Timestamp": START,
            "Value": 1,
        }
        for name in ("used", "free")
        for number in range(700)
    ]
    backend.put_metric_data("Test", data + data)
    token, first = backend.list_metrics(None, "Test", "used", [])
    end, second = backend.list_metrics(token, "Test", "used", [])
    assert (len(first), len(second), end) == (500, 200, None)
    _, one = backend.list_metrics(None, "Test", "", dimensions(("InstanceId", "i-7")))
    assert [each.name for each in one] == ["used", "free"]


def test_the_metrics_of_a_reset_backend_are_gone() -> None:
    backend = CloudWatchBackend("eu-west-1", "123456789012")
    backend.put_metric_data("Test", [{"MetricName": "cpu", "Timestamp": START, "Value": 1}])
    assert len(backend.list_metrics(None, "Test", "cpu", [])[1]) == 1
    backend.metric_data = []
    assert backend.list_metrics(None, "Test", "cpu", [])[1] == []
