"""The protocol of metric sources, and the values that they exchange."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from msgspec import Struct

from ...model.metric_types import MetricType
from ...model.records import Record
from ...model.windows import Window


@dataclass(frozen=True, slots=True)
class Scope:
    """The metric type, window, account and Region of one collection."""

    metric_type: MetricType
    window: Window
    account_id: str
    region: str
    execution_id: str


class CloudWatchMetric(NamedTuple):
    """A CloudWatch metric with all of its dimensions as (name, value)."""

    namespace: str
    metric_name: str
    dimensions: tuple[tuple[str, str], ...]


class Target(Struct, frozen=True, rename={"location": "place", "metrics": "series"}):
    """A host that is expected to report: its `name`, `location` and existing CloudWatch metrics.

    Plain data, because the targets of a chunk are stored as JSON until they are collected.
    """

    name: str
    location: str = ""
    metrics: tuple[CloudWatchMetric, ...] = ()
    labels: dict[str, str] = {}


@dataclass(slots=True)
class CollectionResult:
    """The records that a source collected, and what it could not collect.

    `restated` are complete records of the previous window, which late points may have changed.
    `missing` are the names of targets that did not report. `failures` has a sentence for each
    account, Region or target that could not be read; `notes` has sentences about conditions that
    are not failures. `requested_metrics` counts the CloudWatch metrics requested, which AWS bills.
    """

    records: list[Record] = field(default_factory=list)
    restated: list[Record] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    requested_metrics: int = 0

    def add(self, other: "CollectionResult") -> None:
        """Add the result of another part of the same collection; keep each sentence once."""
        self.records += other.records
        self.restated += other.restated
        self.missing += other.missing
        self.failures += [each for each in other.failures if each not in self.failures]
        self.notes += [each for each in other.notes if each not in self.notes]
        self.requested_metrics += other.requested_metrics


@dataclass(slots=True)
class Inventory:
    """One page of the expected targets, and what could not be listed.

    `next_page` is the token of the next page, empty on the last one.
    """

    targets: list[Target] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    next_page: str = ""


class Source(Protocol):
    """A source of measurements."""

    def targets(self, scope: Scope, page_token: str = "") -> Inventory:  # nosec B107 # not a password
        """List one page of the expected targets, in a fixed order.

        Raises CollectionError if no target can be listed.
        """

    def collect(self, scope: Scope, targets: Sequence[Target]) -> CollectionResult:
        """Collect the records of these targets; a target that does not respond is missing."""
