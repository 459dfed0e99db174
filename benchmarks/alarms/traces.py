"""Numenta's EC2 traces as hosts of one fleet, with their breaches computed in SQL.

This module uses none of the product's code: expected alarms are computed from the CSV rows. Each
trace has one metric and a different date range, so all traces are moved to the same 14 days: by
whole days, plus a shift for some hosts, which changes the position of their breaches in the
windows. Rows moved beyond the end wrap around to the start.
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
# Most traces begin at 14:30; this is the next scheduled time.
START = datetime(2026, 11, 2, 15, 0, tzinfo=UTC)

# A breach of this length must never be missed.
SUSTAINED = timedelta(minutes=30)
_SAMPLE = timedelta(minutes=5)

BUSY, CALM = "ec2_cpu_utilization_77c1ca", "ec2_cpu_utilization_24ae8d"
NETWORK, DISK = "ec2_network_in_257a54", "ec2_disk_write_bytes_1ef3de"


@dataclass(frozen=True, slots=True)
class HostTrace:
    """A trace replayed as a metric of a host, without points from `silent[0]` to `silent[1]`."""

    host: str
    namespace: str
    metric: str
    trace: str
    shift: timedelta = timedelta(0)
    silent: tuple[datetime, datetime] | None = None


class Point(NamedTuple):
    """A moved row of a trace."""

    host_trace: HostTrace
    at: datetime
    value: float


@dataclass(frozen=True, slots=True)
class Breach:
    """A host's value was above the threshold from `start` to `end` without interruption."""

    host: str
    metric: str
    start: datetime
    end: datetime

    @property
    def minutes(self) -> int:
        return round((self.end - self.start).total_seconds() / 60)


_TABLE = "CREATE TABLE points (trace INTEGER, host TEXT, metric TEXT, epoch BIGINT, value DOUBLE)"

# The first 14 days of a trace; rows moved out of the span wrap around.
_INSERT_MOVED = """
    INSERT INTO points
    WITH rows AS (SELECT epoch(timestamp)::BIGINT AS epoch, value FROM read_csv($file))
    SELECT $trace, $host, $metric, $start + (epoch + $move - $start + $span) % $span, value
    FROM rows WHERE epoch < (SELECT min(epoch) FROM rows) + $span
"""

# Gaps and islands: an island continues while samples are at most one period apart.
_SUSTAINED = """
    WITH compared AS (
        SELECT host, epoch, value > $limit AS above,
            lag(value > $limit, 1, false) OVER samples
                AND epoch - lag(epoch) OVER samples <= $sample AS continues
        FROM points WHERE metric = $metric
        WINDOW samples AS (PARTITION BY host ORDER BY epoch)
    ), islands AS (
        SELECT host, epoch,
            sum((NOT continues)::INTEGER) OVER (PARTITION BY host ORDER BY epoch) AS island
        FROM compared WHERE above
    )
    SELECT host, min(epoch), max(epoch) + $sample FROM islands GROUP BY host, island
    HAVING max(epoch) + $sample - min(epoch) >= $minimum ORDER BY 2, 1
"""

_MAX_MINUTES_ABOVE = """
    SELECT max(minutes) FROM (
        SELECT count(DISTINCT epoch // 300) * 5 AS minutes FROM points
        WHERE metric = $metric AND value > $limit AND epoch >= $start AND epoch < $end
        GROUP BY host)
"""

_SILENT = """
    SELECT host FROM points GROUP BY host
    HAVING count(*) FILTER (WHERE epoch >= $start AND epoch < $end) = 0 ORDER BY host
"""


class Traces:
    """The rows of all host traces in one DuckDB table."""

    def __init__(self, host_traces: Sequence[HostTrace]) -> None:
        self.host_traces = host_traces
        self._database = duckdb.connect()
        self._database.execute(_TABLE)
        for number, host_trace in enumerate(host_traces):
            self._load(number, host_trace)

    def _load(self, number: int, host_trace: HostTrace) -> None:
        file = str(FOLDER / f"{host_trace.trace}.csv")
        (first,) = self._rows("SELECT min(epoch(timestamp))::BIGINT FROM read_csv($f)", f=file)[0]
        days = START.date() - datetime.fromtimestamp(first, UTC).date()
        self._database.execute(
            _INSERT_MOVED,
            {
                "file": file,
                "trace": number,
                "host": host_trace.host,
                "metric": host_trace.metric,
                "move": _seconds(days + host_trace.shift),
                "start": _epoch(START),
                "span": _seconds(SPAN),
            },
        )
        if host_trace.silent:
            first, last = map(_epoch, host_trace.silent)
            self._database.execute(
                "DELETE FROM points WHERE trace = ? AND epoch >= ? AND epoch < ?",
                [number, first, last],
            )

    def points(self) -> list[Point]:
        """All rows, ordered by time."""
        rows = self._rows("SELECT trace, epoch, value FROM points ORDER BY epoch, trace")
        return [Point(self.host_traces[trace], _from_epoch(at), value) for trace, at, value in rows]

    def sustained(self, metric: str, limit: float) -> list[Breach]:
        """Every breach of 30 minutes or more, earliest first."""
        rows = self._rows(
            _SUSTAINED,
            metric=metric,
            limit=limit,
            sample=_seconds(_SAMPLE),
            minimum=_seconds(SUSTAINED),
        )
        return [
            Breach(host, metric, _from_epoch(start), _from_epoch(end)) for host, start, end in rows
        ]

    def max_minutes_above(self, metric: str, limit: float, start: datetime, end: datetime) -> int:
        """Total minutes above the limit from `start` to `end`, of the host that has most."""
        times = {"start": _epoch(start), "end": _epoch(end)}
        ((minutes,),) = self._rows(_MAX_MINUTES_ABOVE, metric=metric, limit=limit, **times)
        return minutes or 0

    def silent(self, start: datetime, end: datetime) -> list[str]:
        """Hosts without a row from `start` to `end`."""
        return [host for (host,) in self._rows(_SILENT, start=_epoch(start), end=_epoch(end))]

    def _rows(self, query: str, **values: object) -> list[tuple]:  # type: ignore[type-arg]
        return list(self._database.execute(query, values).fetchall())


def across_windows(breaches: Collection[Breach]) -> list[Breach]:
    """The breaches that span more than one window."""
    return [each for each in breaches if each.start < next_scheduled_time(each.end) - CADENCE]


def next_scheduled_time(time: datetime) -> datetime:
    """The first scheduled time at or after `time`."""
    return START - (START - time) // CADENCE * CADENCE


def _epoch(time: datetime) -> int:
    return int(time.timestamp())


def _from_epoch(epoch: int) -> datetime:
    return datetime.fromtimestamp(epoch, UTC)


def _seconds(duration: timedelta) -> int:
    return int(duration.total_seconds())
