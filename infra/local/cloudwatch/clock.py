"""CloudWatch's clock: the machine's, unless it is set to another time.

Alarms look hours back. What happens stays real and takes the time that it takes; set three
hours on, what happens next has happened three hours later for whoever looks at metrics.
"""

from datetime import UTC, datetime, timedelta


class Clock:
    """Runs as fast as the machine's clock; `at` is its time now."""

    def __init__(self, at: datetime | None = None) -> None:
        self._began = datetime.now(UTC)
        self._ahead = timedelta(0)
        if at is not None:
            self.set(at)

    def set(self, at: datetime) -> None:
        """It is `at` now."""
        self._ahead = at - datetime.now(UTC)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def when(self, stamped: datetime) -> datetime:
        """When it was by this clock as somebody looked at the machine's and saw `stamped`.

        A time before all that happened here is no such look: it is data's own, as the end of
        a window is.
        """
        return stamped + self._ahead if stamped >= self._began else stamped
