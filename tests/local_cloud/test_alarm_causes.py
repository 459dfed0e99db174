"""Every alarm goes off through its real cause, and is over again, in the local cloud.

No state is set and no metric of ours is put: hosts are made busy, rights taken away, objects
broken. Only CloudWatch's clock is moved, because alarms look hours back; see
`infra.local.cloudwatch.clock`.
docs/alarms.md has the mails; `python -m tests.local_cloud.test_alarm_causes` writes it anew.
"""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import msgspec
import pytest

from chalicelib.model.alarm_catalog import ALARMS
from infra.__main__ import main
from infra.local.cloud import LocalCloud
from infra.local.cloudwatch.clock import Clock
from infra.local.wiring import Mail
from tests.conftest import (
    ACCOUNT,
    BUCKET,
    REGION,
    ROOT,
    point,
)
from tests.local_cloud.test_iam import arrival
from tests.support.waiting import wait_until

DOCUMENT = ROOT / "docs" / "alarms.md"

# CloudWatch takes no metric that is older than two weeks.
START = (datetime.now(UTC) - timedelta(days=9)).replace(hour=0, minute=0, second=0, microsecond=0)
CADENCE = timedelta(hours=3)
BUDGET = "100"
# The days in the docs, whenever they are written.
DOCUMENTED = datetime(2026, 11, 2, tzinfo=UTC)

ORCHESTRATOR = "InfraMonitoring-Pipeline-Orch"
QUEUE = {"QueueName": "InfraMonitoring-DeadLetters"}

CAUSES = {
    "HighCPU": "Instance web-1 is at 95 % CPU for a whole window, then at 20 % again.",
    "HighMemory": "web-1 has 96 % of its memory in use for a whole window, then 40 %.",
    "DiskNearlyFull": "Host db-2 pushes that its disk is 92 % full, and three hours later 50 %.",
    "DiskFillsUp": "Host db-1 pushes its disk, which grows so fast in two windows that 9 hours are"
    " left; in the third it hardly grows.",
    "HostsMissing": "Instance web-2 runs and sends nothing for a window; then it is back.",
    "PipelineStopped": "After the run of 09:00 none follows until the next day.",
    "RunFailed": "A run whose collectors may not write to the table: all four tries of each branch"
    " fail. `python -m infra redrive` starts it again when they may.",
    "CollectorErrors": "The same run: each try is an invocation that fails.",
    "ProcessorErrors": "log-processor may not read an object from S3: it fails three times.",
    "NotifierErrors": "notifier may not publish while it has to tell of the failed run. The alarm's"
    " mail also comes from CloudWatch itself, as JSON.",
    "DeadLettersWaiting": "The object that log-processor gave up and the run that failed wait in"
    " the queue, until `python -m infra redrive` sends both again. This mail, too, also comes from"
    " CloudWatch itself.",
    "QuarantineNotEmpty": "Somebody puts an object with a broken line; in the next window there"
    " is none.",
    "DynamoDBThrottle": "The table has two units of provisioned capacity while an object of three"
    " records is processed; then it is on demand again.",
    "LambdaDuration": "data-collector measures the CPU for 10 seconds, and then a node_exporter"
    " answers after 15; the next runs have neither.",
    "FunctionMemory": "The answer of this node_exporter is far too large, and the setting"
    " NODE_EXPORTER_MAX_BYTES allows it. (data-collector has 512 MB meanwhile: with 128 MB it"
    " is killed.)",
    "SeriesBudget": "The runs of a day over three instances ask for more metrics than the budget,"
    " which is 100 here; two are terminated, and the day after there is one run.",
    "Page": "The first of those that cannot wait begins, and the last is over.",
}

# What CloudWatch says of these is another number each time.
MEASURED = {"DynamoDBThrottle", "FunctionMemory", "LambdaDuration"}


class Story:
    """Two days of one local cloud; `changes` is what alarms did, `mails` what people got."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.cloud = cloud
        self.machine = _machine(cloud)
        self.changes: list[tuple[str, str]] = []
        cloud.client("sns").subscribe(
            TopicArn=f"arn:aws:sns:{REGION}:{ACCOUNT}:InfraMonitoring-Pages",
            Protocol="email",
            Endpoint="pager@example.com",
        )
        self.instances = self._start_instances("web-1", "web-2", "web-3")
        self._shorten_retries()
        self.all_is_well(START)
        self.machines_are_not(START + CADENCE)
        self.the_pipeline_is_not(START + 2 * CADENCE)
        self.all_is_mended(START + 3 * CADENCE)
        self.nothing_runs(START + timedelta(hours=15, minutes=40))
        self.it_runs_again(START + timedelta(hours=36))

    # --- What happens ---------------------------------------------------------------------------

    def all_is_well(self, tick: datetime) -> None:
        self.at(tick + timedelta(minutes=1))
        self.measure(tick, "web-1", "web-2", "web-3")
        self.push_disk(tick, used=100, free=500)
        self.run(tick)
        self.judge(tick)

    def machines_are_not(self, tick: datetime) -> None:
        self.at(tick + timedelta(minutes=1))
        self.measure(tick, "web-1", cpu=95, memory=96)
        self.measure(tick, "web-3")
        self.run(tick)
        with self._slow_and_large_collector(tick):
            self.push_disk(tick, used=200, free=400)
            self.put("full.json", _disk("db-2", tick, percent=92))
            with self._two_units_of_capacity():
                hosts = [_disk(f"db-{number}", tick, used=1) for number in (3, 4, 5)]
                self.put("broken.json", b"\n".join([*hosts, b"{broken"]))
        self.judge(tick)

    def the_pipeline_is_not(self, tick: datetime) -> None:
        self.at(tick + timedelta(minutes=1))
        self.measure(tick, "web-1", "web-2", "web-3")
        self.push_disk(tick, used=300, free=300)
        self.put("roomy.json", _disk("db-2", tick, percent=50))
        with self._forbidden("DataPipelineLambdaRole-log-processor", "s3:GetObject"):
            self.put("unread.json", _disk("db-6", tick, used=1))
        with (
            self._forbidden("DataPipelineLambdaRole-data-collector", "dynamodb:*"),
            self._forbidden("DataPipelineLambdaRole-notifier", "sns:Publish"),
        ):
            self.run(tick, "FAILED")
        self.until(lambda: self.waiting(tick, minutes=5) == 2)
        self.judge(tick)

    def all_is_mended(self, tick: datetime) -> None:
        self.at(tick + timedelta(minutes=1))
        self.measure(tick, "web-1", "web-2", "web-3")
        self.push_disk(tick, used=301, free=299)
        redriven = self.counted("ExecutionsSucceeded")
        assert main(["redrive", "--endpoint", self.cloud.endpoint]) == 0
        self.until(lambda: self.counted("ExecutionsSucceeded") == redriven + 1)
        self.run(tick)
        self.judge(tick)

    def nothing_runs(self, now: datetime) -> None:
        self.at(now)
        self.evaluate()

    def it_runs_again(self, tick: datetime) -> None:
        self.at(tick + timedelta(minutes=1))
        self.cloud.client("ec2").terminate_instances(
            InstanceIds=[self.instances["web-2"], self.instances["web-3"]]
        )
        self.measure(tick, "web-1")
        self.run(tick)
        self.judge(tick)

    # --- Time -----------------------------------------------------------------------------------

    def at(self, moment: datetime) -> None:
        """Go there; the queue is measured each minute of it."""
        self.cloud.clock.set(moment)
        self.until(lambda: self.waiting(moment) is not None)

    def waiting(self, since: datetime, minutes: int = 1) -> float | None:
        """The most dead letters there were at once, as CloudWatch was told; None if it was not."""
        name, seconds = "ApproximateNumberOfMessagesVisible", 60 * minutes
        (most,) = self.cloud.metrics.statistic(
            "AWS/SQS", name, QUEUE, "Maximum", start=since, period=seconds, periods=1
        )
        return most

    def judge(self, tick: datetime) -> None:
        """When the run is over, and when the window holds no other run any more."""
        for minutes in (5, 20):
            self.at(tick + timedelta(minutes=minutes))
            self.evaluate()

    def evaluate(self) -> None:
        self.changes += [(each.name, each.state) for each in self.cloud.alarms.evaluate()]
        self.settle()

    def settle(self) -> None:
        self.until(lambda: self.cloud.wiring.idle)

    def until(self, is_so: Callable[[], bool]) -> None:
        wait_until(is_so, every=0.05)

    # --- Machines -------------------------------------------------------------------------------

    def _start_instances(self, *names: str) -> dict[str, str]:
        ec2 = self.cloud.client("ec2")
        image = ec2.describe_images()["Images"][0]["ImageId"]
        found = {}
        for name in names:
            tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}]}]
            (one,) = ec2.run_instances(
                ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=tags
            )["Instances"]
            found[name] = str(one["InstanceId"])
        return found

    def measure(self, tick: datetime, *names: str, cpu: float = 20, memory: float = 40) -> None:
        """What EC2 and the CloudWatch agent say of instances in the window before a tick."""
        values = {
            "AWS/EC2": {"CPUUtilization": cpu, "NetworkIn": 1e6, "NetworkOut": 1e6},
            "CWAgent": {"mem_used_percent": memory, "disk_used_percent": 50},
        }
        for namespace, metrics in values.items():
            data = [
                {
                    "MetricName": metric,
                    "Dimensions": [{"Name": "InstanceId", "Value": self.instances[name]}],
                    "Timestamp": tick - timedelta(minutes=minutes),
                    "Value": value,
                }
                for name in names
                for metric, value in metrics.items()
                for minutes in range(5, 185, 5)
            ]
            self.cloud.client("cloudwatch").put_metric_data(Namespace=namespace, MetricData=data)

    def push_disk(self, tick: datetime, *, used: int, free: int) -> None:
        self.put(f"db-1-{tick:%H}.json", _disk("db-1", tick, used=used, free=free))

    def put(self, name: str, body: bytes) -> None:
        key = f"raw-metrics/{START:%Y/%m/%d}/{name}"
        self.cloud.client("s3").put_object(Bucket=BUCKET, Key=key, Body=body)
        self.settle()

    # --- The pipeline ---------------------------------------------------------------------------

    def run(self, tick: datetime, status: str = "SUCCEEDED") -> None:
        """A run until its end is known to CloudWatch, too."""
        name = f"Executions{status.capitalize()}"
        before = self.counted(name)
        self.cloud.client("stepfunctions").start_execution(
            stateMachineArn=self.machine, input=json.dumps({"time": tick.isoformat()})
        )
        self.until(lambda: self.counted(name) == before + 1)
        self.settle()

    def counted(self, name: str) -> float:
        own, week = {"StateMachineArn": self.machine}, 7 * 86_400
        (found,) = self.cloud.metrics.statistic(
            "AWS/States", name, own, "Sum", start=START, period=week, periods=1
        )
        return found or 0

    def _shorten_retries(self) -> None:
        """They are after 10, 20 and 40 seconds; as many, after one each."""
        sfn = self.cloud.client("stepfunctions")
        definition = sfn.describe_state_machine(stateMachineArn=self.machine)["definition"]
        shorter = re.sub(r'"IntervalSeconds": ?\d+', '"IntervalSeconds": 1', definition)
        shorter = re.sub(r'"BackoffRate": ?\d+', '"BackoffRate": 1', shorter)
        sfn.update_state_machine(stateMachineArn=self.machine, definition=shorter)

    @contextmanager
    def _forbidden(self, role: str, action: str) -> Iterator[None]:
        iam = self.cloud.client("iam")
        denied = {"Effect": "Deny", "Action": action, "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [denied]})
        iam.put_role_policy(RoleName=role, PolicyName="forbidden", PolicyDocument=document)
        yield
        self.settle()
        iam.delete_role_policy(RoleName=role, PolicyName="forbidden")

    @contextmanager
    def _two_units_of_capacity(self) -> Iterator[None]:
        dynamodb = self.cloud.client("dynamodb")
        two = {"ReadCapacityUnits": 1_000, "WriteCapacityUnits": 2}
        dynamodb.update_table(
            TableName="InfraMetrics", BillingMode="PROVISIONED", ProvisionedThroughput=two
        )
        yield
        dynamodb.update_table(TableName="InfraMetrics", BillingMode="PAY_PER_REQUEST")

    @contextmanager
    def _slow_and_large_collector(self, tick: datetime) -> Iterator[None]:
        """It measures for long and reads a large page, while the rest goes on.

        For a tick of days ago: the machine that the test runs on is no host of this story.
        """
        lambda_ = self.cloud.client("lambda")
        before = lambda_.get_function_configuration(FunctionName="data-collector")
        long_ago = tick - timedelta(days=3)
        event = arrival("") | {"time": long_ago.isoformat(), "detail": {"metric_type": "cpu"}}
        with _large_page() as target:
            spoilt = {
                "METRIC_SOURCES": "host,node_exporter",
                "CPU_SAMPLE_SECONDS": "10",
                "NODE_EXPORTER_TARGETS": target,
                "NODE_EXPORTER_TIMEOUT_SECONDS": "19",
                "NODE_EXPORTER_MAX_BYTES": str(64 << 20),
            }
            lambda_.update_function_configuration(
                FunctionName="data-collector",
                MemorySize=512,
                Timeout=60,
                Environment={"Variables": before["Environment"]["Variables"] | spoilt},
            )
            answers: list[Any] = []
            work = threading.Thread(
                target=lambda: answers.append(
                    lambda_.invoke(FunctionName="data-collector", Payload=json.dumps(event))
                )
            )
            work.start()
            yield
            work.join()
        lambda_.update_function_configuration(
            FunctionName="data-collector",
            **{name: before[name] for name in ("MemorySize", "Timeout", "Environment")},
        )
        (result,) = json.loads(answers[0]["Payload"].read())["results"]
        assert result["duration_ms"] > 24_000, result
        self.settle()


def _machine(cloud: LocalCloud) -> str:
    machines = cloud.client("stepfunctions").list_state_machines()["stateMachines"]
    (arn,) = [each["stateMachineArn"] for each in machines if each["name"] == ORCHESTRATOR]
    return str(arn)


def _disk(host: str, tick: datetime, **values: float) -> bytes:
    """A record as an agent pushes it; `used`, `free` (bytes) or `percent`."""
    return msgspec.json.encode(
        {
            "schema_version": 1,
            "timestamp": tick,
            "metric_type": "disk",
            "resource_id": host,
            "window_seconds": 10_800,
            "measurements": {
                name: point("percent" if name == "percent" else "bytes", value)
                for name, value in values.items()
            },
        }
    )


@contextmanager
def _large_page() -> Iterator[str]:
    """A node_exporter with very many CPUs, which takes its time; where it is."""
    page = b"".join(
        b'node_cpu_seconds_total{cpu="%d",mode="idle"} 1\n' % number for number in range(120_000)
    )

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(15)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


# --- What came of it ----------------------------------------------------------------------------


@contextmanager
def told() -> Iterator[Story]:
    with (
        pytest.MonkeyPatch.context() as patch,
        LocalCloud(
            settings={"METRIC_SOURCES": "cloudwatch"},
            thresholds={"SeriesPerDay": BUDGET},
            async_retry_seconds=(0.2, 0.2),
            alarm_seconds=86_400,  # the story says when
            clock=Clock(START),
        ) as cloud,
    ):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        yield Story(cloud)


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    with told() as story:
        yield story


def mails_about(name: str, mails: Sequence[Mail]) -> list[Mail]:
    return [each for each in mails if f"docs/runbooks/{name}.md" in each.body]


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_goes_off_by_its_cause_and_is_over_after_it(name: str, story: Story) -> None:
    states = [state for changed, state in story.changes if changed == f"InfraMonitoring-{name}"]
    assert states[:3] == ["OK", "ALARM", "OK"]
    assert states[3:] == [] or name == "Page"  # which has several causes, one after another


@pytest.mark.parametrize("name", ALARMS)
def test_each_of_both_is_a_mail(name: str, story: Story) -> None:
    leads = [mail.subject.split()[0] for mail in mails_about(name, story.cloud.wiring.mails)]
    assert leads[0] in {"ALARM", "Warning", "PAGE"}
    assert leads[1] in {"OK", "RESOLVED"}


@pytest.mark.parametrize("name", ["NotifierErrors", "DeadLettersWaiting"])
def test_what_watches_the_notifier_also_comes_without_it(name: str, story: Story) -> None:
    subjects = [mail.subject for mail in story.cloud.wiring.mails]
    assert f'ALARM: "InfraMonitoring-{name}" in EU (Ireland)' in subjects


def test_the_mails_in_the_docs_are_those_that_came(story: Story) -> None:
    assert DOCUMENT.read_text() == page(story)


# --- docs/alarms.md -----------------------------------------------------------------------------

INTRODUCTION = """\
# What each alarm sends

Every alarm of `infra/observability.yaml`, set off by its real cause in the local cloud and over
after it: no state is set, no metric is put by hand. These are the mails that came, with days and
instance IDs replaced and measured numbers left out (…). `tests/local_cloud/test_alarm_causes.py`
checks this page in a minute or two; `python -m tests.local_cloud.test_alarm_causes` writes it.

What is not as on AWS: CloudWatch's clock was moved three hours on from run to run, retries waited
a second, and `SeriesPerDay` was {budget}. What an alarm means and what to do is in the
[runbooks](runbooks/README.md).
"""


def page(story: Story) -> str:
    mails = story.cloud.wiring.mails
    parts = [INTRODUCTION.format(budget=BUDGET)]
    for name, cause in CAUSES.items():
        begins, ends = mails_about(name, mails)[:2]
        mail = _steady(f"{begins.subject}\n\n{begins.body.strip()}", story.instances)
        if name in MEASURED:
            mail = re.sub(r"\[[\d.]+ ", "[… ", mail)
        over = _steady(ends.subject, story.instances)
        parts.append(f"## {name}\n\n{cause}\n\n```\n{mail}\n```\n\nThen `{over}`.\n")
    return "\n".join(parts)


def _steady(text: str, instances: Mapping[str, str]) -> str:
    """The text with what differs from one time to the next made the same."""
    same = {identity: f"i-{number:017x}" for number, identity in enumerate(instances.values(), 1)}
    for days in range(-1, 4):
        day, documented = (each + timedelta(days=days) for each in (START, DOCUMENTED))
        for form in ("%Y-%m-%d", "%d/%m/%y", "%A %d %B, %Y"):
            same[f"{day:{form}}"] = f"{documented:{form}}"
    return re.sub("|".join(same), lambda found: same[found[0]], text)


if __name__ == "__main__":
    with told() as whole:
        DOCUMENT.write_text(page(whole))
