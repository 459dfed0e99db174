"""A large fleet in chunks: planned, collected one by one, and merged into one result."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from chalicelib.collect.collector import respond
from chalicelib.collect.fan_out import INLINE_CHUNKS, Plan
from chalicelib.collect.sources.protocol import (
    CloudWatchMetric,
    CollectionResult,
    Inventory,
    Scope,
    Target,
)
from chalicelib.model.errors import CollectionError
from chalicelib.model.metric_types import METRIC_TYPES
from chalicelib.model.results import Result, merge, report, summarize
from tests.conftest import BUCKET, SETTINGS, Backend, make_record

IN_TWOS = replace(SETTINGS, chunk_targets=2)
EVENT: dict[str, Any] = {
    "id": "run-1",
    "time": "2026-11-22T18:04:10Z",
    "account": "123456789012",
    "region": "eu-west-1",
    "detail": {"metric_type": "cpu", "fan_out": True},
}
FIVE = ("a", "b", "c", "d", "e")


class FakeSource:
    """A source of some hosts: silent ones are missing, and a broken one raises an error."""

    def __init__(
        self, *hosts: str, silent: Iterable[str] = (), broken: str = "", page: int = 0
    ) -> None:
        self.hosts, self.silent, self.broken, self.page = hosts, set(silent), broken, page
        self.chunks: list[list[str]] = []

    def targets(self, scope: Scope, page_token: str = "") -> Inventory:  # noqa: ARG002 - a Source
        metric = CloudWatchMetric("AWS/EC2", "CPUUtilization", (("InstanceId", "i-1"),))
        found = [Target(host, "here", (metric,), {"name": host}) for host in self.hosts]
        first = int(page_token or 0)
        end = first + self.page if self.page else len(found)
        next_page = str(end) if end < len(found) else ""
        return Inventory(found[first:end], failures=["one region refuses"], next_page=next_page)

    def collect(self, scope: Scope, targets: Sequence[Target]) -> CollectionResult:
        names = [target.name for target in targets]
        self.chunks.append(names)
        if self.broken in names:
            raise CollectionError(f"{self.broken} is broken")
        return CollectionResult(
            records=[
                make_record(resource_id=name, timestamp=scope.window.end)
                for name in names
                if name not in self.silent
            ],
            missing=[name for name in names if name in self.silent],
            requested_metrics=3 * len(names),
        )


def invoke(backend: Backend, event: Mapping[str, Any], *source: FakeSource) -> list[dict[str, Any]]:
    response = respond(event, settings=IN_TWOS, store=backend.store, sources=source)
    results: list[dict[str, Any]] = response["results"]
    return results


def attempt(backend: Backend, event: Mapping[str, Any], *source: FakeSource) -> dict[str, Any]:
    """Collect one chunk; a failure has the form that the state machine gives it."""
    try:
        return invoke(backend, event, *source)[0]
    except CollectionError as error:
        return {"status": "FAILED", "error": "CollectionError", "cause": str(error)}


def whole_run(backend: Backend, *source: FakeSource) -> dict[str, Any]:
    """Plan, collect each chunk and merge, as the state machine does."""
    (planned,) = invoke(backend, EVENT, *source)
    while "more" in planned:
        (planned,) = invoke(backend, planned["more"], *source)
    events = planned["chunks"]
    if "manifest" in planned:
        events = msgspec.json.decode(backend.body(planned["manifest"]))
    chunks = [attempt(backend, event, *source) for event in events]
    event = EVENT | {"detail": {"merge": [planned | {"chunk_results": chunks}]}}
    return invoke(backend, event, *source)[0]


def hosts(backend: Backend) -> list[str]:
    return sorted(item["resource_id"]["S"] for item in backend.items())


def test_a_large_fleet_is_planned_and_not_measured(backend: Backend) -> None:
    source = FakeSource(*FIVE)
    (planned,) = invoke(backend, EVENT, source)
    assert (planned["status"], planned["expected"], len(planned["chunks"])) == ("PLANNED", 5, 3)
    assert source.chunks == []


def test_plans_contain_all_targets_in_order(backend: Backend) -> None:
    source = FakeSource(*FIVE)
    (planned,) = invoke(backend, EVENT, source)
    keys = [event["detail"]["plan"] for event in planned["chunks"]]
    plans = [msgspec.json.decode(backend.body(key), type=Plan) for key in keys]
    assert keys == backend.keys("plans/2026/11/22/cpu-")
    inventory = source.targets(None)  # type: ignore[arg-type]  # unused
    assert [target for plan in plans for target in plan.targets] == inventory.targets


def test_all_chunks_together_store_every_host_once(backend: Backend) -> None:
    result = whole_run(backend, FakeSource(*FIVE))
    assert (result["status"], result["records"], result["expected"]) == ("SUCCEEDED", 5, 5)
    assert hosts(backend) == list(FIVE)


def test_each_chunk_has_its_own_raw_object(backend: Backend) -> None:
    whole_run(backend, FakeSource(*FIVE))
    names = [key.rpartition("-")[2] for key in backend.keys("raw-metrics/")]
    assert names == ["00000.json", "00001.json", "00002.json"]


def test_a_chunk_is_collected_by_the_source_that_listed_it(backend: Backend) -> None:
    one, other = FakeSource("a", "b", "c"), FakeSource("x", "y")
    whole_run(backend, one, other)
    assert (one.chunks, other.chunks) == ([["a", "b"], ["c"]], [["x", "y"]])


def test_a_retry_writes_the_same_plans(backend: Backend) -> None:
    for _ in range(2):
        invoke(backend, EVENT, FakeSource(*FIVE))
    assert len(backend.keys("plans/")) == 3


def test_a_failed_chunk_makes_the_result_failed_with_its_cause(backend: Backend) -> None:
    result = whole_run(backend, FakeSource(*FIVE, broken="c"))
    assert (result["status"], result["error"]) == ("FAILED", "ChunksFailed")
    assert result["cause"] == "1 of 3 chunks failed: c is broken"


def test_the_records_of_the_other_chunks_are_stored(backend: Backend) -> None:
    whole_run(backend, FakeSource(*FIVE, broken="c"))
    assert hosts(backend) == ["a", "b", "e"]


def test_a_chunk_of_silent_hosts_does_not_fail_the_run(backend: Backend) -> None:
    result = whole_run(backend, FakeSource(*FIVE, silent=["e"]))
    assert (result["status"], result["missing"], result["records"]) == ("SUCCEEDED", ["e"], 4)


def test_hosts_that_are_silent_in_every_chunk_are_missing_by_name(backend: Backend) -> None:
    result = whole_run(backend, FakeSource(*FIVE, silent=FIVE))
    assert (result["status"], result["records"]) == ("SUCCEEDED", 0)
    assert (result["missing"], result["missing_count"]) == (list(FIVE), 5)


def test_a_small_fleet_is_collected_without_a_plan(backend: Backend) -> None:
    (result,) = invoke(backend, EVENT, FakeSource("a", "b"))
    assert (result["status"], result["chunks"], result["records"]) == ("SUCCEEDED", [], 2)
    assert backend.keys("plans/") == []


def test_without_fan_out_one_invocation_collects_all_chunks(backend: Backend) -> None:
    source = FakeSource(*FIVE)
    (result,) = invoke(backend, EVENT | {"detail": {"metric_type": "cpu"}}, source)
    assert source.chunks == [["a", "b"], ["c", "d"], ["e"]]
    assert (result["records"], result["chunks"]) == (5, [])


def test_missing_hosts_are_reported_beside_notes(backend: Backend) -> None:
    class WithNote(FakeSource):
        def targets(self, scope: Scope, page_token: str = "") -> Inventory:  # noqa: ARG002 - a Source
            return replace(super().targets(scope), failures=[], notes=["1 of 2 has no agent"])

    result = invoke(backend, EVENT, WithNote("a", silent=["a"]))[0]
    assert "missing 1 of 1: a" in result["summary"]


# Above the limits of one invocation and of the state


def test_each_page_of_the_inventory_is_planned_by_its_own_invocation(backend: Backend) -> None:
    source = FakeSource(*FIVE, page=2)
    planned, invocations = invoke(backend, EVENT, source)[0], 1
    while "more" in planned:
        planned, invocations = invoke(backend, planned["more"], source)[0], invocations + 1
    assert (invocations, planned["expected"], len(planned["chunks"])) == (3, 5, 3)


def test_all_pages_together_store_every_host_once(backend: Backend) -> None:
    result = whole_run(backend, FakeSource(*FIVE, page=2), FakeSource("x", "y", "z", page=1))
    assert (result["records"], result["expected"]) == (8, 8)
    assert hosts(backend) == [*FIVE, "x", "y", "z"]


def test_a_failure_repeated_by_each_page_is_reported_once(backend: Backend) -> None:
    result = whole_run(backend, FakeSource(*FIVE, page=1))
    assert result["failures"] == ["one region refuses"]


def test_without_fan_out_all_pages_are_collected(backend: Backend) -> None:
    event = EVENT | {"detail": {"metric_type": "cpu"}}
    (result,) = invoke(backend, event, FakeSource(*FIVE, page=2))
    assert (result["records"], result["failures"]) == (5, ["one region refuses"])


def test_pages_without_targets_fail(backend: Backend) -> None:
    class NoTargets(FakeSource):
        def targets(self, scope: Scope, page_token: str = "") -> Inventory:  # noqa: ARG002 - a Source
            return Inventory(
                next_page="" if page_token else "more",
                failures=[] if page_token else ["access denied"],
            )

    (planned,) = invoke(backend, EVENT, NoTargets())
    with pytest.raises(CollectionError, match="access denied"):
        invoke(backend, planned["more"], NoTargets())


@pytest.mark.parametrize(("chunks", "inline"), [(INLINE_CHUNKS, True), (INLINE_CHUNKS + 1, False)])
def test_the_events_of_many_chunks_are_stored_in_an_object(
    chunks: int, inline: bool, backend: Backend
) -> None:
    source = FakeSource(*(f"web-{number}" for number in range(2 * chunks)))
    (planned,) = invoke(backend, EVENT, source)
    assert (len(planned["chunks"]) == chunks, "manifest" in planned) == (inline, not inline)
    assert whole_run(backend, source)["records"] == 2 * chunks


MANIFEST = "plans/map-runs/1/manifest.json"


def merged_from_files(backend: Backend, **files: list[dict[str, Any]]) -> dict[str, Any]:
    """Merge result files in the format of Step Functions' ResultWriter."""
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
    return invoke(backend, event)[0]


def test_results_are_read_from_the_files_of_a_map_run(backend: Backend) -> None:
    children = [{"Output": msgspec.json.encode(done(records=n)).decode()} for n in (3, 4)]
    assert merged_from_files(backend, SUCCEEDED=children)["records"] == 7


@pytest.mark.parametrize("status", ["FAILED", "PENDING"])
def test_an_execution_without_output_makes_the_result_failed(status: str, backend: Backend) -> None:
    succeeded = [{"Output": msgspec.json.encode(done(records=3)).decode()}]
    result = merged_from_files(backend, SUCCEEDED=succeeded, **{status: [{"Name": "1"}]})
    assert (result["status"], result["records"]) == ("FAILED", 3)
    assert result["cause"] == f"1 of 2 chunks failed: the execution of the chunk is {status}"


# Results


PLANNED = {"metric_type": "cpu", "status": "PLANNED", "expected": 60, "failures": ["x"]}


def done(**values: Any) -> dict[str, Any]:
    return report(Result(metric_type="cpu", status="SUCCEEDED", **values))


@pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED"])
def test_a_result_without_a_plan_is_not_changed(status: str) -> None:
    result = {"metric_type": "cpu", "status": status, "error": "x", "cause": "y"}
    assert merge(result, []) == result


def test_the_counts_of_chunks_are_added_and_the_longest_duration_is_used() -> None:
    chunks = [
        done(records=3, reporting=3, series=9, duration_ms=70),
        done(records=4, reporting=2, series=6, duration_ms=20),
    ]
    merged = merge(PLANNED, chunks)
    names = ("records", "reporting", "series", "duration_ms", "expected")
    assert [merged[name] for name in names] == [7, 5, 15, 70, 60]


def test_a_sentence_of_the_plan_or_of_several_chunks_occurs_once() -> None:
    plan = PLANNED | {"notes": ["w"]}
    merged = merge(plan, [done(records=1, failures=["x", "y"], notes=["z"])] * 2)
    assert (merged["failures"], merged["notes"]) == (["x", "y"], ["w", "z"])


def test_all_missing_hosts_are_counted_and_the_first_ones_named() -> None:
    """The result of a chunk also names only the first ones."""
    silent = [f"web-{number}" for number in range(30)]
    merged = merge(PLANNED, [done(records=1, missing=silent, missing_count=30)] * 2)
    assert (merged["missing_count"], len(merged["missing"])) == (60, 20)


def test_a_result_names_the_first_twenty_missing_hosts() -> None:
    silent = [f"web-{number}" for number in range(30)]
    assert done(missing=silent, missing_count=30)["missing"] == silent[:20]


@pytest.mark.parametrize("metric_type", METRIC_TYPES)
def test_a_summary_without_problems_is_one_line(metric_type: str) -> None:
    result = Result(
        metric_type=metric_type, status="SUCCEEDED", records=2, reporting=1, duration_ms=5
    )
    assert summarize(result) == f"{metric_type}: 2 records from 1 host in 5 ms"


def test_a_summary_names_five_missing_hosts_and_the_failures() -> None:
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
