"""Alarms held against what the rows say: what was missed, what was told late or without need."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from .replay import SETTLED, Outcome, Span
from .scenarios import Scenario
from .traces import (
    CADENCE,
    START,
    Breach,
    tick_from,
)

# alarm -> the traces' metric that it is about
WATCHED = {"HighCPU": "CPUUtilization", "HighMemory": "mem_used_percent"}

_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Told:
    """A breach and how people learnt of it: `span` is the alarm's, None if it was missed.

    `new` says that the alarm began with a run that measured the breach, else it was on already
    and stayed; `named` that the mail of its beginning names the host.
    """

    breach: Breach
    span: Span | None
    new: bool = False
    named: bool = False

    @property
    def at(self) -> datetime | None:
        if self.span is None:
            return None
        return self.span.start if self.new else tick_from(self.breach.start + _MINUTE)

    @property
    def after(self) -> timedelta | None:
        """From the breach's beginning to the alarm."""
        return None if self.at is None else self.at - self.breach.start


@dataclass(frozen=True, slots=True)
class Fired:
    """A time in ALARM, the sustained breaches in its windows, and a host's most minutes there."""

    span: Span
    sustained: Sequence[Breach]
    minutes: int


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that went wrong from `start` to `end`: when an alarm has to be on, and was.

    It has to begin by `due`, and to be over by `over`.
    """

    what: str
    alarm: str
    start: datetime
    end: datetime
    due: datetime
    over: datetime
    spans: Sequence[Span]

    @property
    def is_told(self) -> bool:
        """Once, in time, and over in time; within the minute of the evaluation."""
        match self.spans:
            case [Span(start=began, end=datetime() as ended)]:
                in_time = self.start <= began <= self.due + _MINUTE
                return in_time and ended <= self.over + _MINUTE
            case _:
                return False


def sustained(outcome: Outcome, alarm: str) -> list[Breach]:
    """The breaches that a run of the replay could see."""
    found = outcome.traces.sustained(WATCHED[alarm], limit(outcome.scenario, alarm))
    return [each for each in found if each.end <= outcome.end]


def limit(scenario: Scenario, alarm: str) -> float:
    """The critical threshold (percent)."""
    return scenario.cpu if alarm == "HighCPU" else scenario.memory


def told(outcome: Outcome, alarm: str) -> list[Told]:
    """Each sustained breach, and the alarm that told of it."""
    spans = outcome.spans(alarm)
    return [_told(breach, spans, outcome) for breach in sustained(outcome, alarm)]


def _told(breach: Breach, spans: Sequence[Span], outcome: Outcome) -> Told:
    first, last = _runs_of(breach)
    for span in spans:
        # What came late is told by the run after.
        if first <= span.start <= last + CADENCE:
            return Told(breach, span, new=True, named=breach.host in _named_at(outcome, span))
    tick = first
    while tick <= last:
        for span in spans:
            # By then the run before has no part in it any more.
            if span.covers(tick + SETTLED):
                return Told(breach, span)
        tick += CADENCE
    return Told(breach, None)


def _runs_of(breach: Breach) -> tuple[datetime, datetime]:
    """The first and the last run whose window has a part of the breach."""
    return tick_from(breach.start + _MINUTE), tick_from(breach.end)


def _named_at(outcome: Outcome, span: Span) -> set[str]:
    return {
        host
        for mail in outcome.mails
        if mail.at == span.start and mail.kind == "alarm"
        for host in mail.hosts
    }


def fired(outcome: Outcome, alarm: str) -> list[Fired]:
    """Each time in ALARM, and what the rows say of its windows."""
    breaches = sustained(outcome, alarm)
    metric, threshold = WATCHED[alarm], limit(outcome.scenario, alarm)
    found = []
    for span in outcome.spans(alarm):
        windows = _windows(span, outcome)
        first, last = windows[0], windows[-1] + CADENCE
        within = [each for each in breaches if each.start < last and each.end > first]
        minutes = max(
            outcome.traces.minutes_above(metric, threshold, start, start + CADENCE)
            for start in windows
        )
        found.append(Fired(span, within, minutes))
    return found


def _windows(span: Span, outcome: Outcome) -> list[datetime]:
    """The starts of the windows that an alarm is of: two of its first run, one of the others."""
    start = tick_from(span.start - SETTLED) - 2 * CADENCE
    end = outcome.end if span.end is None else span.end - SETTLED
    found = [start]
    while found[-1] + 2 * CADENCE <= end:
        found.append(found[-1] + CADENCE)
    return found


def troubles(outcome: Outcome) -> list[Trouble]:
    """What went wrong in the scenario, and what was told of it."""
    scenario = outcome.scenario
    settled = SETTLED - _MINUTE
    found = []

    def add(what: str, alarm: str, times: Sequence[datetime]) -> None:
        start, end, due, over = times
        spans = [each for each in outcome.spans(alarm) if start <= each.start <= over + CADENCE]
        found.append(Trouble(what, alarm, start, end, due, over, spans))

    if scenario.stopped[1]:
        start, end = (START + each for each in scenario.stopped)
        resumed, last = tick_from(end), tick_from(start) - CADENCE
        add("no tick", "PipelineStopped", (start, end, last + 2 * CADENCE + settled, resumed))
    for host, start, end in _silences(outcome):
        add(f"{host} silent", "HostsMissing", (start, end, end, tick_from(end) + settled))
    for at, attempts in scenario.failing.items():
        start = START + at
        lasts = timedelta(minutes=3 if attempts > 2 else attempts - 1)
        what = f"{attempts} attempt{'s' if attempts > 1 else ''} of each object failed"
        over = start + lasts + CADENCE + settled
        add(what, "ProcessorErrors", (start, start + lasts, start + _MINUTE, over))
        if attempts > 2:
            redriven = START + scenario.redriven
            over = redriven + timedelta(minutes=5)
            times = (start + lasts, redriven, start + lasts + _MINUTE, over)
            add("dead letters", "DeadLettersWaiting", times)
    return found


def _silences(outcome: Outcome) -> list[tuple[str, datetime, datetime]]:
    """Hosts without a row in whole windows: from the first window's end to the last one's."""
    found: dict[str, list[datetime]] = {}
    tick = START + CADENCE
    while tick <= outcome.end:
        for host in outcome.traces.silent(tick - CADENCE, tick):
            found.setdefault(host, []).append(tick)
        tick += CADENCE
    return [(host, ticks[0], ticks[-1] + CADENCE) for host, ticks in found.items()]
