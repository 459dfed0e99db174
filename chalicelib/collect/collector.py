"""Use case of `data-collector`: collect records, write them to DynamoDB and S3 concurrently."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import chain
from typing import Any

from msgspec.structs import replace

from ..model import items, records
from ..model.dynamodb import key
from ..model.errors import InfraMonitoringError
from ..model.metric_types import MetricType
from ..model.records import Record
from ..model.results import Result, merge, report
from ..model.settings import Settings
from ..model.storage import Store
from ..model.windows import Window
from ..telemetry.metrics import Emit, discard, run_metrics
from .fan_out import (
    all_inventories,
    chunk_results,
    no_targets_error,
    read_inventory,
    read_plan,
    split,
    write_plan,
)
from .requests import CollectionRequest, PlanningProgress, raw_key
from .sources.protocol import CollectionResult, Inventory, Scope, Source

_Inventories = Iterable[Sequence[tuple[Source, Inventory]]]


def respond(
    event: Mapping[str, Any],
    *,
    settings: Settings,
    store: Store,
    sources: Sequence[Source],
    emit: Emit = discard,
) -> dict[str, Any]:
    """Handle an event of the collector: a collection request, or chunk results to `merge`.

    `emit` receives the metrics of each final result.

    Raises:
        InvalidEventError: the event is not a valid collection request.
        InfraMonitoringError: a metric type could not be collected.
    """
    planned = (event.get("detail") or {}).get("merge")
    if planned is not None:
        return {"results": [_merge(each, store, emit) for each in planned]}
    request = CollectionRequest.from_event(event)
    return collect(request, settings=settings, store=store, sources=sources, emit=emit)


def _merge(planned: Mapping[str, Any], store: Store, emit: Emit) -> dict[str, Any]:
    merged = merge(planned, chunk_results(planned, store))
    if planned["status"] == "PLANNED":  # the metrics of any other result are emitted already
        emit(run_metrics(merged))
    return merged


def collect(
    request: CollectionRequest,
    *,
    settings: Settings,
    store: Store,
    sources: Sequence[Source],
    emit: Emit = discard,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Collect and store every metric type of the request, or plan the chunks of a large fleet.

    Returns `{"results": [...]}` with a `results.Result` per metric type. If one metric type
    fails, the others are still collected.

    Raises:
        InfraMonitoringError: the first failure, after all metric types were attempted.
    """
    results: list[dict[str, Any]] = []
    failures: list[InfraMonitoringError] = []
    for metric_type in request.metric_types:
        started = clock()
        try:
            result = _collect_type(request, metric_type, settings, store, sources)
        except InfraMonitoringError as error:
            failures.append(error)
            continue
        milliseconds = round(1000 * (clock() - started))
        results.append(report(replace(result, duration_ms=milliseconds)))
        if not request.plan:  # the result of a chunk is not final
            emit(run_metrics(results[-1]))
    if failures:
        raise failures[0]
    return {"results": results}


def _collect_type(
    request: CollectionRequest,
    metric_type: MetricType,
    settings: Settings,
    store: Store,
    sources: Sequence[Source],
) -> Result:
    scope = _scope(request, metric_type, settings)
    inventories: _Inventories
    if request.plan:
        plan = read_plan(request.plan, store)
        inventories = [[(sources[plan.source], Inventory(plan.targets))]]
    elif request.fan_out:
        page = read_inventory(scope, sources, request.progress or PlanningProgress())
        if request.progress or page.next_progress or page.expected > settings.chunk_targets:
            return write_plan(request, metric_type, page, settings, store)
        inventories = [[(sources[number], inventory) for number, inventory in page.inventories]]
    else:
        inventories = all_inventories(scope, sources)
    collected, expected = _measure(scope, inventories, settings.chunk_targets)
    restated = _changed(collected.restated, store)
    _store(collected.records + restated.records, raw_key(request, metric_type), settings, store)
    return Result(
        metric_type=metric_type,
        status="SUCCEEDED",
        records=len(collected.records),
        expected=expected,
        reporting=len({record.resource_id for record in collected.records}),
        missing=collected.missing,
        missing_count=len(collected.missing),
        failures=collected.failures,
        notes=collected.notes + restated.notes,
        series=collected.requested_metrics,
    )


def _scope(request: CollectionRequest, metric_type: MetricType, settings: Settings) -> Scope:
    window = Window.before(
        request.scheduled_time, seconds=settings.window_seconds, align=settings.period_seconds
    )
    return Scope(metric_type, window, request.account_id, request.region, request.execution_id)


def _measure(
    scope: Scope, inventories: _Inventories, chunk_targets: int
) -> tuple[CollectionResult, int]:
    """Collect all targets; return the result and the number of expected targets.

    Raises CollectionError if there are no records, no missing targets and no notes: then no
    source could list or read a target. A run in which every host is missing is not an error.
    """
    total, expected = CollectionResult(), 0
    for source, inventory in chain.from_iterable(inventories):
        expected += len(inventory.targets)
        total.add(CollectionResult(failures=inventory.failures, notes=inventory.notes))
        # Without a state machine the inventory is not split yet.
        for targets in split(inventory.targets, chunk_targets):
            total.add(source.collect(scope, targets))
    if not total.records and not total.missing and not total.notes:
        raise no_targets_error(scope.metric_type, total.failures)
    return total, expected


def _changed(restated: Sequence[Record], store: Store) -> CollectionResult:
    """The records of the previous window that are new or differ from their stored items."""
    if not restated:
        return CollectionResult()
    by_id = {str(record.metric_id): record for record in restated}
    keys = [key(items.raw_item(record, retention_days=1)) for record in by_id.values()]
    stored = {
        item["metric_id"]["S"]: items.previous_from_item(item).measurements
        for item in store.get_items(keys, items.PREVIOUS_ATTRIBUTES)
    }
    late = [
        record
        for metric_id, record in by_id.items()
        if metric_id in stored and not record.measurements.items() <= stored[metric_id].items()
    ]
    new = [record for metric_id, record in by_id.items() if metric_id not in stored]
    counted = ((late, "restated by late points"), (new, "added to the previous window"))
    notes = [f"{len(changed)} {text}" for changed, text in counted if changed]
    return CollectionResult(records=late + new, notes=notes)


def _store(collected: Sequence[Record], raw_object: str, settings: Settings, store: Store) -> None:
    """Write the raw object and the items concurrently; raise only after both were attempted."""
    if not collected:
        return
    body = b"".join(records.encode(record) + b"\n" for record in collected)
    raw_items = [
        items.raw_item(record, retention_days=settings.retention_days) for record in collected
    ]
    with ThreadPoolExecutor(max_workers=2) as pool:
        writes: list[Future[Any]] = [
            pool.submit(store.put_object, raw_object, body, content_type="application/x-ndjson"),
            pool.submit(store.insert_raw, raw_items),
        ]
        wait(writes)
    for write in writes:
        write.result()
