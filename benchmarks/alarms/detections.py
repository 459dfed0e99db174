"""Compare alarms with the traces: breaches missed, detected late, and alarms without a breach."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from .replay import SETTLED, AlarmPeriod, Outcome
from .scenarios import Scenario
from .traces import CADENCE, START, Breach, next_scheduled_time

# Alarm -> metric of the traces.
HOST_ALARMS = {"HighCPU": "CPUUtilization", "HighMemory": "mem_used_percent"}

_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Detection:
    """A breach and the alarm period that reported it.

    Attributes:
        breach: the breach.
        period: the alarm period; None if the breach was missed.
        is_new: the alarm began with a run that measured the breach; else it was already in ALARM.
        names_host: the e-mail about the start of the alarm names the host.
    """

    breach: Breach
    period: AlarmPeriod | None
    is_new: bool = False
    names_host: bool = False

    @property
    def at(self) -> datetime | None:
        if self.period is None:
            return None
        return self.period.start if self.is_new else _first_run(self.breach)

    @property
    def delay(self) -> timedelta | None:
        """Time from the start of the breach to the alarm."""
        return None if self.at is None else self.at - self.breach.start


@dataclass(frozen=True, slots=True)
class PeriodBreaches:
    """An alarm period with the breaches in its windows.

    Attributes:
        period: the alarm period.
        sustained: sustained breaches in its windows.
        max_minutes: most minutes above the threshold of one host in one window.
    """

    period: AlarmPeriod
    sustained: Sequence[Breach]
    max_minutes: int


@dataclass(frozen=True, slots=True)
class Incident:
    """An incident from `start` to `end`, with the alarm that must report it.

    The alarm must begin by `due` and end by `over`. `periods` are its actual alarm periods.
    """

    description: str
    alarm: str
    start: datetime
    end: datetime
    due: datetime
    over: datetime
    periods: Sequence[AlarmPeriod]

    @property
    def is_reported(self) -> bool:
        """Whether one alarm period began and ended in time, give or take one evaluation."""
        match self.periods:
            case [AlarmPeriod(start=start, end=datetime() as end)]:
                began_in_time = self.start <= start <= self.due + _MINUTE
                return began_in_time and end <= self.over + _MINUTE
            case _:
                return False


def threshold(scenario: Scenario, alarm: str) -> float:
    """The critical threshold in percent."""
    return scenario.cpu if alarm == "HighCPU" else scenario.memory


def sustained_breaches(outcome: Outcome, alarm: str) -> list[Breach]:
    """The sustained breaches that ended before the end of the replay."""
    breaches = outcome.traces.sustained(HOST_ALARMS[alarm], threshold(outcome.scenario, alarm))
    return [each for each in breaches if each.end <= outcome.end]


def detections(outcome: Outcome, alarm: str) -> list[Detection]:
    """One detection for each sustained breach."""
    periods = outcome.alarm_periods(alarm)
    return [_detection(breach, periods, outcome) for breach in sustained_breaches(outcome, alarm)]


def _detection(breach: Breach, periods: Sequence[AlarmPeriod], outcome: Outcome) -> Detection:
    first, last = _first_run(breach), _last_run(breach)
    for period in periods:
        # Late points are detected by the run after the last one.
        if first <= period.start <= last + CADENCE:
            names_host = breach.host in _named_hosts(outcome, period)
            return Detection(breach, period, is_new=True, names_host=names_host)
    scheduled_time = first
    while scheduled_time <= last:
        for period in periods:
            # At this time the alarm no longer depends on the run before.
            if period.covers(scheduled_time + SETTLED):
                return Detection(breach, period)
        scheduled_time += CADENCE
    return Detection(breach, None)


def _first_run(breach: Breach) -> datetime:
    """The first run whose window overlaps the breach."""
    return next_scheduled_time(breach.start + _MINUTE)


def _last_run(breach: Breach) -> datetime:
    """The last run whose window overlaps the breach."""
    return next_scheduled_time(breach.end)


def _named_hosts(outcome: Outcome, period: AlarmPeriod) -> set[str]:
    return {
        host
        for email in outcome.emails
        if email.at == period.start and email.kind == "alarm"
        for host in email.hosts
    }


def period_breaches(outcome: Outcome, alarm: str) -> list[PeriodBreaches]:
    """The breaches in each alarm period."""
    breaches = sustained_breaches(outcome, alarm)
    metric, limit = HOST_ALARMS[alarm], threshold(outcome.scenario, alarm)
    result = []
    for period in outcome.alarm_periods(alarm):
        windows = _window_starts(period, outcome)
        first, last = windows[0], windows[-1] + CADENCE
        overlapping = [each for each in breaches if each.start < last and each.end > first]
        max_minutes = max(
            outcome.traces.max_minutes_above(metric, limit, start, start + CADENCE)
            for start in windows
        )
        result.append(PeriodBreaches(period, overlapping, max_minutes))
    return result


def _window_starts(period: AlarmPeriod, outcome: Outcome) -> list[datetime]:
    """Start times of the windows of an alarm period: two of its first run, one of each other."""
    end = outcome.end if period.end is None else period.end - SETTLED
    starts = [next_scheduled_time(period.start - SETTLED) - 2 * CADENCE]
    while starts[-1] + 2 * CADENCE <= end:
        starts.append(starts[-1] + CADENCE)
    return starts


def incidents(outcome: Outcome) -> list[Incident]:
    """The incidents of the scenario with the alarm periods that reported them."""
    scenario = outcome.scenario
    settled = SETTLED - _MINUTE
    result = []

    def add(description: str, alarm: str, times: Sequence[datetime]) -> None:
        start, end, due, over = times
        periods = [
            each for each in outcome.alarm_periods(alarm) if start <= each.start <= over + CADENCE
        ]
        result.append(Incident(description, alarm, start, end, due, over, periods))

    if scenario.stopped[1]:
        start, end = (START + each for each in scenario.stopped)
        resumed, last = next_scheduled_time(end), next_scheduled_time(start) - CADENCE
        add("no runs", "PipelineStopped", (start, end, last + 2 * CADENCE + settled, resumed))
    for host, start, end in _silences(outcome):
        over = next_scheduled_time(end) + settled
        add(f"no data from {host}", "HostsMissing", (start, end, end, over))
    for at, attempts in scenario.failing.items():
        start = START + at
        duration = timedelta(minutes=3 if attempts > 2 else attempts - 1)
        description = f"{attempts} attempt{'s' if attempts > 1 else ''} of each object failed"
        over = start + duration + CADENCE + settled
        add(description, "ProcessorErrors", (start, start + duration, start + _MINUTE, over))
        if attempts > 2:
            redriven = START + scenario.redriven
            over = redriven + timedelta(minutes=5)
            times = (start + duration, redriven, start + duration + _MINUTE, over)
            add("dead letters", "DeadLettersWaiting", times)
    return result


def _silences(outcome: Outcome) -> list[tuple[str, datetime, datetime]]:
    """Hosts without points in entire windows.

    Returns tuples of the host, the end of the first window without points and the end of the first
    window after the last one.
    """
    ends: dict[str, list[datetime]] = {}
    end = START + CADENCE
    while end <= outcome.end:
        for host in outcome.traces.silent(end - CADENCE, end):
            ends.setdefault(host, []).append(end)
        end += CADENCE
    return [(host, times[0], times[-1] + CADENCE) for host, times in ends.items()]
