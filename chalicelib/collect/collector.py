"""The use case of `data-collector`: measure, then write DynamoDB and S3 at the same time."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import chain
from typing import Any

from msgspec.structs import replace

from ..model import records
from ..model.dynamodb import key
from ..model.errors import InfraMonitoringError
from ..model.items import PREVIOUS_ATTRIBUTES, previous_from_item, raw_item
from ..model.metric_types import MetricType
from ..model.records import Record
from ..model.results import Result, merge, report
from ..model.settings import Settings
from ..model.storage import Store
from ..model.windows import Window
from ..telemetry.metrics import Emit, discard, run_metrics
from .fan_out import (
    chunk_results,
    in_chunks,
    make_survey,
    nobody,
    read_plan,
    whole_inventory,
    write_plan,
)
from .requests import Progress, Tick, raw_key
from .sources.protocol import Harvest, Inventory, Scope, Source


def respond(
    event: Mapping[str, Any],
    *,
    settings: Settings,
    store: Store,
    sources: Sequence[Source],
    emit: Emit = discard,
) -> dict[str, Any]:
    """What an event asks for: a tick is collected, results with chunks (`merge`) are merged.

    `emit` gets the metrics of each result that is final.

    Raises:
        InvalidEventError: the event does not say what to do.
        InfraMonitoringError: a metric type could not be collected.
    """
    planned = (event.get("detail") or {}).get("merge")
    if planned is not None:
        return {"results": [_merge(each, store, emit) for each in planned]}
    tick = Tick.from_event(event)
    return collect(tick, settings=settings, store=store, sources=sources, emit=emit)


def _merge(planned: Mapping[str, Any], store: Store, emit: Emit) -> dict[str, Any]:
    merged = merge(planned, chunk_results(planned, store))
    if planned["status"] == "PLANNED":  # else somebody has told of it already
        emit(run_metrics(merged))
    return merged


def collect(
    tick: Tick,
    *,
    settings: Settings,
    store: Store,
    sources: Sequence[Source],
    emit: Emit = discard,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Measure and store every metric type of the tick, or plan the chunks of a large fleet.

    Returns `{"results": [...]}`, a `results.Result` for each metric type. One metric type
    that fails does not keep the others from being stored.

    Raises:
        InfraMonitoringError: the first failure, after every metric type had its turn.
    """
    results: list[dict[str, Any]] = []
    failures: list[InfraMonitoringError] = []
    for metric_type in tick.metric_types:
        started = clock()
        try:
            result = _collect_type(tick, metric_type, settings, store, sources)
        except InfraMonitoringError as error:
            failures.append(error)
            continue
        milliseconds = round(1000 * (clock() - started))
        results.append(report(replace(result, duration_ms=milliseconds)))
        if not tick.plan:  # a chunk's is not final
            emit(run_metrics(results[-1]))
    if failures:
        raise failures[0]
    return {"results": results}


def _collect_type(
    tick: Tick,
    metric_type: MetricType,
    settings: Settings,
    store: Store,
    sources: Sequence[Source],
) -> Result:
    scope = Scope(
        metric_type=metric_type,
        window=Window.before(
            tick.time, seconds=settings.window_seconds, align=settings.period_seconds
        ),
        account_id=tick.account_id,
        region=tick.region,
        execution_id=tick.execution_id,
    )
    parts: Iterable[Sequence[tuple[Source, Inventory]]]
    if tick.plan:
        plan = read_plan(tick.plan, store)
        parts = [[(sources[plan.source], Inventory(plan.targets))]]
    elif tick.fan_out:
        survey = make_survey(scope, sources, tick.progress or Progress())
        if tick.progress or survey.rest or survey.expected > settings.chunk_targets:
            return write_plan(tick, metric_type, survey, settings, store)
        parts = [[(sources[number], inventory) for number, inventory in survey.found]]
    else:
        parts = whole_inventory(scope, sources)
    harvest, expected = _measure(scope, parts, settings.chunk_targets)
    restated = _changed(harvest.restated, store)
    _store(harvest.records + restated.records, raw_key(tick, metric_type), settings, store)
    return Result(
        metric_type=metric_type,
        status="SUCCEEDED",
        records=len(harvest.records),
        expected=expected,
        reporting=len({record.resource_id for record in harvest.records}),
        missing=harvest.missing,
        missing_count=len(harvest.missing),
        failures=harvest.failures,
        notes=harvest.notes + restated.notes,
        series=harvest.series,
    )


def _measure(
    scope: Scope, parts: Iterable[Sequence[tuple[Source, Inventory]]], chunk: int
) -> tuple[Harvest, int]:
    """What the sources brought together, and how many targets they expected.

    That every host is missing is an answer. That nobody could be asked, or that there is
    nobody to ask, is a failure, unless a source explains it in a note.
    """
    whole, expected = Harvest(), 0
    for source, inventory in chain.from_iterable(parts):
        expected += len(inventory.targets)
        whole.add(Harvest(failures=inventory.failures, notes=inventory.notes))
        # In pieces here too: without a state machine nobody else does it.
        for targets in in_chunks(inventory.targets, chunk):
            whole.add(source.collect(scope, targets))
    if not whole.records and not whole.missing and not whole.notes:
        raise nobody(scope.metric_type, whole.failures)
    return whole, expected


def _changed(restated: Sequence[Record], store: Store) -> Harvest:
    """Those of the records of the window before that differ from what is stored of them."""
    if not restated:
        return Harvest()
    wanted = {str(record.metric_id): record for record in restated}
    keys = [key(raw_item(record, retention_days=1)) for record in wanted.values()]
    stored = {
        item["metric_id"]["S"]: previous_from_item(item).measurements
        for item in store.get_items(keys, PREVIOUS_ATTRIBUTES)
    }
    late = [
        record
        for identity, record in wanted.items()
        if identity in stored and not record.measurements.items() <= stored[identity].items()
    ]
    new = [record for identity, record in wanted.items() if identity not in stored]
    told = ((late, "restated by late points"), (new, "added to the window before"))
    notes = [f"{len(records)} {what}" for records, what in told if records]
    return Harvest(records=late + new, notes=notes)


def _store(collected: Sequence[Record], raw_object: str, settings: Settings, store: Store) -> None:
    """Write the raw object and the items side by side; both are tried before one is raised."""
    if not collected:
        return
    body = b"".join(records.encode(record) + b"\n" for record in collected)
    items = [raw_item(record, retention_days=settings.retention_days) for record in collected]
    with ThreadPoolExecutor(max_workers=2) as pool:
        writes: list[Future[Any]] = [
            pool.submit(store.put_object, raw_object, body, content_type="application/x-ndjson"),
            pool.submit(store.insert_raw, items),
        ]
        wait(writes)
    for write in writes:
        write.result()
