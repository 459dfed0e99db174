"""The stage's settings, read once from the environment into one immutable value."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, cast, get_args

from .errors import SettingsError
from .metric_types import CHECKED_TYPES, SPECS, base_of
from .status import Threshold
from .windows import MAX_WINDOW_SECONDS

# Powertools reads it by itself.
NAMESPACE = "POWERTOOLS_METRICS_NAMESPACE"

# `web-1:9100`, `10.0.0.7:9100`, `[fd00::7]:9100`; after `dns+` a name, after `ec2+` a tag.
_ENDPOINT = re.compile(
    r"(dns\+[\w.-]+|ec2\+[\w.:/-]+=[\w.:/-]+|[\w.-]+|\[[0-9a-f:.]+\]):(?P<port>[0-9]{1,5})",
    re.ASCII | re.IGNORECASE,
)


# Which successful runs are reported; failed runs always are.
Digest = Literal["EveryRun", "Daily", "Never"]


@dataclass(frozen=True, slots=True)
class Role:
    """A role of another account to assume; `name` is what people call the account."""

    name: str
    arn: str

    @property
    def account_id(self) -> str:
        return self.arn.split(":")[4]


def _text(value: str) -> str:
    if not value:
        raise ValueError("is empty")
    return value


def _names(value: str) -> tuple[str, ...]:
    names = tuple(name for name in re.split(r"[,\s]+", value) if name)
    if not names:
        raise ValueError("names nothing")
    return names


def _integer(least: int, most: int = 10**9) -> Callable[[str], int]:
    def parse(value: str) -> int:
        number = int(value)
        if not least <= number <= most:
            raise ValueError(f"is not between {least} and {most}")
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


def _pairs(value: str) -> dict[str, str]:
    pairs = dict(part.split("=", 1) for part in re.split(r"[,\s]+", value) if part)
    if not all(pairs.values()):
        raise ValueError("is not `name=value,name=value`")
    return pairs


def _roles(value: str) -> tuple[Role, ...]:
    roles = tuple(Role(name, arn) for name, arn in _pairs(value).items())
    if any(not re.fullmatch(r"arn:[\w-]+:iam::\d{12}:role/\S+", role.arn) for role in roles):
        raise ValueError("is not `account name=role ARN`")
    return roles


def _maybe_names(value: str) -> tuple[str, ...]:
    return _names(value) if value else ()


def _endpoints(value: str) -> tuple[str, ...]:
    names = _names(value)
    for name in names:
        endpoint = _ENDPOINT.fullmatch(name)
        if endpoint is None or not 0 < int(endpoint["port"]) < 65_536:
            raise ValueError(f"{name} is none of host:port, dns+name:port and ec2+tag=value:port")
    return tuple(dict.fromkeys(names))


def _digest(value: str) -> Digest:
    if value not in get_args(Digest):
        raise ValueError(f"is none of {', '.join(get_args(Digest))}")
    return cast(Digest, value)


def _seconds(value: str) -> float:
    number = float(value)
    if not 0 < number <= 20:
        raise ValueError("is not between 0 and 20 seconds")
    return number


def _variable(name: str, parse: Callable[[str], Any]) -> Any:
    return field(metadata={"variables": {"": name}, "parse": parse})


def _variables(names: Mapping[str, str], parse: Callable[[str], Any]) -> Any:
    """A mapping with one environment variable for each key."""
    return field(metadata={"variables": names, "parse": parse})


def _source_variable(source: str, name: str, parse: Callable[[str], Any], *, unused: Any) -> Any:
    """Only `source` reads it: where METRIC_SOURCES does not name that, it may be left out."""
    return field(
        default=unused, metadata={"variables": {"": name}, "parse": parse, "source": source}
    )


def _optional(name: str, parse: Callable[[str], Any], default: str = "") -> Any:
    """A variable that only some sources need."""
    return field(metadata={"variables": {"": name}, "parse": parse, "default": default})


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a stage decides; each field is one environment variable of the function."""

    bucket: str = _variable("BUCKET_NAME", _text)
    table: str = _variable("TABLE_NAME", _text)
    namespace: str = _variable(NAMESPACE, _text)
    sources: tuple[str, ...] = _variable("METRIC_SOURCES", _names)
    window_seconds: int = _variable("WINDOW_SECONDS", _integer(60, MAX_WINDOW_SECONDS))
    period_seconds: int = _variable("METRIC_PERIOD_SECONDS", _integer(1))
    retention_days: int = _variable("RETENTION_DAYS", _integer(1, 36_500))
    max_ahead_seconds: int = _variable("MAX_AHEAD_SECONDS", _integer(0))
    cpu_interval: float = _variable("CPU_SAMPLE_SECONDS", _interval)
    thresholds: Mapping[str, Threshold] = _variables(
        {name: SPECS[name].thresholds for name in CHECKED_TYPES}, _threshold
    )
    chunk_targets: int = _variable("CHUNK_TARGETS", _integer(1))
    max_series: int = _variable("MAX_SERIES_PER_RUN", _integer(1))
    overlap_windows: int = _variable("OVERLAP_WINDOWS", _integer(0, 1))
    regions: tuple[str, ...] = _optional("REGIONS", _maybe_names)
    roles: tuple[Role, ...] = _optional("ASSUME_ROLES", _roles)
    external_id: str = _optional("ASSUME_ROLE_EXTERNAL_ID", str)
    ec2_tags: Mapping[str, str] = _optional("EC2_TAGS", _pairs)
    node_exporter_targets: tuple[str, ...] = _source_variable(
        "node_exporter", "NODE_EXPORTER_TARGETS", _endpoints, unused=()
    )
    node_exporter_timeout: float = _source_variable(
        "node_exporter", "NODE_EXPORTER_TIMEOUT_SECONDS", _seconds, unused=0.0
    )
    node_exporter_max_bytes: int = _source_variable(
        "node_exporter", "NODE_EXPORTER_MAX_BYTES", _integer(1), unused=0
    )

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Settings from environment variables.

        Raises:
            SettingsError: names every missing or bad variable at once.
        """
        return cls(**_read(cls, environ))

    def threshold(self, metric_type: str, measurement: str) -> Threshold | None:
        """The threshold of a measurement and of its components; None if it has none."""
        if SPECS[metric_type].checked != base_of(measurement):
            return None
        return self.thresholds[metric_type]


@dataclass(frozen=True, slots=True)
class NotifierSettings:
    """What only the notifier has to know; each field is one of its environment variables."""

    stage: str = _variable("STAGE", _text)
    topic: str = _variable("TOPIC_ARN", _text)
    pages: str = _variable("PAGES_TOPIC_ARN", _text)
    runbooks: str = _variable("RUNBOOK_URL", _text)
    digest: Digest = _variable("SUCCESS_DIGEST", _digest)
    pipeline: str = _optional("PIPELINE_ARN", str)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "NotifierSettings":
        """Settings from environment variables.

        Raises:
            SettingsError: names every missing or bad variable at once.
        """
        return cls(**_read(cls, environ))


def stage_suffix(stage: str) -> str:
    """What names of AWS's things end in: nothing on local and prod, else `-STAGE`."""
    return "" if stage in ("local", "prod") else f"-{stage}"


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """What only the API has to know; each field is one of its environment variables."""

    stage: str = _variable("STAGE", _text)
    # Both from the overlay; without it, and in `chalice local`, what follows from the stage.
    pipeline: str = _optional("PIPELINE_ARN", str)
    runbooks: str = _optional("RUNBOOK_URL", str, "docs/runbooks")

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "ApiSettings":
        """Settings from environment variables.

        Raises:
            SettingsError: names every missing or bad variable at once.
        """
        return cls(**_read(cls, environ))

    @property
    def suffix(self) -> str:
        return stage_suffix(self.stage)

    @property
    def work_group(self) -> str:
        return f"infra-monitoring{self.suffix}"


def _read(cls: type, environ: Mapping[str, str]) -> dict[str, Any]:
    """The values of a settings class's fields.

    Raises:
        SettingsError: names every missing or bad variable at once.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for setting in fields(cls):
        meta = setting.metadata
        source = meta.get("source")
        found: dict[str, Any] = {}
        for key, variable in meta["variables"].items():
            text = environ.get(variable, meta.get("default"))
            if source and source not in values.get("sources", ()) and not text:
                continue
            if text is None:
                reason = f" ({source} needs it)" if source else ""
                problems.append(f"{variable} is missing{reason}")
                continue
            try:
                found[key] = meta["parse"](text.strip())
            except ValueError as error:
                problems.append(f"{variable}={text!r}: {error}")
        if "" in meta["variables"]:
            values |= {setting.name: found[""]} if found else {}
        else:
            values[setting.name] = found
    if problems:
        raise SettingsError(problems)
    return values
