"""The agent: measures this host and pushes the records to S3 through a spool on disk."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from chalicelib.collect.sources.protocol import Scope, Source, Target
from chalicelib.model import records
from chalicelib.model.errors import CollectionError
from chalicelib.model.metric_types import METRIC_TYPES
from chalicelib.model.records import Record
from chalicelib.model.windows import Window, format_utc

from .spool import Spool, SpooledObject
from .upload import Delivery, DeliveryError, Put, deliver

Log = Callable[[str], None]

# Waits for this many seconds or for a signal to stop; returns True after the signal.
Wait = Callable[[float], bool]

# A sleep does not count the time for which the host was suspended, so sleeps are short.
_MAX_SLEEP_SECONDS = 30.0
_BACK_OFF_SECONDS = 900.0


class AgentError(Exception):
    """The host could not be measured, or a record was lost; the message is one line."""


@dataclass(frozen=True, slots=True)
class HostIdentity:
    """The host in the records; an empty account or region is filled in by log-processor.

    log-processor uses the account and region of the bucket.
    """

    host: str
    account_id: str = ""
    region: str = ""


@dataclass(frozen=True, slots=True)
class Schedule:
    """Windows of `interval` seconds that end on multiples of `align` seconds."""

    interval: int
    align: int

    def window(self, moment: datetime) -> Window:
        """The last window that ends at or before `moment`."""
        return Window.before(moment, seconds=self.interval, align=self.align)

    def next_time(self, moment: datetime) -> datetime:
        """The first multiple of `interval` after `moment`, counted from the Unix epoch."""
        last = Window.before(moment, seconds=self.interval, align=self.interval).end
        return last + timedelta(seconds=self.interval)


def measure(
    source: Source, identity: HostIdentity, schedule: Schedule, now: datetime, *, log: Log
) -> list[Record]:
    """A record for each metric type that could be measured; the others are logged.

    Raises:
        AgentError: no metric type could be measured.
    """
    measured: list[Record] = []
    for metric_type in METRIC_TYPES:
        scope = Scope(
            metric_type=metric_type,
            window=schedule.window(now),
            account_id=identity.account_id,
            region=identity.region,
            execution_id=f"agent-{format_utc(now)}",
        )
        try:
            measured += source.collect(scope, [Target(identity.host)]).records
        except CollectionError as error:
            log(f"warning: {error}")
    if not measured:
        raise AgentError("no metric of this host could be measured")
    # log-processor computes metric_id, because it knows the bucket's account and region. An id
    # computed here from empty names would differ from the one that the next window refers to.
    return [replace(record, metric_id=None) for record in measured]


def encode(measured: list[Record]) -> bytes:
    """The body of the object: one record per line."""
    return b"".join(records.encode(record) + b"\n" for record in measured)


def back_off(attempt: int, *, jitter: Callable[[float, float], float] = random.uniform) -> float:
    """Seconds before the next try: 5 to 10 at first, doubled for each try, 15 minutes at most."""
    return jitter(0.5, 1.0) * min(_BACK_OFF_SECONDS, 10.0 * 2.0 ** min(attempt, 10))


class Agent:
    """Writes measurements to a spool and sends them from there."""

    def __init__(
        self,
        spool: Spool,
        put: Put,
        source: Source,
        identity: HostIdentity,
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
        """Measure and send; True if every metric type was measured and everything was sent."""
        complete = self._measure()  # older objects are sent even if this fails
        delivery = self._send()
        return complete and delivery.left == 0 and delivery.error is None

    def run_until(self, wait: Wait) -> None:
        """Measure and send at each scheduled time, and retry in between, until `wait` is True."""
        due, attempt = self._schedule.next_time(self._now()), 0
        self._log(
            f"measuring at {format_utc(due)} and every {self._schedule.interval} s after that"
        )
        retry: datetime | None = self._now()
        pause = 0.0
        while not wait(pause):
            moment = self._now()
            is_due, is_retry = moment >= due, retry is not None and moment >= retry
            if is_due:
                self._measure()
                attempt = 0
            if is_due or is_retry:
                retry = self._retry_at(self._send(lambda: wait(0)), attempt)
                attempt += 1
            # Computed from the current time, because the clock may have been set back.
            due = self._schedule.next_time(moment)
            wake = due if retry is None else min(due, retry)
            pause = min(_MAX_SLEEP_SECONDS, max(0.0, (wake - self._now()).total_seconds()))

    def _retry_at(self, delivery: Delivery, attempt: int) -> datetime | None:
        """The time of the next try; None after a success or a permanent error."""
        if delivery.error is None or delivery.error.permanent:
            return None
        return self._now() + timedelta(seconds=back_off(attempt))

    def _measure(self) -> bool:
        """Measure into the spool; True if every metric type was measured and stored."""
        now = self._now()
        try:
            measured = measure(self._source, self._identity, self._schedule, now, log=self._log)
            body = encode(measured)
            self._store(SpooledObject.of(body, host=self._identity.host, time=now), body)
        except AgentError as error:
            self._log(f"error: {error}")
            return False
        return len(measured) == len(METRIC_TYPES)

    def _store(self, spooled: SpooledObject, body: bytes) -> None:
        try:
            self._spool.add(spooled, body)
        except OSError as error:
            # The records that report a full disk must not be lost because of it.
            self._log(f"warning: {spooled.name} cannot be spooled ({error}): sending it directly")
            try:
                self._put(spooled.key, body)
            except DeliveryError as failure:
                raise AgentError(f"LOST {spooled.name}: {failure}") from failure

    def _send(self, stop: Callable[[], bool] = lambda: False) -> Delivery:
        delivery = deliver(self._spool, self._put, stop)
        dropped = f", {self._spool.dropped} dropped" if self._spool.dropped else ""
        if delivery.error:
            level = "error" if delivery.error.permanent else "warning"
            self._log(f"{level}: {delivery.error}")
        if delivery.sent or delivery.left or dropped:
            self._log(f"{delivery.sent} sent, {delivery.left} still spooled{dropped}")
        return delivery
