"""A fleet above the inline limits in the local cloud: planned in pages, collected by a Map Run.

Small chunks and many Regions exceed the limits with few instances: a page of the inventory has at
most eight Regions, and the state holds at most forty chunks.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
import requests

from chalicelib.collect import map_run_results
from chalicelib.collect.fan_out import INLINE_CHUNKS
from chalicelib.collect.sources.inventory import PAGE_LOCATIONS
from tests.conftest import BUCKET, RunningCloud, start_cloud, stop_cloud

REGIONS = (
    "eu-west-1 eu-west-2 eu-west-3 eu-central-1 eu-north-1 us-east-1 us-east-2 us-west-1 us-west-2"
).split()
EACH = 5
SCHEDULED_TIME = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
STATE_BYTES = 262_144


@dataclass
class Run:
    cloud: RunningCloud
    instances: list[str]
    silent: str
    execution: dict[str, Any]
    history: list[dict[str, Any]]

    def entered(self) -> Counter[str]:
        return Counter(
            event["stateEnteredEventDetails"]["name"]
            for event in self.history
            if event["type"].endswith("StateEntered")
        )

    def results(self) -> dict[str, dict[str, Any]]:
        output = json.loads(self.execution["output"])
        return {result["metric_type"]: result for result in output["results"]}


def test_the_fleet_is_above_both_limits() -> None:
    assert len(REGIONS) > PAGE_LOCATIONS
    assert len(REGIONS) * EACH > INLINE_CHUNKS


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    settings = {
        "METRIC_SOURCES": "cloudwatch",
        "REGIONS": ",".join(REGIONS),
        "CHUNK_TARGETS": "1",
        "WINDOW_SECONDS": "3600",
    }
    arguments = [part for each in settings.items() for part in ("--set", "=".join(each))]
    cloud = start_cloud("--no-tick", *arguments)
    try:
        instances = [identity for region in REGIONS for identity in fill(cloud, region)]
        yield execute(cloud, instances)
    finally:
        stop_cloud(cloud)


def client(cloud: RunningCloud, service: str, region: str) -> Any:
    session = boto3.Session("local", "local", region_name=region)
    factory: Any = session.client
    return factory(service, endpoint_url=cloud.endpoint)


def fill(cloud: RunningCloud, region: str) -> list[str]:
    """Start instances with a CPU metric; the last one of the first Region is silent."""
    response = client(cloud, "ec2", region).run_instances(
        ImageId="ami-12c6146b", MinCount=EACH, MaxCount=EACH, InstanceType="t3.micro"
    )
    found: list[str] = [each["InstanceId"] for each in response["Instances"]]
    data = [
        {
            "MetricName": "CPUUtilization",
            "Dimensions": [{"Name": "InstanceId", "Value": identity}],
            "Timestamp": SCHEDULED_TIME - timedelta(minutes=5),
            "Unit": "Percent",
            "Value": 42.0,
        }
        for identity in (found[:-1] if region == REGIONS[0] else found)
    ]
    client(cloud, "cloudwatch", region).put_metric_data(Namespace="AWS/EC2", MetricData=data)
    return found


def execute(cloud: RunningCloud, instances: list[str]) -> Run:
    sfn = cloud.client("stepfunctions")
    machine = next(
        each["stateMachineArn"]
        for each in sfn.list_state_machines()["stateMachines"]
        if each["name"] == "InfraMonitoring-Pipeline-Orch"
    )
    scheduled_time = f"{SCHEDULED_TIME:%Y-%m-%dT%H:%M:%SZ}"
    arn = sfn.start_execution(stateMachineArn=machine, input=json.dumps({"time": scheduled_time}))
    arn = arn["executionArn"]
    while (described := sfn.describe_execution(executionArn=arn))["status"] == "RUNNING":
        time.sleep(0.5)
    pages = sfn.get_paginator("get_execution_history").paginate(executionArn=arn)
    history = [event for page in pages for event in page["events"]]
    return Run(cloud, instances, instances[EACH - 1], described, history)


def test_the_run_succeeds(run: Run) -> None:
    assert run.execution["status"] == "SUCCEEDED"


def test_planning_resumes_where_an_invocation_stopped(run: Run) -> None:
    # Eight Regions in the first page and one in the second, for each of four metric types.
    assert run.entered()["PlanMore"] == 4


def test_many_chunks_are_child_executions(run: Run) -> None:
    kinds = Counter(event["type"] for event in run.history)
    assert (kinds["MapRunStarted"], kinds["MapRunSucceeded"]) == (2, 2)  # cpu and network
    assert run.entered()["CollectChunk"] == 0


def test_every_host_is_expected_once_and_reports_once(run: Run) -> None:
    result = run.results()["cpu"]
    hosts = len(run.instances)
    counts = [result[name] for name in ("expected", "reporting", "records")]
    assert counts == [hosts, hosts - 1, hosts - 1]
    pages = run.cloud.client("dynamodb").get_paginator("scan").paginate(TableName="InfraMetrics")
    found = [item["resource_id"]["S"] for page in pages for item in page["Items"]]
    assert sorted(found) == sorted(set(run.instances) - {run.silent})


def test_the_email_names_the_silent_host_as_missing(run: Run) -> None:
    mails = requests.get(f"{run.cloud.endpoint}/_local/mails", timeout=300).json()
    (mail,) = [each for each in mails if "run succeeded" in each["subject"]]
    assert f"missing 1 of {len(run.instances)}: {run.silent}" in mail["body"]


def test_the_result_files_of_the_map_run_have_the_results_of_all_chunks(run: Run) -> None:
    s3 = run.cloud.client("s3")
    keys = [
        entry["Key"]
        for entry in s3.list_objects_v2(Bucket=BUCKET, Prefix="plans/map-runs/")["Contents"]
        if entry["Key"].endswith("manifest.json")
    ]
    read = [
        map_run_results.outputs(
            key, lambda key: s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        )
        for key in keys
    ]
    assert [len(results) for results in read] == [len(run.instances)] * 2


def test_the_state_is_far_below_its_limit(run: Run) -> None:
    sizes = [
        len(str(details[key]).encode())
        for event in run.history
        for name, details in event.items()
        if name.endswith("EventDetails")
        for key in ("input", "output")
        if key in details
    ]
    assert max(sizes) < STATE_BYTES / 10


def test_no_action_of_a_role_is_denied(run: Run) -> None:
    assert requests.get(f"{run.cloud.endpoint}/_local/iam", timeout=300).json()["denied"] == []


def test_the_map_run_reads_plans_and_writes_results(run: Run) -> None:
    """With the role of the state machine; test_iam.py tests the roles of the functions."""
    seen = requests.get(f"{run.cloud.endpoint}/_local/iam", timeout=300).json()["uses"]
    used = {use["action"] for use in seen if use["sid"] == "ReadPlansAndWriteMapResults"}
    assert used == {"s3:GetObject", "s3:PutObject"}
