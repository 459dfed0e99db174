"""Collection requests: the events that invoke the collector, and the S3 keys derived from them."""

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


class PlanningProgress(Struct, frozen=True, rename={"page_token": "start"}):  # nosec B105 # no password
    """Planning state of a large fleet between invocations; the event carries it as JSON.

    `source` is the index of the next source to list and `page_token` its next page. The other
    fields are the totals of all pages so far.
    """

    source: int = 0
    page_token: str = ""
    chunks: int = 0
    expected: int = 0
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CollectionRequest:
    """One invocation of the collector.

    `fan_out`: the caller can start a collector for each chunk of a large fleet. `progress`: the
    planning to resume. `plan`: the key of the object with the targets of one chunk.
    """

    scheduled_time: datetime
    account_id: str
    region: str
    execution_id: str
    metric_types: tuple[MetricType, ...]
    fan_out: bool = False
    progress: PlanningProgress | None = None
    plan: str = ""

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> "CollectionRequest":
        """Parse an EventBridge event; an empty `detail` requests all metric types.

        Raises:
            InvalidEventError: a field is missing or invalid.
        """
        detail = event.get("detail") or {}
        metric_type = detail.get("metric_type")
        if metric_type is not None and metric_type not in get_args(MetricType):
            raise InvalidEventError(
                f"detail.metric_type {metric_type!r} is not one of {', '.join(METRIC_TYPES)}"
            )
        missing = [name for name in ("time", "account", "region", "id") if not event.get(name)]
        if missing:
            raise InvalidEventError(f"missing from the event: {', '.join(missing)}")
        return cls(
            scheduled_time=parse_utc(event["time"]),
            account_id=event["account"],
            region=event["region"],
            execution_id=detail.get("execution_id") or event["id"],
            metric_types=(
                METRIC_TYPES if metric_type is None else (cast(MetricType, metric_type),)
            ),
            fan_out=bool(detail.get("fan_out")),
            progress=(
                convert(detail["progress"], PlanningProgress) if "progress" in detail else None
            ),
            plan=detail.get("plan", ""),
        )

    @property
    def run_id(self) -> str:
        """The same for every attempt at one scheduled time, so a retry overwrites the objects."""
        name = f"{self.account_id}/{self.region}/{self.scheduled_time.isoformat()}"
        return uuid.uuid5(uuid.NAMESPACE_URL, name).hex[:12]


def raw_key(request: CollectionRequest, metric_type: MetricType) -> str:
    """`raw-metrics/YYYY/MM/DD/<metric_type>-<HHMMSS>-<run id>.json`; a chunk adds its number."""
    if request.plan:
        return RAW_PREFIX + request.plan.removeprefix(PLAN_PREFIX)
    return f"{RAW_PREFIX}{_name(request, metric_type)}.json"


def plan_key(request: CollectionRequest, metric_type: MetricType, chunk: int) -> str:
    """Key of the targets of one chunk: its raw key with the prefix `plans/`."""
    return f"{PLAN_PREFIX}{_name(request, metric_type)}-{chunk:05d}.json"


def manifest_key(request: CollectionRequest, metric_type: MetricType) -> str:
    """Key of the events of all chunks, for plans that are too large for the state."""
    return f"{PLAN_PREFIX}{_name(request, metric_type)}-all.json"


def chunk_event(request: CollectionRequest, metric_type: MetricType, plan: str) -> dict[str, Any]:
    """The event that collects one chunk."""
    return _event(request, {"metric_type": metric_type, "plan": plan})


def progress_event(
    request: CollectionRequest, metric_type: MetricType, progress: PlanningProgress
) -> dict[str, Any]:
    """The event that resumes planning."""
    state: dict[str, Any] = to_builtins(progress)
    return _event(request, {"metric_type": metric_type, "fan_out": True, "progress": state})


def _event(request: CollectionRequest, detail: dict[str, Any]) -> dict[str, Any]:
    return {
        "version": "0",
        "id": request.execution_id,
        "account": request.account_id,
        "region": request.region,
        "time": request.scheduled_time.isoformat(),
        "source": "infra-monitoring",
        "detail-type": "Collection",
        "resources": [],
        "detail": detail,
    }


def _name(request: CollectionRequest, metric_type: MetricType) -> str:
    time = request.scheduled_time
    return f"{time:%Y/%m/%d}/{metric_type}-{time:%H%M%S}-{request.run_id}"
