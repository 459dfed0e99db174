"""The agent: measures this machine and pushes the records to S3, through a spool on its disk."""

import argparse
import json
import os
import random
import select
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from msgspec.structs import replace

from chalicelib import records
from chalicelib.errors import CollectionError
from chalicelib.records import METRIC_TYPES, Record
from chalicelib.sources import Scope, Source, Target
from chalicelib.sources.host import HostSource
from chalicelib.windows import Window, format_utc

from .delivery import Bucket, Delivery, DeliveryError, Put, deliver
from .spool import Entry, Spool, SpoolError, default_folder

Say = Callable[[str], None]

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
class Rhythm:
    """Windows of `interval` seconds, which end on multiples of `align` seconds."""

    interval: int
    align: int

    def window(self, tick: datetime) -> Window:
        return Window.before(tick, seconds=self.interval, align=self.align)

    def next_tick(self, moment: datetime) -> datetime:
        """The first multiple of `interval` after `moment`, on UTC's clock."""
        last = Window.before(moment, seconds=self.interval, align=self.interval).end
        return last + timedelta(seconds=self.interval)


def agent(options: argparse.Namespace) -> int:
    """Do what `python -m infra agent` was asked to; its exit status."""
    try:
        if options.dry_run:
            return _show(options)
        return _push(options)
    except (AgentError, SpoolError, OSError) as error:
        _say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        _say("stopped")
        return 130


def measure(
    source: Source, identity: Identity, rhythm: Rhythm, tick: datetime, *, say: Say
) -> list[Record]:
    """A record for each metric type that can be measured; `say` hears of the others.

    Raises:
        AgentError: nothing could be measured.
    """
    measured: list[Record] = []
    for metric_type in METRIC_TYPES:
        scope = Scope(
            metric_type=metric_type,
            window=rhythm.window(tick),
            account_id=identity.account_id,
            region=identity.region,
            execution_id=f"agent-{format_utc(tick)}",
        )
        try:
            measured += source.collect(scope, [Target(identity.host)]).records
        except CollectionError as error:
            say(f"warning: {error}")
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
        rhythm: Rhythm,
        *,
        say: Say,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._spool = spool
        self._put = put
        self._source = source
        self._identity = identity
        self._rhythm = rhythm
        self._say = say
        self._now = now

    def once(self) -> bool:
        """Measure and send; whether every metric type was measured and everything was sent."""
        complete = self._tick()  # what waits in the spool has its turn either way
        delivery = self._send()
        return complete and delivery.left == 0 and delivery.error is None

    def watch(self, wait: Wait) -> None:
        """Measure and send at each tick of the clock, and send again in between, until the end."""
        due, attempt = self._rhythm.next_tick(self._now()), 0
        self._say(f"measuring at {format_utc(due)} and every {self._rhythm.interval} s from then")
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
            due = self._rhythm.next_tick(moment)
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
            measured = measure(self._source, self._identity, self._rhythm, tick, say=self._say)
            body = encode(measured)
            self._keep(Entry.of(body, host=self._identity.host, time=tick), body)
        except AgentError as error:
            self._say(f"error: {error}")
            return False
        return len(measured) == len(METRIC_TYPES)

    def _keep(self, entry: Entry, body: bytes) -> None:
        try:
            self._spool.add(entry, body)
        except OSError as error:
            # A full disk is the very thing that a monitor must be able to tell.
            self._say(f"warning: {entry.name} cannot be spooled ({error}): sending it at once")
            try:
                self._put(entry.key, body)
            except DeliveryError as failure:
                raise AgentError(f"LOST {entry.name}: {failure}") from failure

    def _send(self, enough: Callable[[], bool] = lambda: False) -> Delivery:
        delivery = deliver(self._spool, self._put, enough)
        dropped = f", {self._spool.dropped} dropped" if self._spool.dropped else ""
        if delivery.error:
            level = "error" if delivery.error.permanent else "warning"
            self._say(f"{level}: {delivery.error}")
        if delivery.sent or delivery.left or dropped:
            self._say(f"{delivery.sent} sent, {delivery.left} still spooled{dropped}")
        return delivery


class _Ending:
    """SIGINT and SIGTERM as a wish that the loop asks for; the second one interrupts at once.

    An exception raised by a handler is lost where nothing lets one through, as in a finalizer.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, self._wish)

    def _wish(self, *_: object) -> None:
        if self.wait(0):
            raise KeyboardInterrupt
        os.write(self._write, b".")

    def wait(self, seconds: float) -> bool:
        return bool(select.select([self._read], [], [], seconds)[0])


def _push(options: argparse.Namespace) -> int:
    bucket = options.bucket or os.environ.get("BUCKET_NAME")
    if not bucket:
        raise AgentError("no bucket: give --bucket, or set BUCKET_NAME")
    identity, rhythm = _identity(options), _rhythm(options)
    folder = Path(options.spool) if options.spool else default_folder()
    with Spool(folder, max_bytes=int(options.max_spool_mb * 1_000_000), say=_say) as spool:
        pusher = Agent(spool, Bucket(bucket).put, _source(options), identity, rhythm, say=_say)
        if options.once:
            return 0 if pusher.once() else 1
        pusher.watch(_Ending().wait)
    _say("stopped")
    return 0


def _show(options: argparse.Namespace) -> int:
    """Print the object that would be sent."""
    identity, rhythm, tick = _identity(options), _rhythm(options), datetime.now(UTC)
    measured = measure(_source(options), identity, rhythm, tick, say=_say)
    body = encode(measured)
    _say(f"would put {Entry.of(body, host=identity.host, time=tick).key}")
    text = body.decode()
    if options.dry_run == "pretty":
        text = "".join(json.dumps(json.loads(line), indent=2) + "\n" for line in text.splitlines())
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough, and so has Python's own flush at the end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _source(options: argparse.Namespace) -> HostSource:
    return HostSource(cpu_interval=options.cpu_seconds)


def _identity(options: argparse.Namespace) -> Identity:
    return Identity(options.host or socket.gethostname(), options.account_id, options.region_label)


def _rhythm(options: argparse.Namespace) -> Rhythm:
    if options.interval % options.align:
        raise AgentError(
            f"--interval {options.interval} is no multiple of --align {options.align}:"
            " two measurements would claim the same window"
        )
    return Rhythm(options.interval, options.align)


def _say(message: str) -> None:
    sys.stderr.write(message + "\n")
    sys.stderr.flush()
