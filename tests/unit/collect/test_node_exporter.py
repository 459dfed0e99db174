"""The node_exporter source: a recorded scrape, real servers that misbehave, the real exporter."""

import gzip
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from chalicelib.aws.cloudwatch_fleet import fleet_opener
from chalicelib.collect.sources import create_sources
from chalicelib.collect.sources.node_exporter import NodeExporterSource, resolve
from chalicelib.collect.sources.node_exporter_samples import (
    FAMILIES,
    Scrape,
    measure,
    read_samples,
)
from chalicelib.collect.sources.protocol import Harvest, Inventory, Scope, Target
from chalicelib.model.enrichment import enrich
from chalicelib.model.errors import CollectionError
from chalicelib.model.items import previous_from_record
from chalicelib.model.metric_types import METRIC_TYPES, MetricType
from chalicelib.model.records import Record
from chalicelib.model.windows import Window
from tests.conftest import (
    ACCOUNT,
    REGION,
    ROOT,
    SETTINGS,
    WINDOW_END,
)

# What Debian 12's prometheus-node-exporter sent, of a virtual machine with a bind mount, a
# tmpfs and two ifb interfaces.
RECORDED = (ROOT / "tests" / "data" / "node_exporter-1.5.0.txt").read_bytes()
BINARY = shutil.which("prometheus-node-exporter")

IDLE = (b'"idle"', b'"iowait"', b'"steal"')
CORE = b'node_cpu_seconds_total{cpu="0",mode="idle"} 10\n'

LIMIT = 1 << 20

Answer = Callable[[socket.socket], None]


def scope(metric_type: MetricType, *, end: timedelta = timedelta()) -> Scope:
    return Scope(metric_type, Window(WINDOW_END + end, 10_800), ACCOUNT, REGION, "run-1")


def source(*entries: str, timeout: float = 5, **others: Any) -> NodeExporterSource:
    return NodeExporterSource(entries, timeout=timeout, max_bytes=LIMIT, **others)


def names(inventory: Inventory) -> list[str]:
    return [target.name for target in inventory.targets]


def collect(
    *targets: str, metric_type: MetricType = "cpu", timeout: float = 5, end: timedelta = timedelta()
) -> Harvest:
    one = source(*targets, timeout=timeout)
    where = scope(metric_type, end=end)
    return one.collect(where, one.targets(where).targets)


def values(text: bytes, metric_type: MetricType) -> dict[str, float | None]:
    scrape = Scrape(read_samples(text.splitlines(), FAMILIES[metric_type]))
    return {name: each.last for name, each in measure(metric_type, scrape).items()}


def without(*names: str) -> bytes:
    """The recorded scrape less these families."""
    heads = tuple(name.encode() for name in names)
    return b"\n".join(line for line in RECORDED.split(b"\n") if not line.startswith(heads))


# What a scrape says: the recorded one


def test_cpu_seconds_are_summed_over_cores() -> None:
    recorded = [line.split() for line in RECORDED.splitlines() if line.startswith(b"node_cpu_sec")]
    idle = [value for name, value in recorded if any(mode in name for mode in IDLE)]
    found = values(RECORDED, "cpu")
    assert found["cpu_seconds_total"] == pytest.approx(sum(float(value) for _, value in recorded))
    assert found["cpu_seconds_idle"] == pytest.approx(sum(map(float, idle)))
    assert found["cpu_count"] == 2


def test_a_guests_time_is_not_counted_twice() -> None:
    guests = b'\nnode_cpu_seconds_total{cpu="0",mode="guest"} 7e6'
    guests += b'\nnode_cpu_seconds_total{cpu="0",mode="guest_nice"} 7e6\n'
    assert values(RECORDED + guests, "cpu") == values(RECORDED, "cpu")


def test_loads_are_the_recorded_ones() -> None:
    found = values(b"node_load1 0.5\nnode_load5 1.25\nnode_load15 2\n" + CORE, "cpu")
    loads = [found[f"load_average{minutes}"] for minutes in ("", "_5m", "_15m")]
    assert loads == [0.5, 1.25, 2]


def test_a_load_that_is_not_collected_is_left_out_not_zero() -> None:
    assert set(values(CORE, "cpu")) == {"cpu_count", "cpu_seconds_idle", "cpu_seconds_total"}


@pytest.mark.parametrize("metric_type", ["cpu", "network"])
def test_records_with_counters_have_the_boot_time(metric_type: MetricType) -> None:
    (line,) = [line for line in RECORDED.splitlines() if line.startswith(b"node_boot_time")]
    assert values(RECORDED, metric_type)["boot_time"] == float(line.split()[1])


def test_memory_that_is_not_available_is_used() -> None:
    found = values(memory(MemTotal=1000, MemAvailable=250, SwapTotal=200, SwapFree=150), "memory")
    assert found == {
        "used": 750,
        "available": 250,
        "percent": 75,
        "total": 1000,
        "swap_used": 50,
        "swap_percent": 25,
    }


def memory(**sizes: int) -> bytes:
    return b"".join(b"node_memory_%s_bytes %d\n" % (k.encode(), v) for k, v in sizes.items())


def test_an_old_kernel_without_mem_available_is_taken_as_node_mixin_does() -> None:
    old = memory(MemTotal=1000, MemFree=100, Buffers=20, Cached=70, Slab=10)
    assert values(old + memory(SwapTotal=0, SwapFree=0), "memory")["available"] == 200


def test_a_bind_mount_and_a_tmpfs_are_no_further_file_systems() -> None:
    assert b'mountpoint="/srv/again"' in RECORDED
    assert b'fstype="tmpfs"' in RECORDED
    assert {name for name in values(RECORDED, "disk") if ":" in name} == {
        "used:/",
        "free:/",
        "percent:/",
    }


def file_system(device: str, kind: str, path: str, sizes: tuple[int, int, int]) -> bytes:
    """Its samples; `sizes` are all, free and available bytes."""
    labels = f'{{device="{device}",fstype="{kind}",mountpoint="{path}"}}'
    return "".join(
        f"node_filesystem_{name}_bytes{labels} {size}\n"
        for name, size in zip(("size", "free", "avail"), sizes, strict=True)
    ).encode()


def test_disk_totals_are_the_sum_of_the_file_systems() -> None:
    text = file_system("/dev/a", "ext4", "/", (1000, 500, 400))
    text += file_system("/dev/b", "xfs", "/var", (1000, 200, 200))
    found = values(text, "disk")
    assert (found["used"], found["free"]) == (1300, 600)
    assert found["percent:/var"] == 80


def test_a_root_that_is_listed_twice_counts_once() -> None:
    text = file_system("rootfs", "rootfs", "/", (1000, 500, 400))
    text += file_system("/dev/a", "ext4", "/", (1000, 500, 400))
    assert values(text, "disk")["used"] == 500


def test_the_root_counts_even_where_it_is_an_overlay() -> None:
    assert values(file_system("overlay", "overlay", "/", (10, 5, 4)), "disk")["used:/"] == 5


@pytest.mark.parametrize("gone", ["node_filesystem_free_bytes", "node_filesystem_avail_bytes"])
def test_disk_space_that_is_known_in_part_is_not_known(gone: str) -> None:
    with pytest.raises(CollectionError, match="no file system"):
        values(without(gone), "disk")


def test_only_real_interfaces_count() -> None:
    assert b'device="lo"' in RECORDED
    found = values(RECORDED, "network")
    assert {name for name in found if ":" in name} == {"bytes_sent:eth0", "bytes_received:eth0"}
    assert found["bytes_sent"] == found["bytes_sent:eth0"]
    assert found["interfaces"] == 1


@pytest.mark.parametrize(
    ("metric_type", "family"),
    [
        ("cpu", "node_cpu_seconds_total"),
        ("memory", "node_memory_MemTotal_bytes"),
        ("disk", "node_filesystem_size_bytes"),
        ("network", "node_network_receive_bytes_total"),
    ],
)
def test_a_scrape_without_the_family_that_matters_says_so(
    metric_type: MetricType, family: str
) -> None:
    with pytest.raises(CollectionError, match=f"no {family}"):
        values(without(family), metric_type)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-1", "1e31", "9" * 400, "9" * 5000, "x", ""])
def test_a_sample_that_is_no_quantity_is_refused(value: str) -> None:
    with pytest.raises(CollectionError, match=r"node_load1.* is no sample"):
        values(CORE + b"node_load1 " + value.encode() + b"\n", "cpu")


@given(st.binary(max_size=80))
def test_whatever_follows_a_name_is_samples_or_a_collection_error(tail: bytes) -> None:
    with suppress(CollectionError):
        list(read_samples([b"node_load1" + tail], {"node_load1"}))


# Targets


def test_targets_are_static_or_every_address_of_a_name() -> None:
    known = {"nodes.example": ["10.0.0.2", "10.0.0.1", "fd00::7"]}
    one = source("web-1:9100", "dns+nodes.example:9200", resolver=lambda name, _: iter(known[name]))
    inventory = one.targets(scope("cpu"))
    assert names(inventory) == [
        "web-1:9100",
        "10.0.0.1:9200",
        "10.0.0.2:9200",
        "[fd00::7]:9200",
    ]
    assert inventory.failures == []


def test_a_target_that_is_found_twice_is_asked_once() -> None:
    one = source("10.0.0.1:9100", "dns+a:9100", resolver=lambda *_: ["10.0.0.1"])
    assert names(one.targets(scope("cpu"))) == ["10.0.0.1:9100"]


def test_a_name_that_has_no_address_is_a_failure_beside_the_other_targets() -> None:
    inventory = source("a:1", "dns+gone.example:9100", resolver=lambda *_: []).targets(scope("cpu"))
    assert names(inventory) == ["a:1"]
    assert inventory.failures == ["node_exporter dns+gone.example:9100: the name has no address"]


def test_a_name_that_dns_does_not_know_is_a_failure() -> None:
    """`.invalid` never resolves (RFC 6761)."""
    inventory = source("dns+nodes.invalid:9100").targets(scope("cpu"))
    assert names(inventory) == []
    assert inventory.failures[0].startswith("node_exporter dns+nodes.invalid:9100: ")


def test_the_systems_resolver_gives_addresses() -> None:
    assert "127.0.0.1" in resolve("localhost", 9100)


def test_settings_make_the_source() -> None:
    (made,) = create_sources(
        replace(SETTINGS, sources=("node_exporter",), node_exporter_targets=("web-1:9100",))
    )
    assert names(made.targets(scope("cpu"))) == ["web-1:9100"]


def test_other_sources_do_not_pay_for_the_parser() -> None:
    script = (
        "import sys; from chalicelib.collect.sources import host;"
        "import chalicelib.process.processor;"
        "print('prometheus_client' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", script], cwd=ROOT) == b"False\n"


# Servers, each a real one on loopback


@contextmanager
def serving(answer: Answer, *, host: str = "127.0.0.1") -> Iterator[str]:
    """A server that reads each request's head, then does as `answer` says; gives its target."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        threads: list[threading.Thread] = []

        def serve(connection: socket.socket) -> None:
            with connection:
                try:
                    while not connection.recv(65_536).endswith(b"\r\n\r\n"):
                        pass
                    answer(connection)
                except OSError:
                    pass  # the client has gone, as it should

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threads.append(threading.Thread(target=serve, args=(connection,)))
                threads[-1].start()

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            name = f"[{host}]" if ":" in host else host
            yield f"{name}:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join(10)
            for thread in threads:
                thread.join(10)
            assert not any(thread.is_alive() for thread in threads)


def sends(*parts: bytes) -> Answer:
    return lambda connection: connection.sendall(b"".join(parts))


def head(*headers: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode()


def whole(body: bytes, *headers: str) -> Answer:
    return sends(head(f"Content-Length: {len(body)}", *headers), body)


def in_chunks(body: bytes, size: int = 1000) -> Answer:
    pieces = [body[start : start + size] for start in range(0, len(body), size)]
    framed = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*pieces, b""]]
    return sends(head("Transfer-Encoding: chunked"), *framed)


def hang(connection: socket.socket) -> None:
    connection.recv(1)  # until the client goes


def dribble(connection: socket.socket) -> None:
    connection.sendall(head())
    while True:
        connection.sendall(b"#")
        time.sleep(0.02)


def dribble_headers(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        connection.sendall(b"x")
        time.sleep(0.02)


def forever(*start: bytes, line: bytes = b"# more\n") -> Answer:
    block = line * (65_536 // len(line))

    def answer(connection: socket.socket) -> None:
        for part in start:
            connection.sendall(part)
        for _ in range(1 << 14):  # 1 GB
            connection.sendall(block)

    return answer


BOMB = gzip.compress(b"# zeros\n" * (8 * LIMIT))

FAULTS: dict[str, tuple[Answer, str]] = {
    "hangs": (hang, "no whole answer within 0.5 s"),
    "dribbles": (dribble, "no whole answer within 0.5 s"),
    "dribbles headers": (dribble_headers, "no whole answer within 0.5 s"),
    "too much, announced": (forever(head(f"Content-Length: {1 << 30}")), "longer than 1048576"),
    "too much, unannounced": (forever(head()), "longer than 1048576"),
    "one endless line": (forever(head(), line=b"x"), "a line is longer than 8192"),
    "one endless chunk": (
        forever(head("Transfer-Encoding: chunked"), b"-1\r\n"),
        "longer than 1048576",
    ),
    "endless headers": (forever(b"HTTP/1.1 200 OK\r\n", line=b"X: y\r\n"), "HTTPException"),
    "endless 100s": (
        forever(line=b"HTTP/1.1 100 Continue\r\n\r\n"),
        # Python 3.14's own HTTP client stops after a hundred of them.
        "longer than 1048576|within 0.5 s|interim responses",
    ),
    "a gzip bomb": (whole(BOMB, "Content-Encoding: gzip"), "longer than 1048576"),
    "half a gzip": (
        whole(gzip.compress(RECORDED)[:-9], "Content-Encoding: gzip"),
        "closed before the end",
    ),
    "gzip and more": (
        whole(gzip.compress(RECORDED) + b"more", "Content-Encoding: gzip"),
        "follows the end of the gzip",
    ),
    "no gzip": (whole(RECORDED, "Content-Encoding: gzip"), "incorrect header check"),
    "another encoding": (whole(RECORDED, "Content-Encoding: br"), "encoded as 'br'"),
    "no http": (sends(os.urandom(4096).replace(b"\n", b"") + b"\n"), "BadStatusLine|LineTooLong"),
    "a page": (whole(b"<html><body>Welcome</body></html>\n"), "no node_cpu_seconds_total"),
    "garbage": (whole(b"node_load1{\xff\xfe} }{\n" + RECORDED), "is no sample"),
    "nothing": (whole(b""), "no node_cpu_seconds_total"),
    "closes at once": (sends(), "RemoteDisconnected"),
    "closes early": (
        sends(head(f"Content-Length: {len(RECORDED)}"), RECORDED[:20_000]),
        "closed before the end|middle of a line",
    ),
    "closes early at a line's end": (
        sends(head(f"Content-Length: {len(RECORDED)}"), RECORDED.partition(b"\n")[0] + b"\n"),
        "closed before the end",
    ),
    "closes in the middle of a line": (sends(head(), RECORDED[:-3]), "middle of a line"),
    "closes in a chunk": (
        sends(head("Transfer-Encoding: chunked"), b"ffff\r\n", RECORDED[:20_000]),
        "IncompleteRead",
    ),
    "500": (sends(head("Content-Length: 0", status="500 Oops")), "the answer is 500 Oops"),
    "redirect": (
        sends(head("Location: /other", "Content-Length: 0", status="302 Found")),
        "the answer is 302 Found",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_target_at_fault_is_missing_and_the_other_is_collected(fault: str) -> None:
    answer, reason = FAULTS[fault]
    with serving(answer) as bad, serving(whole(RECORDED)) as good:
        started = time.monotonic()
        harvest = collect(bad, good, timeout=0.5)
        assert time.monotonic() - started < 1.5
    assert [record.resource_id for record in harvest.records] == [good]
    assert harvest.missing == [bad]
    (failure,) = harvest.failures
    assert failure.startswith(f"node_exporter {bad}: ")
    assert re.search(reason, failure)


def test_a_redirect_is_not_followed() -> None:
    requests: list[int] = []

    def count(connection: socket.socket) -> None:
        requests.append(1)
        whole(RECORDED)(connection)

    with serving(count) as other:
        location = head(f"Location: http://{other}/metrics", "", status="301 Moved Permanently")
        with serving(sends(location)) as target:
            collect(target)
    assert not requests


def test_a_target_that_refuses_is_missing_by_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        target = f"127.0.0.1:{closed.getsockname()[1]}"
    harvest = collect(target)
    assert harvest.missing == [target]
    assert "refused" in harvest.failures[0]


def test_a_target_whose_name_is_unknown_is_missing() -> None:
    assert collect("web-1.invalid:9100").missing == ["web-1.invalid:9100"]


@pytest.mark.parametrize("fault", ["too much, unannounced", "one endless chunk", "a gzip bomb"])
def test_an_endless_answer_takes_no_more_memory_than_a_whole_one(fault: str) -> None:
    with serving(FAULTS[fault][0]) as target:
        tracemalloc.start()
        try:
            collect(target)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 3 * LIMIT


def test_all_targets_are_asked_at_the_same_time() -> None:
    """Each server answers only once all three have been asked."""
    together = threading.Barrier(3)

    def answer(connection: socket.socket) -> None:
        together.wait(timeout=4)
        whole(RECORDED)(connection)

    with serving(answer) as one, serving(answer) as two, serving(answer) as three:
        assert len(collect(one, two, three).records) == 3


def test_more_silent_targets_than_are_asked_at_once_are_all_missing() -> None:
    with serving(hang) as target:
        harvest = source(timeout=0.2).collect(scope("cpu"), [Target(target)] * 40)
    assert len(harvest.missing) == len(harvest.failures) == 40


@pytest.mark.parametrize(
    "answer",
    [
        whole(RECORDED),
        in_chunks(RECORDED),
        sends(head(), RECORDED),
        whole(gzip.compress(RECORDED), "Content-Encoding: gzip"),
    ],
    ids=["length", "chunked", "to the end", "gzip"],
)
def test_an_answer_in_any_form_is_read_whole(answer: Answer) -> None:
    with serving(answer) as target:
        (record,) = collect(target, metric_type="disk").records
    assert {name: each.last for name, each in record.measurements.items()} == values(
        RECORDED, "disk"
    )


def test_an_address_of_version_6_is_a_target_as_well() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with serving(whole(RECORDED), host="::1") as target:
        (record,) = collect(target).records
    assert record.resource_id == target


def test_the_record_is_the_targets_and_has_the_machines_name_as_a_label() -> None:
    with serving(whole(RECORDED)) as target:
        (record,) = collect(target).records
    assert (record.resource_id, record.source) == (target, "node_exporter")
    assert record.labels == {"instance": target, "nodename": "vm"}
    assert record.timestamp == WINDOW_END
    assert record.metric_id is not None


def test_a_machine_that_does_not_say_its_name_has_no_such_label() -> None:
    with serving(whole(without("node_uname_info"))) as target:
        (record,) = collect(target).records
    assert record.labels == {"instance": target}


@pytest.mark.parametrize(
    "paths",
    [["/" + "x" * 600], [f"/{number}" for number in range(3000)]],
    ids=["too long a name", "too many"],
)
def test_what_the_stores_would_refuse_is_missing_before_it_gets_there(paths: Sequence[str]) -> None:
    body = b"".join(file_system(path, "ext4", path, (10, 5, 4)) for path in paths)
    with serving(whole(body)) as target:
        harvest = collect(target, metric_type="disk")
    assert harvest.missing == [target]


# The real exporter


@dataclass
class Exporter:
    """Debian's node_exporter on a free port of loopback."""

    target: str

    def record(self, metric_type: MetricType, *, end: timedelta = timedelta()) -> Record:
        (record,) = collect(self.target, metric_type=metric_type, end=end).records
        return record

    def values(self, metric_type: MetricType) -> dict[str, float | None]:
        return {name: each.last for name, each in self.record(metric_type).measurements.items()}


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exporter]:
    if BINARY is None:
        pytest.skip("no node_exporter here: apt-get install prometheus-node-exporter")
    with socket.create_server(("127.0.0.1", 0)) as free:
        target = f"127.0.0.1:{free.getsockname()[1]}"
    log = tmp_path_factory.mktemp("exporter") / "log"
    with log.open("wb") as output:
        process = subprocess.Popen([BINARY, f"--web.listen-address={target}"], stderr=output)
    try:
        wait_for(lambda: not collect(target).missing, log)
        yield Exporter(target)
    finally:
        process.terminate()
        process.wait(10)


def wait_for(check: Callable[[], bool], log: Path) -> None:
    until = time.monotonic() + 10
    while not check():
        if time.monotonic() > until:
            pytest.fail(f"node_exporter does not answer:\n{log.read_text()}")
        time.sleep(0.1)


def test_the_real_memory_is_psutils(exporter: Exporter) -> None:
    found = exporter.values("memory")
    assert found["total"] == psutil.virtual_memory().total
    assert found["available"] == pytest.approx(psutil.virtual_memory().available, rel=0.05)


def test_the_real_root_file_system_is_psutils(exporter: Exporter) -> None:
    usage, found = psutil.disk_usage("/"), exporter.values("disk")
    if "used:/" not in found:
        pytest.skip("the root is an overlay, which node_exporter leaves out")
    assert found["used:/"] == pytest.approx(usage.used, rel=0.01)
    assert found["free:/"] == pytest.approx(usage.free, rel=0.01)


def test_the_real_network_counters_go_on_from_psutils(exporter: Exporter) -> None:
    before = psutil.net_io_counters(pernic=True)
    found = exporter.values("network")
    interfaces = [name.partition(":")[2] for name in found if name.startswith("bytes_sent:")]
    assert len(interfaces) == found["interfaces"]
    for name in interfaces:
        assert (found[f"bytes_sent:{name}"] or 0) >= before[name].bytes_sent
        assert (found[f"bytes_received:{name}"] or 0) >= before[name].bytes_recv


def test_the_real_machine_has_psutils_cores_and_boot_time(exporter: Exporter) -> None:
    found = exporter.values("cpu")
    assert found["cpu_count"] == psutil.cpu_count()
    assert found["boot_time"] == pytest.approx(psutil.boot_time(), abs=2)


def test_two_real_scrapes_make_a_utilization(exporter: Exporter) -> None:
    first = exporter.record("cpu", end=-timedelta(seconds=10_800))
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        sum(range(1000))
    second = exporter.record("cpu")
    enriched = enrich(
        second,
        previous_from_record(first),
        settings=SETTINGS,
        source_object="s3://data/raw-metrics/x.json",
        stored_at=WINDOW_END,
        now=WINDOW_END,
    )
    utilization = enriched.record.measurements["utilization"].last
    assert utilization is not None
    assert 0 < utilization <= 100
    assert not enriched.counter_reset


@pytest.mark.parametrize("metric_type", METRIC_TYPES)
def test_every_type_of_the_real_exporter_is_a_record(
    exporter: Exporter, metric_type: MetricType
) -> None:
    assert exporter.record(metric_type).metric_type == metric_type


def test_instances_with_a_tag_are_targets_by_their_private_address() -> None:
    with mock_aws():
        ec2 = boto3.client("ec2")
        image = ec2.describe_images()["Images"][0]["ImageId"]

        def launch(role: str) -> dict[str, Any]:
            tags = [{"ResourceType": "instance", "Tags": [{"Key": "role", "Value": role}]}]
            answer: Any = ec2.run_instances(
                ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=tags
            )
            return dict(answer["Instances"][0])

        web, stopped = launch("web"), launch("web")
        launch("db")
        ec2.stop_instances(InstanceIds=[stopped["InstanceId"]])
        one = source("ec2+role=web:9100", open_fleets=fleet_opener(SETTINGS))
        assert names(one.targets(scope("cpu"))) == [f"{web['PrivateIpAddress']}:9100"]
