"""A large fleet in chunks: planned, collected one by one, and merged into one report."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from chalicelib.collect.collector import respond
from chalicelib.collect.fan_out import INLINE_CHUNKS, Plan
from chalicelib.collect.sources.protocol import Harvest, Inventory, Scope, Series, Target
from chalicelib.model.errors import CollectionError
from chalicelib.model.metric_types import METRIC_TYPES
from chalicelib.model.results import (
    Result,
    merge,
    report,
    summarize,
)
from tests.conftest import (
    BUCKET,
    SETTINGS,
    Backend,
    make_record,
)

IN_TWOS = replace(SETTINGS, chunk_targets=2)
EVENT: dict[str, Any] = {
    "id": "run-1",
    "time": "2026-11-22T18:04:10Z",
    "account": "123456789012",
    "region": "eu-west-1",
    "detail": {"metric_type": "cpu", "fan_out": True},
}
FIVE = ("a", "b", "c", "d", "e")


class Machines:
    """Some hosts; the silent ones are missing, a broken one fails whoever asks it."""

    def __init__(
        self, *hosts: str, silent: Iterable[str] = (), broken: str = "", part: int = 0
    ) -> None:
        self.hosts, self.silent, self.broken, self.part = hosts, set(silent), broken, part
        self.pieces: list[list[str]] = []

    def targets(self, scope: Scope, start: str = "") -> Inventory:  # noqa: ARG002 - a Source
        series = Series("AWS/EC2", "CPUUtilization", (("InstanceId", "i-1"),))
        found = [Target(host, "here", (series,), {"name": host}) for host in self.hosts]
        first = int(start or 0)
        end = first + self.part if self.part else len(found)
        rest = str(end) if end < len(found) else ""
        return Inventory(found[first:end], failures=["one region refuses"], rest=rest)

    def collect(self, scope: Scope, targets: Sequence[Target]) -> Harvest:
        names = [target.name for target in targets]
        self.pieces.append(names)
        if self.broken in names:
            raise CollectionError(f"{self.broken} is on fire")
        return Harvest(
            records=[
                make_record(resource_id=name, timestamp=scope.window.end)
                for name in names
                if name not in self.silent
            ],
            missing=[name for name in names if name in self.silent],
            series=3 * len(names),
        )


def ask(backend: Backend, event: Mapping[str, Any], *machines: Machines) -> list[dict[str, Any]]:
    answer = respond(event, settings=IN_TWOS, store=backend.store, sources=machines)
    results: list[dict[str, Any]] = answer["results"]
    return results


def attempt(backend: Backend, event: Mapping[str, Any], *machines: Machines) -> dict[str, Any]:
    """One chunk, with the state machine's word for what failed."""
    try:
        return ask(backend, event, *machines)[0]
    except CollectionError as error:
        return {"status": "FAILED", "error": "CollectionError", "cause": str(error)}


def whole_run(backend: Backend, *machines: Machines) -> dict[str, Any]:
    """As the state machine does it: plan, each chunk, merge."""
    (planned,) = ask(backend, EVENT, *machines)
    while "more" in planned:
        (planned,) = ask(backend, planned["more"], *machines)
    events = planned["chunks"]
    if "manifest" in planned:
        events = msgspec.json.decode(backend.body(planned["manifest"]))
    chunks = [attempt(backend, event, *machines) for event in events]
    event = EVENT | {"detail": {"merge": [planned | {"chunk_results": chunks}]}}
    return ask(backend, event, *machines)[0]


def hosts(backend: Backend) -> list[str]:
    return sorted(item["resource_id"]["S"] for item in backend.items())


def test_a_large_fleet_is_planned_and_not_measured(backend: Backend) -> None:
    machines = Machines(*FIVE)
    (planned,) = ask(backend, EVENT, machines)
    assert (planned["status"], planned["expected"], len(planned["chunks"])) == ("PLANNED", 5, 3)
    assert machines.pieces == []


def test_a_plan_holds_the_targets_whole_and_in_order(backend: Backend) -> None:
    machines = Machines(*FIVE)
    (planned,) = ask(backend, EVENT, machines)
    keys = [event["detail"]["plan"] for event in planned["chunks"]]
    plans = [msgspec.json.decode(backend.body(key), type=Plan) for key in keys]
    assert keys == backend.keys("plans/2026/11/22/cpu-")
    inventory = machines.targets(None)  # type: ignore[arg-type]  # it asks nothing of it
    assert [target for plan in plans for target in plan.targets] == inventory.targets


def test_chunks_together_store_every_host_once(backend: Backend) -> None:
    result = whole_run(backend, Machines(*FIVE))
    assert (result["status"], result["records"], result["expected"]) == ("SUCCEEDED", 5, 5)
    assert hosts(backend) == list(FIVE)


def test_each_chunk_has_a_raw_object_of_its_own(backend: Backend) -> None:
    whole_run(backend, Machines(*FIVE))
    names = [key.rpartition("-")[2] for key in backend.keys("raw-metrics/")]
    assert names == ["00000.json", "00001.json", "00002.json"]


def test_a_chunk_is_measured_by_the_source_that_planned_it(backend: Backend) -> None:
    one, other = Machines("a", "b", "c"), Machines("x", "y")
    whole_run(backend, one, other)
    assert (one.pieces, other.pieces) == ([["a", "b"], ["c"]], [["x", "y"]])


def test_a_second_try_plans_the_same_objects(backend: Backend) -> None:
    for _ in range(2):
        ask(backend, EVENT, Machines(*FIVE))
    assert len(backend.keys("plans/")) == 3


def test_a_chunk_that_failed_makes_the_whole_failed_and_says_why(backend: Backend) -> None:
    result = whole_run(backend, Machines(*FIVE, broken="c"))
    assert (result["status"], result["error"]) == ("FAILED", "ChunksFailed")
    assert result["cause"] == "1 of 3 chunks failed: c is on fire"


def test_what_the_other_chunks_measured_is_stored(backend: Backend) -> None:
    whole_run(backend, Machines(*FIVE, broken="c"))
    assert hosts(backend) == ["a", "b", "e"]


def test_a_chunk_of_silent_hosts_does_not_fail_the_fleet(backend: Backend) -> None:
    result = whole_run(backend, Machines(*FIVE, silent=["e"]))
    assert (result["status"], result["missing"], result["records"]) == ("SUCCEEDED", ["e"], 4)


def test_a_fleet_that_is_silent_in_every_chunk_is_missing_by_name(backend: Backend) -> None:
    result = whole_run(backend, Machines(*FIVE, silent=FIVE))
    assert (result["status"], result["records"]) == ("SUCCEEDED", 0)
    assert (result["missing"], result["missing_count"]) == (list(FIVE), 5)


def test_a_small_fleet_is_collected_at_once(backend: Backend) -> None:
    (result,) = ask(backend, EVENT, Machines("a", "b"))
    assert (result["status"], result["chunks"], result["records"]) == ("SUCCEEDED", [], 2)
    assert backend.keys("plans/") == []


def test_without_fan_out_a_large_fleet_is_collected_in_pieces(backend: Backend) -> None:
    machines = Machines(*FIVE)
    (result,) = ask(backend, EVENT | {"detail": {"metric_type": "cpu"}}, machines)
    assert machines.pieces == [["a", "b"], ["c", "d"], ["e"]]
    assert (result["records"], result["chunks"]) == (5, [])


def test_hosts_that_are_missing_are_told_whatever_else_is_noted(backend: Backend) -> None:
    class Noted(Machines):
        def targets(self, scope: Scope, start: str = "") -> Inventory:  # noqa: ARG002 - a Source
            return replace(super().targets(scope), failures=[], notes=["1 of 2 has no agent"])

    result = ask(backend, EVENT, Noted("a", silent=["a"]))[0]
    assert "missing 1 of 1: a" in result["summary"]


# Past the limits of one invocation and of the state


def test_an_inventory_in_parts_is_planned_in_as_many_invocations(backend: Backend) -> None:
    machines = Machines(*FIVE, part=2)
    planned, invocations = ask(backend, EVENT, machines)[0], 1
    while "more" in planned:
        planned, invocations = ask(backend, planned["more"], machines)[0], invocations + 1
    assert (invocations, planned["expected"], len(planned["chunks"])) == (3, 5, 3)


def test_parts_together_store_every_host_once(backend: Backend) -> None:
    result = whole_run(backend, Machines(*FIVE, part=2), Machines("x", "y", "z", part=1))
    assert (result["records"], result["expected"]) == (8, 8)
    assert hosts(backend) == [*FIVE, "x", "y", "z"]


def test_a_failure_that_each_part_repeats_is_told_once(backend: Backend) -> None:
    result = whole_run(backend, Machines(*FIVE, part=1))
    assert result["failures"] == ["one region refuses"]


def test_without_fan_out_all_parts_are_collected(backend: Backend) -> None:
    event = EVENT | {"detail": {"metric_type": "cpu"}}
    (result,) = ask(backend, event, Machines(*FIVE, part=2))
    assert (result["records"], result["failures"]) == (5, ["one region refuses"])


def test_parts_without_anybody_are_a_failure(backend: Backend) -> None:
    class Nobody(Machines):
        def targets(self, scope: Scope, start: str = "") -> Inventory:  # noqa: ARG002 - a Source
            return Inventory(rest="" if start else "more", failures=[] if start else ["no way in"])

    (planned,) = ask(backend, EVENT, Nobody())
    with pytest.raises(CollectionError, match="no way in"):
        ask(backend, planned["more"], Nobody())


@pytest.mark.parametrize(("chunks", "inline"), [(INLINE_CHUNKS, True), (INLINE_CHUNKS + 1, False)])
def test_more_chunks_than_the_state_can_hold_wait_in_an_object(
    chunks: int, inline: bool, backend: Backend
) -> None:
    machines = Machines(*(f"web-{number}" for number in range(2 * chunks)))
    (planned,) = ask(backend, EVENT, machines)
    assert (len(planned["chunks"]) == chunks, "manifest" in planned) == (inline, not inline)
    assert whole_run(backend, machines)["records"] == 2 * chunks


MANIFEST = "plans/map-runs/1/manifest.json"


def merged_from_files(backend: Backend, **files: list[dict[str, Any]]) -> dict[str, Any]:
    """As Step Functions' ResultWriter leaves the results of a Map Run."""
    named = {}
    for status, children in files.items():
        key = f"plans/map-runs/1/{status}_0.json"
        backend.store.put_object(
            key, msgspec.json.encode(children), content_type="application/json"
        )
        named[status] = [{"Key": key, "Size": 1}]
    backend.store.put_object(
        MANIFEST, msgspec.json.encode({"ResultFiles": named}), content_type="application/json"
    )
    map_run = {"ResultWriterDetails": {"Bucket": BUCKET, "Key": MANIFEST}}
    event = EVENT | {"detail": {"merge": [PLANNED | {"map_run": map_run}]}}
    return ask(backend, event)[0]


def test_reports_are_read_from_the_files_of_a_map_run(backend: Backend) -> None:
    children = [{"Output": msgspec.json.encode(done(records=n)).decode()} for n in (3, 4)]
    assert merged_from_files(backend, SUCCEEDED=children)["records"] == 7


@pytest.mark.parametrize("status", ["FAILED", "PENDING"])
def test_an_execution_that_came_to_nothing_makes_the_whole_failed(
    status: str, backend: Backend
) -> None:
    well = [{"Output": msgspec.json.encode(done(records=3)).decode()}]
    result = merged_from_files(backend, SUCCEEDED=well, **{status: [{"Name": "1"}]})
    assert (result["status"], result["records"]) == ("FAILED", 3)
    assert result["cause"] == f"1 of 2 chunks failed: the execution of the chunk is {status}"


# Reports


PLANNED = {"metric_type": "cpu", "status": "PLANNED", "expected": 60, "failures": ["x"]}


def done(**values: Any) -> dict[str, Any]:
    return report(Result(metric_type="cpu", status="SUCCEEDED", **values))


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_what_was_not_planned_stays_as_it_is(status: str) -> None:
    result = {"metric_type": "cpu", "status": status, "error": "x", "cause": "y"}
    assert merge(result, []) == result


def test_numbers_of_chunks_add_up_and_the_slowest_is_the_duration() -> None:
    chunks = [
        done(records=3, reporting=3, series=9, duration_ms=70),
        done(records=4, reporting=2, series=6, duration_ms=20),
    ]
    merged = merge(PLANNED, chunks)
    names = ("records", "reporting", "series", "duration_ms", "expected")
    assert [merged[name] for name in names] == [7, 5, 15, 70, 60]


def test_a_sentence_that_the_plan_or_several_chunks_say_is_said_once() -> None:
    plan = PLANNED | {"notes": ["w"]}
    merged = merge(plan, [done(records=1, failures=["x", "y"], notes=["z"])] * 2)
    assert (merged["failures"], merged["notes"]) == (["x", "y"], ["w", "z"])


def test_all_missing_are_counted_and_the_first_named() -> None:
    """A chunk has named only its first ones, too."""
    silent = [f"web-{number}" for number in range(30)]
    merged = merge(PLANNED, [done(records=1, missing=silent, missing_count=30)] * 2)
    assert (merged["missing_count"], len(merged["missing"])) == (60, 20)


def test_a_report_names_the_first_twenty_missing() -> None:
    silent = [f"web-{number}" for number in range(30)]
    assert done(missing=silent, missing_count=30)["missing"] == silent[:20]


@pytest.mark.parametrize("metric_type", METRIC_TYPES)
def test_a_summary_is_a_line_when_all_is_well(metric_type: str) -> None:
    result = Result(
        metric_type=metric_type, status="SUCCEEDED", records=2, reporting=1, duration_ms=5
    )
    assert summarize(result) == f"{metric_type}: 2 records from 1 host in 5 ms"


def test_a_summary_names_five_of_the_missing_and_says_what_failed() -> None:
    result = Result(
        metric_type="cpu",
        status="SUCCEEDED",
        expected=9,
        missing=list("abcdef"),
        missing_count=6,
        failures=["one region refuses"],
        notes=["1 restated"],
    )
    assert summarize(result).splitlines()[1:] == [
        "  missing 6 of 9: a, b, c, d, e, ...",
        "  one region refuses",
        "  1 restated",
    ]
