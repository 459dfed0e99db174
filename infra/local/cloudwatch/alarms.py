"""CloudWatch's alarms in the local cloud: evaluated by AWS's rules, their changes told.

moto keeps alarms and evaluates none. The rules are in `alarm_rules`.
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
from .alarm_changes import (
    AlarmChange,
    change_of,
    is_returned,
    rule_of,
    stamp,
    state_of,
)
from .alarm_rules import (
    Points,
    Rule,
    State,
    Verdict,
    as_state,
    children,
    compute,
    evaluate,
    fault,
    holds,
    reason,
    window_end,
)
from .metrics import Metrics

EVERY_SECONDS = 60.0

# A new alarm is in this state until it is evaluated; moto has OK.
_NEW = "INSUFFICIENT_DATA"

_LOG = logging.getLogger(__name__)


class Alarms:
    """The alarms of one account and region; `tell` hears of each change, in order."""

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

    def start(self, every_seconds: float) -> None:
        """Evaluate again and again, for the first time after `every_seconds`."""

        def run() -> None:
            while not self._stopping.wait(every_seconds):
                try:
                    self.evaluate()
                except Exception:  # noqa: BLE001 - the next minute is another try
                    _LOG.exception("alarms were not evaluated")

        self._thread = threading.Thread(target=run, daemon=True, name="alarms")
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        if self._thread:
            self._thread.join(timeout=5)

    def evaluate(self) -> list[AlarmChange]:
        """Evaluate each alarm once, the composite ones after those that they rest on."""
        with self._lock:
            now = self._now()
            alarms = list(self._backend.alarms.values())
            changes = []
            for alarm in [*_metric_alarms(alarms), *_composite_alarms(alarms)]:
                with _alone(alarm.name):
                    if change := self._evaluate(alarm, now):
                        changes.append(change)
        for change in changes:
            with _alone(change.name):
                self._on_change(change)
        return changes

    def _evaluate(self, alarm: Alarm, now: datetime) -> AlarmChange | None:
        if alarm.rule is not None:
            state, why, data = _judge_composite(alarm, self._backend.alarms, now)
        else:
            state, why, data = self._judge(alarm, now)
        if state == alarm.state_value:
            return None
        before = state_of(alarm)
        alarm.update_state(why, json.dumps(data), state)
        alarm.state_updated_timestamp = now.astimezone(UTC).replace(tzinfo=None)
        return change_of(alarm, before)

    def _judge(self, alarm: Alarm, now: datetime) -> tuple[State, str, dict[str, Any]]:
        rule = rule_of(alarm)
        end = window_end(rule, now)
        verdict = evaluate(rule, self._points(alarm, rule, end), as_state(alarm.state_value))

        def start(age: int) -> datetime:
            return end - timedelta(seconds=rule.period * age)

        data = _reason_data(alarm, rule, verdict, now, start)
        return verdict.state, reason(rule, verdict, start), data

    def _points(self, alarm: Alarm, rule: Rule, end: datetime) -> Points:
        start = end - timedelta(seconds=rule.period * rule.retrieved)

        def statistic(namespace: str, name: str, dimensions: Any, stat: str) -> Points:
            return self._metrics.statistic(
                namespace,
                name,
                {each.name: each.value for each in dimensions},
                stat,
                start=start,
                period=rule.period,
                periods=rule.retrieved,
            )

        if alarm.metric_name:
            stat = alarm.statistic or str(alarm.extended_statistic)
            return statistic(alarm.namespace, alarm.metric_name, alarm.dimensions, stat)
        series: dict[str, Points] = {}
        for query in alarm.metric_data_queries:
            if query.metric_stat:
                metric = query.metric_stat.metric
                series[query.id] = statistic(
                    metric.namespace, metric.metric_name, metric.dimensions, query.metric_stat.stat
                )
        for query in alarm.metric_data_queries:
            if query.expression:
                series[query.id] = compute(query.expression, series)
        return series[_returned(alarm)]


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    """An alarm that cannot be evaluated or told of keeps no other one from it."""
    try:
        yield
    except (LocalCloudError, ClientError, BotoCoreError) as error:
        _LOG.warning("alarm %s: %s", name, error)


def install() -> None:
    """Let moto's alarms begin in CloudWatch's state, and refuse what CloudWatch refuses."""
    if hasattr(CloudWatchBackend.put_metric_alarm, "moto_own"):
        return
    moto_put_metric_alarm = CloudWatchBackend.put_metric_alarm

    def put_metric_alarm(backend: CloudWatchBackend, **fields: Any) -> Alarm:
        before = backend.alarms.get(fields["name"])
        alarm = moto_put_metric_alarm(backend, **fields)
        if words := _refusal(alarm, backend.alarms):
            del backend.alarms[alarm.name]
            if before:
                backend.alarms[alarm.name] = before
            raise ValidationError(words)
        if before:
            # An update leaves the state as it is.
            for name in ("state_value", "state_reason", "state_reason_data"):
                setattr(alarm, name, getattr(before, name))
            alarm.state_updated_timestamp = before.state_updated_timestamp
        else:
            alarm.state_value = _NEW
        return alarm

    put_metric_alarm.moto_own = moto_put_metric_alarm  # type: ignore[attr-defined]  # the one that was there before
    # moto lacks this call; its other one takes a composite alarm's rule, too.
    responses: Any = CloudWatchResponse
    responses.put_composite_alarm = CloudWatchResponse.put_metric_alarm
    CloudWatchBackend.put_metric_alarm = put_metric_alarm  # type: ignore[method-assign, assignment]  # in the place of moto's


def _refusal(alarm: Alarm, alarms: Mapping[str, Alarm]) -> str:
    if alarm.rule is not None:
        try:
            holds(alarm.rule, _states(alarms))
        except LocalCloudError as error:
            return str(error)
        return ""
    stats = [query.metric_stat.stat for query in alarm.metric_data_queries if query.metric_stat]
    return fault(
        rule_of(alarm), statistics=stats or [alarm.statistic or str(alarm.extended_statistic)]
    )


def _metric_alarms(alarms: Iterable[Alarm]) -> list[Alarm]:
    return [alarm for alarm in alarms if alarm.rule is None]


def _composite_alarms(alarms: Iterable[Alarm]) -> list[Alarm]:
    """The composite alarms, each after those in its rule; of a cycle, none."""
    waiting = {alarm.name: alarm for alarm in alarms if alarm.rule is not None}
    ordered: list[Alarm] = []
    while free := [
        each for each in waiting.values() if not waiting.keys() & children(str(each.rule))
    ]:
        ordered += free
        for each in free:
            del waiting[each.name]
    return ordered


def _states(alarms: Mapping[str, Alarm]) -> dict[str, State]:
    return {name: as_state(alarm.state_value) for name, alarm in alarms.items()}


def _judge_composite(
    alarm: Alarm, alarms: Mapping[str, Alarm], now: datetime
) -> tuple[State, str, dict[str, Any]]:
    assert alarm.rule is not None  # noqa: S101 - composite alarms have one
    state: State = "ALARM" if holds(alarm.rule, _states(alarms)) else "OK"
    parts = [alarms[name] for name in children(alarm.rule)]
    wanted = [each for each in parts if each.state_value == state]
    triggering = [
        {
            "arn": each.alarm_arn,
            "state": {"value": each.state_value, "timestamp": stamp(each.state_updated_timestamp)},
        }
        for each in wanted
    ]
    if alarm.state_value == _NEW or not wanted:
        why = f"{alarm.alarm_arn} was created and its alarm rule evaluates to {state}"
    else:
        newest = max(wanted, key=lambda each: each.state_updated_timestamp)
        at = f"{now.astimezone(UTC):%A %d %B, %Y %H:%M:%S} UTC"
        why = f"{newest.alarm_arn} transitioned to {state} at {at}"
    return state, why, {"triggeringAlarms": triggering}


def _returned(alarm: Alarm) -> str:
    """The ID of the query that the alarm watches."""
    return next(str(query.id) for query in alarm.metric_data_queries if is_returned(query))


def _reason_data(
    alarm: Alarm, rule: Rule, verdict: Verdict, now: datetime, start: Callable[[int], datetime]
) -> dict[str, Any]:
    points = verdict.points
    return {
        "version": "1.0",
        "queryDate": stamp(now),
        **({"startDate": stamp(start(points[-1][0]))} if points else {}),
        **({"statistic": alarm.statistic} if alarm.statistic else {}),
        "period": rule.period,
        "recentDatapoints": [value for _, value in reversed(points)],
        "threshold": rule.threshold,
        "evaluatedDatapoints": [
            {"timestamp": stamp(start(age)), "value": value} for age, value in points
        ],
    }
