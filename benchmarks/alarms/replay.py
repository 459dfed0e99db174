"""A scenario through the real parts on moto, minute by minute on a clock of its own.

Real: the collector with its CloudWatch source, the processor, their metrics, the templates of
table, topics and alarms, the evaluator, the notifier. Simulated: that they run. Nobody starts a
Lambda function or a state machine; what AWS would count of them is told to the local cloud's
feeds.
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
from chalicelib.aws.notifications import Notices
from chalicelib.aws.store import create_store
from chalicelib.collect.collector import respond
from chalicelib.collect.requests import Tick, raw_key
from chalicelib.collect.sources import create_sources
from chalicelib.model.records import METRIC_TYPES
from chalicelib.model.settings import NotifierSettings, Settings
from chalicelib.notify.notifier import notify
from chalicelib.process.checkpoint import RawObjectEvent
from chalicelib.process.processor import process
from chalicelib.telemetry.metrics import Metric, counts, of_invocation
from infra.local.cloudformation import resources
from infra.local.cloudwatch import alarms, metric_index
from infra.local.cloudwatch.alarm_changes import AlarmChange, change_publisher
from infra.local.cloudwatch.clock import Clock
from infra.local.cloudwatch.metrics import Metrics
from infra.local.cloudwatch.service_metrics import ServiceMetrics
from infra.local.lambda_.environment import FunctionSpec, Invocation
from infra.local.package import OBSERVABILITY, STORAGE

from .scenarios import Scenario
from .traces import (
    CADENCE,
    START,
    Point,
    Traces,
)

ACCOUNT, REGION = "123456789012", "eu-west-1"
MACHINE = f"arn:aws:states:{REGION}:{ACCOUNT}:stateMachine:InfraMonitoring-Pipeline-Orch"
QUEUE = "InfraMonitoring-DeadLetters"
COLLECTOR, PROCESSOR = "data-collector", "log-processor"

# How long a run lasts, and after which time Lambda tries again what failed; no alarm is on these.
_RUN = timedelta(seconds=20)
_RETRIES = (timedelta(0), timedelta(minutes=1), timedelta(minutes=3))
# About what the functions take at 128 MB; see docs/scale.md.
_MILLISECONDS, _MEGABYTES = 900.0, 88.0

_MINUTE = timedelta(minutes=1)
# A run period is the cadence and a quarter of an hour: then an alarm rests on the newest run.
SETTLED = timedelta(minutes=16)
_CONFIG = json.loads((Path(__file__).resolve().parents[2] / ".chalice/config.json").read_text())
_ENVIRONMENT = {
    "AWS_DEFAULT_REGION": REGION,
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
}


@dataclass(frozen=True, slots=True)
class Mail:
    """A message that a topic got; `hosts` are those that it names."""

    at: datetime
    topic: str
    subject: str
    kind: str
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Span:
    """An alarm was in ALARM from `start` on; None: to the end."""

    alarm: str
    start: datetime
    end: datetime | None

    def covers(self, moment: datetime) -> bool:
        return self.start <= moment and (self.end is None or moment < self.end)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a scenario."""

    scenario: Scenario
    traces: Traces
    changes: Sequence[tuple[datetime, AlarmChange]]
    mails: Sequence[Mail]
    runs: int

    @property
    def end(self) -> datetime:
        return START + timedelta(days=self.scenario.days)

    @property
    def transitions(self) -> int:
        """How often an alarm began, or ended that had begun."""
        return sum(
            change.state == "ALARM" or _before(change) == "ALARM" for _, change in self.changes
        )

    def spans(self, alarm: str) -> list[Span]:
        """When an alarm was in ALARM."""
        found: list[Span] = []
        for at, change in self.changes:
            if change.name != f"InfraMonitoring-{alarm}":
                continue
            if change.state == "ALARM":
                found.append(Span(alarm, at, None))
            elif found and found[-1].end is None:
                found[-1] = replace(found[-1], end=at)
        return found

    def counted(self) -> Counter[str]:
        """The mails by kind: `alarm`, `run`, `page`, and CloudWatch's own, which is `direct`."""
        return Counter(mail.kind for mail in self.mails)


def _before(change: AlarmChange) -> str:
    return str(change.event["detail"]["previousState"]["value"])


def replay(scenario: Scenario) -> Outcome:
    """Two weeks in a minute or two of CPU."""
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
class _Post:
    """SNS and EventBridge as the product calls them: SNS is moto's, and what it gets is noted."""

    sns: Any
    world: "_Replay"
    mails: list[Mail] = field(default_factory=list)

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
        self.mails.append(Mail(self.world.now, topic, request["Subject"], kind, hosts))
        return self.sns.publish(**request)

    def put_events(self, *, Entries: Sequence[Mapping[str, Any]]) -> None:  # noqa: N803
        """What the rule of `notifier` in app.py lets through reaches it."""
        for entry in Entries:
            detail = json.loads(entry["Detail"])
            if detail["state"]["value"] in {"ALARM", "OK"}:
                self.world.notify(entry["DetailType"], detail, entry["Time"])


class _Clock(Clock):
    """The replay's own time, which is also that of all that it tells."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        super().__init__()
        self._replayed = now

    def now(self) -> datetime:
        return self._replayed()

    def when(self, stamped: datetime) -> datetime:
        return stamped


class _Replay:
    def __init__(self, scenario: Scenario, client: Any) -> None:
        self.now = START
        self._scenario = scenario
        self._client = client
        _create_stacks(client("cloudformation"), scenario.parameters)
        self._traces = Traces(scenario.feeds)
        self._points = self._traces.points()
        self._ids = _start_hosts(client("ec2"), [feed.host for feed in scenario.feeds])
        self._settings = _settings(scenario, self._bucket())
        backend = cloudwatch_backends[ACCOUNT][REGION]
        self._metrics = Metrics(backend)
        self._service_metrics = ServiceMetrics(self._metrics, _Clock(lambda: self.now))
        self._changes: list[tuple[datetime, AlarmChange]] = []
        self._post = _Post(client("sns"), self)
        posts = {"sns": self._post, "events": self._post, "dynamodb": client("dynamodb")}
        self._publish = change_publisher(posts.__getitem__)
        self._notices = Notices(self._settings.table, posts.__getitem__)
        self._own = _notifier_settings()
        self._alarms = alarms.Alarms(
            backend, self._metrics, on_change=self._on_change, now=lambda: self.now
        )
        self._store = create_store(bucket=self._settings.bucket, table=self._settings.table)
        self._sources = create_sources(self._settings, fleet_opener(self._settings))
        self._runs = 0
        self._put = 0
        self._dead: list[str] = []
        self._queue_is_used = False
        # (when, object, attempt) of what log-processor has to do yet.
        self._waiting: list[tuple[datetime, str, int]] = []

    def run(self) -> Outcome:
        """From the end of the first window until the last run's alarms have settled."""
        self.now = START + CADENCE
        until = START + timedelta(days=self._scenario.days) + SETTLED
        while self.now < until:
            if (self.now - START) % CADENCE == timedelta(0):
                self._tick()
            self._process()
            self._watch_queue()
            self._alarms.evaluate()
            self.now += _MINUTE
        return Outcome(self._scenario, self._traces, self._changes, self._post.mails, self._runs)

    def notify(self, detail_type: str, detail: Mapping[str, Any], time: str) -> None:
        event = _event(time, detail) | {"detail-type": detail_type}
        notify(
            event,
            settings=self._settings,
            own=self._own,
            outside=self._notices,
            now=lambda: self.now,
        )

    def _on_change(self, change: AlarmChange) -> None:
        self._changes.append((self.now, change))
        self._publish(change)

    def _tick(self) -> None:
        """A run, if the pipeline is not stopped: four branches, then the mail of the run."""
        at = self.now - START
        if not self._scenario.ticks(at):
            return
        self._runs += 1
        execution = {"startDate": self.now, "stopDate": self.now + _RUN, "status": "SUCCEEDED"}
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
            tick = Tick.from_event(event)
            self._waiting.append((self.now, raw_key(tick, tick.metric_types[0]), 0))
        return result

    def _process(self) -> None:
        """What log-processor has to do now: each object, again where it failed."""
        due = [each for each in self._waiting if each[0] <= self.now]
        self._waiting = [each for each in self._waiting if each[0] > self.now]
        for began, key, attempt in due:
            first = began - _RETRIES[attempt] - START
            failing = self._scenario.failing.get(first, 0)
            if attempt < failing:
                self._invoked(PROCESSOR, failed=True)
                if attempt + 1 < len(_RETRIES):
                    again = began - _RETRIES[attempt] + _RETRIES[attempt + 1]
                    self._waiting.append((again, key, attempt + 1))
                else:
                    self._dead.append(key)
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
        self._emit(counts(summary.counts(), {"service": PROCESSOR}))
        self._invoked(PROCESSOR, failed=False)

    def _watch_queue(self) -> None:
        """Each minute from the first dead letter on, as SQS reports a queue that is in use."""
        if self._dead and self.now - START >= self._scenario.redriven:
            waiting, self._dead = self._dead, []
            for key in waiting:
                self._process_object(key)
        self._queue_is_used |= bool(self._dead)
        if self._queue_is_used:
            self._service_metrics.record_queue_depth(QUEUE, len(self._dead))

    def _invoked(self, function: str, *, failed: bool) -> None:
        spec = FunctionSpec(function, "", "", "", "", REGION, 128, 30, {}, b"")
        self._service_metrics.record_invocation(
            spec, Invocation("", b"", failed, _MILLISECONDS, None, _MEGABYTES, "")
        )
        self._emit(
            of_invocation(function, failed=failed, milliseconds=_MILLISECONDS, megabytes=_MEGABYTES)
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
        """Put what CloudWatch has by now."""
        by = self.now - self._scenario.late
        while self._put < len(self._points) and self._points[self._put].at <= by:
            self._put_point(self._points[self._put])
            self._put += 1

    def _put_point(self, point: Point) -> None:
        feed = point.feed
        own = {"InstanceId": self._ids[feed.host]}
        self._metrics.put(feed.namespace, feed.metric, own, [point.value], "None", point.at)

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
    """Running instances, with their names as tags; the ID of each."""
    found = {}
    for name in dict.fromkeys(names):
        tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}]}]
        started = ec2.run_instances(
            ImageId="ami-12c6146b", MinCount=1, MaxCount=1, TagSpecifications=tags
        )
        found[name] = str(started["Instances"][0]["InstanceId"])
    return found


def _settings(scenario: Scenario, bucket: str) -> Settings:
    own = {
        "METRIC_SOURCES": "cloudwatch",
        "BUCKET_NAME": bucket,
        # moto's S3 stamps objects by the machine's clock.
        "MAX_AHEAD_SECONDS": "1000000000",
        "CPU_THRESHOLDS": f"{scenario.cpu},{scenario.cpu}",
        "MEMORY_THRESHOLDS": f"{scenario.memory},{scenario.memory}",
    }
    return Settings.from_environ(_CONFIG["environment_variables"] | own)


def _notifier_settings() -> NotifierSettings:
    topics = f"arn:aws:sns:{REGION}:{ACCOUNT}:InfraMonitoring"
    own = {
        "STAGE": "prod",
        "TOPIC_ARN": f"{topics}-Alarms",
        "PAGES_TOPIC_ARN": f"{topics}-Pages",
        "PIPELINE_ARN": MACHINE,
    }
    variables = _CONFIG["lambda_functions"]["notifier"]["environment_variables"]
    return NotifierSettings.from_environ(variables | own)


def _event(time: str, detail: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": "replay",
        "time": time,
        "account": ACCOUNT,
        "region": REGION,
        "detail": dict(detail),
    }
