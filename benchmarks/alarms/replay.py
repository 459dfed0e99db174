"""Replay a scenario through the product on moto, minute by minute on a simulated clock.

Real: the collector with its CloudWatch source, the processor, their metrics, the templates of
table, topics and alarms, the alarm evaluation, the notifier. Simulated: Lambda invocations and
Step Functions executions. Their AWS metrics are reported to the local cloud's service metrics.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import boto3
from botocore.config import Config
from moto import mock_aws
from moto.cloudwatch.models import cloudwatch_backends

from chalicelib.aws.cloudwatch_fleet import fleet_opener
from chalicelib.aws.notifier_ports import AwsNotifierPorts
from chalicelib.aws.store import create_store
from chalicelib.collect.collector import respond
from chalicelib.collect.requests import CollectionRequest, raw_key
from chalicelib.collect.sources import create_sources
from chalicelib.model.metric_types import METRIC_TYPES
from chalicelib.model.settings import NotifierSettings, Settings
from chalicelib.notify.notifier import notify
from chalicelib.process.checkpoint import RawObjectEvent
from chalicelib.process.processor import process
from chalicelib.telemetry.metrics import Metric, count_metrics, invocation_metrics
from infra.local.cloudformation import resources
from infra.local.cloudwatch import alarms, metric_index
from infra.local.cloudwatch.alarm_changes import AlarmChange, change_publisher
from infra.local.cloudwatch.clock import Clock
from infra.local.cloudwatch.metrics import Metrics
from infra.local.cloudwatch.service_metrics import ServiceMetrics
from infra.local.lambda_.environment import FunctionSpec, Invocation
from infra.local.package import OBSERVABILITY, STORAGE

from .scenarios import Scenario
from .traces import CADENCE, START, Point, Traces

ACCOUNT, REGION = "123456789012", "eu-west-1"
MACHINE = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:InfraMonitoring-Pipeline-Orch"
QUEUE = "InfraMonitoring-DeadLetters"
COLLECTOR, PROCESSOR = "data-collector", "log-processor"

# Duration of a run, and Lambda's delays before retries; no alarm depends on them.
_RUN_DURATION = timedelta(seconds=20)
_ATTEMPT_DELAYS = (timedelta(0), timedelta(minutes=1), timedelta(minutes=3))
# Approximate usage of the functions at 128 MB; see docs/scale.md.
_MILLISECONDS, _MEGABYTES = 900.0, 88.0

_MINUTE = timedelta(minutes=1)
# A run period is the cadence plus 15 minutes; after that an alarm depends on the newest run.
SETTLED = timedelta(minutes=16)
_CONFIG = json.loads((Path(__file__).resolve().parents[2] / ".chalice/config.json").read_text())
_ENVIRONMENT = {
    "AWS_DEFAULT_REGION": REGION,
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
}


@dataclass(frozen=True, slots=True)
class Email:
    """A message published to a topic; `hosts` are the hosts named in it."""

    at: datetime
    topic: str
    subject: str
    kind: str
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AlarmPeriod:
    """A period in which an alarm was in ALARM; `end` is None if it lasted to the end."""

    alarm: str
    start: datetime
    end: datetime | None

    def covers(self, time: datetime) -> bool:
        return self.start <= time and (self.end is None or time < self.end)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Result of a replay."""

    scenario: Scenario
    traces: Traces
    changes: Sequence[tuple[datetime, AlarmChange]]
    emails: Sequence[Email]
    runs: int

    @property
    def end(self) -> datetime:
        return START + timedelta(days=self.scenario.days)

    @property
    def transitions(self) -> int:
        """Number of alarm changes to ALARM, or from ALARM to another state."""
        return sum(
            change.state == "ALARM" or _previous_state(change) == "ALARM"
            for _, change in self.changes
        )

    def alarm_periods(self, alarm: str) -> list[AlarmPeriod]:
        """The periods in which an alarm was in ALARM."""
        periods: list[AlarmPeriod] = []
        for at, change in self.changes:
            if change.name != f"InfraMonitoring-{alarm}":
                continue
            if change.state == "ALARM":
                periods.append(AlarmPeriod(alarm, at, None))
            elif periods and periods[-1].end is None:
                periods[-1] = replace(periods[-1], end=at)
        return periods

    def emails_by_kind(self) -> Counter[str]:
        """Number of e-mails by kind: `alarm`, `run`, `page`, and `direct` from CloudWatch."""
        return Counter(email.kind for email in self.emails)


def _previous_state(change: AlarmChange) -> str:
    return str(change.event["detail"]["previousState"]["value"])


def replay(scenario: Scenario) -> Outcome:
    """Replay a scenario; two weeks take one to two minutes of CPU time."""
    metric_index.install()
    alarms.install()
    clients: dict[str, Any] = {}

    def client(service: str) -> Any:
        if service not in clients:
            factory: Any = boto3.client
            config = Config(parameter_validation=False)
            clients[service] = factory(service, region_name=REGION, config=config)
        return clients[service]

    with patch.dict(os.environ, _ENVIRONMENT), mock_aws():
        kept = resources.install(client)  # moto holds them weakly
        outcome = _Replay(scenario, client).run()
        del kept
    return outcome


@dataclass
class _MessageClient:
    """Client for SNS and EventBridge. Records messages before it passes them to moto's SNS."""

    sns: Any
    replay: "_Replay"
    emails: list[Email] = field(default_factory=list)

    def publish(self, **request: Any) -> Any:
        attributes = request.get("MessageAttributes", {})
        text = request["Message"]
        kind, hosts = "direct", ()
        if attributes:
            severity = attributes["severity"]["StringValue"]
            kind = "page" if severity == "page" else attributes["kind"]["StringValue"]
            facts = json.loads(json.loads(text)["sqs"])
            hosts = tuple(each["name"].partition(" ")[0] for each in facts["hosts"])
        topic = request["TopicArn"].rpartition(":")[2]
        self.emails.append(Email(self.replay.now, topic, request["Subject"], kind, hosts))
        return self.sns.publish(**request)

    def put_events(self, *, Entries: Sequence[Mapping[str, Any]]) -> None:  # noqa: N803
        """Invoke the notifier with the events that match its rule in app.py."""
        for entry in Entries:
            detail = json.loads(entry["Detail"])
            if detail["state"]["value"] in {"ALARM", "OK"}:
                self.replay.notify(entry["DetailType"], detail, entry["Time"])


class _ReplayClock(Clock):
    """The simulated time, which is also the time of all reported metrics."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        super().__init__()
        self._replay_time = now

    def now(self) -> datetime:
        return self._replay_time()

    def from_system_time(self, moment: datetime) -> datetime:
        return moment


class _Replay:
    def __init__(self, scenario: Scenario, client: Any) -> None:
        self.now = START
        self._scenario = scenario
        self._client = client
        _create_stacks(client("cloudformation"), scenario.parameters)
        self._traces = Traces(scenario.host_traces)
        self._points = self._traces.points()
        self._ids = _start_hosts(client("ec2"), [each.host for each in scenario.host_traces])
        self._settings = _settings(scenario, self._bucket())
        backend = cloudwatch_backends[ACCOUNT][REGION]
        self._metrics = Metrics(backend)
        self._service_metrics = ServiceMetrics(self._metrics, _ReplayClock(lambda: self.now))
        self._changes: list[tuple[datetime, AlarmChange]] = []
        self._messages = _MessageClient(client("sns"), self)
        clients = {"sns": self._messages, "events": self._messages, "dynamodb": client("dynamodb")}
        self._publish = change_publisher(clients.__getitem__)
        self._ports = AwsNotifierPorts(self._settings.table, clients.__getitem__)
        self._notifier_settings = _notifier_settings()
        self._alarms = alarms.Alarms(
            backend, self._metrics, on_change=self._on_change, now=lambda: self.now
        )
        self._store = create_store(bucket=self._settings.bucket, table=self._settings.table)
        self._sources = create_sources(self._settings, fleet_opener(self._settings))
        self._runs = 0
        self._points_put = 0
        self._dead_letters: list[str] = []
        self._queue_is_used = False
        # (time, object, attempt) of the next invocations of log-processor.
        self._pending: list[tuple[datetime, str, int]] = []

    def run(self) -> Outcome:
        """Replay from the end of the first window until the alarms of the last run have settled."""
        self.now = START + CADENCE
        end = START + timedelta(days=self._scenario.days) + SETTLED
        while self.now < end:
            if (self.now - START) % CADENCE == timedelta(0):
                self._run_pipeline()
            self._process()
            self._watch_queue()
            self._alarms.evaluate()
            self.now += _MINUTE
        return Outcome(
            self._scenario, self._traces, self._changes, self._messages.emails, self._runs
        )

    def notify(self, detail_type: str, detail: Mapping[str, Any], time: str) -> None:
        event = _event(time, detail) | {"detail-type": detail_type}
        notify(
            event,
            settings=self._settings,
            notifier_settings=self._notifier_settings,
            ports=self._ports,
            now=lambda: self.now,
        )

    def _on_change(self, change: AlarmChange) -> None:
        self._changes.append((self.now, change))
        self._publish(change)

    def _run_pipeline(self) -> None:
        """Simulate a run, unless the pipeline is stopped: four branches and the run's e-mail."""
        if not self._scenario.has_run(self.now - START):
            return
        self._runs += 1
        execution = {
            "startDate": self.now,
            "stopDate": self.now + _RUN_DURATION,
            "status": "SUCCEEDED",
        }
        self._service_metrics.record_execution_start(MACHINE, execution)
        self._put_points()
        results = [self._branch(metric_type) for metric_type in METRIC_TYPES]
        self._service_metrics.record_execution_end(MACHINE, execution)
        run = {"execution": f"{MACHINE}:{self._runs}", "results": results}
        self.notify("Run Succeeded", run, self.now.isoformat())

    def _branch(self, metric_type: str) -> Any:
        event = _event(self.now.isoformat(), {"metric_type": metric_type})
        (result,) = respond(
            event,
            settings=self._settings,
            store=self._store,
            sources=self._sources,
            emit=self._emit,
        )["results"]
        self._invoked(COLLECTOR, failed=False)
        if result["records"]:  # else there is no object
            request = CollectionRequest.from_event(event)
            key = raw_key(request, request.metric_types[0])
            self._pending.append((self.now, key, 0))
        return result

    def _process(self) -> None:
        """Process the objects that are due; schedule failed ones for their next attempt."""
        due = [each for each in self._pending if each[0] <= self.now]
        self._pending = [each for each in self._pending if each[0] > self.now]
        for time, key, attempt in due:
            first = time - _ATTEMPT_DELAYS[attempt]
            failing = self._scenario.failing.get(first - START, 0)
            if attempt < failing:
                self._invoked(PROCESSOR, failed=True)
                if attempt + 1 < len(_ATTEMPT_DELAYS):
                    retry = first + _ATTEMPT_DELAYS[attempt + 1]
                    self._pending.append((retry, key, attempt + 1))
                else:
                    self._dead_letters.append(key)
            else:
                self._process_object(key)

    def _process_object(self, key: str) -> None:
        detail = {"bucket": {"name": self._settings.bucket}, "object": {"key": key}}
        summary = process(
            RawObjectEvent.from_event(_event(self.now.isoformat(), detail)),
            settings=self._settings,
            store=self._store,
            now=lambda: self.now,
            emit=self._emit,
        )
        self._emit(count_metrics(summary.counts(), {"service": PROCESSOR}))
        self._invoked(PROCESSOR, failed=False)

    def _watch_queue(self) -> None:
        """Report the queue every minute from the first dead letter on, as SQS does."""
        if self._dead_letters and self.now - START >= self._scenario.redriven:
            redriven, self._dead_letters = self._dead_letters, []
            for key in redriven:
                self._process_object(key)
        self._queue_is_used |= bool(self._dead_letters)
        if self._queue_is_used:
            self._service_metrics.record_queue_depth(QUEUE, len(self._dead_letters))

    def _invoked(self, function: str, *, failed: bool) -> None:
        spec = FunctionSpec(function, "", "", "", "", REGION, 128, 30, {}, b"")
        self._service_metrics.record_invocation(
            spec, Invocation("", b"", failed, _MILLISECONDS, None, _MEGABYTES, "")
        )
        self._emit(
            invocation_metrics(
                function, failed=failed, milliseconds=_MILLISECONDS, megabytes=_MEGABYTES
            )
        )

    def _emit(self, metrics: Iterable[Metric]) -> None:
        for each in metrics:
            self._metrics.put(
                self._settings.namespace,
                each.name,
                each.dimensions,
                each.values,
                each.unit,
                each.at or self.now,
            )

    def _put_points(self) -> None:
        """Put the points that are available in CloudWatch by now."""
        newest = self.now - self._scenario.late
        while self._points_put < len(self._points) and self._points[self._points_put].at <= newest:
            self._put_point(self._points[self._points_put])
            self._points_put += 1

    def _put_point(self, point: Point) -> None:
        trace = point.host_trace
        dimensions = {"InstanceId": self._ids[trace.host]}
        self._metrics.put(
            trace.namespace, trace.metric, dimensions, [point.value], "None", point.at
        )

    def _bucket(self) -> str:
        (bucket,) = self._client("s3").list_buckets()["Buckets"]
        return str(bucket["Name"])


def _create_stacks(cloudformation: Any, parameters: Mapping[str, str]) -> None:
    stacks = (
        ("storage", STORAGE, {"AppendAccountId": "false"}),
        ("observability", OBSERVABILITY, {"AlarmSet": "All", **parameters}),
    )
    for name, template, values in stacks:
        cloudformation.create_stack(
            StackName=name,
            TemplateBody=template.read_text(),
            Parameters=[
                {"ParameterKey": key, "ParameterValue": value} for key, value in values.items()
            ],
        )


def _start_hosts(ec2: Any, names: Iterable[str]) -> dict[str, str]:
    """Start an instance for each name; return the instance IDs by name."""
    ids = {}
    for name in dict.fromkeys(names):
        tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}]}]
        started = ec2.run_instances(
            ImageId="ami-12c6146b", MinCount=1, MaxCount=1, TagSpecifications=tags
        )
        ids[name] = str(started["Instances"][0]["InstanceId"])
    return ids


def _settings(scenario: Scenario, bucket: str) -> Settings:
    variables = {
        "METRIC_SOURCES": "cloudwatch",
        "BUCKET_NAME": bucket,
        # moto's S3 uses the machine's clock for object times.
        "MAX_AHEAD_SECONDS": "1000000000",
        "CPU_THRESHOLDS": f"{scenario.cpu},{scenario.cpu}",
        "MEMORY_THRESHOLDS": f"{scenario.memory},{scenario.memory}",
    }
    return Settings.from_environ(_CONFIG["environment_variables"] | variables)


def _notifier_settings() -> NotifierSettings:
    topics = f"arn:aws:sns:{REGION}:{ACCOUNT}:InfraMonitoring"
    overrides = {
        "STAGE": "prod",
        "TOPIC_ARN": f"{topics}-Alarms",
        "PAGES_TOPIC_ARN": f"{topics}-Pages",
        "PIPELINE_ARN": MACHINE,
    }
    variables = _CONFIG["lambda_functions"]["notifier"]["environment_variables"]
    return NotifierSettings.from_environ(variables | overrides)


def _event(time: str, detail: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": "replay",
        "time": time,
        "account": ACCOUNT,
        "region": REGION,
        "detail": dict(detail),
    }
