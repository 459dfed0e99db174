"""The protocol that every metric source implements, and the values that it exchanges."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from msgspec import Struct

from ...model.metric_types import MetricType
from ...model.records import Record
from ...model.windows import Window


@dataclass(frozen=True, slots=True)
class Scope:
    """What to measure, and on whose behalf."""

    metric_type: MetricType
    window: Window
    account_id: str
    region: str
    execution_id: str


class Series(NamedTuple):
    """A CloudWatch metric with exactly the dimensions that it exists with."""

    namespace: str
    metric_name: str
    dimensions: tuple[tuple[str, str], ...]


class Target(Struct, frozen=True):
    """A resource that should report: its `name`, where it is, and what is known to exist of it.

    Plain data, so that a large fleet's targets can wait in an object for their chunk's turn.
    """

    name: str
    place: str = ""
    series: tuple[Series, ...] = ()
    labels: dict[str, str] = {}


@dataclass(slots=True)
class Harvest:
    """What a source brought, and an honest word on what it did not.

    `restated` are records of the window before, whole, should late points have changed them;
    `missing` names the targets that should have reported and did not; `failures` has a
    sentence for each part that could not be asked (a region, an account), `notes` for what is
    as it should be but worth knowing; `series` counts the CloudWatch metrics that were
    requested, which AWS bills.
    """

    records: list[Record] = field(default_factory=list)
    restated: list[Record] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    series: int = 0

    def add(self, other: "Harvest") -> None:
        """Take in what another part of the same collection brought."""
        self.records += other.records
        self.restated += other.restated
        self.missing += other.missing
        self.failures += [each for each in other.failures if each not in self.failures]
        self.notes += [each for each in other.notes if each not in self.notes]
        self.series += other.series


@dataclass(slots=True)
class Inventory:
    """The targets that should report, and what could not be listed.

    Of a fleet too large for one invocation it is a part: `rest` is then what to ask for the
    next one with.
    """

    targets: list[Target] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    rest: str = ""


class Source(Protocol):
    """Measures resources."""

    def targets(self, scope: Scope, start: str = "") -> Inventory:
        """What should report, in a fixed order, from `start` on (an inventory's `rest`).

        Raises CollectionError if nothing can be told.
        """

    def collect(self, scope: Scope, targets: Sequence[Target]) -> Harvest:
        """The records of these targets; one that does not answer is missing, not an error."""
