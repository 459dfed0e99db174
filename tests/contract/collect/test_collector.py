"""The collector: requests, keys, both writes, and failures of either."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from chalicelib.collect.collector import collect
from chalicelib.collect.requests import CollectionRequest, raw_key
from chalicelib.collect.sources import create_sources
from chalicelib.collect.sources.protocol import CollectionResult, Inventory, Scope, Target
from chalicelib.model import records
from chalicelib.model.errors import CollectionError, InvalidEventError, StorageError
from chalicelib.model.metric_types import METRIC_TYPES
from tests.conftest import BUCKET, SETTINGS, Backend, make_record

EVENT: dict[str, Any] = {
    "version": "0",
    "id": "run-1",
    "time": "2026-11-22T18:04:10Z",
    "account": "123456789012",
    "region": "eu-west-1",
    "source": "aws.events",
    "detail-type": "Scheduled Event",
    "resources": [],
    "detail": {},
}


def request(**detail: str) -> CollectionRequest:
    return CollectionRequest.from_event(EVENT | {"detail": detail})


class FixedSource:
    """A source with fixed hosts that fails for some metric types."""

    def __init__(self, *hosts: str, fails_for: Iterable[str] = ()) -> None:
        self.hosts, self.fails_for = hosts, fails_for

    def targets(self, scope: Scope, page_token: str = "") -> Inventory:  # noqa: ARG002 - a Source
        return Inventory([Target(host) for host in self.hosts])

    def collect(self, scope: Scope, targets: Sequence[Target]) -> CollectionResult:
        if scope.metric_type in self.fails_for:
            raise CollectionError(f"{scope.metric_type}: broken sensor")
        moment = {"metric_type": scope.metric_type, "timestamp": scope.window.end}
        return CollectionResult([make_record(resource_id=each.name, **moment) for each in targets])


def run(backend: Backend, source: Any, collection: CollectionRequest) -> list[dict[str, Any]]:
    response = collect(collection, settings=SETTINGS, store=backend.store, sources=[source])
    results: list[dict[str, Any]] = response["results"]
    return results


def test_an_empty_detail_requests_all_metric_types() -> None:
    assert request().metric_types == METRIC_TYPES


def test_a_branch_requests_its_metric_type() -> None:
    assert request(metric_type="disk").metric_types == ("disk",)


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (EVENT | {"detail": {"metric_type": "gpu"}}, "gpu"),
        (EVENT | {"time": "noon"}, "noon"),
        ({"detail": {}}, "time, account, region, id"),
    ],
)
def test_an_invalid_event_is_rejected(event: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidEventError, match=message):
        CollectionRequest.from_event(event)


def test_the_raw_key_consists_of_metric_type_time_and_run_id() -> None:
    first = request()
    key = raw_key(first, "cpu")
    assert key == f"raw-metrics/2026/11/22/cpu-180410-{first.run_id}.json"
    retry = CollectionRequest.from_event(EVENT | {"id": "retry"})
    assert raw_key(retry, "cpu") == key


def test_another_scheduled_time_has_another_run_id() -> None:
    later = CollectionRequest.from_event(EVENT | {"time": "2026-11-22T18:04:11Z"})
    assert later.run_id != request().run_id


def test_every_record_is_in_the_bucket_and_the_table(backend: Backend) -> None:
    run(backend, FixedSource("a", "b", "c"), request(metric_type="cpu"))
    (key,) = backend.keys("raw-metrics/")
    raw = [records.decode(line) for line in backend.body(key).splitlines()]
    assert {str(record.metric_id) for record in raw} == {
        item["metric_id"]["S"] for item in backend.items()
    }
    assert [record.resource_id for record in raw] == ["a", "b", "c"]


def test_the_local_host_is_collected_with_all_metric_types(backend: Backend) -> None:
    (source,) = create_sources(SETTINGS)
    results = run(backend, source, request())
    assert [result["metric_type"] for result in results] == list(METRIC_TYPES)
    assert len(backend.keys("raw-metrics/2026/11/22/")) == len(backend.items()) == len(METRIC_TYPES)


def test_the_result_has_a_summary(backend: Backend) -> None:
    (result,) = run(backend, FixedSource("a", "b"), request(metric_type="cpu"))
    assert result["summary"].startswith("cpu: 2 records from 2 hosts in ")
    assert json.dumps(result)


def test_a_second_run_for_the_same_time_adds_nothing(backend: Backend) -> None:
    for _ in range(2):
        run(backend, FixedSource("a"), request())
    assert len(backend.items()) == len(backend.keys("raw-metrics/")) == len(METRIC_TYPES)


def test_a_failed_metric_type_does_not_stop_the_others(backend: Backend) -> None:
    with pytest.raises(CollectionError, match="broken sensor"):
        run(backend, FixedSource("a", fails_for=["cpu", "disk"]), request())
    stored = {item["metric_type"]["S"] for item in backend.items()}
    assert stored == set(METRIC_TYPES) - {"cpu", "disk"}


def test_a_run_without_targets_fails(backend: Backend) -> None:
    with pytest.raises(CollectionError, match="no source has a record"):
        run(backend, FixedSource(), request(metric_type="cpu"))


def test_the_object_is_written_if_the_table_fails(
    backend: Backend,
) -> None:
    backend.dynamodb.delete_table(TableName="InfraMetrics")
    with pytest.raises(StorageError, match=r"put item InfraMetrics: ResourceNotFoundException"):
        run(backend, FixedSource("a"), request(metric_type="cpu"))
    assert len(backend.keys("raw-metrics/")) == 1


def test_the_items_are_written_if_the_bucket_fails(
    backend: Backend,
) -> None:
    backend.s3.delete_bucket(Bucket=BUCKET)
    with pytest.raises(StorageError, match=rf"put object s3://{BUCKET}/.*: NoSuchBucket"):
        run(backend, FixedSource("a"), request(metric_type="cpu"))
    assert len(backend.items()) == 1


def test_the_window_is_the_complete_previous_one() -> None:
    seen: list[Scope] = []

    class Spy:
        def targets(self, scope: Scope, page_token: str = "") -> Inventory:  # noqa: ARG002 - a Source
            seen.append(scope)
            raise CollectionError("stop")

        def collect(self, scope: Scope, targets: Sequence[Target]) -> CollectionResult:
            raise AssertionError((scope, targets))

    with pytest.raises(CollectionError):
        collect(
            request(metric_type="cpu"),
            settings=SETTINGS,
            store=None,  # type: ignore[arg-type]  # not reached
            sources=[Spy()],
        )
    assert seen[0].window.start == datetime(2026, 11, 22, 15, 0, tzinfo=UTC)
    assert seen[0].window.end == datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
