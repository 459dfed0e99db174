"""Two thousand EC2 instances in one run of the state machine, in the local cloud.

The measured figures are printed (`pytest -s`), not asserted: docs/scale.md has them.
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

from chalicelib.model.records import METRIC_TYPES
from tests.conftest import (
    BUCKET,
    RunningCloud,
    start_cloud,
    stop_cloud,
)

# The first test waits for the fixture, which does all the work.
pytestmark = pytest.mark.timeout(900)

HOSTS = 2_000
CHUNK = 200
WINDOW = 10_800
PERIOD = 1_800  # six points of each series, where a real stage has 36: putting them is what takes
TICK = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)

# Step Functions' limit of a state's input or output.
PAYLOAD_BYTES = 262_144
MEMORY_MB = 128

SERIES = [
    ("AWS/EC2", "CPUUtilization", "Percent", ()),
    ("AWS/EC2", "NetworkIn", "Bytes", ()),
    ("AWS/EC2", "NetworkOut", "Bytes", ()),
    ("CWAgent", "mem_used_percent", "Percent", ()),
    ("CWAgent", "disk_used_percent", "Percent", (("path", "/"), ("fstype", "ext4"))),
    ("CWAgent", "disk_used_percent", "Percent", (("path", "/run"), ("fstype", "tmpfs"))),
]


@dataclass
class Run:
    """One execution over the fleet, and what it left behind."""

    cloud: RunningCloud
    silent: str
    terminated: str
    execution: dict[str, Any]
    history: list[dict[str, Any]]
    items: list[dict[str, Any]]
    mails: list[dict[str, str]]
    reports: list[dict[str, float]] = field(default_factory=list)

    def outputs(self) -> Iterator[str]:
        """The inputs and outputs of every event."""
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
    arguments = [part for each in settings.items() for part in ("--set", "=".join(each))]
    cloud = start_cloud("--no-tick", *arguments)
    try:
        yield observed(cloud)
    finally:
        stop_cloud(cloud)


def observed(cloud: RunningCloud) -> Run:
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
        mails=requests.get(f"{cloud.endpoint}/_local/mails", timeout=5).json(),
        reports=reports(cloud),
    )
    peak = max((each["memory"] for each in result.reports), default=0)
    print(  # noqa: T201 - what docs/scale.md tells is read here
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
    identities: list[str] = []
    while missing := count - len(identities):
        size = min(missing, 100)
        answer = ec2.run_instances(
            ImageId="ami-12c6146b", MinCount=size, MaxCount=size, InstanceType="t3.micro"
        )
        identities += [each["InstanceId"] for each in answer["Instances"]]
    return identities


def put_metrics(cloud: RunningCloud, instances: list[str]) -> None:
    by_namespace: dict[str, list[dict[str, Any]]] = {}
    for number, identity in enumerate(instances):
        for namespace, name, unit, dimensions in SERIES:
            pairs = [("InstanceId", identity), *dimensions]
            for moment in range(PERIOD, WINDOW + 1, PERIOD):
                by_namespace.setdefault(namespace, []).append(
                    {
                        "MetricName": name,
                        "Dimensions": [{"Name": key, "Value": value} for key, value in pairs],
                        "Timestamp": TICK - timedelta(seconds=moment),
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
        done = pool.map(
            lambda call: client.put_metric_data(Namespace=call[0], MetricData=call[1]), calls
        )
        list(done)


def execute(cloud: RunningCloud) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    sfn = cloud.client("stepfunctions")
    machines = {
        each["name"]: each["stateMachineArn"] for each in sfn.list_state_machines()["stateMachines"]
    }
    started = sfn.start_execution(
        stateMachineArn=machines["InfraMonitoring-Pipeline-Orch"],
        input=json.dumps({"time": f"{TICK:%Y-%m-%dT%H:%M:%SZ}"}),
    )
    arn = started["executionArn"]
    while (described := sfn.describe_execution(executionArn=arn))["status"] == "RUNNING":
        time.sleep(0.5)
    pages = sfn.get_paginator("get_execution_history").paginate(executionArn=arn)
    return described, [event for page in pages for event in page["events"]]


def wait_until_idle(cloud: RunningCloud) -> None:
    while not requests.get(f"{cloud.endpoint}/_local/idle", timeout=30).json():
        time.sleep(0.5)


def scan(cloud: RunningCloud) -> list[dict[str, Any]]:
    pages = cloud.client("dynamodb").get_paginator("scan").paginate(TableName="InfraMetrics")
    return [item for page in pages for item in page["Items"]]


def reports(cloud: RunningCloud) -> list[dict[str, float]]:
    """Lambda's own figures, from the REPORT lines."""
    logs = cloud.client("logs")
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName="/aws/lambda/data-collector"
    )
    found = [
        re.search(r"\tDuration: ([\d.]+) ms.*Max Memory Used: (\d+) MB", event["message"])
        for page in pages
        for event in page["events"]
    ]
    return [{"duration": float(each[1]), "memory": float(each[2])} for each in found if each]


def test_the_run_succeeds(run: Run) -> None:
    assert run.execution["status"] == "SUCCEEDED"


def test_every_type_was_planned_by_one_branch_each_and_fanned_out(run: Run) -> None:
    entered = Counter(
        event["stateEnteredEventDetails"]["name"]
        for event in run.history
        if event["type"] == "TaskStateEntered"
    )
    names = ("CPU", "Memory", "Disk", "Network")
    assert [entered[f"Invoke{name}Collector"] for name in names] == [1, 1, 1, 1]
    # The silent instance is in the plan of what AWS itself always sends, but not of the agent's.
    assert (entered["CollectChunk"], entered["MergeResults"]) == (40, 4)


def test_every_reporting_host_has_its_four_enriched_items(run: Run) -> None:
    enriched = Counter(item["metric_type"]["S"] for item in run.items if "processed_at" in item)
    assert enriched == dict.fromkeys(METRIC_TYPES, HOSTS - 1)
    assert len(run.items) == 4 * (HOSTS - 1)


def test_a_file_system_in_memory_is_left_out(run: Run) -> None:
    names = {
        name
        for item in run.items
        if item["metric_type"]["S"] == "disk"
        for name in item["measurements"]["M"]
    }
    assert names == {"percent", "percent:/"}


def test_a_silent_instance_is_named_and_a_terminated_one_is_not_expected(run: Run) -> None:
    # Those of alarms are others: on a slow machine a chunk comes near its time-out.
    (mail,) = [each for each in run.mails if "run succeeded" in each["subject"]]
    assert f"missing 1 of {HOSTS}: {run.silent}" in mail["body"]
    assert run.terminated not in mail["body"]
    assert run.terminated not in {item["resource_id"]["S"] for item in run.items}


def test_no_chunk_is_larger_than_its_setting(run: Run) -> None:
    s3 = run.cloud.client("s3")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="plans/")
    keys = [entry["Key"] for page in pages for entry in page["Contents"]]
    sizes = [
        len(json.loads(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())["targets"])
        for key in keys
    ]
    assert len(sizes) == 40
    assert max(sizes) <= CHUNK


def test_no_invocation_needs_more_memory_than_it_has(run: Run) -> None:
    # Four plans, forty chunks and four merges; a slow machine may need some of them twice.
    failed = [event for event in run.history if event["type"].endswith("Failed")]
    assert (len(run.reports) >= 48, failed) == (True, [])
    assert max(each["memory"] for each in run.reports) < MEMORY_MB


def test_no_payload_is_too_large_for_step_functions(run: Run) -> None:
    assert 0 < max(len(text.encode()) for text in run.outputs()) < PAYLOAD_BYTES
