"""The time windows of records, half-open: `[start, end)`."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from .errors import InvalidEventError

MAX_WINDOW_SECONDS = 7 * 86_400


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open window that ends at `end` (UTC) and is `seconds` long."""

    end: datetime
    seconds: int

    @classmethod
    def before(cls, scheduled_time: datetime, *, seconds: int, align: int) -> "Window":
        """The window that ends at the last multiple of `align` seconds up to `scheduled_time`.

        Because of the alignment, two runs with the same scheduled time have the same window and
        write the same records.
        """
        epoch = int(scheduled_time.timestamp())
        return cls(datetime.fromtimestamp(epoch - epoch % align, UTC), seconds)

    @property
    def start(self) -> datetime:
        return self.end - timedelta(seconds=self.seconds)


def format_utc(time: datetime) -> str:
    """ISO 8601 in UTC, fixed width, `2026-11-22T18:00:00Z`: sorts as text in time order."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_utc(text: str) -> datetime:
    """A time from ISO 8601 text with a time zone.

    Raises:
        InvalidEventError: the text is not ISO 8601, or has no time zone.
    """
    try:
        time = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise InvalidEventError(f"time {text!r} is not ISO 8601") from error
    if time.tzinfo is None:
        raise InvalidEventError(f"time {text!r} has no time zone")
    return time.astimezone(UTC)
