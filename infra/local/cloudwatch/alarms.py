"""CloudWatch alarms: periodic evaluation, which moto lacks, and validation.

`alarm_rules` has the rules, `alarm_changes` the events and messages of a state change.
"""

import contextlib
import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from moto.cloudwatch.exceptions import ValidationError
from moto.cloudwatch.models import Alarm, CloudWatchBackend
from moto.cloudwatch.responses import CloudWatchResponse

from ..errors import LocalCloudError
from ..patching import original, patch
from .alarm_changes import AlarmChange, change_of, format_timestamp, is_returned, rule_of, state_of
from .alarm_rules import (
    Datapoints,
    Evaluation,
    Rule,
    State,
    as_state,
    children,
    compute,
    evaluate,
    evaluate_composite,
    state_reason,
    validation_error,
    window_end,
)
from .metrics import Metrics

INTERVAL_SECONDS = 60.0

# The state of an alarm before its first evaluation; moto uses OK.
_INITIAL_STATE = "INSUFFICIENT_DATA"

_LOG = logging.getLogger(__name__)


class Alarms:
    """The alarms of one account and region; calls `on_change` for each state change, in order."""

    def __init__(
        self,
        backend: CloudWatchBackend,
        metrics: Metrics,
        *,
        on_change: Callable[[AlarmChange], None],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._backend = backend
        self._metrics = metrics
        self._on_change = on_change
        self._now = now
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, interval_seconds: float) -> None:
        """Start a thread that evaluates the alarms at an interval."""

        def run() -> None:
            while not self._stopping.wait(interval_seconds):
                try:
                    self.evaluate()
                except Exception:  # noqa: BLE001 - the next interval tries again
                    _LOG.exception("alarms were not evaluated")

        self._thread = threading.Thread(target=run, daemon=True, name="alarms")
        self._thread.start()

    def close(self) -> None:
        """Stop the thread."""
        self._stopping.set()
        if self._thread:
            self._thread.join(timeout=5)

    def evaluate(self) -> list[AlarmChange]:
        """Evaluate each alarm once, composite alarms after their children; return the changes."""
        with self._lock:
            now = self._now()
            alarms = list(self._backend.alarms.values())
            changes = []
            for alarm in [*_metric_alarms(alarms), *_composite_alarms(alarms)]:
                with _log_errors(alarm.name):
                    if change := self._update(alarm, now):
                        changes.append(change)
        for change in changes:
            with _log_errors(change.name):
                self._on_change(change)
        return changes

    def _update(self, alarm: Alarm, now: datetime) -> AlarmChange | None:
        """Set an alarm's state; return the change if the state is a new one."""
        if alarm.rule is not None:
            state, reason, data = _evaluate_composite(alarm, self._backend.alarms, now)
        else:
            state, reason, data = self._evaluate_metric(alarm, now)
        if state == alarm.state_value:
            return None
        before = state_of(alarm)
        alarm.update_state(reason, json.dumps(data), state)
        alarm.state_updated_timestamp = now.astimezone(UTC).replace(tzinfo=None)
        return change_of(alarm, before)

    def _evaluate_metric(self, alarm: Alarm, now: datetime) -> tuple[State, str, dict[str, Any]]:
        rule = rule_of(alarm)
        end = window_end(rule, now)
        datapoints = self._datapoints(alarm, rule, end)
        evaluation = evaluate(rule, datapoints, as_state(alarm.state_value))

        def start(age: int) -> datetime:
            return end - timedelta(seconds=rule.period * age)

        data = _reason_data(alarm, rule, evaluation, now, start)
        return evaluation.state, state_reason(rule, evaluation, start), data

    def _datapoints(self, alarm: Alarm, rule: Rule, end: datetime) -> Datapoints:
        start = end - timedelta(seconds=rule.period * rule.evaluation_range)

        def statistic(namespace: str, name: str, dimensions: Any, stat: str) -> Datapoints:
            return self._metrics.statistic(
                namespace,
                name,
                {each.name: each.value for each in dimensions},
                stat,
                start=start,
                period=rule.period,
                periods=rule.evaluation_range,
            )

        if alarm.metric_name:
            stat = alarm.statistic or str(alarm.extended_statistic)
            return statistic(alarm.namespace, alarm.metric_name, alarm.dimensions, stat)
        metrics: dict[str, Datapoints] = {}
        for query in alarm.metric_data_queries:
            if query.metric_stat:
                metric = query.metric_stat.metric
                metrics[query.id] = statistic(
                    metric.namespace, metric.metric_name, metric.dimensions, query.metric_stat.stat
                )
        for query in alarm.metric_data_queries:
            if query.expression:
                metrics[query.id] = compute(query.expression, metrics)
        return metrics[_returned_id(alarm)]


@contextlib.contextmanager
def _log_errors(name: str) -> Iterator[None]:
    """Log an error about one alarm and continue with the next."""
    try:
        yield
    except (LocalCloudError, ClientError, BotoCoreError) as error:
        _LOG.warning("alarm %s: %s", name, error)


def install() -> None:
    """Replace moto's PutMetricAlarm and add PutCompositeAlarm.

    A new alarm gets CloudWatch's initial state, an update keeps the state, and an invalid alarm
    is rejected.
    """
    patch(CloudWatchBackend, "put_metric_alarm", _put_metric_alarm)
    # moto's PutMetricAlarm accepts a composite alarm's rule too.
    patch(CloudWatchResponse, "put_composite_alarm", CloudWatchResponse.put_metric_alarm)


def _put_metric_alarm(backend: CloudWatchBackend, **fields: Any) -> Alarm:
    before = backend.alarms.get(fields["name"])
    alarm: Alarm = original(CloudWatchBackend, "put_metric_alarm")(backend, **fields)
    if message := _validation_error(alarm, backend.alarms):
        del backend.alarms[alarm.name]
        if before:
            backend.alarms[alarm.name] = before
        raise ValidationError(message)
    if before:
        for name in ("state_value", "state_reason", "state_reason_data", "state_updated_timestamp"):
            setattr(alarm, name, getattr(before, name))
    else:
        alarm.state_value = _INITIAL_STATE
    return alarm


def _validation_error(alarm: Alarm, alarms: Mapping[str, Alarm]) -> str:
    if alarm.rule is not None:
        try:
            evaluate_composite(alarm.rule, _states(alarms))
        except LocalCloudError as error:
            return str(error)
        return ""
    stats = [query.metric_stat.stat for query in alarm.metric_data_queries if query.metric_stat]
    return validation_error(
        rule_of(alarm), statistics=stats or [alarm.statistic or str(alarm.extended_statistic)]
    )


def _metric_alarms(alarms: Iterable[Alarm]) -> list[Alarm]:
    return [alarm for alarm in alarms if alarm.rule is None]


def _composite_alarms(alarms: Iterable[Alarm]) -> list[Alarm]:
    """Return the composite alarms, children before parents; alarms in a cycle are left out."""
    waiting = {alarm.name: alarm for alarm in alarms if alarm.rule is not None}
    ordered: list[Alarm] = []
    while ready := [
        each for each in waiting.values() if not waiting.keys() & children(str(each.rule))
    ]:
        ordered += ready
        for each in ready:
            del waiting[each.name]
    return ordered


def _states(alarms: Mapping[str, Alarm]) -> dict[str, State]:
    return {name: as_state(alarm.state_value) for name, alarm in alarms.items()}


def _evaluate_composite(
    alarm: Alarm, alarms: Mapping[str, Alarm], now: datetime
) -> tuple[State, str, dict[str, Any]]:
    assert alarm.rule is not None  # noqa: S101 - composite alarms have one
    state: State = "ALARM" if evaluate_composite(alarm.rule, _states(alarms)) else "OK"
    in_state = [
        child
        for child in (alarms[name] for name in children(alarm.rule))
        if child.state_value == state
    ]
    triggering = [
        {
            "arn": child.alarm_arn,
            "state": {
                "value": child.state_value,
                "timestamp": format_timestamp(child.state_updated_timestamp),
            },
        }
        for child in in_state
    ]
    if alarm.state_value == _INITIAL_STATE or not in_state:
        reason = f"{alarm.alarm_arn} was created and its alarm rule evaluates to {state}"
    else:
        newest = max(in_state, key=lambda child: child.state_updated_timestamp)
        at = f"{now.astimezone(UTC):%A %d %B, %Y %H:%M:%S} UTC"
        reason = f"{newest.alarm_arn} transitioned to {state} at {at}"
    return state, reason, {"triggeringAlarms": triggering}


def _returned_id(alarm: Alarm) -> str:
    """Return the ID of the query that the alarm watches."""
    return next(str(query.id) for query in alarm.metric_data_queries if is_returned(query))


def _reason_data(
    alarm: Alarm,
    rule: Rule,
    evaluation: Evaluation,
    now: datetime,
    start: Callable[[int], datetime],
) -> dict[str, Any]:
    datapoints = evaluation.datapoints
    return {
        "version": "1.0",
        "queryDate": format_timestamp(now),
        **({"startDate": format_timestamp(start(datapoints[-1][0]))} if datapoints else {}),
        **({"statistic": alarm.statistic} if alarm.statistic else {}),
        "period": rule.period,
        "recentDatapoints": [value for _, value in reversed(datapoints)],
        "threshold": rule.threshold,
        "evaluatedDatapoints": [
            {"timestamp": format_timestamp(start(age)), "value": value} for age, value in datapoints
        ],
    }
