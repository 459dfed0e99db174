"""Fan-out of large fleets: plans chunks of targets for further invocations."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgspec
from msgspec.structs import replace

from ..model.errors import CollectionError
from ..model.metric_types import MetricType
from ..model.results import Result, distinct
from ..model.settings import Settings
from ..model.storage import Store
from . import map_run_results
from .requests import (
    CollectionRequest,
    PlanningProgress,
    chunk_event,
    manifest_key,
    plan_key,
    progress_event,
)
from .sources.protocol import Inventory, Scope, Source, Target

# More chunk events would not fit into the state of the execution, 256 KB for all four metric
# types. An inline Map runs at most 40 iterations at a time.
INLINE_CHUNKS = 40


class Plan(msgspec.Struct, frozen=True):
    """The targets of one chunk, and the index of the source that collects them."""

    source: int
    targets: list[Target]


@dataclass(frozen=True, slots=True)
class InventoryPage:
    """Inventories of consecutive sources by source index, and the progress to resume from."""

    inventories: list[tuple[int, Inventory]]
    next_progress: PlanningProgress | None

    @property
    def expected(self) -> int:
        return sum(len(inventory.targets) for _, inventory in self.inventories)


def read_inventory(
    scope: Scope, sources: Sequence[Source], progress: PlanningProgress
) -> InventoryPage:
    """List as many targets as one invocation can: up to the first source with another page."""
    inventories: list[tuple[int, Inventory]] = []
    page_token = progress.page_token
    for number in range(progress.source, len(sources)):
        inventory = sources[number].targets(scope, page_token)
        inventories.append((number, inventory))
        if inventory.next_page:
            next_progress = replace(progress, source=number, page_token=inventory.next_page)
            return InventoryPage(inventories, next_progress)
        page_token = ""  # nosec B105 # not a password
    return InventoryPage(inventories, None)


def all_inventories(
    scope: Scope, sources: Sequence[Source]
) -> Iterator[list[tuple[Source, Inventory]]]:
    """The inventories of all sources, page by page."""
    progress: PlanningProgress | None = PlanningProgress()
    while progress is not None:
        page = read_inventory(scope, sources, progress)
        yield [(sources[number], inventory) for number, inventory in page.inventories]
        progress = page.next_progress


def split(targets: Sequence[Target], size: int) -> Iterator[Sequence[Target]]:
    """Chunks of `size` targets; the last one may be smaller."""
    return (targets[start : start + size] for start in range(0, len(targets), size))


def write_plan(
    request: CollectionRequest,
    metric_type: MetricType,
    page: InventoryPage,
    settings: Settings,
    store: Store,
) -> Result:
    """Write a plan for each chunk of the page; return the result for the state machine.

    Raises:
        CollectionError: the whole inventory has no target.
    """
    previous = request.progress or PlanningProgress()
    plans = [
        Plan(number, list(targets))
        for number, inventory in page.inventories
        for targets in split(inventory.targets, settings.chunk_targets)
    ]
    _write_plans(request, metric_type, previous.chunks, plans, store)
    inventories = [inventory for _, inventory in page.inventories]
    progress = replace(
        page.next_progress or previous,
        chunks=previous.chunks + len(plans),
        expected=previous.expected + page.expected,
        failures=_merge(previous.failures, (each.failures for each in inventories)),
        notes=_merge(previous.notes, (each.notes for each in inventories)),
    )
    result = Result(
        metric_type=metric_type,
        status="PLANNED",
        expected=progress.expected,
        failures=list(progress.failures),
        notes=list(progress.notes),
    )
    if page.next_progress:
        return replace(result, more=progress_event(request, metric_type, progress))
    if not progress.chunks and not progress.notes:
        raise no_targets_error(metric_type, progress.failures)
    return _with_chunks(result, request, metric_type, progress.chunks, store)


def _with_chunks(
    result: Result,
    request: CollectionRequest,
    metric_type: MetricType,
    count: int,
    store: Store,
) -> Result:
    """The result with the events of all chunks, or with the key of an object that has them."""
    events = [
        chunk_event(request, metric_type, plan_key(request, metric_type, number))
        for number in range(count)
    ]
    if len(events) <= INLINE_CHUNKS:
        return replace(result, chunks=events)
    manifest = manifest_key(request, metric_type)
    store.put_object(manifest, msgspec.json.encode(events), content_type="application/json")
    return replace(result, manifest=manifest)


def _merge(previous: Sequence[str], more: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(distinct(chain(previous, *more)))


def _write_plans(
    request: CollectionRequest,
    metric_type: MetricType,
    first: int,
    plans: Sequence[Plan],
    store: Store,
) -> None:
    keys = [plan_key(request, metric_type, first + number) for number in range(len(plans))]
    with ThreadPoolExecutor(max_workers=8) as pool:
        bodies = map(msgspec.json.encode, plans)
        writes = pool.map(
            lambda each: store.put_object(*each, content_type="application/json"),
            zip(keys, bodies, strict=True),
        )
        list(writes)


def read_plan(key: str, store: Store) -> Plan:
    return msgspec.json.decode(_reader(store)(key), type=Plan)


def chunk_results(planned: Mapping[str, Any], store: Store) -> Sequence[Mapping[str, Any]]:
    """The results of a plan's chunks, from the state or from the result files of a Map Run."""
    map_run = planned.get("map_run")
    if map_run is None:
        results: Sequence[Mapping[str, Any]] = planned.get("chunk_results", ())
        return results
    return map_run_results.outputs(map_run["ResultWriterDetails"]["Key"], _reader(store))


def _reader(store: Store) -> Callable[[str], bytes]:
    return lambda key: b"".join(store.open_object(key).chunks)


def no_targets_error(metric_type: MetricType, failures: Iterable[str]) -> CollectionError:
    """The error of a run without targets; `failures` are the reasons."""
    reasons = "; ".join(failures) or "no host is expected to report"
    return CollectionError(f"{metric_type}: no source has a record: {reasons}")
