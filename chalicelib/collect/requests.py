"""What an invocation of the collector is asked to do, and the keys that follow from it."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast, get_args

from msgspec import Struct, convert, to_builtins

from ..model.errors import InvalidEventError
from ..model.metric_types import METRIC_TYPES, MetricType
from ..model.object_keys import PLAN_PREFIX, RAW_PREFIX
from ..model.windows import parse_utc


class Progress(Struct, frozen=True):
    """How far the planning of a large fleet has come: where in which source, and what there is."""

    source: int = 0
    start: str = ""
    chunks: int = 0
    expected: int = 0
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tick:
    """One call of the clock: when, on whose behalf, and which metric types.

    `fan_out` says that the caller can start a collector for each chunk of a large fleet;
    `progress` is how far its planning has come; `plan` is the object with the targets of one
    such chunk.
    """

    time: datetime
    account_id: str
    region: str
    execution_id: str
    metric_types: tuple[MetricType, ...]
    fan_out: bool = False
    progress: Progress | None = None
    plan: str = ""

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
            fan_out=bool(detail.get("fan_out")),
            progress=convert(detail["progress"], Progress) if "progress" in detail else None,
            plan=detail.get("plan", ""),
        )

    @property
    def run_id(self) -> str:
        """The same for every try at the same tick, so that a second try replaces the first."""
        name = f"{self.account_id}/{self.region}/{self.time.isoformat()}"
        return uuid.uuid5(uuid.NAMESPACE_URL, name).hex[:12]


def raw_key(tick: Tick, metric_type: MetricType) -> str:
    """`raw-metrics/YYYY/MM/DD/<metric_type>-<HHMMSS>-<run id>.json`; a chunk adds its number."""
    if tick.plan:
        return RAW_PREFIX + tick.plan.removeprefix(PLAN_PREFIX)
    return f"{RAW_PREFIX}{_name(tick, metric_type)}.json"


def plan_key(tick: Tick, metric_type: MetricType, chunk: int) -> str:
    """Where the targets of one chunk wait: `plans/` and then what the raw key will be."""
    return f"{PLAN_PREFIX}{_name(tick, metric_type)}-{chunk:05d}.json"


def manifest_key(tick: Tick, metric_type: MetricType) -> str:
    """Where the events of all chunks wait, if they are too many to travel in the state."""
    return f"{PLAN_PREFIX}{_name(tick, metric_type)}-all.json"


def chunk_event(tick: Tick, metric_type: MetricType, plan: str) -> dict[str, Any]:
    """The event that asks a collector for one chunk of a tick."""
    return _event(tick, {"metric_type": metric_type, "plan": plan})


def progress_event(tick: Tick, metric_type: MetricType, progress: Progress) -> dict[str, Any]:
    """The event that asks a collector to go on planning a tick."""
    made: dict[str, Any] = to_builtins(progress)
    return _event(tick, {"metric_type": metric_type, "fan_out": True, "progress": made})


def _event(tick: Tick, detail: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": "0",
        "id": tick.execution_id,
        "account": tick.account_id,
        "region": tick.region,
        "time": tick.time.isoformat(),
        "source": "infra-monitoring",
        "detail-type": "Collection",
        "resources": [],
        "detail": detail,
    }


def _name(tick: Tick, metric_type: MetricType) -> str:
    return f"{tick.time:%Y/%m/%d}/{metric_type}-{tick.time:%H%M%S}-{tick.run_id}"
