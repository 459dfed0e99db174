"""Metric sources by their name in METRIC_SOURCES.

A source is a module with a function `create(settings, open_fleets)` that returns a
`protocol.Source`.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, cast

from ...model.errors import CollectionError
from ...model.settings import Settings
from .protocol import Source

# Source name -> module. Modules are imported only if a stage uses them, because psutil and
# prometheus_client cost CPU time at every cold start.
SOURCES: Mapping[str, str] = {
    "host": "host",
    "cloudwatch": "cloudwatch",
    "node_exporter": "node_exporter",
}


def create_sources(settings: Settings, open_fleets: Any = None) -> list[Source]:
    """Create the sources named in the settings; `open_fleets` is a `cloudwatch.FleetOpener`.

    Raises:
        CollectionError: a name is unknown.
    """
    unknown = [name for name in settings.sources if name not in SOURCES]
    if unknown:
        raise CollectionError(
            f"unknown METRIC_SOURCES: {', '.join(unknown)}; available: {', '.join(SOURCES)}"
        )
    modules = [import_module(f".{SOURCES[name]}", __name__) for name in settings.sources]
    return [cast(Source, module.create(settings, open_fleets)) for module in modules]
