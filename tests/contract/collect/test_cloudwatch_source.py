"""The CloudWatch source on moto, with recorded EC2 traces; SQLite computes expected values."""

import csv
import socket
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from statistics import quantiles
from threading import Thread
from typing import Any, NamedTuple

import boto3
import pytest
from botocore.stub import Stubber

from chalicelib.aws.cloudwatch_fleet import fleet_opener
from chalicelib.collect.collector import collect
from chalicelib.collect.requests import CollectionRequest
from chalicelib.collect.sources.cloudwatch import CloudWatchSource
from chalicelib.collect.sources.protocol import CollectionResult, Scope
from chalicelib.model.errors import CollectionError
from chalicelib.model.metric_types import MetricType
from chalicelib.model.records import Measurement
from chalicelib.model.settings import Role, Settings
from chalicelib.model.status import Threshold
from chalicelib.model.windows import Window
from tests.conftest import ACCOUNT, REGION, ROOT, SETTINGS, Backend
from tests.conftest import WINDOW_END as NOW

HOURS = 10_800
OTHER_REGION = "eu-central-1"
ON_CLOUDWATCH = replace(SETTINGS, sources=("cloudwatch",))

CPU = "ec2_cpu_utilization_24ae8d"
MEMORY = "ec2_cpu_utilization_77c1ca"
NETWORK = "ec2_network_in_257a54"
DISK = "ec2_disk_write_bytes_1ef3de"


class Row(NamedTuple):
    moment: datetime
    value: float


def trace(name: str, first: int = 0, count: int = 576) -> list[Row]:
    """Two days of a recorded trace, shifted so that they end four minutes before NOW."""
    with (ROOT / f"tests/data/nab/{name}.csv").open() as file:
        rows = list(csv.DictReader(file))[first : first + count]
    stamps = [datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC) for row in rows]
    shift = NOW - timedelta(minutes=4) - stamps[-1]
    return [
        Row(stamp + shift, float(row["value"])) for stamp, row in zip(stamps, rows, strict=True)
    ]


# The recorder's clock was set back here: twelve rows of one time, a gap and a short step.
IRREGULAR = {"first": 1900, "count": 560}
PERIODS = """
    SELECT count(*), avg(value), min(value), max(value) FROM rows
    WHERE moment >= ? AND moment < ? GROUP BY moment / 300 ORDER BY moment / 300
"""


def sqlite(rows: Sequence[Row], window: Window) -> list[tuple[int, float, float, float]]:
    """(count, average, minimum, maximum) of each period of five minutes that has rows."""
    with sqlite3.connect(":memory:") as database:
        database.execute("CREATE TABLE rows (moment INTEGER, value REAL)")
        database.executemany(
            "INSERT INTO rows VALUES (?, ?)", [(int(at.timestamp()), value) for at, value in rows]
        )
        found = database.execute(
            PERIODS, (int(window.start.timestamp()), int(window.end.timestamp()))
        ).fetchall()
    database.close()
    return found


def compute(rows: Sequence[Row], window: Window, *, critical: float | None) -> dict[str, Any]:
    """The expected statistics of a window."""
    periods = sqlite(rows, window)
    averages = [average for _, average, _, _ in periods]
    return {
        "samples": len(periods),
        "avg": pytest.approx(sum(averages) / len(averages)),
        "min": min(low for _, _, low, _ in periods),
        "max": max(high for _, _, _, high in periods),
        "p95": pytest.approx(quantiles([*averages], n=100, method="inclusive")[94]),
        "last": pytest.approx(averages[-1]),
        "breach_seconds": None
        if critical is None
        else 300.0 * len([each for each in averages if each > critical]),
    }


def statistics(measurement: Measurement) -> dict[str, Any]:
    names = ("samples", "avg", "min", "max", "p95", "last", "breach_seconds")
    return {name: getattr(measurement, name) for name in names}


def put(
    namespace: str,
    metric_name: str,
    rows: Sequence[Row],
    dimensions: Mapping[str, str],
    region: str = REGION,
) -> None:
    client = boto3.client("cloudwatch", region)
    dimension_list = [{"Name": name, "Value": value} for name, value in dimensions.items()]
    for start in range(0, len(rows), 1000):
        data: list[Any] = [
            {
                "MetricName": metric_name,
                "Dimensions": dimension_list,
                "Timestamp": at,
                "Value": value,
            }
            for at, value in rows[start : start + 1000]
        ]
        client.put_metric_data(Namespace=namespace, MetricData=data)


def start(count: int = 1, region: str = REGION, **tags: str) -> list[str]:
    """Start instances; return their sorted IDs."""
    tag_list = [{"Key": name, "Value": value} for name, value in tags.items()]
    tagged: Any = {"TagSpecifications": [{"ResourceType": "instance", "Tags": tag_list}]}
    response = boto3.client("ec2", region).run_instances(
        ImageId="ami-12c6146b",
        MinCount=count,
        MaxCount=count,
        InstanceType="t3.micro",
        **(tagged if tags else {}),
    )
    return sorted(instance["InstanceId"] for instance in response["Instances"])


def put_cpu(instance: str, rows: Sequence[Row], region: str = REGION) -> None:
    put("AWS/EC2", "CPUUtilization", rows, {"InstanceId": instance}, region)


def put_disk(instance: str, path: str, rows: Sequence[Row], fstype: str = "ext4") -> None:
    dimensions = {"InstanceId": instance, "path": path, "fstype": fstype, "device": "nvme0n1p1"}
    put("CWAgent", "disk_used_percent", rows, dimensions)


def scope(metric_type: MetricType = "cpu", end: datetime = NOW) -> Scope:
    return Scope(metric_type, Window(end, HOURS), ACCOUNT, REGION, "run-1")


def collect_all(
    metric_type: MetricType = "cpu", *, end: datetime = NOW, settings: Settings = ON_CLOUDWATCH
) -> CollectionResult:
    """List and collect all targets; the result includes the sentences of the inventory."""
    source = CloudWatchSource(settings, fleet_opener(settings))
    requested = scope(metric_type, end)
    inventory = source.targets(requested)
    found = CollectionResult(failures=list(inventory.failures), notes=list(inventory.notes))
    found.add(source.collect(requested, inventory.targets))
    return found


def run(backend: Backend, end: datetime = NOW) -> dict[str, Any]:
    """Collect the CPU metric type into the store."""
    request = CollectionRequest(end, ACCOUNT, REGION, "run-1", ("cpu",))
    source = CloudWatchSource(ON_CLOUDWATCH, fleet_opener(ON_CLOUDWATCH))
    response = collect(request, settings=ON_CLOUDWATCH, store=backend.store, sources=[source])
    result: dict[str, Any] = response["results"][0]
    return result


pytestmark = pytest.mark.usefixtures("backend")

RECENT = {"first": 0, "count": 60}


# Measurements


def test_a_cpu_record_has_the_statistics_of_the_trace() -> None:
    (instance,) = start()
    # This part of the trace rises from 0.1 % to 2 %.
    rows = trace(CPU, 3400)
    put_cpu(instance, rows)
    settings = replace(
        ON_CLOUDWATCH, thresholds={**ON_CLOUDWATCH.thresholds, "cpu": Threshold(0.1, 0.132)}
    )
    (record,) = collect_all(settings=settings).records
    assert statistics(record.measurements["utilization"]) == compute(
        rows, Window(NOW, HOURS), critical=0.132
    )
    assert 0 < (record.measurements["utilization"].breach_seconds or 0) < HOURS


def test_a_network_record_has_the_statistics_of_the_trace() -> None:
    (instance,) = start()
    rows = trace(NETWORK)
    put("AWS/EC2", "NetworkIn", rows, {"InstanceId": instance})
    (record,) = collect_all("network").records
    expected = compute(rows, Window(NOW, HOURS), critical=None)
    assert statistics(record.measurements["bytes_received"]) == expected


def test_a_memory_record_has_the_statistics_of_the_trace() -> None:
    (instance,) = start()
    rows = trace(MEMORY)
    put("CWAgent", "mem_used_percent", rows, {"InstanceId": instance})
    (record,) = collect_all("memory").records
    assert statistics(record.measurements["percent"]) == compute(
        rows, Window(NOW, HOURS), critical=90
    )


def test_repeated_timestamps_and_uneven_steps_give_one_sample_per_period() -> None:
    (instance,) = start()
    rows = trace(DISK, **IRREGULAR)
    repeated = next(a.moment for a, b in pairwise(rows) if a.moment == b.moment)
    end = Window.before(repeated + timedelta(hours=1), seconds=HOURS, align=300).end
    put("AWS/EC2", "DiskWriteBytes", rows, {"InstanceId": instance})
    (record,) = collect_all("disk", end=end).records
    expected = compute(rows, Window(end, HOURS), critical=None)
    assert statistics(record.measurements["write_bytes"]) == expected
    assert expected["samples"] < 36


def test_each_file_system_has_its_own_measurements() -> None:
    (instance,) = start()
    root, var = trace(MEMORY, **RECENT), trace(CPU, **RECENT)
    put_disk(instance, "/", root)
    put_disk(instance, "/var", var)
    (record,) = collect_all("disk").records
    window = Window(NOW, HOURS)
    assert {
        name: statistics(each) for name, each in record.measurements.items() if ":" in name
    } == {
        "percent:/": compute(root, window, critical=90),
        "percent:/var": compute(var, window, critical=90),
    }


def test_the_disk_percent_is_that_of_the_fullest_file_system() -> None:
    (instance,) = start()
    put_disk(instance, "/", [Row(NOW - timedelta(minutes=9), 41)])
    put_disk(instance, "/var", [Row(NOW - timedelta(minutes=9), 87)])
    (record,) = collect_all("disk").records
    assert record.measurements["percent"].last == 87


def test_the_agents_average_over_file_systems_is_ignored() -> None:
    (instance,) = start()
    put_disk(instance, "/var", [Row(NOW - timedelta(minutes=9), 87)])
    rollup = {"InstanceId": instance}
    put("CWAgent", "disk_used_percent", [Row(NOW - timedelta(minutes=9), 30)], rollup)
    (record,) = collect_all("disk").records
    assert record.measurements["percent"].last == 87


def test_a_tmpfs_is_excluded() -> None:
    (instance,) = start()
    put_disk(instance, "/", [Row(NOW - timedelta(minutes=9), 41)])
    put_disk(instance, "/dev/shm", [Row(NOW - timedelta(minutes=9), 100)], fstype="tmpfs")
    (record,) = collect_all("disk").records
    assert set(record.measurements) == {"percent", "percent:/"}


# Adjacent windows


@pytest.mark.parametrize(
    ("metric_type", "metric_name", "measurement", "name", "part"),
    [
        ("cpu", "CPUUtilization", "utilization", CPU, {}),
        ("network", "NetworkIn", "bytes_received", NETWORK, {}),
        ("disk", "DiskWriteBytes", "write_bytes", DISK, IRREGULAR),
    ],
)
def test_adjacent_windows_count_every_period_once(
    metric_type: MetricType, metric_name: str, measurement: str, name: str, part: dict[str, int]
) -> None:
    (instance,) = start()
    rows = trace(name, **part)
    put("AWS/EC2", metric_name, rows, {"InstanceId": instance})
    ends = [NOW - timedelta(seconds=HOURS) * number for number in range(18)]
    records = [each for end in ends for each in collect_all(metric_type, end=end).records]
    distinct = {int(at.timestamp()) // 300 for at, _ in rows}
    assert sum(record.measurements[measurement].samples for record in records) == len(distinct)


def test_each_of_many_adjacent_windows_has_the_expected_statistics() -> None:
    (instance,) = start()
    rows = trace(NETWORK, 900)
    put("AWS/EC2", "NetworkIn", rows, {"InstanceId": instance})
    windows = [Window(NOW - timedelta(seconds=HOURS) * number, HOURS) for number in range(16)]
    found = [collect_all("network", end=window.end).records[0] for window in windows]
    assert [statistics(record.measurements["bytes_received"]) for record in found] == [
        compute(rows, window, critical=None) for window in windows
    ]


def test_a_restated_record_equals_the_original_one() -> None:
    (instance,) = start()
    put_cpu(instance, trace(CPU, **RECENT))
    before = NOW - timedelta(seconds=HOURS)
    (new,), (restated,) = collect_all(end=before).records, collect_all().restated
    assert (restated.metric_id, restated.timestamp) == (new.metric_id, before)
    assert restated.measurements == new.measurements


def test_without_overlap_nothing_is_restated() -> None:
    (instance,) = start()
    put_cpu(instance, trace(CPU, count=60))
    assert collect_all(settings=replace(ON_CLOUDWATCH, overlap_windows=0)).restated == []


# Late points


def test_a_restated_record_includes_late_points() -> None:
    (instance,) = start()
    rows = trace(CPU, count=72)
    before = Window(NOW - timedelta(seconds=HOURS), HOURS)
    late = [row for row in rows if before.end - timedelta(minutes=15) <= row.moment < before.end]
    put_cpu(instance, [row for row in rows if row not in late])
    (early,) = collect_all(end=before.end).records
    put_cpu(instance, late)
    (restated,) = collect_all().restated
    assert early.measurements["utilization"].samples == 36 - len(late)
    assert statistics(restated.measurements["utilization"]) == compute(rows, before, critical=80)


def stored_samples(backend: Backend) -> dict[str, str]:
    return {
        item["timestamp"]["S"]: item["measurements"]["M"]["utilization"]["M"]["samples"]["N"]
        for item in backend.items()
    }


def test_a_window_changed_by_late_points_is_stored_again(backend: Backend) -> None:
    (instance,) = start()
    rows = trace(CPU, count=72)
    before = NOW - timedelta(seconds=HOURS)
    put_cpu(instance, [row for row in rows if row.moment < before - timedelta(minutes=15)])
    run(backend, before)
    put_cpu(instance, [row for row in rows if row.moment >= before - timedelta(minutes=15)])
    result = run(backend)
    assert "1 restated by late points" in result["notes"]
    assert stored_samples(backend) == {
        "2026-11-22T15:00:00Z": "36",
        "2026-11-22T18:00:00Z": "36",
    }


def test_an_unchanged_window_is_not_stored_again(backend: Backend) -> None:
    (instance,) = start()
    put_cpu(instance, trace(CPU, count=72))
    run(backend, NOW - timedelta(seconds=HOURS))
    result = run(backend)
    (_, key) = backend.keys("raw-metrics/")
    assert (result["notes"], len(backend.body(key).splitlines())) == ([], 1)


# Expected instances


def test_stopped_and_terminated_instances_are_neither_missing_nor_zero() -> None:
    running, stopped, terminated = start(3)
    ec2 = boto3.client("ec2")
    for instance in (running, stopped, terminated):
        put_cpu(instance, trace(CPU, **RECENT))
    ec2.stop_instances(InstanceIds=[stopped])
    ec2.terminate_instances(InstanceIds=[terminated])
    found = collect_all()
    assert [record.resource_id for record in found.records] == [running]
    assert found.missing == []


def test_an_instance_without_data_is_missing_by_name() -> None:
    silent, reporting = start(2)
    put_cpu(reporting, trace(CPU, **RECENT))
    found = collect_all()
    assert found.missing == [silent]
    assert [record.resource_id for record in found.records] == [reporting]


def test_an_instance_whose_data_ended_before_the_window_is_missing() -> None:
    (instance,) = start()
    rows = trace(CPU, count=72)
    put_cpu(instance, [row for row in rows if row.moment < NOW - timedelta(seconds=HOURS)])
    found = collect_all()
    assert (found.missing, found.records, len(found.restated)) == ([instance], [], 1)


def test_an_instance_without_the_agent_is_a_note_and_not_missing() -> None:
    with_agent, _ = start(2)
    put("CWAgent", "mem_used_percent", trace(MEMORY, **RECENT), {"InstanceId": with_agent})
    found = collect_all("memory")
    assert found.missing == []
    assert found.notes == [f"{ACCOUNT}/{REGION}: 1 of 2 send no memory metric"]


def test_instances_without_tags_are_collected() -> None:
    (untagged,), (tagged,) = start(), start(Name="web-1")
    for instance in (untagged, tagged):
        put_cpu(instance, trace(CPU, **RECENT))
    labels = {record.resource_id: record.labels.get("name") for record in collect_all().records}
    assert labels == {untagged: None, tagged: "web-1"}


def test_tags_select_the_instances() -> None:
    (chosen,), _, _ = start(env="prod", team="web"), start(env="prod"), start()
    settings = replace(ON_CLOUDWATCH, ec2_tags={"env": "prod", "team": "web"})
    source = CloudWatchSource(settings, fleet_opener(settings))
    assert [target.name for target in source.targets(scope()).targets] == [chosen]


# Dimensions


def test_metrics_of_other_dimensions_are_not_requested() -> None:
    (instance,) = start()
    put_cpu(instance, [Row(NOW - timedelta(minutes=9), 10)])
    for foreign in ({"AutoScalingGroupName": "web"}, {"InstanceId": "i-of-another-account"}):
        put("AWS/EC2", "CPUUtilization", [Row(NOW - timedelta(minutes=9), 99)], foreign)
    found = collect_all()
    (record,) = found.records
    assert (found.requested_metrics, record.measurements["utilization"].max) == (3, 10)


def test_a_metric_is_requested_with_all_of_its_dimensions() -> None:
    (instance,) = start()
    dimensions = {"InstanceId": instance, "ImageId": "ami-1", "InstanceType": "t3.micro"}
    put("CWAgent", "mem_used_percent", [Row(NOW - timedelta(minutes=9), 55)], dimensions)
    (record,) = collect_all("memory").records
    assert record.measurements["percent"].last == 55


def test_a_metric_with_changed_dimensions_counts_each_period_once() -> None:
    (instance,) = start()
    rows = trace(MEMORY, count=36)
    old = {"InstanceId": instance, "InstanceType": "t3.micro"}
    new = {"InstanceId": instance, "InstanceType": "t3.large"}
    put("CWAgent", "mem_used_percent", rows[:20], old)
    put("CWAgent", "mem_used_percent", rows[15:], new)
    (record,) = collect_all("memory").records
    assert statistics(record.measurements["percent"]) == compute(
        rows, Window(NOW, HOURS), critical=90
    )


# Cost


def test_a_run_above_the_budget_fails_with_its_cost_before_any_data_request() -> None:
    instances = start(3)
    for instance in instances:
        put_cpu(instance, [Row(NOW - timedelta(minutes=9), 10)])
    settings = replace(ON_CLOUDWATCH, max_series=32)
    open_fleets = fleet_opener(settings)
    source = CloudWatchSource(settings, open_fleets)
    (fleet,), _ = open_fleets(scope())
    requests: list[str] = []
    events = fleet._client("cloudwatch").meta.events
    events.register("before-call.cloudwatch", lambda model, **_: requests.append(model.name))
    request = CollectionRequest(NOW, ACCOUNT, REGION, "run-1", ("cpu",))
    with pytest.raises(CollectionError, match=r"9 CloudWatch metrics, .* \$0\.02 a month"):
        collect(
            request,
            settings=settings,
            store=None,  # type: ignore[arg-type]  # not reached
            sources=[source],
        )
    assert set(requests) == {"ListMetrics"}


def test_a_cost_below_one_cent_is_not_reported_as_zero() -> None:
    (instance,) = start()
    put_cpu(instance, [Row(NOW - timedelta(minutes=9), 10)])
    with pytest.raises(CollectionError, match=r"under \$0\.01 a run"):
        collect_all(settings=replace(ON_CLOUDWATCH, max_series=8))


def test_a_run_with_exactly_the_budget_is_collected() -> None:
    (instance,) = start()
    put_cpu(instance, [Row(NOW - timedelta(minutes=9), 10)])
    assert len(collect_all(settings=replace(ON_CLOUDWATCH, max_series=12)).records) == 1


# Regions and accounts


def test_two_regions_are_collected() -> None:
    settings = replace(ON_CLOUDWATCH, regions=(REGION, OTHER_REGION))
    for region in settings.regions:
        (instance,) = start(region=region)
        put_cpu(instance, trace(CPU, **RECENT), region)
    found = collect_all(settings=settings)
    assert {record.region for record in found.records} == {REGION, OTHER_REGION}


def test_a_region_without_permission_is_a_failure_and_the_other_is_collected() -> None:
    settings = replace(ON_CLOUDWATCH, regions=(REGION, OTHER_REGION))
    (instance,) = start()
    put_cpu(instance, trace(CPU, **RECENT))
    open_fleets = fleet_opener(settings)
    (_, denied), _ = open_fleets(scope())
    stubber = Stubber(denied._client("ec2"))
    stubber.add_client_error("describe_instances", "UnauthorizedOperation", "not authorized")
    source = CloudWatchSource(settings, open_fleets)
    with stubber:
        inventory = source.targets(scope())
    (record,) = source.collect(scope(), inventory.targets).records
    assert record.resource_id == instance
    assert inventory.failures == [
        f"{ACCOUNT}/{OTHER_REGION}: describe instances in {OTHER_REGION}:"
        " UnauthorizedOperation: not authorized"
    ]


def test_instances_of_a_region_without_data_permission_are_not_missing() -> None:
    settings = replace(ON_CLOUDWATCH, regions=(REGION, OTHER_REGION))
    (here,), (there,) = start(), start(region=OTHER_REGION)
    put_cpu(here, trace(CPU, **RECENT))
    put_cpu(there, trace(CPU, **RECENT), OTHER_REGION)
    open_fleets = fleet_opener(settings)
    source = CloudWatchSource(settings, open_fleets)
    targets = source.targets(scope()).targets
    (_, denied), _ = open_fleets(scope())
    stubber = Stubber(denied._client("cloudwatch"))
    stubber.add_client_error("get_metric_data", "AccessDenied", "not authorized")
    with stubber:
        found = source.collect(scope(), targets)
    assert [record.resource_id for record in found.records] == [here]
    assert found.missing == []
    assert ["AccessDenied" in sentence for sentence in found.failures] == [True]


def test_an_unknown_region_is_a_failure_and_the_other_is_collected() -> None:
    (instance,) = start()
    put_cpu(instance, trace(CPU, **RECENT))
    found = collect_all(settings=replace(ON_CLOUDWATCH, regions=("no such region", REGION)))
    assert [record.resource_id for record in found.records] == [instance]
    assert ["no such region" in sentence for sentence in found.failures] == [True]


def test_an_unreachable_region_is_a_failure_and_the_other_is_collected() -> None:
    settings = replace(ON_CLOUDWATCH, regions=(REGION, OTHER_REGION))
    (instance,) = start()
    put_cpu(instance, trace(CPU, **RECENT))
    open_fleets = fleet_opener(settings)
    (_, unreachable), _ = open_fleets(scope())
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    client = boto3.client("ec2", endpoint_url=f"http://127.0.0.1:{port}")
    unreachable._client = {"ec2": client}.__getitem__
    source = CloudWatchSource(settings, open_fleets)
    inventory = source.targets(scope())
    found = source.collect(scope(), inventory.targets)
    assert [record.resource_id for record in found.records] == [instance]
    assert ["EndpointConnectionError" in sentence for sentence in inventory.failures] == [True]


OTHER_ACCOUNT = "210987654321"
OTHER_ROLE = Role("shop", f"arn:aws:iam::{OTHER_ACCOUNT}:role/monitoring")


def other_session() -> boto3.Session:
    response = boto3.client("sts").assume_role(RoleArn=OTHER_ROLE.arn, RoleSessionName="set-up")
    keys = response["Credentials"]
    return boto3.Session(keys["AccessKeyId"], keys["SecretAccessKey"], keys["SessionToken"])


def test_the_account_of_an_assumed_role_is_collected_with_its_name() -> None:
    session = other_session()
    ec2: Any = session.client("ec2", region_name=REGION)
    (started,) = ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)["Instances"]
    session.client("cloudwatch", region_name=REGION).put_metric_data(
        Namespace="AWS/EC2",
        MetricData=[
            {
                "MetricName": "CPUUtilization",
                "Dimensions": [{"Name": "InstanceId", "Value": started["InstanceId"]}],
                "Timestamp": NOW - timedelta(minutes=9),
                "Value": 77,
            }
        ],
    )
    (record,) = collect_all(settings=replace(ON_CLOUDWATCH, roles=(OTHER_ROLE,))).records
    assert (record.account_id, record.labels["account"]) == (OTHER_ACCOUNT, "shop")
    assert record.resource_id == started["InstanceId"]
    assert record.measurements["utilization"].max == 77


def test_a_role_is_assumed_once_while_its_credentials_are_valid() -> None:
    open_fleets = fleet_opener(replace(ON_CLOUDWATCH, roles=(OTHER_ROLE,)))
    (first,), _ = open_fleets(scope())
    (again,), _ = open_fleets(scope("memory"))
    assert again is first


GRANTED = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleResult><Credentials><AccessKeyId>testing</AccessKeyId>
<SecretAccessKey>testing</SecretAccessKey><SessionToken>testing</SessionToken>
<Expiration>2026-11-22T19:00:00Z</Expiration></Credentials></AssumeRoleResult>
<ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></AssumeRoleResponse>"""

DENIED = """<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error>
<Type>Sender</Type><Code>AccessDenied</Code><Message>not authorized to assume</Message></Error>
<RequestId>2</RequestId></ErrorResponse>"""


class FakeSts(BaseHTTPRequestHandler):
    """An STS that allows only one role."""

    def do_POST(self) -> None:
        request = self.rfile.read(int(self.headers["Content-Length"]))
        status, body = (200, GRANTED) if b"role%2Fopen" in request else (403, DENIED)
        self.send_response(status)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: Any) -> None:
        """Log nothing."""


@pytest.fixture
def fake_sts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeSts)
    thread = Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    thread.join()
    server.server_close()


ALLOWED = Role("web", f"arn:aws:iam::{ACCOUNT}:role/open")
DENIED_ROLE = Role("shop", "arn:aws:iam::210987654321:role/shut")


@pytest.mark.usefixtures("fake_sts")
def test_a_denied_role_is_a_failure_and_the_other_account_is_collected() -> None:
    (instance,) = start()
    put_cpu(instance, trace(CPU, **RECENT))
    found = collect_all(settings=replace(ON_CLOUDWATCH, roles=(DENIED_ROLE, ALLOWED)))
    assert [record.labels["account"] for record in found.records] == ["web"]
    assert found.failures == [
        f"assume role {DENIED_ROLE.arn}: AccessDenied: not authorized to assume"
    ]


@pytest.mark.usefixtures("fake_sts")
def test_the_run_fails_with_the_reason_if_no_role_can_be_assumed(backend: Backend) -> None:
    settings = replace(ON_CLOUDWATCH, roles=(DENIED_ROLE,))
    source = CloudWatchSource(settings, fleet_opener(settings))
    request = CollectionRequest(NOW, ACCOUNT, REGION, "run-1", ("cpu",))
    with pytest.raises(CollectionError, match="AccessDenied"):
        collect(request, settings=settings, store=backend.store, sources=[source])
