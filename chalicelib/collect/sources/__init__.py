"""The metric sources by their name in METRIC_SOURCES.

A source is a module with `create(settings, open_fleets)`, which returns an object with the
methods of `protocol.Source`.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, cast

from ...model.errors import CollectionError
from ...model.settings import Settings
from .protocol import Source

# Source name -> module, imported only when a stage uses it: psutil and prometheus_client cost
# CPU time at every cold start.
SOURCES: Mapping[str, str] = {
    "host": "host",
    "cloudwatch": "cloudwatch",
    "node_exporter": "node_exporter",
}


def create_sources(settings: Settings, connections: Any = None) -> list[Source]:
    """The sources that the settings name; `connections` is what one needs to reach AWS.

    Raises:
        CollectionError: a name is unknown.
    """
    unknown = [name for name in settings.sources if name not in SOURCES]
    if unknown:
        raise CollectionError(
            f"METRIC_SOURCES names {', '.join(unknown)}; known are {', '.join(SOURCES)}"
        )
    modules = [import_module(f".{SOURCES[name]}", __name__) for name in settings.sources]
    return [cast(Source, module.create(settings, connections)) for module in modules]
