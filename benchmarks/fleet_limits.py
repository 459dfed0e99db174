"""Which limit breaks first as the fleet grows, from AWS's quotas and from sizes of the real code.

    .venv/bin/python benchmarks/fleet_limits.py

Sizes are those of real plans, events and reports, encoded here; CPU is that of botocore's own
parsers on answers that moto writes. What 7 % of a core makes of that CPU is arithmetic, not a
measurement on AWS.
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
sys.path.insert(0, str(ROOT))  # started as a file, its own folder is there instead

from chalicelib.aws import cloudwatch_fleet as fleet
from chalicelib.collect.fan_out import INLINE_CHUNKS, Plan
from chalicelib.collect.requests import Tick, chunk_event, manifest_key, plan_key
from chalicelib.collect.sources.cloudwatch import (
    DOLLARS_PER_METRIC,
    KNOWN,
    RUNS_PER_MONTH,
    STATISTICS,
)
from chalicelib.collect.sources.inventory import PART_INSTANCES
from chalicelib.collect.sources.protocol import Series, Target
from chalicelib.model.records import METRIC_TYPES
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
DESCRIBE_PAGE_MOST = 1_000
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/bp-partition-key-design.html
INDEX_WRITES_PER_SECOND = 1_000
# 128 MB of the 1,769 MB that make one core:
# https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html
CORE_SHARE = STAGE["lambda_memory_size"] / 1_769

# Of an execution of the overlay's state machine. A chunk: iteration started and succeeded,
# task entered, scheduled, started, succeeded, exited. A further part of a plan: the choice and
# the task. A Distributed Map: its run started and succeeded, and the state's own.
BRANCH_EVENTS = 7
EVENTS_PER_CHUNK = 7
PART_EVENTS = 7
MAP_RUN_EVENTS = 6
TYPE_EVENTS = 20
OTHER_EVENTS = 17  # so that 2,000 hosts come to the 377 that were counted
MAP_CONCURRENCY = 5

# As in tests/scale/test_two_thousand_instances.py: CPU, two of network, memory, one disk.
SERIES_OF: dict[str, int] = {"cpu": 1, "memory": 1, "disk": 1, "network": 2}
SIZES = (1, 2_000, 10_000, 100_000)


@dataclass(frozen=True, slots=True)
class Standing:
    """What a run needs of something limited."""

    name: str
    needed: float
    limit: float
    unit: str

    @property
    def share(self) -> float:
        return self.needed / self.limit


@dataclass(frozen=True, slots=True)
class Cpu:
    """Seconds of one whole core: to parse one instance, one listed metric, one query's answer."""

    instance: float
    listed: float
    query: float


def example_tick() -> Tick:
    return Tick(
        time=datetime(2026, 11, 22, 18, tzinfo=UTC),
        account_id="123456789012",
        region="eu-west-1",
        execution_id="0f8fad5b-d9cb-469f-a165-70867728950e",
        metric_types=METRIC_TYPES,
        fan_out=True,
    )


def chunks_of(hosts: int) -> int:
    return math.ceil(hosts / CHUNK)


def parts_of(hosts: int) -> int:
    return math.ceil(hosts / PART_INSTANCES)


def planned(hosts: int) -> dict[str, Any]:
    """The plan of one type of a fleet in good health, as it travels in the state."""
    result = Result(metric_type="network", status="PLANNED", expected=hosts)
    if chunks_of(hosts) > INLINE_CHUNKS:
        return report(replace(result, manifest=manifest_key(example_tick(), "network")))
    keys = [plan_key(example_tick(), "network", number) for number in range(chunks_of(hosts))]
    events = [chunk_event(example_tick(), "network", key) for key in keys]
    return report(replace(result, chunks=events))


def _succeeded(hosts: int) -> Result:
    return Result(
        metric_type="network",
        status="SUCCEEDED",
        records=hosts,
        expected=hosts,
        reporting=hosts,
        series=hosts * SERIES_OF["network"] * len(STATISTICS),
        duration_ms=12_345,
    )


def payload_bytes(hosts: int) -> int:
    """The largest state: the plans of all four types, or one type's with its chunks' reports."""
    if hosts <= CHUNK:
        return len(json.dumps([report(_succeeded(hosts))] * len(METRIC_TYPES)))
    one = planned(hosts)
    inline = len(one.get("chunks", ()))
    collected = one | {"chunk_results": [report(_succeeded(CHUNK))] * inline}
    states = ({"results": [one] * len(METRIC_TYPES), "time": "2026-11-22T18:00:00Z"}, collected)
    return max(len(json.dumps(state, separators=(",", ":"))) for state in states)


def plan_bytes() -> int:
    """One chunk's targets as they wait in S3."""
    dimensions = (("InstanceId", "i-0123456789abcdef0"),)
    series = tuple(Series(*metric, dimensions) for metric in KNOWN["network"])
    labels = {"instance_type": "t3.micro", "name": "web-1", "account": "123456789012"}
    target = Target("i-0123456789abcdef0", "123456789012/eu-west-1", series, labels)
    return len(msgspec.json.encode(Plan(0, [target] * CHUNK)))


def history_events(hosts: int) -> int:
    if hosts <= CHUNK:
        return OTHER_EVENTS + len(METRIC_TYPES) * BRANCH_EVENTS
    chunks = chunks_of(hosts)
    collecting = EVENTS_PER_CHUNK * chunks if chunks <= INLINE_CHUNKS else MAP_RUN_EVENTS
    more = PART_EVENTS * (parts_of(hosts) - 1)
    return OTHER_EVENTS + len(METRIC_TYPES) * (TYPE_EVENTS + more + collecting)


def series(hosts: int) -> int:
    """CloudWatch metrics requested by a run."""
    return hosts * len(STATISTICS) * sum(SERIES_OF.values())


def dollars_a_run(hosts: int) -> float:
    return series(hosts) * DOLLARS_PER_METRIC


def standings(hosts: int, cpu: Cpu) -> list[Standing]:
    """Every limit, the nearest to breaking first."""
    types = len(METRIC_TYPES)
    at_once = types * min(MAP_CONCURRENCY, chunks_of(hosts))
    in_chunk = min(hosts, CHUNK) * max(SERIES_OF.values())
    in_part = min(hosts, PART_INSTANCES)
    # Each part reads the whole list of metrics, for ListMetrics knows no instances.
    planning = (in_part * cpu.instance + hosts * max(SERIES_OF.values()) * cpu.listed) / CORE_SHARE
    reading = in_chunk * len(STATISTICS) * cpu.query / CORE_SHARE
    listings = sum(
        max(1, math.ceil(hosts * SERIES_OF[each] / len(KNOWN[each]) / LIST_METRICS_PAGE))
        * len(KNOWN[each])
        for each in METRIC_TYPES
    )
    points = METRIC_DATA_QUERIES * WINDOWS * WINDOW // PERIOD
    found = [
        Standing(
            "MAX_SERIES_PER_RUN, biggest type",
            hosts * max(SERIES_OF.values()) * len(STATISTICS),
            MAX_SERIES // types,
            "metrics",
        ),
        Standing("Step Functions state", payload_bytes(hosts), PAYLOAD_BYTES, "bytes"),
        Standing("Step Functions history", history_events(hosts), HISTORY_EVENTS, "events"),
        Standing("CPU of planning a part", planning, LAMBDA_SECONDS, "s"),
        Standing(
            "a run in its window",
            parts_of(hosts) * planning + math.ceil(chunks_of(hosts) / MAP_CONCURRENCY) * reading,
            WINDOW,
            "s",
        ),
        Standing("CPU of reading a chunk", reading, LAMBDA_SECONDS, "s"),
        # Each collector reads one batch after another; all of them start together at worst.
        Standing("GetMetricData, collectors at once", at_once, METRIC_DATA_TPS, "a second"),
        Standing("GetMetricData points a call", points, METRIC_DATA_POINTS, "points"),
        Standing(
            "ListMetrics in 30 s", listings, LIST_METRICS_TPS * LAMBDA_SECONDS, f"of {listings}"
        ),
        # Collector and processor both write each record; the cheapest type's chunks are fastest.
        Standing(
            "index writes of a type",
            2 * min(hosts, CHUNK * MAP_CONCURRENCY) / max(1.0, reading / max(SERIES_OF.values())),
            INDEX_WRITES_PER_SECOND,
            "a second",
        ),
    ]
    return sorted(found, key=lambda each: -each.share)


def first_break(cpu: Cpu) -> tuple[int, str]:
    """The most hosts, in thousands, before a limit other than MAX_SERIES_PER_RUN breaks; and it."""

    def broken(thousands: int) -> list[str]:
        found = standings(1_000 * thousands, cpu)
        return [each.name for each in found if each.share > 1 and "MAX_SERIES" not in each.name]

    first = next(thousands for thousands in range(1, 10_000) if broken(thousands))
    return 1_000 * (first - 1), broken(first)[0]


def measured_cpu() -> Cpu:
    """CPU of botocore's parsers for each thing that an answer holds."""
    instances, queries = fleet._INSTANCES, 50
    moments = [
        datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(seconds=PERIOD * number)
        for number in range(1, WINDOWS * WINDOW // PERIOD)
    ]
    with mock_aws():
        ec2: Any = boto3.client("ec2", region_name="eu-west-1")
        ec2.run_instances(ImageId="ami-12c6146b", MinCount=instances, MaxCount=instances)
        cloudwatch: Any = boto3.client("cloudwatch", region_name="eu-west-1")
        where = [{"Name": "InstanceId", "Value": "i-0123456789abcdef0"}]
        metric = {"MetricName": "NetworkIn", "Dimensions": where}
        data = [{**metric, "Timestamp": moment, "Value": 1.5} for moment in moments]
        cloudwatch.put_metric_data(Namespace="AWS/EC2", MetricData=data)
        others = [
            {**metric, "Dimensions": [{"Name": "InstanceId", "Value": f"i-{number:017x}"}]}
            for number in range(400)
        ]
        cloudwatch.put_metric_data(Namespace="Listed", MetricData=others)
        stat = {"Metric": {"Namespace": "AWS/EC2", **metric}, "Period": PERIOD, "Stat": "Average"}
        return Cpu(
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
                    StartTime=moments[-1],
                    EndTime=moments[0] + timedelta(seconds=PERIOD),
                ),
            )
            / queries,
        )


def _parsing(client: Any, operation: str, call: Callable[[], Any]) -> float:
    """CPU seconds of parsing one answer of an operation; the best of five."""
    answers: list[dict[str, Any]] = []
    client.meta.events.register(
        f"before-parse.*.{operation}",
        lambda response_dict, **_: answers.append(response_dict),
    )
    call()
    model = client.meta.service_model
    parser = create_parser(model.resolved_protocol)
    shape = model.operation_model(operation).output_shape
    spent = []
    for _ in range(5):
        started = time.process_time()
        parser.parse(answers[0], shape)
        spent.append(time.process_time() - started)
    return min(spent)


def main() -> None:
    console = Console(width=100, highlight=False)
    cpu = measured_cpu()
    table = Table("limit", *(f"{hosts:,}" for hosts in SIZES), title="needed, as % of the limit")
    by_size = {hosts: {each.name: each for each in standings(hosts, cpu)} for hosts in SIZES}
    for name in by_size[SIZES[0]]:
        shown = [by_size[hosts][name] for hosts in SIZES]
        table.add_row(name, *(f"{each.needed:,.4g} ({each.share:.0%})" for each in shown))
    table.add_row("CloudWatch, $ a run", *(f"{dollars_a_run(hosts):,.4g}" for hosts in SIZES))
    monthly = (f"{dollars_a_run(hosts) * RUNS_PER_MONTH:,.2f}" for hosts in SIZES)
    table.add_row("CloudWatch, $ a month", *monthly)
    console.print(table)
    console.print(
        f"{first_break(cpu)[1]} is the first limit that is not ours to break,"
        f" past {first_break(cpu)[0]:,} hosts",
        soft_wrap=True,
    )
    for hosts in SIZES:
        nearest = standings(hosts, cpu)[0]
        broken = [each.name for each in standings(hosts, cpu) if each.share > 1]
        verdict = f"breaks: {', '.join(broken)}" if broken else f"nothing; nearest: {nearest.name}"
        console.print(f"{hosts:,} hosts: {verdict}", soft_wrap=True)
    console.print(
        f"CPU: {1e6 * cpu.instance:.0f} us an instance, {1e6 * cpu.listed:.0f} us a listed metric,"
        f" {1e6 * cpu.query:.0f} us a query; a plan of {CHUNK} targets has {plan_bytes():,} bytes",
        soft_wrap=True,
    )


if __name__ == "__main__":
    main()
