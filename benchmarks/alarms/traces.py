"""Numenta's EC2 traces as hosts of one fleet, and what is true of them, by SQL alone.

Nothing here uses the product: what an alarm should have told is worked out from the CSV rows.
The traces have one metric each and spans of their own, so each is moved to one span of 14 days:
by whole days, and for some hosts by a shift on top, which puts its breaches elsewhere in the
windows. What then lies beyond the span's end comes back at its beginning.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import duckdb

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "data" / "nab"

CADENCE = timedelta(hours=3)
SPAN = timedelta(days=14)
# Most traces begin at half past two in the afternoon; this is the first tick from there on.
START = datetime(2026, 11, 2, 15, 0, tzinfo=UTC)

# "Sustained": the word for what must never be missed.
SUSTAINED = timedelta(minutes=30)
_SAMPLE = timedelta(minutes=5)

BUSY, CALM = "ec2_cpu_utilization_77c1ca", "ec2_cpu_utilization_24ae8d"
NETWORK, DISK = "ec2_network_in_257a54", "ec2_disk_write_bytes_1ef3de"


@dataclass(frozen=True, slots=True)
class Feed:
    """A trace as one metric of a host; it has no point from `silent[0]` to before `silent[1]`."""

    host: str
    namespace: str
    metric: str
    trace: str
    shift: timedelta = timedelta(0)
    silent: tuple[datetime, datetime] | None = None


class Point(NamedTuple):
    """A row of a trace, moved."""

    feed: Feed
    at: datetime
    value: float


@dataclass(frozen=True, slots=True)
class Breach:
    """A host's value was above the threshold from `start` to `end`, without a gap."""

    host: str
    metric: str
    start: datetime
    end: datetime

    @property
    def minutes(self) -> int:
        return round((self.end - self.start).total_seconds() / 60)


_TABLE = "CREATE TABLE points (feed INTEGER, host TEXT, metric TEXT, moment BIGINT, value DOUBLE)"

# The first 14 days of a trace; a row beyond the span's end, or before its start, goes round.
_MOVED = """
    INSERT INTO points
    WITH rows AS (SELECT epoch(timestamp)::BIGINT AS moment, value FROM read_csv($file))
    SELECT $feed, $host, $metric, $start + (moment + $move - $start + $span) % $span, value
    FROM rows WHERE moment < (SELECT min(moment) FROM rows) + $span
"""

# Gaps and islands: an island goes on while each sample follows the one before within a period.
_SUSTAINED = """
    WITH compared AS (
        SELECT host, moment, value > $limit AS above,
            lag(value > $limit, 1, false) OVER samples
                AND moment - lag(moment) OVER samples <= $sample AS goes_on
        FROM points WHERE metric = $metric
        WINDOW samples AS (PARTITION BY host ORDER BY moment)
    ), islands AS (
        SELECT host, moment,
            sum((NOT goes_on)::INTEGER) OVER (PARTITION BY host ORDER BY moment) AS island
        FROM compared WHERE above
    )
    SELECT host, min(moment), max(moment) + $sample FROM islands GROUP BY host, island
    HAVING max(moment) + $sample - min(moment) >= $least ORDER BY 2, 1
"""

_ABOVE = """
    SELECT max(minutes) FROM (
        SELECT count(DISTINCT moment // 300) * 5 AS minutes FROM points
        WHERE metric = $metric AND value > $limit AND moment >= $start AND moment < $end
        GROUP BY host)
"""

_SILENT = """
    SELECT host FROM points GROUP BY host
    HAVING count(*) FILTER (WHERE moment >= $start AND moment < $end) = 0 ORDER BY host
"""


class Traces:
    """The feeds' rows in one table."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self.feeds = feeds
        self._database = duckdb.connect()
        self._database.execute(_TABLE)
        for number, feed in enumerate(feeds):
            self._load(number, feed)

    def _load(self, number: int, feed: Feed) -> None:
        file = str(FOLDER / f"{feed.trace}.csv")
        (first,) = self._rows("SELECT min(epoch(timestamp))::BIGINT FROM read_csv($f)", f=file)[0]
        days = START.date() - datetime.fromtimestamp(first, UTC).date()
        self._database.execute(
            _MOVED,
            {
                "file": file,
                "feed": number,
                "host": feed.host,
                "metric": feed.metric,
                "move": _seconds(days + feed.shift),
                "start": _epoch(START),
                "span": _seconds(SPAN),
            },
        )
        if feed.silent:
            first, last = map(_epoch, feed.silent)
            self._database.execute(
                "DELETE FROM points WHERE feed = ? AND moment >= ? AND moment < ?",
                [number, first, last],
            )

    def points(self) -> list[Point]:
        """Every row, in order of time."""
        rows = self._rows("SELECT feed, moment, value FROM points ORDER BY moment, feed")
        return [Point(self.feeds[feed], _moment(at), value) for feed, at, value in rows]

    def sustained(self, metric: str, limit: float) -> list[Breach]:
        """Every breach of half an hour or more, earliest first."""
        found = self._rows(
            _SUSTAINED,
            metric=metric,
            limit=limit,
            sample=_seconds(_SAMPLE),
            least=_seconds(SUSTAINED),
        )
        return [Breach(host, metric, _moment(start), _moment(end)) for host, start, end in found]

    def minutes_above(self, metric: str, limit: float, start: datetime, end: datetime) -> int:
        """The most that one host was above the limit in a span, the minutes added up."""
        times = {"start": _epoch(start), "end": _epoch(end)}
        ((minutes,),) = self._rows(_ABOVE, metric=metric, limit=limit, **times)
        return minutes or 0

    def silent(self, start: datetime, end: datetime) -> list[str]:
        """Hosts without a single row in the span."""
        return [host for (host,) in self._rows(_SILENT, start=_epoch(start), end=_epoch(end))]

    def _rows(self, query: str, **values: object) -> list[tuple]:  # type: ignore[type-arg]
        return list(self._database.execute(query, values).fetchall())


def crossing(breaches: Collection[Breach]) -> list[Breach]:
    """Those that lie across a window's edge."""
    return [each for each in breaches if each.start < tick_from(each.end) - CADENCE]


def tick_from(moment: datetime) -> datetime:
    """The first tick at or after a moment."""
    return START - (START - moment) // CADENCE * CADENCE


def _epoch(moment: datetime) -> int:
    return int(moment.timestamp())


def _moment(epoch: int) -> datetime:
    return datetime.fromtimestamp(epoch, UTC)


def _seconds(span: timedelta) -> int:
    return int(span.total_seconds())
