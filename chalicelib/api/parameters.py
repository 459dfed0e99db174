"""Values of a request's parameters from their text. Pure functions.

Every function raises InvalidRequestError, which names the parameter and the mistake.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import unquote

from ..model.errors import InvalidEventError, InvalidRequestError
from ..model.windows import format_utc, parse_utc

MAX_LIMIT = 500

# A little more than DynamoDB's retention.
MAX_DAYS = 92

_DAY = timedelta(days=1)
_YEARS = range(1970, 2200)  # of records
_NAME = 512

# Every value of each query parameter.
QueryParams = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class TimeRange:
    """From `start` to `stop`, both included, in UTC."""

    start: datetime
    stop: datetime


def single(query_params: QueryParams | None, known: Collection[str]) -> dict[str, str]:
    """Each parameter by its name; unknown and repeated ones are errors."""
    for name, values in (query_params or {}).items():
        if name not in known:
            accepted = f"accepted: {', '.join(known)}" if known else "none is accepted here"
            raise InvalidRequestError(f"unknown parameter {name[:_NAME]!r}; {accepted}")
        if len(values) != 1:
            raise InvalidRequestError(f"{name} occurs {len(values)} times")
    return {name: values[0] for name, values in (query_params or {}).items()}


def limit(values: Mapping[str, str], *, default: int = 100, most: int = MAX_LIMIT) -> int:
    text = values.get("limit", str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and 1 <= int(text) <= most):
        raise InvalidRequestError(f"limit={text[:40]!r} is not a whole number from 1 to {most}")
    return int(text)


def time_range(values: Mapping[str, str], now: datetime) -> TimeRange:
    """The time from `from` to `to`; by default the last 24 hours, or the 24 hours before `to`."""
    stop = _moment("to", values["to"]) if "to" in values else now.replace(microsecond=0)
    start = _moment("from", values["from"]) if "from" in values else stop - _DAY
    if start > stop:
        raise InvalidRequestError(f"from {format_utc(start)} is after to {format_utc(stop)}")
    return TimeRange(start, stop)


def limited_time_range(values: Mapping[str, str], now: datetime) -> TimeRange:
    """As `time_range`, but at most MAX_DAYS long."""
    found = time_range(values, now)
    if found.stop - found.start > timedelta(days=MAX_DAYS):
        raise InvalidRequestError(f"from and to are more than {MAX_DAYS} days apart")
    return found


def name(values: Mapping[str, str], parameter: str) -> str:
    """The value of a name; empty without the parameter."""
    if parameter not in values:
        return ""
    text = values[parameter]
    if not 1 <= len(text) <= _NAME:
        raise InvalidRequestError(f"{parameter} has {len(text)} characters, not 1 to {_NAME}")
    return text


def path_name(text: str) -> str:
    """A name from a path. API Gateway decodes it, chalice local does not."""
    decoded = unquote(text)
    if not 1 <= len(decoded) <= _NAME:
        raise InvalidRequestError(f"the name has {len(decoded)} characters, not 1 to {_NAME}")
    return decoded


def _moment(parameter: str, text: str) -> datetime:
    try:
        moment = parse_utc(text)
    except (InvalidEventError, OverflowError) as error:
        raise InvalidRequestError(
            f"{parameter}={text[:40]!r} is not ISO 8601 with a time zone, for example"
            " 2026-11-22T18:00:00Z (write + as %2B in a URL)"
        ) from error
    if moment.year not in _YEARS:
        raise InvalidRequestError(
            f"{parameter}={text[:40]!r}: the year is not from {_YEARS[0]} to {_YEARS[-1]}"
        )
    return moment.replace(microsecond=0)
