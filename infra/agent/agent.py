"""The agent: measures this machine and pushes the records to S3, through a spool on its disk."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from chalicelib.collect.sources.protocol import Scope, Source, Target
from chalicelib.model import records
from chalicelib.model.errors import CollectionError
from chalicelib.model.records import METRIC_TYPES, Record
from chalicelib.model.windows import Window, format_utc

from .spool import (
    Entry,
    Spool,
)
from .upload import (
    Delivery,
    DeliveryError,
    Put,
    deliver,
)

Log = Callable[[str], None]

# Waits so many seconds, or until it is to end; whether it is.
Wait = Callable[[float], bool]

# Sleeps are cut up: time in which the machine was suspended does not count in a sleep.
_NAP_SECONDS = 30.0
_BACK_OFF_SECONDS = 900.0


class AgentError(Exception):
    """The agent cannot go on; the message is one line."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom the records speak of; empty `account_id` or `region`: where the object lands."""

    host: str
    account_id: str = ""
    region: str = ""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Windows of `interval` seconds, which end on multiples of `align` seconds."""

    interval: int
    align: int

    def window(self, tick: datetime) -> Window:
        return Window.before(tick, seconds=self.interval, align=self.align)

    def next_tick(self, moment: datetime) -> datetime:
        """The first multiple of `interval` after `moment`, on UTC's clock."""
        last = Window.before(moment, seconds=self.interval, align=self.interval).end
        return last + timedelta(seconds=self.interval)


def measure(
    source: Source, identity: Identity, schedule: Schedule, tick: datetime, *, log: Log
) -> list[Record]:
    """A record for each metric type that can be measured; `log` hears of the others.

    Raises:
        AgentError: nothing could be measured.
    """
    measured: list[Record] = []
    for metric_type in METRIC_TYPES:
        scope = Scope(
            metric_type=metric_type,
            window=schedule.window(tick),
            account_id=identity.account_id,
            region=identity.region,
            execution_id=f"agent-{format_utc(tick)}",
        )
        try:
            measured += source.collect(scope, [Target(identity.host)]).records
        except CollectionError as error:
            log(f"warning: {error}")
    if not measured:
        raise AgentError("nothing of this machine could be measured")
    # The processor knows the account and region where the object lands, so it makes the
    # identity: one made here of empty names would not be the one the next window looks for.
    return [replace(record, metric_id=None) for record in measured]


def encode(measured: list[Record]) -> bytes:
    """The object: one record a line."""
    return b"".join(records.encode(record) + b"\n" for record in measured)


def back_off(attempt: int, *, jitter: Callable[[float, float], float] = random.uniform) -> float:
    """Seconds before the next try: about 10 at first, twice as many each time, 15 min at most."""
    return jitter(0.5, 1.0) * min(_BACK_OFF_SECONDS, 10.0 * 2.0 ** min(attempt, 10))


class Agent:
    """Measures into a spool, and sends from it."""

    def __init__(
        self,
        spool: Spool,
        put: Put,
        source: Source,
        identity: Identity,
        schedule: Schedule,
        *,
        log: Log,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._spool = spool
        self._put = put
        self._source = source
        self._identity = identity
        self._schedule = schedule
        self._log = log
        self._now = now

    def run_once(self) -> bool:
        """Measure and send; whether every metric type was measured and everything was sent."""
        complete = self._tick()  # what waits in the spool has its turn either way
        delivery = self._send()
        return complete and delivery.left == 0 and delivery.error is None

    def run_until(self, wait: Wait) -> None:
        """Measure and send at each tick of the clock, and send again in between, until the end."""
        due, attempt = self._schedule.next_tick(self._now()), 0
        self._log(f"measuring at {format_utc(due)} and every {self._schedule.interval} s from then")
        retry: datetime | None = self._now()
        pause = 0.0
        while not wait(pause):
            moment = self._now()
            ticks, retries = moment >= due, retry is not None and moment >= retry
            if ticks:
                self._tick()
                attempt = 0
            if ticks or retries:
                retry = self._retry_at(self._send(lambda: wait(0)), attempt)
                attempt += 1
            # From the clock as it is now: somebody may have set it back.
            due = self._schedule.next_tick(moment)
            wake = due if retry is None else min(due, retry)
            pause = min(_NAP_SECONDS, max(0.0, (wake - self._now()).total_seconds()))

    def _retry_at(self, delivery: Delivery, attempt: int) -> datetime | None:
        """None, so not before the next tick, if there is nothing left or no point in it."""
        if delivery.error is None or delivery.error.permanent:
            return None
        return self._now() + timedelta(seconds=back_off(attempt))

    def _tick(self) -> bool:
        """Measure into the spool; whether every metric type was measured and is safe."""
        tick = self._now()
        try:
            measured = measure(self._source, self._identity, self._schedule, tick, log=self._log)
            body = encode(measured)
            self._keep(Entry.of(body, host=self._identity.host, time=tick), body)
        except AgentError as error:
            self._log(f"error: {error}")
            return False
        return len(measured) == len(METRIC_TYPES)

    def _keep(self, entry: Entry, body: bytes) -> None:
        try:
            self._spool.add(entry, body)
        except OSError as error:
            # A full disk is the very thing that a monitor must be able to tell.
            self._log(f"warning: {entry.name} cannot be spooled ({error}): sending it at once")
            try:
                self._put(entry.key, body)
            except DeliveryError as failure:
                raise AgentError(f"LOST {entry.name}: {failure}") from failure

    def _send(self, enough: Callable[[], bool] = lambda: False) -> Delivery:
        delivery = deliver(self._spool, self._put, enough)
        dropped = f", {self._spool.dropped} dropped" if self._spool.dropped else ""
        if delivery.error:
            level = "error" if delivery.error.permanent else "warning"
            self._log(f"{level}: {delivery.error}")
        if delivery.sent or delivery.left or dropped:
            self._log(f"{delivery.sent} sent, {delivery.left} still spooled{dropped}")
        return delivery
