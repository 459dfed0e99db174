"""Where measurements come from. A source is anything with `collect`; adding one is one line."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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
}


@dataclass(frozen=True, slots=True)
class Scope:
    """What to measure, and on whose behalf."""

    metric_type: MetricType
    window: Window
    account_id: str
    region: str
    execution_id: str


class Source(Protocol):
    def collect(self, scope: Scope) -> Iterable[Record]:
        """The records of every resource this source sees; raises CollectionError."""


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
