"""From an event to the message that people get: reads what it needs, and publishes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from ..model.errors import InvalidEventError, StorageError
from ..model.items import Item
from ..model.settings import NotifierSettings, Settings
from .affected_hosts import (
    SEARCHES,
    Stored,
    Suspect,
    highest,
    stored_from_item,
    suspects_of,
)
from .alarm_messages import Change, alarm_message, change_of
from .messages import Message, Place
from .run_messages import (
    Run,
    Runs,
    run_message,
    run_of,
)

# How far back an alarm's beginning is looked for.
_LOOKBACK = timedelta(hours=24)

_DAY = timedelta(hours=24)
_JUDGED = ("cpu", "memory", "disk")


class Outside(Protocol):
    """What the notifier reads and writes. Every method raises StorageError."""

    def recent(self, metric_type: str, since: datetime, *, unwell: bool) -> list[Item]:
        """The newest items since then, of `unwell` ones only; a thousand at most."""

    def executions(self, machine: str, since: datetime) -> list[tuple[datetime, str]]:
        """Beginning and status of the executions that began since then, newest first."""

    def publish(self, topic: str, message: Message) -> None:
        """Send a message to a topic's subscribers."""


def notify(
    event: Mapping[str, Any],
    *,
    settings: Settings,
    own: NotifierSettings,
    outside: Outside,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dict[str, Any]:
    """Tell people what an event says, if they want to hear it; the message's attributes.

    Raises:
        InvalidEventError: the event is neither an alarm's nor a run's.
        StorageError: the message was not taken.
    """
    place = Place(own.stage, event["account"], event["region"], own.runbooks)
    match event["detail-type"]:
        case "CloudWatch Alarm State Change":
            change = change_of(event, place.suffix)
            told = change is not None and change.is_told
            message = _of_alarm(change, place, settings, outside) if change and told else None
        case "Run Succeeded" | "Run Failed":
            message = _of_run(
                run_of(event), place, settings=settings, own=own, outside=outside, now=now()
            )
        case other:
            raise InvalidEventError(f"nobody is told of {other!r}")
    if message is None:
        return {"told": False}
    outside.publish(own.pages if message.is_page else own.topic, message)
    return {"told": True, **message.attributes}


def _of_alarm(change: Change, place: Place, settings: Settings, outside: Outside) -> Message:
    if change.state == "OK" or change.alarm.suspects not in SEARCHES:
        return alarm_message(change, (), place)
    search = SEARCHES[change.alarm.suspects]
    suspects: Sequence[Suspect] = ()
    notes = []
    try:
        since = change.at - _LOOKBACK - timedelta(seconds=settings.window_seconds)
        items = outside.recent(search.metric_type, since, unwell=search.unwell)
        stored = [stored_from_item(item) for item in items]
        suspects = suspects_of(change.alarm.suspects, stored, change.threshold, settings)
    except StorageError as error:
        notes.append(_unread(error))
    return alarm_message(change, suspects, place, notes=notes)


def _of_run(
    run: Run,
    place: Place,
    *,
    settings: Settings,
    own: NotifierSettings,
    outside: Outside,
    now: datetime,
) -> Message | None:
    runs, notes = None, []
    if not run.failed:
        if own.digest == "Never":
            return None
        if own.digest == "Daily":
            executions = outside.executions(own.pipeline, now - _DAY)
            if _is_told_today(executions, now):
                return None
            runs = _sum_up(executions)
    suspects: Sequence[Suspect] = ()
    try:
        suspects = highest(_newest(run, settings, outside), settings)
    except StorageError as error:
        notes.append(_unread(error))
    return run_message(run, suspects, place, runs=runs, notes=notes)


def _newest(run: Run, settings: Settings, outside: Outside) -> Iterator[tuple[str, Stored]]:
    """What the run stored; a window's end is up to a period before the tick."""
    since = run.tick - timedelta(seconds=settings.period_seconds)
    for metric_type in _JUDGED:
        for item in outside.recent(metric_type, since, unwell=False):
            yield metric_type, stored_from_item(item)


def _is_told_today(executions: Sequence[tuple[datetime, str]], now: datetime) -> bool:
    """Whether a run of this day has succeeded before: that one brought the digest."""
    today = now.date()
    return any(status == "SUCCEEDED" and began.date() == today for began, status in executions)


def _sum_up(executions: Sequence[tuple[datetime, str]]) -> Runs:
    # The one that is RUNNING is the one that tells: all its collectors have succeeded.
    failed = [began for began, status in executions if status not in ("SUCCEEDED", "RUNNING")]
    return Runs(len(executions) - len(failed), failed)


def _unread(error: StorageError) -> str:
    return f"(Which hosts could not be read: {error})"
