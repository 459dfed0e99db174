"""The local cloud's CloudWatch answers what moto's own does, from an index."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from moto.cloudwatch.models import CloudWatchBackend

from infra.local.cloudwatch import metric_index

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
STATISTICS = ["Average", "Minimum", "Maximum", "Sum", "SampleCount"]


@pytest.fixture
def moto_own(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Moto's own methods, while the indexed ones are in their place."""
    own = CloudWatchBackend.get_metric_data
    own = getattr(own, "moto_own", own)
    monkeypatch.setattr(CloudWatchBackend, "get_metric_data", own)
    monkeypatch.setattr(
        CloudWatchBackend, "get_filtered_metrics", CloudWatchBackend.get_filtered_metrics
    )
    metric_index.install()
    return own


def dimensions(*pairs: tuple[str, str]) -> list[dict[str, str]]:
    return [{"Name": name, "Value": value} for name, value in pairs]


def query(name: str, where: list[dict[str, str]], stat: str, **more: Any) -> dict[str, Any]:
    metric = {"Namespace": "Test", "MetricName": name, "Dimensions": where}
    stated = {"Metric": metric, "Period": 300, "Stat": stat, **more}
    return {"Id": f"{name}{stat}".lower(), "MetricStat": stated}


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
def test_points_are_motos(seed: int, moto_own: Any) -> None:
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
    asked: tuple[Any, ...] = (queries, START, START + timedelta(hours=1), order)
    for _ in range(2):  # the second time the index has to catch up
        backend.put_metric_data("Test", [random_datum(source) for _ in range(60)])
        assert backend.get_metric_data(*asked) == moto_own(backend, *asked)


def test_what_the_index_does_not_know_is_left_to_moto(moto_own: Any) -> None:
    backend = CloudWatchBackend("eu-west-1", "123456789012")
    where = dimensions(("InstanceId", "i-1"))
    backend.put_metric_data(
        "Test",
        [{"MetricName": "cpu", "Dimensions": where, "Timestamp": START, "Value": 1}],
    )
    sum_of_it = query("cpu", where, "Sum")
    asked: tuple[Any, ...] = (
        [sum_of_it, {"Id": "same", "Expression": sum_of_it["Id"]}],
        START,
        START + timedelta(hours=1),
    )
    answer = backend.get_metric_data(*asked)
    assert answer == moto_own(backend, *asked)
    assert [each["values"] for each in answer] == [[1.0], [1.0]]


def test_another_namespace_is_another_series(moto_own: Any) -> None:
    del moto_own
    backend = CloudWatchBackend("eu-west-1", "123456789012")
    where = dimensions(("InstanceId", "i-1"))
    datum = {"MetricName": "cpu", "Dimensions": where, "Timestamp": START, "Value": 1}
    backend.put_metric_data("Other", [datum])
    (answer,) = backend.get_metric_data(
        [query("cpu", where, "Sum")], START, START + timedelta(hours=1)
    )
    assert answer["values"] == []


def test_each_series_is_listed_once(moto_own: Any) -> None:
    del moto_own
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


def test_a_reset_backend_has_forgotten_its_series(moto_own: Any) -> None:
    del moto_own
    backend = CloudWatchBackend("eu-west-1", "123456789012")
    backend.put_metric_data("Test", [{"MetricName": "cpu", "Timestamp": START, "Value": 1}])
    assert len(backend.list_metrics(None, "Test", "cpu", [])[1]) == 1
    backend.metric_data = []
    assert backend.list_metrics(None, "Test", "cpu", [])[1] == []
