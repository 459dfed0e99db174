"""The use case of `data-collector`: measure, then write DynamoDB and S3 at the same time."""

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast, get_args

from . import records
from .errors import CollectionError, InfraMonitoringError, InvalidEventError
from .items import raw_item
from .records import METRIC_TYPES, MetricType, Record
from .settings import Settings
from .sources import Harvest, Scope, Source
from .storage import Store
from .windows import Window, parse_utc

RAW_PREFIX = "raw-metrics/"


@dataclass(frozen=True, slots=True)
class Tick:
    """One call of the clock: when, on whose behalf, and which metric types."""

    time: datetime
    account_id: str
    region: str
    execution_id: str
    metric_types: tuple[MetricType, ...]

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> "Tick":
        """A tick from an EventBridge event; an empty `detail` asks for all metric types.

        Raises:
            InvalidEventError: a field is missing or is not what it should be.
        """
        detail = event.get("detail") or {}
        wanted = detail.get("metric_type")
        if wanted is not None and wanted not in get_args(MetricType):
            raise InvalidEventError(
                f"detail.metric_type {wanted!r} is none of {', '.join(METRIC_TYPES)}"
            )
        missing = [name for name in ("time", "account", "region", "id") if not event.get(name)]
        if missing:
            raise InvalidEventError(f"the event has no {', '.join(missing)}")
        return cls(
            time=parse_utc(event["time"]),
            account_id=event["account"],
            region=event["region"],
            execution_id=detail.get("execution_id") or event["id"],
            metric_types=METRIC_TYPES if wanted is None else (cast(MetricType, wanted),),
        )

    @property
    def run_id(self) -> str:
        """The same for every try at the same tick, so that a second try replaces the first."""
        name = f"{self.account_id}/{self.region}/{self.time.isoformat()}"
        return uuid.uuid5(uuid.NAMESPACE_URL, name).hex[:12]


def raw_key(tick: Tick, metric_type: MetricType) -> str:
    """`raw-metrics/YYYY/MM/DD/<metric_type>-<HHMMSS>-<run id>.json`."""
    return f"{RAW_PREFIX}{tick.time:%Y/%m/%d}/{metric_type}-{tick.time:%H%M%S}-{tick.run_id}.json"


def collect(
    tick: Tick,
    *,
    settings: Settings,
    store: Store,
    sources: Sequence[Source],
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Measure and store every metric type of the tick.

    Returns `{"results": [...]}`, one for each metric type: `metric_type`, `status`, `records`,
    how many resources were `expected` and how many are `reporting`, which are `missing`, the
    `failures` of sources in part, the `series` billed, `raw_object`, `duration_ms`, and
    `summary`, a line for people.
    One metric type that fails does not keep the others from being stored.

    Raises:
        InfraMonitoringError: the first failure, after every metric type had its turn.
    """
    results, failures = [], []
    for metric_type in tick.metric_types:
        started = clock()
        try:
            harvest, expected = _measure(tick, metric_type, settings, sources)
            key = raw_key(tick, metric_type)
            _store(harvest.records, key, settings=settings, store=store)
        except InfraMonitoringError as error:
            failures.append(error)
            continue
        collected = harvest.records
        milliseconds = round(1000 * (clock() - started))
        resources = len({record.resource_id for record in collected})
        results.append(
            {
                "metric_type": metric_type,
                "status": "SUCCEEDED",
                "records": len(collected),
                "expected": expected,
                "reporting": resources,
                "missing": harvest.missing,
                "failures": harvest.failures,
                "series": harvest.series,
                "raw_object": key,
                "duration_ms": milliseconds,
                "summary": f"{metric_type}: {_count(len(collected), 'record')} from"
                f" {_count(resources, 'host')} in {milliseconds} ms",
            }
        )
    if failures:
        raise failures[0]
    return {"results": results}


def _measure(
    tick: Tick, metric_type: MetricType, settings: Settings, sources: Sequence[Source]
) -> tuple[Harvest, int]:
    """What the sources brought together, and how many targets they expected."""
    scope = Scope(
        metric_type=metric_type,
        window=Window.before(
            tick.time, seconds=settings.window_seconds, align=settings.period_seconds
        ),
        account_id=tick.account_id,
        region=tick.region,
        execution_id=tick.execution_id,
    )
    whole, expected = Harvest(), 0
    for source in sources:
        inventory = source.targets(scope)
        harvest = source.collect(scope, inventory.targets)
        expected += len(inventory.targets)
        whole.records += harvest.records
        whole.missing += harvest.missing
        whole.failures += inventory.failures + harvest.failures
        whole.series += harvest.series
    if not whole.records:
        reasons = "; ".join(whole.failures) or f"{len(whole.missing)} of {expected} are missing"
        raise CollectionError(f"{metric_type}: no source has a record: {reasons}")
    return whole, expected


def _store(collected: Sequence[Record], key: str, *, settings: Settings, store: Store) -> None:
    """Write the raw object and the items side by side; both are tried before one is raised."""
    body = b"".join(records.encode(record) + b"\n" for record in collected)
    items = [raw_item(record, retention_days=settings.retention_days) for record in collected]
    with ThreadPoolExecutor(max_workers=2) as pool:
        writes: list[Future[Any]] = [
            pool.submit(store.put_object, key, body, content_type="application/x-ndjson"),
            pool.submit(store.insert_raw, items),
        ]
        wait(writes)
    for write in writes:
        write.result()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
