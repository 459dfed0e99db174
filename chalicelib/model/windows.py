"""The half-open time windows, `[start, end)`, that records describe."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from .errors import InvalidEventError

MAX_WINDOW_SECONDS = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open span of time that ends at `end` (UTC) and is `seconds` long."""

    end: datetime
    seconds: int

    @classmethod
    def before(cls, tick: datetime, *, seconds: int, align: int) -> "Window":
        """The window that ends at the last multiple of `align` seconds at or before `tick`.

        Aligned ends make two runs of one tick describe the same window, so they write the
        same records.
        """
        epoch = int(tick.timestamp())
        return cls(datetime.fromtimestamp(epoch - epoch % align, UTC), seconds)

    @property
    def start(self) -> datetime:
        return self.end - timedelta(seconds=self.seconds)


def format_utc(moment: datetime) -> str:
    """ISO 8601 in UTC, fixed width, `2026-11-22T18:00:00Z`: sorts as text in time order."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_utc(text: str) -> datetime:
    """A moment from ISO 8601 text that carries a time zone.

    Raises:
        InvalidEventError: the text is no moment, or has no time zone.
    """
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise InvalidEventError(f"time {text!r} is not ISO 8601") from error
    if moment.tzinfo is None:
        raise InvalidEventError(f"time {text!r} has no time zone")
    return moment.astimezone(UTC)
