"""Every alarm is raised by its real cause in the local cloud, and resolved after it.

No alarm state is set and no metric of the pipeline is put: the tests overload hosts, deny
permissions and store invalid objects. Only CloudWatch's clock is moved, because alarms evaluate
hours of data; see `infra.local.cloudwatch.clock`. docs/alarms.md shows the e-mails;
`python -m tests.local_cloud.test_alarm_causes` generates it.
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
from tests.conftest import ACCOUNT, BUCKET, REGION, ROOT, point
from tests.support.pipeline_modes import arrival
from tests.support.waiting import wait_until

DOCUMENT = ROOT / "docs" / "alarms.md"

# CloudWatch rejects metrics that are older than two weeks.
START = (datetime.now(UTC) - timedelta(days=9)).replace(hour=0, minute=0, second=0, microsecond=0)
INTERVAL = timedelta(hours=3)
BUDGET = "100"
# The start date in the document, whenever it is generated.
DOCUMENTED = datetime(2026, 11, 2, tzinfo=UTC)

ORCHESTRATOR = "InfraMonitoring-Pipeline-Orch"
QUEUE = {"QueueName": "InfraMonitoring-DeadLetters"}

CAUSES = {
    "HighCPU": "Instance web-1 uses 95 % of its CPU for a whole window, then 20 %.",
    "HighMemory": "Instance web-1 uses 96 % of its memory for a whole window, then 40 %.",
    "DiskNearlyFull": "Host db-2 pushes a disk usage of 92 %, and of 50 % three hours later.",
    "DiskFillsUp": "Host db-1 pushes a disk that grows in two windows until only 9 hours remain"
    " before it is full; in the third window it hardly grows.",
    "HostsMissing": "Instance web-2 is running but has no metrics for one window.",
    "PipelineStopped": "No run follows the one at 09:00 until the next day.",
    "RunFailed": "The collectors of a run have no permission to write to the table, so all four"
    " attempts of each branch fail. `python -m infra redrive` starts the run again with the"
    " permission.",
    "CollectorErrors": "In the same run, every attempt is a failed invocation.",
    "ProcessorErrors": "log-processor has no permission to read an object from S3 and fails three"
    " times.",
    "NotifierErrors": "notifier has no permission to publish when it reports the failed run."
    " CloudWatch also sends this alarm directly, as JSON.",
    "DeadLettersWaiting": "The event that log-processor failed to process and the failed run wait"
    " in the dead-letter queue until `python -m infra redrive` sends them again. CloudWatch also"
    " sends this alarm directly.",
    "QuarantineNotEmpty": "An object contains a line that is not a record; the objects of the next"
    " window are valid.",
    "DynamoDBThrottle": "The table has two units of provisioned write capacity while an object with"
    " three records is processed; then it is on demand again.",
    "LambdaDuration": "data-collector samples the CPU for 10 seconds and then reads the response of"
    " a node_exporter for 15 seconds; the next runs do neither.",
    "FunctionMemory": "The response of this node_exporter is very large, and"
    " NODE_EXPORTER_MAX_BYTES is raised to allow it. data-collector has 512 MB for this"
    " invocation; with 128 MB it is killed.",
    "SeriesBudget": "The runs of one day request more metrics for three instances than the budget,"
    " which is 100 here. Then two instances are terminated, and the next day has one run.",
    "Page": "The first of the alarms that cannot wait is raised, and later the last is resolved.",
}

# The number in the reason given by CloudWatch differs each time.
MEASURED = {"DynamoDBThrottle", "FunctionMemory", "LambdaDuration"}


class Scenario:
    """Two days in one local cloud; `changes` are the state changes of alarms."""

    def __init__(self, cloud: LocalCloud) -> None:
        self.cloud = cloud
        self.state_machine = _state_machine_arn(cloud)
        self.changes: list[tuple[str, str]] = []
        cloud.client("sns").subscribe(
            TopicArn=f"arn:aws:sns:{REGION}:{ACCOUNT}:InfraMonitoring-Pages",
            Protocol="email",
            Endpoint="pager@example.com",
        )
        self.instances = self._start_instances("web-1", "web-2", "web-3")
        self._shorten_retries()
        self.healthy_window(START)
        self.unhealthy_hosts(START + INTERVAL)
        self.failing_pipeline(START + 2 * INTERVAL)
        self.recovered_pipeline(START + 3 * INTERVAL)
        self.missing_runs(START + timedelta(hours=15, minutes=40))
        self.next_day(START + timedelta(hours=36))

    # --- Events ---------------------------------------------------------------------------------

    def healthy_window(self, scheduled_time: datetime) -> None:
        self.set_clock(scheduled_time + timedelta(minutes=1))
        self.measure(scheduled_time, "web-1", "web-2", "web-3")
        self.push_disk(scheduled_time, used=100, free=500)
        self.run(scheduled_time)
        self.evaluate_run(scheduled_time)

    def unhealthy_hosts(self, scheduled_time: datetime) -> None:
        self.set_clock(scheduled_time + timedelta(minutes=1))
        self.measure(scheduled_time, "web-1", cpu=95, memory=96)
        self.measure(scheduled_time, "web-3")
        self.run(scheduled_time)
        with self._slow_and_large_collector(scheduled_time):
            self.push_disk(scheduled_time, used=200, free=400)
            self.put("full.json", _disk("db-2", scheduled_time, percent=92))
            with self._two_units_of_capacity():
                hosts = [_disk(f"db-{number}", scheduled_time, used=1) for number in (3, 4, 5)]
                self.put("broken.json", b"\n".join([*hosts, b"{broken"]))
        self.evaluate_run(scheduled_time)

    def failing_pipeline(self, scheduled_time: datetime) -> None:
        self.set_clock(scheduled_time + timedelta(minutes=1))
        self.measure(scheduled_time, "web-1", "web-2", "web-3")
        self.push_disk(scheduled_time, used=300, free=300)
        self.put("roomy.json", _disk("db-2", scheduled_time, percent=50))
        with self._denied("DataPipelineLambdaRole-log-processor", "s3:GetObject"):
            self.put("unread.json", _disk("db-6", scheduled_time, used=1))
        with (
            self._denied("DataPipelineLambdaRole-data-collector", "dynamodb:*"),
            self._denied("DataPipelineLambdaRole-notifier", "sns:Publish"),
        ):
            self.run(scheduled_time, "FAILED")
        self.wait_for(lambda: self.dead_letters(scheduled_time, minutes=5) == 2)
        self.evaluate_run(scheduled_time)

    def recovered_pipeline(self, scheduled_time: datetime) -> None:
        self.set_clock(scheduled_time + timedelta(minutes=1))
        self.measure(scheduled_time, "web-1", "web-2", "web-3")
        self.push_disk(scheduled_time, used=301, free=299)
        redriven = self.execution_count("ExecutionsSucceeded")
        assert main(["redrive", "--endpoint", self.cloud.endpoint]) == 0
        self.wait_for(lambda: self.execution_count("ExecutionsSucceeded") == redriven + 1)
        self.run(scheduled_time)
        self.evaluate_run(scheduled_time)

    def missing_runs(self, now: datetime) -> None:
        self.set_clock(now)
        self.evaluate()

    def next_day(self, scheduled_time: datetime) -> None:
        self.set_clock(scheduled_time + timedelta(minutes=1))
        self.cloud.client("ec2").terminate_instances(
            InstanceIds=[self.instances["web-2"], self.instances["web-3"]]
        )
        self.measure(scheduled_time, "web-1")
        self.run(scheduled_time)
        self.evaluate_run(scheduled_time)

    # --- Time -----------------------------------------------------------------------------------

    def set_clock(self, now: datetime) -> None:
        """Set CloudWatch's clock, and wait for the queue's metric of that minute."""
        self.cloud.clock.set(now)
        self.wait_for(lambda: self.dead_letters(now) is not None)

    def dead_letters(self, start: datetime, minutes: int = 1) -> float | None:
        """The maximum number of dead letters according to CloudWatch; None without data."""
        name, seconds = "ApproximateNumberOfMessagesVisible", 60 * minutes
        (maximum,) = self.cloud.metrics.statistic(
            "AWS/SQS", name, QUEUE, "Maximum", start=start, period=seconds, periods=1
        )
        return maximum

    def evaluate_run(self, scheduled_time: datetime) -> None:
        """Evaluate the alarms after a run, and again when their window has no earlier run."""
        for minutes in (5, 20):
            self.set_clock(scheduled_time + timedelta(minutes=minutes))
            self.evaluate()

    def evaluate(self) -> None:
        self.changes += [(each.name, each.state) for each in self.cloud.alarms.evaluate()]
        self.settle()

    def settle(self) -> None:
        self.wait_for(lambda: self.cloud.wiring.idle)

    def wait_for(self, check: Callable[[], bool]) -> None:
        wait_until(check, every=0.05)

    # --- Hosts ----------------------------------------------------------------------------------

    def _start_instances(self, *names: str) -> dict[str, str]:
        ec2 = self.cloud.client("ec2")
        image = ec2.describe_images()["Images"][0]["ImageId"]
        instance_ids = {}
        for name in names:
            tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": name}]}]
            (instance,) = ec2.run_instances(
                ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=tags
            )["Instances"]
            instance_ids[name] = str(instance["InstanceId"])
        return instance_ids

    def measure(
        self, scheduled_time: datetime, *names: str, cpu: float = 20, memory: float = 40
    ) -> None:
        """Put the metrics of EC2 and the CloudWatch agent for a window of instances."""
        values = {
            "AWS/EC2": {"CPUUtilization": cpu, "NetworkIn": 1e6, "NetworkOut": 1e6},
            "CWAgent": {"mem_used_percent": memory, "disk_used_percent": 50},
        }
        for namespace, metrics in values.items():
            data = [
                {
                    "MetricName": metric,
                    "Dimensions": [{"Name": "InstanceId", "Value": self.instances[name]}],
                    "Timestamp": scheduled_time - timedelta(minutes=minutes),
                    "Value": value,
                }
                for name in names
                for metric, value in metrics.items()
                for minutes in range(5, 185, 5)
            ]
            self.cloud.client("cloudwatch").put_metric_data(Namespace=namespace, MetricData=data)

    def push_disk(self, scheduled_time: datetime, *, used: int, free: int) -> None:
        self.put(
            f"db-1-{scheduled_time:%H}.json", _disk("db-1", scheduled_time, used=used, free=free)
        )

    def put(self, name: str, body: bytes) -> None:
        key = f"raw-metrics/{START:%Y/%m/%d}/{name}"
        self.cloud.client("s3").put_object(Bucket=BUCKET, Key=key, Body=body)
        self.settle()

    # --- The pipeline ---------------------------------------------------------------------------

    def run(self, scheduled_time: datetime, status: str = "SUCCEEDED") -> None:
        """Start a run and wait until CloudWatch has counted its end."""
        name = f"Executions{status.capitalize()}"
        before = self.execution_count(name)
        self.cloud.client("stepfunctions").start_execution(
            stateMachineArn=self.state_machine,
            input=json.dumps({"time": scheduled_time.isoformat()}),
        )
        self.wait_for(lambda: self.execution_count(name) == before + 1)
        self.settle()

    def execution_count(self, name: str) -> float:
        dimensions, week = {"StateMachineArn": self.state_machine}, 7 * 86_400
        (found,) = self.cloud.metrics.statistic(
            "AWS/States", name, dimensions, "Sum", start=START, period=week, periods=1
        )
        return found or 0

    def _shorten_retries(self) -> None:
        """Retry as often, but after one second instead of 10, 20 and 40."""
        sfn = self.cloud.client("stepfunctions")
        definition = sfn.describe_state_machine(stateMachineArn=self.state_machine)["definition"]
        shorter = re.sub(r'"IntervalSeconds": ?\d+', '"IntervalSeconds": 1', definition)
        shorter = re.sub(r'"BackoffRate": ?\d+', '"BackoffRate": 1', shorter)
        sfn.update_state_machine(stateMachineArn=self.state_machine, definition=shorter)

    @contextmanager
    def _denied(self, role: str, action: str) -> Iterator[None]:
        iam = self.cloud.client("iam")
        statement = {"Effect": "Deny", "Action": action, "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        iam.put_role_policy(RoleName=role, PolicyName="denied", PolicyDocument=document)
        yield
        self.settle()
        iam.delete_role_policy(RoleName=role, PolicyName="denied")

    @contextmanager
    def _two_units_of_capacity(self) -> Iterator[None]:
        dynamodb = self.cloud.client("dynamodb")
        throughput = {"ReadCapacityUnits": 1_000, "WriteCapacityUnits": 2}
        dynamodb.update_table(
            TableName="InfraMetrics", BillingMode="PROVISIONED", ProvisionedThroughput=throughput
        )
        yield
        dynamodb.update_table(TableName="InfraMetrics", BillingMode="PAY_PER_REQUEST")

    @contextmanager
    def _slow_and_large_collector(self, scheduled_time: datetime) -> Iterator[None]:
        """Invoke a collector with a long CPU sample and a large page in the background.

        Its scheduled time is days earlier, because this machine is not a host of the scenario.
        """
        lambda_ = self.cloud.client("lambda")
        before = lambda_.get_function_configuration(FunctionName="data-collector")
        earlier = scheduled_time - timedelta(days=3)
        event = arrival("") | {"time": earlier.isoformat(), "detail": {"metric_type": "cpu"}}
        with _large_page() as target:
            overrides = {
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
                Environment={"Variables": before["Environment"]["Variables"] | overrides},
            )
            responses: list[Any] = []
            thread = threading.Thread(
                target=lambda: responses.append(
                    lambda_.invoke(FunctionName="data-collector", Payload=json.dumps(event))
                )
            )
            thread.start()
            yield
            thread.join()
        lambda_.update_function_configuration(
            FunctionName="data-collector",
            **{name: before[name] for name in ("MemorySize", "Timeout", "Environment")},
        )
        (result,) = json.loads(responses[0]["Payload"].read())["results"]
        assert result["duration_ms"] > 24_000, result
        self.settle()


def _state_machine_arn(cloud: LocalCloud) -> str:
    state_machines = cloud.client("stepfunctions").list_state_machines()["stateMachines"]
    (arn,) = [each["stateMachineArn"] for each in state_machines if each["name"] == ORCHESTRATOR]
    return str(arn)


def _disk(host: str, scheduled_time: datetime, **values: float) -> bytes:
    """A disk record as an agent pushes it: `used` and `free` in bytes, or `percent`."""
    return msgspec.json.encode(
        {
            "schema_version": 1,
            "timestamp": scheduled_time,
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
    """A slow node_exporter with very many CPUs; yields its host and port."""
    page = b"".join(
        b'node_cpu_seconds_total{cpu="%d",mode="idle"} 1\n' % number for number in range(120_000)
    )

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            end = time.monotonic() + 15
            self.send_response(200)
            self.end_headers()
            # The collector parses the page during the wait, however slow this machine is.
            self.wfile.write(page)
            time.sleep(max(0.0, end - time.monotonic()))
            self.wfile.write(b"# end\n")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


# --- Alarms and e-mails -------------------------------------------------------------------------


@contextmanager
def run_scenario() -> Iterator[Scenario]:
    with (
        pytest.MonkeyPatch.context() as patch,
        LocalCloud(
            settings={"METRIC_SOURCES": "cloudwatch"},
            thresholds={"SeriesPerDay": BUDGET},
            async_retry_seconds=(0.2, 0.2),
            alarm_seconds=86_400,  # the scenario evaluates them
            clock=Clock(START),
        ) as cloud,
    ):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "testing")
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        yield Scenario(cloud)


@pytest.fixture(scope="module")
def scenario() -> Iterator[Scenario]:
    with run_scenario() as finished:
        yield finished


def mails_about(name: str, mails: Sequence[Mail]) -> list[Mail]:
    return [each for each in mails if f"docs/runbooks/{name}.md" in each.body]


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_is_raised_by_its_cause_and_resolved_after_it(
    name: str, scenario: Scenario
) -> None:
    states = [state for changed, state in scenario.changes if changed == f"InfraMonitoring-{name}"]
    assert states[:3] == ["OK", "ALARM", "OK"]
    assert states[3:] == [] or name == "Page"  # which has several causes, in sequence


@pytest.mark.parametrize("name", ALARMS)
def test_the_start_and_the_end_of_an_alarm_are_emails(name: str, scenario: Scenario) -> None:
    first_words = [
        mail.subject.split()[0] for mail in mails_about(name, scenario.cloud.wiring.mails)
    ]
    assert first_words[0] in {"ALARM", "Warning", "PAGE"}
    assert first_words[1] in {"OK", "RESOLVED"}


@pytest.mark.parametrize("name", ["NotifierErrors", "DeadLettersWaiting"])
def test_cloudwatch_also_sends_the_alarms_on_the_notifier(name: str, scenario: Scenario) -> None:
    subjects = [mail.subject for mail in scenario.cloud.wiring.mails]
    assert f'ALARM: "InfraMonitoring-{name}" in EU (Ireland)' in subjects


def test_the_documented_emails_are_those_that_are_sent(scenario: Scenario) -> None:
    assert DOCUMENT.read_text() == page(scenario)


# --- docs/alarms.md -----------------------------------------------------------------------------

INTRODUCTION = """\
# Alarm e-mails

This page shows the e-mails of every alarm in `infra/observability.yaml`. Each alarm was raised by
its real cause in the local cloud and resolved after it; no alarm state was set and no metric of the
pipeline was put by hand. Days and instance IDs are replaced, and measured numbers are left out (…).
`tests/local_cloud/test_alarm_causes.py` checks this page in a minute or two;
`python -m tests.local_cloud.test_alarm_causes` generates it.

Differences from AWS: CloudWatch's clock was moved forward by three hours between runs, retries
waited one second, and `SeriesPerDay` was {budget}. The [runbooks](runbooks/README.md) explain what
each alarm means and what to do.
"""


def page(scenario: Scenario) -> str:
    mails = scenario.cloud.wiring.mails
    parts = [INTRODUCTION.format(budget=BUDGET)]
    for name, cause in CAUSES.items():
        start, end = mails_about(name, mails)[:2]
        mail = _with_fixed_names(f"{start.subject}\n\n{start.body.strip()}", scenario.instances)
        if name in MEASURED:
            mail = re.sub(r"\[[\d.]+ ", "[… ", mail)
        end_subject = _with_fixed_names(end.subject, scenario.instances)
        parts.append(
            f"## {name}\n\n{cause}\n\n```\n{mail}\n```\n\nSubject at the end: `{end_subject}`.\n"
        )
    return "\n".join(parts)


def _with_fixed_names(text: str, instances: Mapping[str, str]) -> str:
    """The text with instance IDs and days replaced by constant ones."""
    constants = {each: f"i-{number:017x}" for number, each in enumerate(instances.values(), 1)}
    for days in range(-1, 4):
        day, documented = (each + timedelta(days=days) for each in (START, DOCUMENTED))
        for form in ("%Y-%m-%d", "%d/%m/%y", "%A %d %B, %Y"):
            constants[f"{day:{form}}"] = f"{documented:{form}}"
    return re.sub("|".join(constants), lambda found: constants[found[0]], text)


if __name__ == "__main__":
    with run_scenario() as finished:
        DOCUMENT.write_text(page(finished))
