"""CloudWatch's clock: the system clock, unless it is set to another time.

Alarms evaluate hours of data. A test that sets this clock three hours ahead gets the metrics of
everything that happens next three hours later, without waiting.
"""

from datetime import UTC, datetime, timedelta


class Clock:
    """A clock that starts at `at` and runs as fast as the system clock."""

    def __init__(self, at: datetime | None = None) -> None:
        self._created = datetime.now(UTC)
        self._offset = timedelta(0)
        if at is not None:
            self.set(at)

    def set(self, at: datetime) -> None:
        """Set the current time to `at`."""
        self._offset = at - datetime.now(UTC)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._offset

    def from_system_time(self, moment: datetime) -> datetime:
        """Convert a time of the system clock to a time of this clock.

        A time before this clock was created is returned as it is: it comes from the data, for
        example the end of a window, and not from the system clock.
        """
        return moment + self._offset if moment >= self._created else moment
