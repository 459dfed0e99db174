"""Where measurements come from: anything with `targets` and `collect`; adding one is one line."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Protocol, cast

from ..errors import CollectionError
from ..records import MetricType, Record
from ..settings import Settings
from ..windows import Window

# name in METRIC_SOURCES -> module with `create(settings)`, imported only when it is used
# (psutil, say, is nothing that the log processor should pay for).
SOURCES: Mapping[str, str] = {
    "host": "host",
    "node_exporter": "node_exporter",
}


@dataclass(frozen=True, slots=True)
class Scope:
    """What to measure, and on whose behalf."""

    metric_type: MetricType
    window: Window
    account_id: str
    region: str
    execution_id: str


@dataclass(slots=True)
class Harvest:
    """What a source brought, and an honest word on what it did not.

    `missing` names the targets that should have reported and did not; `failures` has a
    sentence for each part that could not be asked (a region, an account); `series` counts the
    CloudWatch metrics that were requested, which AWS bills.
    """

    records: list[Record] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    series: int = 0


@dataclass(slots=True)
class Inventory:
    """The targets that should report, and what could not be listed."""

    targets: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


class Source(Protocol):
    """Measures resources. A target is the source's own name for one of them, as text."""

    def targets(self, scope: Scope) -> Inventory:
        """What should report, in a fixed order; raises CollectionError if nothing can be told."""

    def collect(self, scope: Scope, targets: Sequence[str]) -> Harvest:
        """The records of these targets; one that does not answer is missing, not an error."""


def create_sources(settings: Settings) -> list[Source]:
    """The sources that the settings name.

    Raises:
        CollectionError: a name is unknown.
    """
    unknown = [name for name in settings.sources if name not in SOURCES]
    if unknown:
        raise CollectionError(
            f"METRIC_SOURCES names {', '.join(unknown)}; known are {', '.join(SOURCES)}"
        )
    modules = [import_module(f".{SOURCES[name]}", __name__) for name in settings.sources]
    return [cast(Source, module.create(settings)) for module in modules]
