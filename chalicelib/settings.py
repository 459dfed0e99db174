"""The stage's settings, read once from the environment into one immutable value."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .errors import SettingsError

# A status is judged on the base name of a measurement, so a threshold on `percent` also
# judges each file system's `percent:/var`.
JUDGED: Mapping[tuple[str, str], str] = {
    ("cpu", "utilization"): "cpu",
    ("memory", "percent"): "memory",
    ("disk", "percent"): "disk",
}

# `web-1:9100`, `10.0.0.7:9100`, `[fd00::7]:9100`; after `dns+` a name.
_ENDPOINT = re.compile(
    r"(dns\+[\w.-]+|[\w.-]+|\[[0-9a-f:.]+\]):(?P<port>[0-9]{1,5})", re.ASCII | re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Threshold:
    """From `warning` on a value is a warning, from `critical` on it is critical (percent)."""

    warning: float
    critical: float


def _text(value: str) -> str:
    if not value:
        raise ValueError("is empty")
    return value


def _names(value: str) -> tuple[str, ...]:
    names = tuple(name for name in re.split(r"[,\s]+", value) if name)
    if not names:
        raise ValueError("names nothing")
    return names


def _at_least(least: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        number = int(value)
        if number < least:
            raise ValueError(f"is less than {least}")
        return number

    return parse


def _interval(value: str) -> float:
    number = float(value)
    if not 0 < number <= 10:
        raise ValueError("is not between 0 and 10 seconds")
    return number


def _threshold(value: str) -> Threshold:
    warning, critical = (float(part) for part in value.split(","))
    if not 0 <= warning <= critical <= 100:
        raise ValueError("is not `warning,critical` with 0 <= warning <= critical <= 100")
    return Threshold(warning, critical)


def _endpoints(value: str) -> tuple[str, ...]:
    names = _names(value)
    for name in names:
        endpoint = _ENDPOINT.fullmatch(name)
        if endpoint is None or not 0 < int(endpoint["port"]) < 65_536:
            raise ValueError(f"{name} is neither host:port nor dns+name:port")
    return tuple(dict.fromkeys(names))


def _seconds(value: str) -> float:
    number = float(value)
    if not 0 < number <= 20:
        raise ValueError("is not between 0 and 20 seconds")
    return number


def _variable(name: str, parse: Callable[[str], Any]) -> Any:
    return field(metadata={"variable": name, "parse": parse, "source": None})


def _source_variable(source: str, name: str, parse: Callable[[str], Any], *, unused: Any) -> Any:
    """Only `source` reads it: where METRIC_SOURCES does not name that, it may be left out."""
    return field(default=unused, metadata={"variable": name, "parse": parse, "source": source})


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a stage decides; each field is one environment variable of the function."""

    bucket: str = _variable("BUCKET_NAME", _text)
    table: str = _variable("TABLE_NAME", _text)
    sources: tuple[str, ...] = _variable("METRIC_SOURCES", _names)
    window_seconds: int = _variable("WINDOW_SECONDS", _at_least(60))
    period_seconds: int = _variable("METRIC_PERIOD_SECONDS", _at_least(1))
    retention_days: int = _variable("RETENTION_DAYS", _at_least(1))
    cpu_interval: float = _variable("CPU_SAMPLE_SECONDS", _interval)
    cpu: Threshold = _variable("CPU_THRESHOLDS", _threshold)
    memory: Threshold = _variable("MEMORY_THRESHOLDS", _threshold)
    disk: Threshold = _variable("DISK_THRESHOLDS", _threshold)
    node_exporter_targets: tuple[str, ...] = _source_variable(
        "node_exporter", "NODE_EXPORTER_TARGETS", _endpoints, unused=()
    )
    node_exporter_timeout: float = _source_variable(
        "node_exporter", "NODE_EXPORTER_TIMEOUT_SECONDS", _seconds, unused=0.0
    )
    node_exporter_max_bytes: int = _source_variable(
        "node_exporter", "NODE_EXPORTER_MAX_BYTES", _at_least(1), unused=0
    )

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Settings from environment variables.

        Raises:
            SettingsError: names every missing or bad variable at once.
        """
        values: dict[str, Any] = {}
        problems: list[str] = []
        for setting in fields(cls):
            variable, source = setting.metadata["variable"], setting.metadata["source"]
            if source and source not in values.get("sources", ()) and not environ.get(variable):
                continue
            if variable not in environ:
                needed = f" ({source} needs it)" if source else ""
                problems.append(f"{variable} is missing{needed}")
                continue
            try:
                values[setting.name] = setting.metadata["parse"](environ[variable].strip())
            except ValueError as error:
                problems.append(f"{variable}={environ[variable]!r}: {error}")
        if problems:
            raise SettingsError(problems)
        return cls(**values)

    def threshold(self, metric_type: str, measurement: str) -> Threshold | None:
        """The threshold that judges a measurement, or None where nothing does."""
        base = measurement.partition(":")[0]
        name = JUDGED.get((metric_type, base))
        return None if name is None else getattr(self, name)
