"""Compute which limit a growing fleet exceeds first, from AWS quotas and sizes of real data.

    .venv/bin/python benchmarks/fleet_limits.py

Sizes are measured on real plans, events and reports. CPU time is measured with botocore's parsers
on responses of moto, and divided by Lambda's CPU share of 7 % of a core; it is not measured on AWS.
"""

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import msgspec
from botocore.parsers import create_parser
from moto import mock_aws
from msgspec.structs import replace
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # run as a script: the path contains benchmarks/ instead

from chalicelib.aws import cloudwatch_fleet as fleet
from chalicelib.collect.fan_out import INLINE_CHUNKS, Plan
from chalicelib.collect.requests import CollectionRequest, chunk_event, manifest_key, plan_key
from chalicelib.collect.sources.cloudwatch import (
    DOLLARS_PER_METRIC,
    RUNS_PER_MONTH,
    SPECS,
    STATISTICS,
)
from chalicelib.collect.sources.inventory import PAGE_INSTANCES
from chalicelib.collect.sources.protocol import CloudWatchMetric, Target
from chalicelib.model.metric_types import METRIC_TYPES
from chalicelib.model.results import Result, report

STAGE = json.loads((ROOT / ".chalice" / "config.json").read_text())
VARIABLES = STAGE["environment_variables"]
CHUNK = int(VARIABLES["CHUNK_TARGETS"])
MAX_SERIES = int(VARIABLES["MAX_SERIES_PER_RUN"])
WINDOW = int(VARIABLES["WINDOW_SECONDS"])
PERIOD = int(VARIABLES["METRIC_PERIOD_SECONDS"])
WINDOWS = 1 + int(VARIABLES["OVERLAP_WINDOWS"])
LAMBDA_SECONDS = int(STAGE["lambda_timeout"])

# https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html
PAYLOAD_BYTES = 262_144
HISTORY_EVENTS = 25_000
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/cloudwatch_limits.html
METRIC_DATA_QUERIES = 500
METRIC_DATA_POINTS = 100_800
METRIC_DATA_TPS = 50
LIST_METRICS_PAGE = 500
LIST_METRICS_TPS = 25
# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html
MAX_DESCRIBE_PAGE = 1_000
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html
INDEX_WRITES_PER_SECOND = 1_000
# 128 MB of the 1,769 MB that correspond to one core:
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
CORE_SHARE = STAGE["lambda_memory_size"] / 1_769

# Events of an execution of the overlay's state machine. A chunk: iteration started and succeeded,
# task entered, scheduled, started, succeeded, exited. Each further part of a plan: the choice and
# the task. A Distributed Map: map run started and succeeded, and the events of the state.
BRANCH_EVENTS = 7
EVENTS_PER_CHUNK = 7
PART_EVENTS = 7
MAP_RUN_EVENTS = 6
TYPE_EVENTS = 20
OTHER_EVENTS = 17  # chosen so that 2,000 hosts have the counted 377 events
MAP_CONCURRENCY = 5

# As in tests/scale/test_two_thousand_instances.py: CPU, memory, one disk, two of network.
METRICS_PER_HOST: dict[str, int] = {"cpu": 1, "memory": 1, "disk": 1, "network": 2}
SIZES = (1, 2_000, 10_000, 100_000)


@dataclass(frozen=True, slots=True)
class LimitUsage:
    """A run's usage of a limited resource."""

    name: str
    used: float
    limit: float
    unit: str

    @property
    def share(self) -> float:
        return self.used / self.limit


@dataclass(frozen=True, slots=True)
class ParsingCpu:
    """CPU seconds of a full core to parse one instance, one listed metric, one query result."""

    instance: float
    listed: float
    query: float


def example_request() -> CollectionRequest:
    return CollectionRequest(
        scheduled_time=datetime(2026, 11, 22, 18, tzinfo=UTC),
        account_id="123456789012",
        region="eu-west-1",
        execution_id="0f8fad5b-d9cb-469f-a165-70867728950e",
        metric_types=METRIC_TYPES,
        fan_out=True,
    )


def chunks_of(hosts: int) -> int:
    return math.ceil(hosts / CHUNK)


def parts_of(hosts: int) -> int:
    return math.ceil(hosts / PAGE_INSTANCES)


def plan_state(hosts: int) -> dict[str, Any]:
    """The plan of one metric type in the state machine's state, without errors."""
    result = Result(metric_type="network", status="PLANNED", expected=hosts)
    if chunks_of(hosts) > INLINE_CHUNKS:
        return report(replace(result, manifest=manifest_key(example_request(), "network")))
    keys = [plan_key(example_request(), "network", number) for number in range(chunks_of(hosts))]
    events = [chunk_event(example_request(), "network", key) for key in keys]
    return report(replace(result, chunks=events))


def _succeeded(hosts: int) -> Result:
    return Result(
        metric_type="network",
        status="SUCCEEDED",
        records=hosts,
        expected=hosts,
        reporting=hosts,
        series=hosts * METRICS_PER_HOST["network"] * len(STATISTICS),
        duration_ms=12_345,
    )


def payload_bytes(hosts: int) -> int:
    """Size of the largest state: all plans, or one plan with the results of its chunks."""
    if hosts <= CHUNK:
        return len(json.dumps([report(_succeeded(hosts))] * len(METRIC_TYPES)))
    plan = plan_state(hosts)
    inline = len(plan.get("chunks", ()))
    collected = plan | {"chunk_results": [report(_succeeded(CHUNK))] * inline}
    states = ({"results": [plan] * len(METRIC_TYPES), "time": "2026-11-22T18:00:00Z"}, collected)
    return max(len(json.dumps(state, separators=(",", ":"))) for state in states)


def plan_bytes() -> int:
    """Size of the plan of one chunk in S3."""
    dimensions = (("InstanceId", "i-0123456789abcdef0"),)
    series = tuple(CloudWatchMetric(*name, dimensions) for name in SPECS["network"])
    labels = {"instance_type": "t3.micro", "name": "web-1", "account": "123456789012"}
    target = Target("i-0123456789abcdef0", "123456789012/eu-west-1", series, labels)
    return len(msgspec.json.encode(Plan(0, [target] * CHUNK)))


def history_events(hosts: int) -> int:
    if hosts <= CHUNK:
        return OTHER_EVENTS + len(METRIC_TYPES) * BRANCH_EVENTS
    chunks = chunks_of(hosts)
    collecting = EVENTS_PER_CHUNK * chunks if chunks <= INLINE_CHUNKS else MAP_RUN_EVENTS
    further_parts = PART_EVENTS * (parts_of(hosts) - 1)
    return OTHER_EVENTS + len(METRIC_TYPES) * (TYPE_EVENTS + further_parts + collecting)


def requested_metrics(hosts: int) -> int:
    """Number of CloudWatch metrics requested by a run."""
    return hosts * len(STATISTICS) * sum(METRICS_PER_HOST.values())


def dollars_per_run(hosts: int) -> float:
    return requested_metrics(hosts) * DOLLARS_PER_METRIC


def limit_usages(hosts: int, cpu: ParsingCpu) -> list[LimitUsage]:
    """The usage of every limit, highest share first."""
    types = len(METRIC_TYPES)
    concurrent = types * min(MAP_CONCURRENCY, chunks_of(hosts))
    chunk_metrics = min(hosts, CHUNK) * max(METRICS_PER_HOST.values())
    part_instances = min(hosts, PAGE_INSTANCES)
    # Each part lists all metrics, because ListMetrics cannot filter by instances.
    planning = (
        part_instances * cpu.instance + hosts * max(METRICS_PER_HOST.values()) * cpu.listed
    ) / CORE_SHARE
    reading = chunk_metrics * len(STATISTICS) * cpu.query / CORE_SHARE
    listings = sum(
        max(1, math.ceil(hosts * METRICS_PER_HOST[each] / len(SPECS[each]) / LIST_METRICS_PAGE))
        * len(SPECS[each])
        for each in METRIC_TYPES
    )
    points = METRIC_DATA_QUERIES * WINDOWS * WINDOW // PERIOD
    usages = [
        LimitUsage(
            "MAX_SERIES_PER_RUN, largest type",
            hosts * max(METRICS_PER_HOST.values()) * len(STATISTICS),
            MAX_SERIES // types,
            "metrics",
        ),
        LimitUsage("Step Functions state", payload_bytes(hosts), PAYLOAD_BYTES, "bytes"),
        LimitUsage("Step Functions history", history_events(hosts), HISTORY_EVENTS, "events"),
        LimitUsage("CPU time to plan a part", planning, LAMBDA_SECONDS, "s"),
        LimitUsage(
            "duration of a run",
            parts_of(hosts) * planning + math.ceil(chunks_of(hosts) / MAP_CONCURRENCY) * reading,
            WINDOW,
            "s",
        ),
        LimitUsage("CPU time to read a chunk", reading, LAMBDA_SECONDS, "s"),
        # A collector reads its batches one after another; in the worst case all start together.
        LimitUsage(
            "GetMetricData, concurrent collectors", concurrent, METRIC_DATA_TPS, "per second"
        ),
        LimitUsage("GetMetricData points per call", points, METRIC_DATA_POINTS, "points"),
        LimitUsage("ListMetrics in 30 s", listings, LIST_METRICS_TPS * LAMBDA_SECONDS, "calls"),
        # The collector and the processor write each record; types with fewer metrics are faster.
        LimitUsage(
            "index writes of a type",
            2
            * min(hosts, CHUNK * MAP_CONCURRENCY)
            / max(1.0, reading / max(METRICS_PER_HOST.values())),
            INDEX_WRITES_PER_SECOND,
            "per second",
        ),
    ]
    return sorted(usages, key=lambda each: -each.share)


def first_exceeded(cpu: ParsingCpu) -> tuple[int, str]:
    """The first limit to be exceeded, except MAX_SERIES_PER_RUN, after the most hosts without it.

    Returns the number of hosts, in steps of 1,000, and the name of the limit.
    """

    def exceeded(thousands: int) -> list[str]:
        usages = limit_usages(1_000 * thousands, cpu)
        return [each.name for each in usages if each.share > 1 and "MAX_SERIES" not in each.name]

    first = next(thousands for thousands in range(1, 10_000) if exceeded(thousands))
    return 1_000 * (first - 1), exceeded(first)[0]


def measure_cpu() -> ParsingCpu:
    """Measure the CPU time of botocore's parsers."""
    instances, queries = fleet._INSTANCES, 50
    times = [
        datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(seconds=PERIOD * number)
        for number in range(1, WINDOWS * WINDOW // PERIOD)
    ]
    with mock_aws():
        ec2: Any = boto3.client("ec2", region_name="eu-west-1")
        ec2.run_instances(ImageId="ami-12c6146b", MinCount=instances, MaxCount=instances)
        cloudwatch: Any = boto3.client("cloudwatch", region_name="eu-west-1")
        dimensions = [{"Name": "InstanceId", "Value": "i-0123456789abcdef0"}]
        metric = {"MetricName": "NetworkIn", "Dimensions": dimensions}
        data = [{**metric, "Timestamp": time_, "Value": 1.5} for time_ in times]
        cloudwatch.put_metric_data(Namespace="AWS/EC2", MetricData=data)
        others = [
            {**metric, "Dimensions": [{"Name": "InstanceId", "Value": f"i-{number:017x}"}]}
            for number in range(400)
        ]
        cloudwatch.put_metric_data(Namespace="Listed", MetricData=others)
        stat = {"Metric": {"Namespace": "AWS/EC2", **metric}, "Period": PERIOD, "Stat": "Average"}
        return ParsingCpu(
            instance=_parsing(ec2, "DescribeInstances", ec2.describe_instances) / instances,
            listed=_parsing(
                cloudwatch,
                "ListMetrics",
                lambda: cloudwatch.list_metrics(Namespace="Listed", MetricName="NetworkIn"),
            )
            / len(others),
            query=_parsing(
                cloudwatch,
                "GetMetricData",
                lambda: cloudwatch.get_metric_data(
                    MetricDataQueries=[
                        {"Id": f"q{number}", "MetricStat": stat} for number in range(queries)
                    ],
                    StartTime=times[-1],
                    EndTime=times[0] + timedelta(seconds=PERIOD),
                ),
            )
            / queries,
        )


def _parsing(client: Any, operation: str, call: Callable[[], Any]) -> float:
    """CPU seconds to parse one response of an operation; the minimum of five."""
    responses: list[dict[str, Any]] = []
    client.meta.events.register(
        f"before-parse.*.{operation}",
        lambda response_dict, **_: responses.append(response_dict),
    )
    call()
    model = client.meta.service_model
    parser = create_parser(model.resolved_protocol)
    shape = model.operation_model(operation).output_shape
    spent = []
    for _ in range(5):
        started = time.process_time()
        parser.parse(responses[0], shape)
        spent.append(time.process_time() - started)
    return min(spent)


def main() -> None:
    console = Console(width=100, highlight=False)
    cpu = measure_cpu()
    table = Table(
        "limit",
        *(f"{hosts:,}" for hosts in SIZES),
        title="usage (and share of the limit) by number of hosts",
    )
    by_size = {hosts: {each.name: each for each in limit_usages(hosts, cpu)} for hosts in SIZES}
    for name in by_size[SIZES[0]]:
        usages = [by_size[hosts][name] for hosts in SIZES]
        table.add_row(name, *(f"{each.used:,.4g} ({each.share:.0%})" for each in usages))
    table.add_row("CloudWatch, $ per run", *(f"{dollars_per_run(hosts):,.4g}" for hosts in SIZES))
    monthly = (f"{dollars_per_run(hosts) * RUNS_PER_MONTH:,.2f}" for hosts in SIZES)
    table.add_row("CloudWatch, $ per month", *monthly)
    console.print(table)
    most, name = first_exceeded(cpu)
    console.print(
        f"First limit exceeded besides MAX_SERIES_PER_RUN: {name}, above {most:,} hosts",
        soft_wrap=True,
    )
    for hosts in SIZES:
        nearest = limit_usages(hosts, cpu)[0]
        exceeded = [each.name for each in limit_usages(hosts, cpu) if each.share > 1]
        result = (
            f"exceeds {', '.join(exceeded)}"
            if exceeded
            else f"no limit exceeded; nearest: {nearest.name}"
        )
        console.print(f"{hosts:,} hosts: {result}", soft_wrap=True)
    console.print(
        f"CPU time: {1e6 * cpu.instance:.0f} us per instance,"
        f" {1e6 * cpu.listed:.0f} us per listed metric, {1e6 * cpu.query:.0f} us per query;"
        f" size of a plan of {CHUNK} targets: {plan_bytes():,} bytes",
        soft_wrap=True,
    )


if __name__ == "__main__":
    main()
