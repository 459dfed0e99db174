"""The record of one host, metric type and window, and its JSON form. Pure.

docs/records.md documents the format. The persisted field `resource_id` names the host.
"""

import codecs
import re
import uuid
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import force_setattr, replace

from .errors import InvalidRecordError
from .metric_types import MetricType, Unit
from .sources import Source
from .status import checked_value
from .validation_messages import plain_message
from .windows import MAX_WINDOW_SECONDS, Window, format_utc

SCHEMA_VERSION: Literal[1] = 1

# A random UUID that must never change: another namespace would give every stored record a second
# identity.
_NAMESPACE = uuid.UUID("5b8f0c0e-9f0b-5c43-8a6c-3f8f1f0e6d21")

# DynamoDB's largest number is 1e126; no measurement comes near 1e30.
_Value = Annotated[float, Meta(ge=0, le=1e30)]
_Name = Annotated[str, Meta(min_length=1, max_length=512)]
_Moment = Annotated[datetime, Meta(tz=True)]

# DynamoDB's limit for an item is 400 KB, and an item is up to three times as long as its record.
MAX_RECORD_BYTES = 100 * 1024

# Timestamps outside of these years are mistakes. Sorting as text also relies on a year with four
# digits.
_YEARS = range(1970, 2200)


class Measurement(Struct, frozen=True, kw_only=True):
    """One quantity over one window.

    `last`, `avg`, `min`, `max` and `p95` are in `unit`; None means unknown, which is not zero.
    `samples` is the number of readings in the window: 0 for an unknown value, 1 for a point
    sample, whose statistics all equal the reading. `breach_seconds` is how long the value was above
    the critical threshold, if there is one and the source has several readings.
    """

    unit: Unit
    last: _Value | None
    avg: _Value | None = None
    min: _Value | None = None
    max: _Value | None = None
    p95: _Value | None = None
    samples: Annotated[int, Meta(ge=0, le=2**53)] = 1
    breach_seconds: _Value | None = None

    def __post_init__(self) -> None:
        if self.samples == 1:
            for statistic in ("avg", "min", "max", "p95"):
                if getattr(self, statistic) is None:
                    force_setattr(self, statistic, self.last)

    @property
    def checked_value(self) -> float | None:
        """The value that is compared with a threshold; see `status.checked_value`."""
        return checked_value(self.last, self.p95)


UNKNOWN_RATE = Measurement(unit="bytes_per_second", last=None, samples=0)
UNKNOWN_UTILIZATION = Measurement(unit="percent", last=None, samples=0)


class Record(Struct, frozen=True, kw_only=True):
    """The measurements of one host, metric type and window (schema_version 1).

    `timestamp` is the window's end, in UTC and whole seconds; `collected_at` is when the reading
    was taken, if the source reports it. A measurement of a component of the host has the component
    after a colon: `percent:/var`, `bytes_sent:eth0`.
    """

    schema_version: Literal[1]
    metric_id: uuid.UUID | None = None
    timestamp: _Moment
    metric_type: MetricType
    account_id: str = ""
    region: str = ""
    resource_id: _Name
    source: Source = "external"
    window_seconds: Annotated[int, Meta(ge=0, le=MAX_WINDOW_SECONDS)]
    execution_id: str = ""
    collected_at: _Moment | None = None
    measurements: Annotated[dict[_Name, Measurement], Meta(min_length=1)]
    labels: dict[_Name, str] = {}

    def __post_init__(self) -> None:
        force_setattr(self, "timestamp", _utc(self.timestamp).replace(microsecond=0))
        if self.collected_at is not None:
            force_setattr(self, "collected_at", _utc(self.collected_at))

    def identified(self, *, account_id: str, region: str) -> "Record":
        """The record with account, region and `metric_id`, which its writer can leave out."""
        if self.metric_id is not None and self.account_id and self.region:
            return self
        account_id, region = self.account_id or account_id, self.region or region
        identity = metric_id(
            account_id=account_id,
            region=region,
            resource_id=self.resource_id,
            metric_type=self.metric_type,
            window=Window(self.timestamp, self.window_seconds),
        )
        return replace(
            self, account_id=account_id, region=region, metric_id=self.metric_id or identity
        )


def _utc(moment: datetime) -> datetime:
    if moment.year not in _YEARS:
        raise ValueError(f"the year {moment.year} is not from {_YEARS[0]} to {_YEARS[-1]}")
    return moment.astimezone(UTC)


def metric_id(
    *, account_id: str, region: str, resource_id: str, metric_type: MetricType, window: Window
) -> uuid.UUID:
    """The identity of a record: a UUIDv5, the same for the same host, type and window."""
    # resource_id is last, because only it can contain a slash.
    name = "/".join(
        (account_id, region, metric_type, format_utc(window.end), str(window.seconds), resource_id)
    )
    return uuid.uuid5(_NAMESPACE, name)


_decoder = msgspec.json.Decoder(Record)
_encoder = msgspec.json.Encoder()


def decode(line: bytes) -> Record:
    """A record from its JSON.

    Raises:
        InvalidRecordError: the message has the reason and, if there is one, the path of the field.
    """
    if len(line) > MAX_RECORD_BYTES:
        raise InvalidRecordError(f"the record is longer than {MAX_RECORD_BYTES} bytes")
    try:
        return _decoder.decode(line)
    except UnicodeDecodeError as error:
        raise InvalidRecordError(f"not valid UTF-8 ({error.reason})") from error
    except msgspec.DecodeError as error:
        raise InvalidRecordError(_reason(str(error), line)) from error
    except RecursionError as error:
        raise InvalidRecordError("the JSON is nested too deeply") from error


# Numbers that JSON does not have, and the position in msgspec's message.
_NOT_A_NUMBER = re.compile(rb"[+-]?(NaN|Infinity|inf)", re.IGNORECASE)
_BYTE = re.compile(r"\(byte (\d+)\)$")


def _reason(message: str, line: bytes) -> str:
    """The reason why a line is not a record, from msgspec's message."""
    if line.startswith(codecs.BOM_UTF8):
        return "starts with a byte order mark, which is allowed in the first line only"
    if message == "Input data was truncated":
        return "truncated JSON"
    if (fault := _BYTE.search(message)) is not None:
        # A sign is one byte before the position that msgspec reports.
        found = _NOT_A_NUMBER.match(line, int(fault[1])) or _NOT_A_NUMBER.match(
            line, int(fault[1]) - 1
        )
        return (
            f"{found[0].decode()} is not a JSON number; use null for an unknown value"
            if found
            else message
        )
    what, _, where = message.partition(" - at `$.")
    if where == "schema_version`" and (version := what.removeprefix("Invalid enum value ")) != what:
        return f"`schema_version` {version} is not supported; the version is {SCHEMA_VERSION}"
    what = plain_message(what)
    return f"`{where}: {what}" if where else what


def encode(record: Record) -> bytes:
    """The record as one line of JSON, without a line break."""
    return _encoder.encode(record)
