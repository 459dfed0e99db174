"""The collector: ticks, keys, both writes, and what happens when one of them fails."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from chalicelib.collect.collector import collect
from chalicelib.collect.requests import Tick, raw_key
from chalicelib.collect.sources import create_sources
from chalicelib.collect.sources.protocol import Harvest, Inventory, Scope, Target
from chalicelib.model import records
from chalicelib.model.errors import CollectionError, InvalidEventError, StorageError
from chalicelib.model.metric_types import METRIC_TYPES
from tests.conftest import (
    BUCKET,
    SETTINGS,
    Backend,
    make_record,
)

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


def tick(**detail: str) -> Tick:
    return Tick.from_event(EVENT | {"detail": detail})


class FixedSource:
    """Gives the same hosts whatever is asked, or fails for the types it is told to."""

    def __init__(self, *hosts: str, fails_for: Iterable[str] = ()) -> None:
        self.hosts, self.fails_for = hosts, fails_for

    def targets(self, scope: Scope, start: str = "") -> Inventory:  # noqa: ARG002 - a Source
        return Inventory([Target(host) for host in self.hosts])

    def collect(self, scope: Scope, targets: Sequence[Target]) -> Harvest:
        if scope.metric_type in self.fails_for:
            raise CollectionError(f"{scope.metric_type}: broken sensor")
        moment = {"metric_type": scope.metric_type, "timestamp": scope.window.end}
        return Harvest([make_record(resource_id=each.name, **moment) for each in targets])


def run(backend: Backend, source: Any, one: Tick) -> list[dict[str, Any]]:
    answer = collect(one, settings=SETTINGS, store=backend.store, sources=[source])
    results: list[dict[str, Any]] = answer["results"]
    return results


def test_a_plain_tick_asks_for_all_four_types() -> None:
    assert tick().metric_types == METRIC_TYPES


def test_a_branch_asks_for_its_own() -> None:
    assert tick(metric_type="disk").metric_types == ("disk",)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (EVENT | {"detail": {"metric_type": "gpu"}}, "gpu"),
        (EVENT | {"time": "noon"}, "noon"),
        ({"detail": {}}, "time, account, region, id"),
    ],
)
def test_an_event_that_does_not_say_what_to_do_is_refused(
    event: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidEventError, match=words):
        Tick.from_event(event)


def test_the_raw_key_is_made_of_type_time_and_tick() -> None:
    one = tick()
    key = raw_key(one, "cpu")
    assert key == f"raw-metrics/2026/11/22/cpu-180410-{one.run_id}.json"
    again = Tick.from_event(EVENT | {"id": "another try at the same tick"})
    assert raw_key(again, "cpu") == key


def test_another_tick_has_another_key() -> None:
    later = Tick.from_event(EVENT | {"time": "2026-11-22T18:04:11Z"})
    assert later.run_id != tick().run_id


def test_both_stores_have_every_record(backend: Backend) -> None:
    run(backend, FixedSource("a", "b", "c"), tick(metric_type="cpu"))
    (key,) = backend.keys("raw-metrics/")
    raw = [records.decode(line) for line in backend.body(key).splitlines()]
    assert {str(record.metric_id) for record in raw} == {
        item["metric_id"]["S"] for item in backend.items()
    }
    assert [record.resource_id for record in raw] == ["a", "b", "c"]


def test_this_machine_is_collected_whole(backend: Backend) -> None:
    (source,) = create_sources(SETTINGS)
    results = run(backend, source, tick())
    assert [result["metric_type"] for result in results] == list(METRIC_TYPES)
    assert len(backend.keys("raw-metrics/2026/11/22/")) == len(backend.items()) == 4


def test_the_result_tells_a_person_what_was_collected(backend: Backend) -> None:
    (result,) = run(backend, FixedSource("a", "b"), tick(metric_type="cpu"))
    assert result["summary"].startswith("cpu: 2 records from 2 hosts in ")
    assert json.dumps(result)


def test_the_same_tick_again_adds_nothing(backend: Backend) -> None:
    for _ in range(2):
        run(backend, FixedSource("a"), tick())
    assert len(backend.items()) == len(backend.keys("raw-metrics/")) == 4


def test_one_type_that_fails_does_not_stop_the_others(backend: Backend) -> None:
    with pytest.raises(CollectionError, match="broken sensor"):
        run(backend, FixedSource("a", fails_for=["cpu", "disk"]), tick())
    assert {item["metric_type"]["S"] for item in backend.items()} == {"memory", "network"}


def test_nothing_to_report_is_a_failure_not_a_success(backend: Backend) -> None:
    with pytest.raises(CollectionError, match="no source has a record"):
        run(backend, FixedSource(), tick(metric_type="cpu"))


def test_a_table_that_fails_does_not_keep_the_object_from_being_written(
    backend: Backend,
) -> None:
    backend.dynamodb.delete_table(TableName="InfraMetrics")
    with pytest.raises(StorageError, match=r"put item InfraMetrics: ResourceNotFoundException"):
        run(backend, FixedSource("a"), tick(metric_type="cpu"))
    assert len(backend.keys("raw-metrics/")) == 1


def test_a_bucket_that_fails_does_not_keep_the_items_from_being_written(
    backend: Backend,
) -> None:
    backend.s3.delete_bucket(Bucket=BUCKET)
    with pytest.raises(StorageError, match=rf"put object s3://{BUCKET}/.*: NoSuchBucket"):
        run(backend, FixedSource("a"), tick(metric_type="cpu"))
    assert len(backend.items()) == 1


def test_the_window_is_the_whole_past_one() -> None:
    seen: list[Scope] = []

    class Spy:
        def targets(self, scope: Scope, start: str = "") -> Inventory:  # noqa: ARG002 - a Source
            seen.append(scope)
            raise CollectionError("seen enough")

        def collect(self, scope: Scope, targets: Sequence[Target]) -> Harvest:
            raise AssertionError((scope, targets))

    with pytest.raises(CollectionError):
        collect(
            tick(metric_type="cpu"),
            settings=SETTINGS,
            store=None,  # type: ignore[arg-type]  # it does not come to that
            sources=[Spy()],
        )
    assert seen[0].window.start == datetime(2026, 11, 22, 15, 0, tzinfo=UTC)
    assert seen[0].window.end == datetime(2026, 11, 22, 18, 0, tzinfo=UTC)
