"""Shared records, settings and fixtures: a store on moto, a running local cloud."""

import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import hypothesis
import pytest
import yaml
from moto import mock_aws

from chalicelib.aws.store import MetricStore
from chalicelib.model.records import Measurement, Record
from chalicelib.model.settings import Settings
from chalicelib.model.status import Threshold
from infra.local.clients import create_client
from tests.support.waiting import LIMIT_SECONDS, wait_until

# Examples are neither timed nor rejected as slow: that would depend on the machine's load.
hypothesis.settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parents[1]
ACCOUNT, REGION = "123456789012", "eu-west-1"
BUCKET = "infra-monitoring-pipeline-data"
WINDOW_END = datetime(2026, 11, 22, 18, 0, tzinfo=UTC)

SETTINGS = Settings(
    bucket=BUCKET,
    table="InfraMetrics",
    namespace="InfraMonitoring",
    sources=("host",),
    window_seconds=10_800,
    period_seconds=300,
    retention_days=90,
    max_ahead_seconds=10**9,  # the tests' window may be in the future
    cpu_interval=0.1,
    thresholds={
        "cpu": Threshold(70, 80),
        "memory": Threshold(80, 90),
        "disk": Threshold(80, 90),
    },
    chunk_targets=200,
    max_series=20_000,
    overlap_windows=1,
    regions=(),
    roles=(),
    external_id="",
    ec2_tags={},
    node_exporter_targets=("web-1:9100", "dns+nodes.example:9100"),
    node_exporter_timeout=5,
    node_exporter_max_bytes=4_194_304,
)

ENVIRONMENT = {
    "BUCKET_NAME": BUCKET,
    "TABLE_NAME": "InfraMetrics",
    "POWERTOOLS_METRICS_NAMESPACE": "InfraMonitoring",
    "METRIC_SOURCES": "host",
    "WINDOW_SECONDS": "10800",
    "METRIC_PERIOD_SECONDS": "300",
    "RETENTION_DAYS": "90",
    "MAX_AHEAD_SECONDS": "1000000000",
    "CPU_SAMPLE_SECONDS": "0.1",
    "CPU_THRESHOLDS": "70,80",
    "MEMORY_THRESHOLDS": "80,90",
    "DISK_THRESHOLDS": "80,90",
    "CHUNK_TARGETS": "200",
    "MAX_SERIES_PER_RUN": "20000",
    "OVERLAP_WINDOWS": "1",
    "NODE_EXPORTER_TARGETS": "web-1:9100, dns+nodes.example:9100",
    "NODE_EXPORTER_TIMEOUT_SECONDS": "5",
    "NODE_EXPORTER_MAX_BYTES": "4194304",
}


Template = dict[str, Any]


class IntrinsicsLoader(yaml.SafeLoader):
    """Load the short forms of CloudFormation's functions, for example !Ref, as the long ones."""


def _intrinsic(loader: IntrinsicsLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt":
        value = value.split(".")
    return {suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}": value}


IntrinsicsLoader.add_multi_constructor("!", _intrinsic)


def load_template(path: Path) -> Template:
    template: Template = yaml.load(path.read_text(), Loader=IntrinsicsLoader)
    return template


def point(unit: Any, value: float | None) -> Measurement:
    return Measurement(unit=unit, last=value)


def make_record(**changes: Any) -> Record:
    """A CPU record of host web-1 with its metric_id; `changes` replace fields."""
    values: dict[str, Any] = {
        "schema_version": 1,
        "timestamp": WINDOW_END,
        "metric_type": "cpu",
        "resource_id": "web-1",
        "window_seconds": 10_800,
        "measurements": {"utilization": point("percent", 42.0)},
        **changes,
    }
    return Record(**values).identified(account_id=ACCOUNT, region=REGION)


# A background job of a shell ignores SIGINT, and its child processes would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skipped test fails, unless the machine lacks a feature that no package adds."""
    report = yield
    if report.skipped and os.environ.get("CI"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
        if not reason.startswith("Skipped: this machine has"):
            report.outcome = "failed"
            report.longrepr = f"skipped in CI: {reason}"
    return report


@pytest.fixture(autouse=True)
def aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevent access to a real account, whatever is configured on this machine."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        if name != "AWS_CA_BUNDLE":
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@dataclass
class Backend:
    """A bucket and a table on moto in this process, and a store that uses them."""

    store: MetricStore
    s3: Any
    dynamodb: Any

    def items(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.dynamodb.scan(TableName="InfraMetrics")["Items"]
        return items

    def keys(self, prefix: str = "") -> list[str]:
        listed = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)
        return [entry["Key"] for entry in listed.get("Contents", [])]

    def body(self, key: str) -> bytes:
        body: bytes = self.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return body


@pytest.fixture
def backend() -> Iterator[Backend]:
    with mock_aws():
        s3, dynamodb = boto3.client("s3"), boto3.client("dynamodb")
        s3.create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
        dynamodb.create_table(
            TableName="InfraMetrics",
            AttributeDefinitions=[
                {"AttributeName": "metric_id", "AttributeType": "S"},
                {"AttributeName": "timestamp", "AttributeType": "S"},
            ],
            KeySchema=[
                {"AttributeName": "metric_id", "KeyType": "HASH"},
                {"AttributeName": "timestamp", "KeyType": "RANGE"},
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        store = MetricStore(s3, dynamodb, bucket=BUCKET, table="InfraMetrics", sleep=lambda _: None)
        yield Backend(store, s3, dynamodb)


@pytest.fixture
def settings() -> Settings:
    return replace(SETTINGS)


@dataclass(frozen=True)
class RunningCloud:
    """A local cloud, started by `python -m infra up` in a separate process group."""

    endpoint: str
    process: "subprocess.Popen[str]"
    output: list[str]

    def client(self, service: str) -> Any:
        return create_client(service, self.endpoint)


def start_cloud(*arguments: str) -> RunningCloud:
    """Start `python -m infra up` on a free port and wait for its line `ready:`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "infra", "up", "--port", "0", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    output: list[str] = []
    endpoint: queue.Queue[str] = queue.Queue()

    def read() -> None:
        # Read to the end: once the pipe is full, the local cloud blocks at its next line.
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                output.append(line)
                if ready := re.match(r"ready: (\S+)", line):
                    endpoint.put(ready[1])
        endpoint.put("")

    threading.Thread(target=read, daemon=True).start()
    if ready := endpoint.get():
        return RunningCloud(ready, process, output)
    pytest.fail("the local cloud did not start:\n" + "".join(output))


def stop_cloud(cloud: RunningCloud, how: int = signal.SIGINT) -> int:
    cloud.process.send_signal(how)
    try:
        return cloud.process.wait(timeout=LIMIT_SECONDS)
    finally:
        if cloud.process.poll() is None:
            os.killpg(cloud.process.pid, signal.SIGKILL)


@pytest.fixture(scope="session")
def cloud() -> Iterator[RunningCloud]:
    running = start_cloud()
    yield running
    stop_cloud(running)


@pytest.fixture
def eventually() -> Callable[..., Any]:
    """Call a function until its result is true, and return that result."""
    return wait_until
