"""One run of the state machine with 2,000 EC2 instances in the local cloud.

Durations and sizes are printed (`pytest -s`) for docs/scale.md; they are not asserted.
"""

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from chalicelib.model.metric_types import METRIC_TYPES
from tests.conftest import BUCKET, RunningCloud, start_cloud, stop_cloud

# The fixture, which does all the work, counts towards the first test.
pytestmark = pytest.mark.timeout(7200)

HOSTS = 2_000
CHUNK = 200
WINDOW = 10_800
PERIOD = 1_800  # six points per metric instead of 36, because putting them takes most of the time
SCHEDULED_TIME = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)

# Step Functions' limit for the input or output of a state.
PAYLOAD_BYTES = 262_144
MEMORY_MB = 128

METRICS = [
    ("AWS/EC2", "CPUUtilization", "Percent", ()),
    ("AWS/EC2", "NetworkIn", "Bytes", ()),
    ("AWS/EC2", "NetworkOut", "Bytes", ()),
    ("CWAgent", "mem_used_percent", "Percent", ()),
    ("CWAgent", "disk_used_percent", "Percent", (("path", "/"), ("fstype", "ext4"))),
    ("CWAgent", "disk_used_percent", "Percent", (("path", "/run"), ("fstype", "tmpfs"))),
]


@dataclass
class Run:
    """An execution for the fleet, with its history, items, e-mails and Lambda reports."""

    cloud: RunningCloud
    silent: str
    terminated: str
    execution: dict[str, Any]
    history: list[dict[str, Any]]
    items: list[dict[str, Any]]
    emails: list[dict[str, str]]
    reports: list[dict[str, float]] = field(default_factory=list)

    def outputs(self) -> Iterator[str]:
        """Yield the inputs and outputs of all events."""
        for event in self.history:
            for name, details in event.items():
                if name.endswith("EventDetails"):
                    yield from (str(details[key]) for key in ("input", "output") if key in details)


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    settings = {
        "METRIC_SOURCES": "cloudwatch",
        "MAX_SERIES_PER_RUN": "100000",
        "CHUNK_TARGETS": str(CHUNK),
        "WINDOW_SECONDS": str(WINDOW),
        "METRIC_PERIOD_SECONDS": str(PERIOD),
    }
    arguments = [text for each in settings.items() for text in ("--set", "=".join(each))]
    cloud = start_cloud("--no-tick", *arguments)
    try:
        yield observe(cloud)
    finally:
        stop_cloud(cloud)


def observe(cloud: RunningCloud) -> Run:
    started = time.monotonic()
    silent, terminated, *others = launch(cloud, HOSTS + 1)
    cloud.client("ec2").terminate_instances(InstanceIds=[terminated])
    launched = time.monotonic()
    put_metrics(cloud, [terminated, *others])
    filled = time.monotonic()
    execution, history = execute(cloud)
    ended = time.monotonic()
    wait_until_idle(cloud)
    settled = time.monotonic()
    result = Run(
        cloud=cloud,
        silent=silent,
        terminated=terminated,
        execution=execution,
        history=history,
        items=scan(cloud),
        emails=requests.get(f"{cloud.endpoint}/_local/mails", timeout=300).json(),
        reports=reports(cloud),
    )
    peak = max((each["memory"] for each in result.reports), default=0)
    print(  # noqa: T201 - figures for docs/scale.md
        f"\n{HOSTS} hosts launched in {launched - started:.1f} s, their metrics put in"
        f" {filled - launched:.1f} s; execution {ended - filled:.1f} s, processed"
        f" {settled - ended:.1f} s later;"
        f"\n{len(result.reports)} collector invocations, peak memory {peak:.0f} MB, longest"
        f" {max((each['duration'] for each in result.reports), default=0):.0f} ms;"
        f" {len(history)} events, largest payload"
        f" {max((len(text.encode()) for text in result.outputs()), default=0)} bytes"
    )
    return result


def launch(cloud: RunningCloud, count: int) -> list[str]:
    ec2 = cloud.client("ec2")
    instance_ids: list[str] = []
    while missing := count - len(instance_ids):
        size = min(missing, 100)
        response = ec2.run_instances(
            ImageId="ami-12c6146b", MinCount=size, MaxCount=size, InstanceType="t3.micro"
        )
        instance_ids += [each["InstanceId"] for each in response["Instances"]]
    return instance_ids


def put_metrics(cloud: RunningCloud, instances: list[str]) -> None:
    by_namespace: dict[str, list[dict[str, Any]]] = {}
    for number, instance_id in enumerate(instances):
        for namespace, name, unit, dimensions in METRICS:
            pairs = [("InstanceId", instance_id), *dimensions]
            for seconds in range(PERIOD, WINDOW + 1, PERIOD):
                by_namespace.setdefault(namespace, []).append(
                    {
                        "MetricName": name,
                        "Dimensions": [{"Name": key, "Value": value} for key, value in pairs],
                        "Timestamp": SCHEDULED_TIME - timedelta(seconds=seconds),
                        "Unit": unit,
                        "Value": float(number % 70),
                    }
                )
    client = cloud.client("cloudwatch")
    calls = [
        (namespace, data[start : start + 1_000])
        for namespace, data in by_namespace.items()
        for start in range(0, len(data), 1_000)
    ]
    with ThreadPoolExecutor(max_workers=2) as pool:
        responses = pool.map(
            lambda call: client.put_metric_data(Namespace=call[0], MetricData=call[1]), calls
        )
        list(responses)


def execute(cloud: RunningCloud) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    sfn = cloud.client("stepfunctions")
    machines = {
        each["name"]: each["stateMachineArn"] for each in sfn.list_state_machines()["stateMachines"]
    }
    started = sfn.start_execution(
        stateMachineArn=machines["InfraMonitoring-Pipeline-Orch"],
        input=json.dumps({"time": f"{SCHEDULED_TIME:%Y-%m-%dT%H:%M:%SZ}"}),
    )
    arn = started["executionArn"]
    while (described := sfn.describe_execution(executionArn=arn))["status"] == "RUNNING":
        time.sleep(0.5)
    pages = sfn.get_paginator("get_execution_history").paginate(executionArn=arn)
    return described, [event for page in pages for event in page["events"]]


def wait_until_idle(cloud: RunningCloud) -> None:
    while not requests.get(f"{cloud.endpoint}/_local/idle", timeout=300).json():
        time.sleep(0.5)


def scan(cloud: RunningCloud) -> list[dict[str, Any]]:
    pages = cloud.client("dynamodb").get_paginator("scan").paginate(TableName="InfraMetrics")
    return [item for page in pages for item in page["Items"]]


def reports(cloud: RunningCloud) -> list[dict[str, float]]:
    """Duration and memory of the collector's invocations, from Lambda's REPORT lines."""
    logs = cloud.client("logs")
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName="/aws/lambda/data-collector"
    )
    matches = [
        re.search(r"\tDuration: ([\d.]+) ms.*Max Memory Used: (\d+) MB", event["message"])
        for page in pages
        for event in page["events"]
    ]
    return [{"duration": float(each[1]), "memory": float(each[2])} for each in matches if each]


def test_run_succeeds(run: Run) -> None:
    assert run.execution["status"] == "SUCCEEDED"


def test_each_metric_type_is_planned_once_and_fanned_out(run: Run) -> None:
    entered = Counter(
        event["stateEnteredEventDetails"]["name"]
        for event in run.history
        if event["type"] == "TaskStateEntered"
    )
    names = ("CPU", "Memory", "Disk", "Network")
    assert [entered[f"Invoke{name}Collector"] for name in names] == [1, 1, 1, 1]
    # The silent instance is in the plans for AWS/EC2 metrics, but not in those for agent metrics.
    assert (entered["CollectChunk"], entered["MergeResults"]) == (40, 4)


def test_every_reporting_host_has_four_enriched_items(run: Run) -> None:
    enriched = Counter(item["metric_type"]["S"] for item in run.items if "processed_at" in item)
    assert enriched == dict.fromkeys(METRIC_TYPES, HOSTS - 1)
    assert len(run.items) == 4 * (HOSTS - 1)


def test_tmpfs_file_systems_are_excluded(run: Run) -> None:
    names = {
        name
        for item in run.items
        if item["metric_type"]["S"] == "disk"
        for name in item["measurements"]["M"]
    }
    assert names == {"percent", "percent:/"}


def test_email_names_the_silent_instance_but_not_the_terminated_one(run: Run) -> None:
    # There may be alarm e-mails too: on a slow machine a chunk comes close to its timeout.
    (email,) = [each for each in run.emails if "run succeeded" in each["subject"]]
    assert f"missing 1 of {HOSTS}: {run.silent}" in email["body"]
    assert run.terminated not in email["body"]
    assert run.terminated not in {item["resource_id"]["S"] for item in run.items}


def test_chunks_respect_the_setting(run: Run) -> None:
    s3 = run.cloud.client("s3")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="plans/")
    keys = [entry["Key"] for page in pages for entry in page["Contents"]]
    sizes = [
        len(json.loads(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())["targets"])
        for key in keys
    ]
    assert len(sizes) == 40
    assert max(sizes) <= CHUNK


def test_invocations_stay_within_their_memory(run: Run) -> None:
    # 4 plans, 40 chunks and 4 merges; on a slow machine some are retried.
    failed = [event for event in run.history if event["type"].endswith("Failed")]
    assert (len(run.reports) >= 48, failed) == (True, [])
    assert max(each["memory"] for each in run.reports) < MEMORY_MB


def test_payloads_stay_within_the_limit_of_step_functions(run: Run) -> None:
    assert 0 < max(len(text.encode()) for text in run.outputs()) < PAYLOAD_BYTES
