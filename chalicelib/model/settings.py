"""The settings of a stage, read once from environment variables into immutable values."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal, cast, get_args

import msgspec
from msgspec import Meta

from .errors import SettingsError
from .metric_types import CHECKED_TYPES, SPECS, base_of
from .status import Threshold
from .validation_messages import plain_message
from .windows import MAX_WINDOW_SECONDS

# Also read by Powertools.
NAMESPACE = "POWERTOOLS_METRICS_NAMESPACE"

# `web-1:9100`, `10.0.0.7:9100` or `[fd00::7]:9100`, each optionally with `https://`; a name after
# `dns+`, a tag after `ec2+`.
_ENDPOINT = re.compile(
    r"(dns\+[\w.-]+|ec2\+[\w.:/-]+=[\w.:/-]+|(?-i:https://)?([\w.-]+|\[[0-9a-f:.]+\]))"
    r":(?P<port>[0-9]{1,5})",
    re.ASCII | re.IGNORECASE,
)


# Which successful runs are reported; failed runs always are.
Digest = Literal["EveryRun", "Daily", "Never"]


@dataclass(frozen=True, slots=True)
class Role:
    """A role in another account that is assumed; `name` is a display name of the account."""

    name: str
    arn: str

    @property
    def account_id(self) -> str:
        return self.arn.split(":")[4]


_Count = Annotated[int, Meta(ge=1, le=10**9)]
_WindowSeconds = Annotated[int, Meta(ge=60, le=MAX_WINDOW_SECONDS)]
_TimeoutSeconds = Annotated[float, Meta(gt=0, le=20)]


def _as(kind: Any) -> Callable[[str], Any]:
    """A parser of text as a type with msgspec's constraints."""

    def parse(value: str) -> Any:
        try:
            return msgspec.convert(value, kind, strict=False)
        except msgspec.ValidationError as error:
            raise ValueError(plain_message(str(error))) from error

    return parse


_text = _as(Annotated[str, Meta(min_length=1)])


def _digest(value: str) -> Digest:
    if value not in get_args(Digest):
        raise ValueError(f"expected one of {', '.join(get_args(Digest))}")
    return cast(Digest, value)


def _names(value: str) -> tuple[str, ...]:
    names = tuple(name for name in re.split(r"[,\s]+", value) if name)
    if not names:
        raise ValueError("expected at least one name")
    return names


def _threshold(value: str) -> Threshold:
    warning, critical = (float(part) for part in value.split(","))
    if not 0 <= warning <= critical <= 100:
        raise ValueError("expected `warning,critical` with 0 <= warning <= critical <= 100")
    return Threshold(warning, critical)


def _pairs(value: str) -> dict[str, str]:
    pairs = dict(part.split("=", 1) for part in re.split(r"[,\s]+", value) if part)
    if not all(pairs.values()):
        raise ValueError("expected `name=value,name=value`")
    return pairs


def _roles(value: str) -> tuple[Role, ...]:
    roles = tuple(Role(name, arn) for name, arn in _pairs(value).items())
    if any(not re.fullmatch(r"arn:[\w-]+:iam::\d{12}:role/\S+", role.arn) for role in roles):
        raise ValueError("expected `account name=role ARN`")
    return roles


def _maybe_names(value: str) -> tuple[str, ...]:
    return _names(value) if value else ()


def _endpoints(value: str) -> tuple[str, ...]:
    names = _names(value)
    for name in names:
        endpoint = _ENDPOINT.fullmatch(name)
        if endpoint is None or not 0 < int(endpoint["port"]) < 65_536:
            raise ValueError(
                f"{name}: expected [https://]host:port, dns+name:port or ec2+tag=value:port"
            )
    return tuple(dict.fromkeys(names))


def _variable(name: str, parse: Callable[[str], Any]) -> Any:
    return field(metadata={"variables": {"": name}, "parse": parse})


def _variables(names: Mapping[str, str], parse: Callable[[str], Any]) -> Any:
    """A mapping with one environment variable for each key."""
    return field(metadata={"variables": names, "parse": parse})


def _source_variable(source: str, name: str, parse: Callable[[str], Any], *, unused: Any) -> Any:
    """A variable of one source, required only if METRIC_SOURCES contains the source."""
    return field(
        default=unused, metadata={"variables": {"": name}, "parse": parse, "source": source}
    )


def _optional(name: str, parse: Callable[[str], Any], default: str = "") -> Any:
    """A variable with a default."""
    return field(metadata={"variables": {"": name}, "parse": parse, "default": default})


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of every function; each field is an environment variable."""

    bucket: str = _variable("BUCKET_NAME", _text)
    table: str = _variable("TABLE_NAME", _text)
    namespace: str = _variable(NAMESPACE, _text)
    sources: tuple[str, ...] = _variable("METRIC_SOURCES", _names)
    window_seconds: int = _variable("WINDOW_SECONDS", _as(_WindowSeconds))
    period_seconds: int = _variable("METRIC_PERIOD_SECONDS", _as(_Count))
    retention_days: int = _variable("RETENTION_DAYS", _as(Annotated[int, Meta(ge=1, le=36_500)]))
    max_ahead_seconds: int = _variable(
        "MAX_AHEAD_SECONDS", _as(Annotated[int, Meta(ge=0, le=10**9)])
    )
    cpu_interval: float = _variable("CPU_SAMPLE_SECONDS", _as(Annotated[float, Meta(gt=0, le=10)]))
    thresholds: Mapping[str, Threshold] = _variables(
        {name: SPECS[name].thresholds for name in CHECKED_TYPES}, _threshold
    )
    chunk_targets: int = _variable("CHUNK_TARGETS", _as(_Count))
    max_series: int = _variable("MAX_SERIES_PER_RUN", _as(_Count))
    overlap_windows: int = _variable("OVERLAP_WINDOWS", _as(Annotated[int, Meta(ge=0, le=1)]))
    regions: tuple[str, ...] = _optional("REGIONS", _maybe_names)
    roles: tuple[Role, ...] = _optional("ASSUME_ROLES", _roles)
    external_id: str = _optional("ASSUME_ROLE_EXTERNAL_ID", str)
    ec2_tags: Mapping[str, str] = _optional("EC2_TAGS", _pairs)
    node_exporter_targets: tuple[str, ...] = _source_variable(
        "node_exporter", "NODE_EXPORTER_TARGETS", _endpoints, unused=()
    )
    node_exporter_timeout: float = _source_variable(
        "node_exporter",
        "NODE_EXPORTER_TIMEOUT_SECONDS",
        _as(_TimeoutSeconds),
        unused=0.0,
    )
    node_exporter_max_bytes: int = _source_variable(
        "node_exporter", "NODE_EXPORTER_MAX_BYTES", _as(_Count), unused=0
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
    """The settings of the notifier; each field is an environment variable."""

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
    """The suffix of resource names: empty for the stages local and prod, else `-STAGE`."""
    return "" if stage in ("local", "prod") else f"-{stage}"


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """The settings of the API; each field is an environment variable."""

    stage: str = _variable("STAGE", _text)
    # Set by the overlay; `chalice deploy` and `chalice local` use values derived from the stage.
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
