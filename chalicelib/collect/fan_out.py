"""A fleet too large for one invocation: its inventory, cut into the chunks of other ones."""

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
from . import map_run_results as map_runs
from .requests import Progress, Tick, chunk_event, manifest_key, plan_key, progress_event
from .sources.protocol import Inventory, Scope, Source, Target

# More would not fit into the state machine's state, which has 256 KB for all four types; an
# inline Map would not run more than 40 at once either.
INLINE_CHUNKS = 40


class Plan(msgspec.Struct, frozen=True):
    """The targets of one chunk, and which of the stage's sources measures them."""

    source: int
    targets: list[Target]


@dataclass(frozen=True, slots=True)
class Survey:
    """The inventories of some of the sources, by their number, and where the rest begins."""

    found: list[tuple[int, Inventory]]
    rest: Progress | None

    @property
    def expected(self) -> int:
        return sum(len(inventory.targets) for _, inventory in self.found)


def make_survey(scope: Scope, sources: Sequence[Source], progress: Progress) -> Survey:
    """As much of the inventory as one invocation can read: up to the first source with a rest."""
    found: list[tuple[int, Inventory]] = []
    start = progress.start
    for number in range(progress.source, len(sources)):
        inventory = sources[number].targets(scope, start)
        found.append((number, inventory))
        if inventory.rest:
            return Survey(found, replace(progress, source=number, start=inventory.rest))
        start = ""
    return Survey(found, None)


def whole_inventory(
    scope: Scope, sources: Sequence[Source]
) -> Iterator[list[tuple[Source, Inventory]]]:
    """The whole inventory, one part after another."""
    progress: Progress | None = Progress()
    while progress is not None:
        survey = make_survey(scope, sources, progress)
        yield [(sources[number], inventory) for number, inventory in survey.found]
        progress = survey.rest


def in_chunks(targets: Sequence[Target], size: int) -> Iterator[Sequence[Target]]:
    """Slices of `size` targets, the last one shorter."""
    return (targets[start : start + size] for start in range(0, len(targets), size))


def write_plan(
    tick: Tick, metric_type: MetricType, survey: Survey, settings: Settings, store: Store
) -> Result:
    """An object for each chunk of what was surveyed, and how the state machine goes on."""
    before = tick.progress or Progress()
    plans = [
        Plan(number, list(targets))
        for number, inventory in survey.found
        for targets in in_chunks(inventory.targets, settings.chunk_targets)
    ]
    _write_plans(tick, metric_type, before.chunks, plans, store)
    inventories = [inventory for _, inventory in survey.found]
    progress = replace(
        survey.rest or before,
        chunks=before.chunks + len(plans),
        expected=before.expected + survey.expected,
        failures=_joined(before.failures, (each.failures for each in inventories)),
        notes=_joined(before.notes, (each.notes for each in inventories)),
    )
    result = Result(
        metric_type=metric_type,
        status="PLANNED",
        expected=progress.expected,
        failures=list(progress.failures),
        notes=list(progress.notes),
    )
    if survey.rest:
        return replace(result, more=progress_event(tick, metric_type, progress))
    if not progress.chunks and not progress.notes:
        raise nobody(metric_type, progress.failures)
    events = [
        chunk_event(tick, metric_type, plan_key(tick, metric_type, number))
        for number in range(progress.chunks)
    ]
    if len(events) <= INLINE_CHUNKS:
        return replace(result, chunks=events)
    manifest = manifest_key(tick, metric_type)
    store.put_object(manifest, msgspec.json.encode(events), content_type="application/json")
    return replace(result, manifest=manifest)


def _joined(before: Sequence[str], more: Iterable[Sequence[str]]) -> tuple[str, ...]:
    return tuple(distinct(chain(before, *more)))


def _write_plans(
    tick: Tick, metric_type: MetricType, first: int, plans: Sequence[Plan], store: Store
) -> None:
    keys = [plan_key(tick, metric_type, first + number) for number in range(len(plans))]
    with ThreadPoolExecutor(max_workers=8) as pool:
        bodies = map(msgspec.json.encode, plans)
        put = pool.map(
            lambda each: store.put_object(*each, content_type="application/json"),
            zip(keys, bodies, strict=True),
        )
        list(put)


def read_plan(plan: str, store: Store) -> Plan:
    """The chunk whose targets wait under the key `plan`."""
    return msgspec.json.decode(_reader(store)(plan), type=Plan)


def chunk_results(planned: Mapping[str, Any], store: Store) -> Sequence[Mapping[str, Any]]:
    """What the chunks of a plan reported: in the state, or in the files of a Map Run."""
    written = planned.get("map_run")
    if written is None:
        reported: Sequence[Mapping[str, Any]] = planned.get("chunk_results", ())
        return reported
    return map_runs.outputs(written["ResultWriterDetails"]["Key"], _reader(store))


def _reader(store: Store) -> Callable[[str], bytes]:
    return lambda key: b"".join(store.open_object(key).chunks)


def nobody(metric_type: MetricType, failures: Iterable[str]) -> CollectionError:
    """What a run without anybody to ask ends with."""
    reasons = "; ".join(failures) or "no resource is expected to report"
    return CollectionError(f"{metric_type}: no source has a record: {reasons}")
