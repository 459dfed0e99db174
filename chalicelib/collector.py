"""The use case of `data-collector`: measure, then write DynamoDB and S3 at the same time."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import msgspec

from . import records
from .errors import CollectionError, InfraMonitoringError
from .items import PREVIOUS_ATTRIBUTES, key, previous_from_item, raw_item
from .records import MetricType, Record
from .results import Result, merge, no_record, report
from .settings import Settings
from .sources import Harvest, Inventory, Scope, Source, Target
from .storage import Store
from .ticks import Tick, chunk_event, plan_key, raw_key
from .windows import Window


class Plan(msgspec.Struct, frozen=True):
    """The targets of one chunk, and which of the stage's sources measures them."""

    source: int
    targets: list[Target]


def respond(
    event: Mapping[str, Any], *, settings: Settings, store: Store, sources: Sequence[Source]
) -> dict[str, Any]:
    """What an event asks for: a tick is collected, results with chunks (`merge`) are merged.

    Raises:
        InvalidEventError: the event does not say what to do.
        InfraMonitoringError: a metric type could not be collected.
    """
    planned = (event.get("detail") or {}).get("merge")
    if planned is not None:
        merged = [merge(each, each.get("chunk_results", ())) for each in planned]
        return {"results": merged, "time": event["time"]}
    return collect(Tick.from_event(event), settings=settings, store=store, sources=sources)


def collect(
    tick: Tick,
    *,
    settings: Settings,
    store: Store,
    sources: Sequence[Source],
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
        results.append(report(msgspec.structs.replace(result, duration_ms=milliseconds)))
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
    if tick.plan:
        plan = _read_plan(tick.plan, store)
        pairs = [(sources[plan.source], Inventory(plan.targets))]
    else:
        pairs = [(source, source.targets(scope)) for source in sources]
        expected = sum(len(inventory.targets) for _, inventory in pairs)
        if tick.fan_out and expected > settings.chunk_targets:
            return _write_plans(tick, metric_type, pairs, settings, store)
    harvest, expected = _measure(scope, pairs, settings.chunk_targets)
    # A chunk may well be one host that is silent; the fleet's silence is for `merge` to see.
    if not tick.plan:
        _check(scope, harvest, expected)
    restated = _changed(harvest.restated, store)
    _store(harvest.records + restated, raw_key(tick, metric_type), settings, store)
    return Result(
        metric_type=metric_type,
        status="SUCCEEDED",
        records=len(harvest.records),
        expected=expected,
        reporting=len({record.resource_id for record in harvest.records}),
        missing=harvest.missing,
        missing_count=len(harvest.missing),
        failures=harvest.failures,
        notes=harvest.notes + ([f"{len(restated)} restated by late points"] if restated else []),
        series=harvest.series,
    )


def _measure(
    scope: Scope, pairs: Sequence[tuple[Source, Inventory]], chunk: int
) -> tuple[Harvest, int]:
    """What the sources brought together, and how many targets they expected."""
    whole, expected = Harvest(), 0
    for source, inventory in pairs:
        expected += len(inventory.targets)
        whole.failures += inventory.failures
        whole.notes += inventory.notes
        # In pieces here too: without a state machine nobody else does it.
        for targets in _chunks(inventory.targets, chunk):
            whole.add(source.collect(scope, targets))
    return whole, expected


def _check(scope: Scope, harvest: Harvest, expected: int) -> None:
    """No record is an error, unless a note says why there is none and nothing is amiss."""
    amiss = harvest.missing or harvest.failures or not harvest.notes
    if not harvest.records and amiss:
        raise CollectionError(
            no_record(scope.metric_type, harvest.failures, len(harvest.missing), expected)
        )


def _chunks(targets: Sequence[Target], size: int) -> Iterator[Sequence[Target]]:
    return (targets[start : start + size] for start in range(0, len(targets), size))


def _write_plans(
    tick: Tick,
    metric_type: MetricType,
    pairs: Sequence[tuple[Source, Inventory]],
    settings: Settings,
    store: Store,
) -> Result:
    """An object for each chunk; the state machine starts a collector for each object."""
    plans = [
        Plan(number, list(targets))
        for number, (_, inventory) in enumerate(pairs)
        for targets in _chunks(inventory.targets, settings.chunk_targets)
    ]
    keys = [plan_key(tick, metric_type, number) for number in range(len(plans))]
    with ThreadPoolExecutor(max_workers=8) as pool:
        bodies = map(msgspec.json.encode, plans)
        put = pool.map(
            lambda each: store.put_object(*each, content_type="application/json"),
            zip(keys, bodies, strict=True),
        )
        list(put)
    return Result(
        metric_type=metric_type,
        status="PLANNED",
        expected=sum(len(plan.targets) for plan in plans),
        failures=[sentence for _, inventory in pairs for sentence in inventory.failures],
        notes=[sentence for _, inventory in pairs for sentence in inventory.notes],
        chunks=[chunk_event(tick, metric_type, each) for each in keys],
    )


def _read_plan(plan: str, store: Store) -> Plan:
    return msgspec.json.decode(b"".join(store.open_object(plan).chunks), type=Plan)


def _changed(restated: Sequence[Record], store: Store) -> list[Record]:
    """Those of the records of the window before that differ from what is stored of them."""
    if not restated:
        return []
    wanted = {str(record.metric_id): record for record in restated}
    keys = [key(raw_item(record, retention_days=1)) for record in wanted.values()]
    stored = {
        item["metric_id"]["S"]: previous_from_item(item).measurements
        for item in store.get_items(keys, PREVIOUS_ATTRIBUTES)
    }
    return [
        record
        for identity, record in wanted.items()
        if not record.measurements.items() <= stored.get(identity, {}).items()
    ]


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
