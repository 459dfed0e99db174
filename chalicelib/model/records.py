"""The record: one resource, one metric type, one window. Pure values and their JSON form."""

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
from .windows import MAX_WINDOW_SECONDS, Window, format_utc

SCHEMA_VERSION: Literal[1] = 1

# Of our own making and never to change: another namespace would give every stored record
# a second identity.
_NAMESPACE = uuid.UUID("5b8f0c0e-9f0b-5c43-8a6c-3f8f1f0e6d21")

# DynamoDB numbers end at 1e126; nothing that a machine has comes near 1e30.
_Value = Annotated[float, Meta(ge=0, le=1e30)]
_Name = Annotated[str, Meta(min_length=1, max_length=512)]
_Moment = Annotated[datetime, Meta(tz=True)]

# An item may have 400 KB in DynamoDB, and is up to three times as long as its record.
MAX_RECORD_BYTES = 100 * 1024

# Machines were not measured before, and stamps beyond are mistakes; both also keep four
# digits for the year, which sorting as text relies on.
_YEARS = range(1970, 2200)


class Measurement(Struct, frozen=True, kw_only=True):
    """One quantity over one window.

    `last`, `avg`, `min`, `max` and `p95` are in `unit`; `None` means that the source could
    not tell, which is not zero. `samples` is how many readings the window held: an unknown
    value has 0, a point sample 1, and then every statistic is that one reading.
    `breach_seconds` is how long the value was above the critical threshold, where the source
    saw more than one reading of something that has one.
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
    """What is known of one resource, for one metric type, over one window (schema_version 1).

    `timestamp` is the window's end, in UTC and whole seconds; `collected_at` is when the
    reading was taken, where the source says so. A measurement that belongs to a part of
    the resource carries the part after a colon: `percent:/var`, `bytes_sent:eth0`.
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
        """The record with account, region and `metric_id` filled in where its writer left them."""
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
    """The identity of a record, UUIDv5: the same window always gets the same one."""
    # resource_id goes last: it alone may hold a slash.
    name = "/".join(
        (account_id, region, metric_type, format_utc(window.end), str(window.seconds), resource_id)
    )
    return uuid.uuid5(_NAMESPACE, name)


_decoder = msgspec.json.Decoder(Record)
_encoder = msgspec.json.Encoder()


def decode(line: bytes) -> Record:
    """A record from its JSON.

    Raises:
        InvalidRecordError: with the reason and, where JSON has one, the path to the fault.
    """
    if len(line) > MAX_RECORD_BYTES:
        raise InvalidRecordError(f"the record is longer than {MAX_RECORD_BYTES} bytes")
    try:
        return _decoder.decode(line)
    except UnicodeDecodeError as error:
        raise InvalidRecordError(f"a text in it is not UTF-8 ({error.reason})") from error
    except msgspec.DecodeError as error:
        raise InvalidRecordError(_reason(str(error), line)) from error
    except RecursionError as error:
        raise InvalidRecordError("the JSON is nested too deeply") from error


# What JSON has no word for, and the byte of the fault in msgspec's message.
_NO_NUMBER = re.compile(rb"[+-]?(NaN|Infinity|inf)", re.IGNORECASE)
_BYTE = re.compile(r"\(byte (\d+)\)$")

# msgspec's words, and those of people who know JSON.
_WORDS = (
    ("`float | null`", "a number or null"),
    ("`float`", "a number"),
    ("`int`", "a whole number"),
    ("`str | null`", "a text or null"),
    ("`str`", "a text"),
    ("`object`", "an object"),
    ("`array`", "a list"),
    ("`bool`", "true or false"),
    ("`null`", "null"),
    ("`datetime`", "a date and time"),
    (" of length >= 1", " that is not empty"),
    (" of length <= ", " not longer than "),
    (" >= ", " not below "),
    (" <= ", " not above "),
    ("timezone component", "time zone"),
    ("Number out of range", "the number is too large"),
    ("Object missing required field", "there is no field"),
    ("Invalid enum value", "this is none of the known values:"),
    ("Expected", "expected"),
)


def _reason(message: str, line: bytes) -> str:
    """Why a line is no record, for people; from the message of msgspec."""
    if line.startswith(codecs.BOM_UTF8):
        return "a byte order mark stands before it, which only the object's first line may have"
    if message == "Input data was truncated":
        return "the JSON ends before its end"
    if (fault := _BYTE.search(message)) is not None:
        # The sign is before the byte that msgspec stumbles over.
        found = _NO_NUMBER.match(line, int(fault[1])) or _NO_NUMBER.match(line, int(fault[1]) - 1)
        return (
            f"{found[0].decode()} is no number in JSON; write null for unknown"
            if found
            else message
        )
    what, _, where = message.partition(" - at `$.")
    if where == "schema_version`" and (version := what.removeprefix("Invalid enum value ")) != what:
        return f"`schema_version` {version} is not known here: this is {SCHEMA_VERSION}"
    for theirs, ours in _WORDS:
        what = what.replace(theirs, ours)
    return f"`{where}: {what}" if where else what


def encode(record: Record) -> bytes:
    """The record as one line of JSON, without the line's end."""
    return _encoder.encode(record)
