"""The use case of `notifier`: read what a message needs, and publish it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from ..model.dynamodb import Item
from ..model.errors import InvalidEventError, StorageError
from ..model.metric_types import CHECKED_TYPES
from ..model.settings import NotifierSettings, Settings
from .affected_hosts import (
    UNHEALTHY_ONLY,
    AffectedHost,
    StoredRecord,
    affected_by,
    highest_values,
    read_item,
)
from .alarm_messages import StateChange, alarm_message, read_state_change
from .messages import Deployment, Message
from .run_messages import DaySummary, Run, read_run, run_message

# How far back the start of an issue is searched for.
_LOOKBACK = timedelta(hours=24)

_DAY = timedelta(hours=24)


class NotifierPorts(Protocol):
    """The notifier's reads and writes. Every method raises StorageError."""

    def recent(self, metric_type: str, since: datetime, *, unhealthy: bool) -> list[Item]:
        """The newest items since then, at most a thousand; with `unhealthy`, without status ok."""

    def executions(self, machine: str, since: datetime) -> list[tuple[datetime, str]]:
        """Start and status of the executions that started since then, newest first."""

    def publish(self, topic: str, message: Message) -> None:
        """Send a message to a topic's subscribers."""


def notify(
    event: Mapping[str, Any],
    *,
    settings: Settings,
    notifier_settings: NotifierSettings,
    ports: NotifierPorts,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> dict[str, Any]:
    """Publish the message of an event, if the event is reported; its attributes.

    Raises:
        InvalidEventError: the event is neither an alarm's nor a run's.
        StorageError: the message was not accepted.
    """
    deployment = Deployment(
        notifier_settings.stage, event["account"], event["region"], notifier_settings.runbooks
    )
    match event["detail-type"]:
        case "CloudWatch Alarm State Change":
            change = read_state_change(event, deployment.suffix)
            message = (
                _alarm_message(change, deployment, settings, ports)
                if change is not None and change.is_reported
                else None
            )
        case "Run Succeeded" | "Run Failed":
            message = _run_message(
                read_run(event),
                deployment,
                settings=settings,
                notifier_settings=notifier_settings,
                ports=ports,
                now=now(),
            )
        case other:
            raise InvalidEventError(f"no notification is defined for {other!r}")
    if message is None:
        return {"published": False}
    topic = notifier_settings.pages if message.is_page else notifier_settings.topic
    ports.publish(topic, message)
    return {"published": True, **message.attributes}


def _alarm_message(
    change: StateChange, deployment: Deployment, settings: Settings, ports: NotifierPorts
) -> Message:
    alarm = change.alarm
    if change.has_ended or alarm.host_rule == "none":
        return alarm_message(change, (), deployment)
    hosts: Sequence[AffectedHost] = ()
    notes = []
    try:
        since = change.at - _LOOKBACK - timedelta(seconds=settings.window_seconds)
        unhealthy = alarm.host_rule in UNHEALTHY_ONLY
        items = ports.recent(alarm.metric_type, since, unhealthy=unhealthy)
        records = [read_item(item) for item in items]
        hosts = affected_by(alarm, records, change.threshold, settings)
    except StorageError as error:
        notes.append(_read_error(error))
    return alarm_message(change, hosts, deployment, notes=notes)


def _run_message(
    run: Run,
    deployment: Deployment,
    *,
    settings: Settings,
    notifier_settings: NotifierSettings,
    ports: NotifierPorts,
    now: datetime,
) -> Message | None:
    day, notes = None, []
    if not run.failed:
        if notifier_settings.digest == "Never":
            return None
        if notifier_settings.digest == "Daily":
            executions = ports.executions(notifier_settings.pipeline, now - _DAY)
            if _was_sent_today(executions, now):
                return None
            day = _day_summary(executions)
    hosts: Sequence[AffectedHost] = ()
    try:
        hosts = highest_values(_records_of(run, settings, ports), settings)
    except StorageError as error:
        notes.append(_read_error(error))
    return run_message(run, hosts, deployment, day=day, notes=notes)


def _records_of(
    run: Run, settings: Settings, ports: NotifierPorts
) -> Iterator[tuple[str, StoredRecord]]:
    """The records of a run; a window ends up to one metric period before the scheduled time."""
    since = run.scheduled_time - timedelta(seconds=settings.period_seconds)
    for metric_type in CHECKED_TYPES:
        for item in ports.recent(metric_type, since, unhealthy=False):
            yield metric_type, read_item(item)


def _was_sent_today(executions: Sequence[tuple[datetime, str]], now: datetime) -> bool:
    """Whether an earlier run of this day succeeded: that run sent the digest."""
    today = now.date()
    return any(status == "SUCCEEDED" and start.date() == today for start, status in executions)


def _day_summary(executions: Sequence[tuple[datetime, str]]) -> DaySummary:
    # The RUNNING execution is the one that sends the digest: all its collectors have succeeded.
    failed = [start for start, status in executions if status not in ("SUCCEEDED", "RUNNING")]
    return DaySummary(len(executions) - len(failed), failed)


def _read_error(error: StorageError) -> str:
    return f"(The affected hosts could not be read: {error})"
