"""The event and the messages that CloudWatch sends when an alarm changes its state.

Their formats are those of the CloudWatch user guide ("Alarm events and EventBridge") and of the
messages that SNS delivers for alarm actions.
"""

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from moto.cloudwatch.models import Alarm, MetricDataQuery

from .alarm_rules import Rule

# Region names in messages to SNS topics; for other regions, the code is used.
_REGION_NAMES = {"eu-west-1": "EU (Ireland)"}


@dataclass(frozen=True, slots=True)
class AlarmChange:
    """A state change of an alarm.

    `event` is the event for EventBridge. `actions` are the ARNs of the new state's topics, which
    receive `message`.
    """

    event: Mapping[str, Any]
    actions: Sequence[str]
    message: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.event["detail"]["alarmName"])

    @property
    def state(self) -> str:
        return str(self.event["detail"]["state"]["value"])


def change_publisher(clients: Callable[[str], Any]) -> Callable[[AlarmChange], None]:
    """Return a function that sends a change to the default event bus and to the topics."""

    def publish(change: AlarmChange) -> None:
        event = change.event
        clients("events").put_events(
            Entries=[
                {
                    "Source": event["source"],
                    "DetailType": event["detail-type"],
                    "Resources": event["resources"],
                    "Time": event["time"],
                    "Detail": json.dumps(event["detail"]),
                }
            ]
        )
        region = change.message["Region"]
        for topic in change.actions:
            clients("sns").publish(
                TopicArn=topic,
                Subject=f'{change.state}: "{change.name}" in {region}'[:100],
                Message=json.dumps(change.message),
            )

    return publish


def rule_of(alarm: Alarm) -> Rule:
    """Return the rule of a metric alarm in moto."""
    stats = [query.metric_stat for query in alarm.metric_data_queries if query.metric_stat]
    namespaces = {alarm.namespace, *(stat.metric.namespace for stat in stats)}
    periods = int(alarm.evaluation_periods)
    # AWS: "Alarms that evaluate metrics in the AWS/DynamoDB namespace always ignore missing data
    # even if you choose a different option".
    ignores_missing = "AWS/DynamoDB" in namespaces
    return Rule(
        operator=alarm.comparison_operator,
        threshold=float(alarm.threshold),
        period=int(alarm.period or max((int(stat.period) for stat in stats), default=0)),
        periods=periods,
        to_alarm=int(alarm.datapoints_to_alarm or periods),
        treatment="ignore" if ignores_missing else alarm.treat_missing_data or "missing",
    )


def change_of(alarm: Alarm, before: Mapping[str, str]) -> AlarmChange:
    """Return the change from the state `before`, as `state_of` returns it, to the current one."""
    region, account = alarm.alarm_arn.split(":")[3:5]
    after = state_of(alarm)
    event = {
        "version": "0",
        "id": str(uuid.uuid4()),
        "detail-type": "CloudWatch Alarm State Change",
        "source": "aws.cloudwatch",
        "account": account,
        "time": f"{after['timestamp'][:19]}Z",
        "region": region,
        "resources": [alarm.alarm_arn],
        "detail": {
            "alarmName": alarm.name,
            "state": after,
            "previousState": before,
            "configuration": _configuration(alarm),
        },
    }
    actions = {
        "ALARM": alarm.alarm_actions,
        "OK": alarm.ok_actions,
        "INSUFFICIENT_DATA": alarm.insufficient_data_actions,
    }
    topics = actions[after["value"]] if alarm.actions_enabled else []
    return AlarmChange(event, tuple(topics), _message(alarm, before, after, account, region))


def state_of(alarm: Alarm) -> dict[str, str]:
    """Return the state of an alarm as EventBridge events have it."""
    return {
        "value": alarm.state_value,
        "reason": alarm.state_reason,
        "reasonData": alarm.state_reason_data,
        "timestamp": format_timestamp(alarm.state_updated_timestamp),
    }


def _configuration(alarm: Alarm) -> dict[str, Any]:
    description = {"description": alarm.description} if alarm.description else {}
    if alarm.rule is not None:
        return {**description, "alarmRule": alarm.rule}
    if not alarm.metric_name:
        return {**description, "metrics": [_query(each) for each in alarm.metric_data_queries]}
    metric = {
        "namespace": alarm.namespace,
        "name": alarm.metric_name,
        "dimensions": {each.name: each.value for each in alarm.dimensions},
    }
    stat = {
        "metric": metric,
        "period": int(alarm.period),
        "stat": alarm.statistic or alarm.extended_statistic,
    }
    identity = str(uuid.uuid5(uuid.NAMESPACE_URL, alarm.alarm_arn))
    metrics = [{"id": identity, "metricStat": stat, "returnData": True}]
    return {**description, "metrics": metrics}


def _query(query: MetricDataQuery) -> dict[str, Any]:
    returned = {"id": query.id, "returnData": is_returned(query)}
    label = {"label": query.label} if query.label else {}
    if not query.metric_stat:
        return {**returned, **label, "expression": query.expression}
    metric = query.metric_stat.metric
    stat = {
        "metric": {
            "namespace": metric.namespace,
            "name": metric.metric_name,
            "dimensions": {each.name: each.value for each in metric.dimensions},
        },
        "period": int(query.metric_stat.period),
        "stat": query.metric_stat.stat,
    }
    return {**returned, **label, "metricStat": stat}


def _message(
    alarm: Alarm, before: Mapping[str, str], after: Mapping[str, str], account: str, region: str
) -> dict[str, Any]:
    """Return the message to a topic, whose format differs from that of the event."""
    return {
        "AlarmName": alarm.name,
        "AlarmDescription": alarm.description,
        "AWSAccountId": account,
        "NewStateValue": after["value"],
        "NewStateReason": after["reason"],
        "StateChangeTime": after["timestamp"],
        "Region": _REGION_NAMES.get(region, region),
        "AlarmArn": alarm.alarm_arn,
        "OldStateValue": before["value"],
        "OKActions": alarm.ok_actions,
        "AlarmActions": alarm.alarm_actions,
        "InsufficientDataActions": alarm.insufficient_data_actions,
        **({"AlarmRule": alarm.rule} if alarm.rule is not None else {"Trigger": _trigger(alarm)}),
    }


def _trigger(alarm: Alarm) -> dict[str, Any]:
    rule = rule_of(alarm)
    metric: dict[str, Any] = {
        "MetricName": alarm.metric_name,
        "Namespace": alarm.namespace,
        "StatisticType": "Statistic" if alarm.statistic else "ExtendedStatistic",
        "Statistic": (alarm.statistic or str(alarm.extended_statistic)).upper(),
        "Unit": alarm.unit,
        "Dimensions": [{"name": each.name, "value": each.value} for each in alarm.dimensions],
    }
    if not alarm.metric_name:
        metric = {"Metrics": [_query(each) for each in alarm.metric_data_queries]}
    return {
        **metric,
        "Period": rule.period,
        "EvaluationPeriods": rule.periods,
        "DatapointsToAlarm": rule.to_alarm,
        "ComparisonOperator": alarm.comparison_operator,
        "Threshold": rule.threshold,
        "TreatMissingData": alarm.treat_missing_data or "missing",
        "EvaluateLowSampleCountPercentile": alarm.evaluate_low_sample_count_percentile or "",
    }


def is_returned(query: MetricDataQuery) -> bool:
    """Whether the alarm watches this query; moto annotates the boolean as a string."""
    return query.return_data not in (False, "false")


def format_timestamp(moment: datetime) -> str:
    """Format as `2026-11-22T18:00:00.000+0000`; a time without a time zone is UTC."""
    at = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}+0000"
