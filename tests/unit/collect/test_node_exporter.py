"""The node_exporter source: a recorded scrape, faulty servers, and a real exporter."""

import gzip
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from moto import mock_aws

from chalicelib.aws.cloudwatch_fleet import fleet_opener
from chalicelib.collect.sources import create_sources, http
from chalicelib.collect.sources.node_exporter import NodeExporterSource, resolve
from chalicelib.collect.sources.node_exporter_samples import FAMILIES, Scrape, measure, read_samples
from chalicelib.collect.sources.protocol import CollectionResult, Inventory, Scope, Target
from chalicelib.model.enrichment import enrich
from chalicelib.model.errors import CollectionError
from chalicelib.model.items import previous_from_record
from chalicelib.model.metric_types import METRIC_TYPES, MetricType
from chalicelib.model.records import Record
from chalicelib.model.windows import Window
from tests.conftest import ACCOUNT, REGION, ROOT, SETTINGS, WINDOW_END
from tests.support.waiting import LIMIT_SECONDS

# A scrape of Debian 12's prometheus-node-exporter on a virtual machine with a bind mount, a tmpfs
# and two ifb interfaces.
RECORDED = (ROOT / "tests" / "data" / "node_exporter-1.5.0.txt").read_bytes()
BINARY = shutil.which("prometheus-node-exporter")

IDLE = (b'"idle"', b'"iowait"', b'"steal"')
CORE = b'node_cpu_seconds_total{cpu="0",mode="idle"} 10\n'

LIMIT = 1 << 20

Handler = Callable[[socket.socket], None]


def scope(metric_type: MetricType, *, end: timedelta = timedelta()) -> Scope:
    return Scope(metric_type, Window(WINDOW_END + end, 10_800), ACCOUNT, REGION, "run-1")


def source(*entries: str, timeout: float = 5, **others: Any) -> NodeExporterSource:
    return NodeExporterSource(entries, timeout=timeout, max_bytes=LIMIT, **others)


def names(inventory: Inventory) -> list[str]:
    return [target.name for target in inventory.targets]


def collect(
    *targets: str, metric_type: MetricType = "cpu", timeout: float = 5, end: timedelta = timedelta()
) -> CollectionResult:
    exporters = source(*targets, timeout=timeout)
    requested = scope(metric_type, end=end)
    return exporters.collect(requested, exporters.targets(requested).targets)


def values(text: bytes, metric_type: MetricType) -> dict[str, float | None]:
    scrape = Scrape(read_samples(text.splitlines(), FAMILIES[metric_type]))
    return {name: each.last for name, each in measure(metric_type, scrape).items()}


def without(*names: str) -> bytes:
    """The recorded scrape without some families."""
    heads = tuple(name.encode() for name in names)
    return b"\n".join(line for line in RECORDED.split(b"\n") if not line.startswith(heads))


# Measurements of the recorded scrape


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


def test_load_averages_are_read() -> None:
    found = values(b"node_load1 0.5\nnode_load5 1.25\nnode_load15 2\n" + CORE, "cpu")
    loads = [found[f"load_average{minutes}"] for minutes in ("", "_5m", "_15m")]
    assert loads == [0.5, 1.25, 2]


def test_a_load_average_that_is_not_exported_is_omitted() -> None:
    assert set(values(CORE, "cpu")) == {"cpu_count", "cpu_seconds_idle", "cpu_seconds_total"}


@pytest.mark.parametrize("metric_type", ["cpu", "network"])
def test_records_with_counters_have_the_boot_time(metric_type: MetricType) -> None:
    (line,) = [line for line in RECORDED.splitlines() if line.startswith(b"node_boot_time")]
    assert values(RECORDED, metric_type)["boot_time"] == float(line.split()[1])


def test_used_memory_is_total_less_available() -> None:
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


def test_memory_without_mem_available_is_computed_as_in_node_mixin() -> None:
    old = memory(MemTotal=1000, MemFree=100, Buffers=20, Cached=70, Slab=10)
    assert values(old + memory(SwapTotal=0, SwapFree=0), "memory")["available"] == 200


def test_a_bind_mount_and_a_tmpfs_are_excluded() -> None:
    assert b'mountpoint="/srv/again"' in RECORDED
    assert b'fstype="tmpfs"' in RECORDED
    assert {name for name in values(RECORDED, "disk") if ":" in name} == {
        "used:/",
        "free:/",
        "percent:/",
    }


def file_system(device: str, kind: str, path: str, sizes: tuple[int, int, int]) -> bytes:
    """Samples of a file system; `sizes` are total, free and available bytes."""
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


def test_a_root_listed_twice_is_counted_once() -> None:
    text = file_system("rootfs", "rootfs", "/", (1000, 500, 400))
    text += file_system("/dev/a", "ext4", "/", (1000, 500, 400))
    assert values(text, "disk")["used"] == 500


def test_an_overlay_root_is_counted() -> None:
    assert values(file_system("overlay", "overlay", "/", (10, 5, 4)), "disk")["used:/"] == 5


@pytest.mark.parametrize("absent", ["node_filesystem_free_bytes", "node_filesystem_avail_bytes"])
def test_a_file_system_with_incomplete_samples_is_excluded(absent: str) -> None:
    with pytest.raises(CollectionError, match="no file system"):
        values(without(absent), "disk")


def test_only_physical_interfaces_are_counted() -> None:
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
def test_an_absent_required_family_is_reported_by_name(
    metric_type: MetricType, family: str
) -> None:
    with pytest.raises(CollectionError, match=f"no {family}"):
        values(without(family), metric_type)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-1", "1e31", "9" * 400, "9" * 5000, "x", ""])
def test_an_invalid_sample_value_is_rejected(value: str) -> None:
    with pytest.raises(CollectionError, match=r"invalid sample .*node_load1"):
        values(CORE + b"node_load1 " + value.encode() + b"\n", "cpu")


@given(st.binary(max_size=80))
def test_any_line_is_parsed_or_raises_a_collection_error(tail: bytes) -> None:
    with suppress(CollectionError):
        list(read_samples([b"node_load1" + tail], {"node_load1"}))


# Targets


def test_targets_are_static_hosts_and_all_addresses_of_dns_names() -> None:
    addresses = {"nodes.example": ["10.0.0.2", "10.0.0.1", "fd00::7"]}
    exporters = source(
        "web-1:9100", "dns+nodes.example:9200", resolver=lambda name, _: iter(addresses[name])
    )
    inventory = exporters.targets(scope("cpu"))
    assert names(inventory) == [
        "web-1:9100",
        "10.0.0.1:9200",
        "10.0.0.2:9200",
        "[fd00::7]:9200",
    ]
    assert inventory.failures == []


def test_duplicate_targets_are_scraped_once() -> None:
    exporters = source("10.0.0.1:9100", "dns+a:9100", resolver=lambda *_: ["10.0.0.1"])
    assert names(exporters.targets(scope("cpu"))) == ["10.0.0.1:9100"]


def test_a_name_without_addresses_is_a_failure_beside_the_other_targets() -> None:
    inventory = source("a:1", "dns+gone.example:9100", resolver=lambda *_: []).targets(scope("cpu"))
    assert names(inventory) == ["a:1"]
    assert inventory.failures == ["node_exporter dns+gone.example:9100: the name has no address"]


def test_an_unknown_name_is_a_failure() -> None:
    """`.invalid` never resolves (RFC 6761)."""
    inventory = source("dns+nodes.invalid:9100").targets(scope("cpu"))
    assert names(inventory) == []
    assert inventory.failures[0].startswith("node_exporter dns+nodes.invalid:9100: ")


def test_the_system_resolver_returns_addresses() -> None:
    assert "127.0.0.1" in resolve("localhost", 9100)


def test_the_source_is_created_from_settings() -> None:
    (created,) = create_sources(
        replace(SETTINGS, sources=("node_exporter",), node_exporter_targets=("web-1:9100",))
    )
    assert names(created.targets(scope("cpu"))) == ["web-1:9100"]


def test_other_sources_do_not_import_the_parser() -> None:
    script = (
        "import sys; from chalicelib.collect.sources import host;"
        "import chalicelib.process.processor;"
        "print('prometheus_client' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", script], cwd=ROOT) == b"False\n"


# Servers on loopback


@contextmanager
def serving(
    handler: Handler, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """Run a server that reads each request and calls the handler; yield its target."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        threads: list[threading.Thread] = []

        def serve(connection: socket.socket) -> None:
            with suppress(OSError):
                if tls:
                    connection = tls.wrap_socket(connection, server_side=True)
            with connection:
                try:
                    while received := connection.recv(65_536):
                        if received.endswith(b"\r\n\r\n"):
                            handler(connection)
                            return
                except OSError:
                    pass  # the client closed the connection, as expected

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


def sends(*parts: bytes) -> Handler:
    return lambda connection: connection.sendall(b"".join(parts))


def head(*headers: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""]).encode()


def complete(body: bytes, *headers: str) -> Handler:
    return sends(head(f"Content-Length: {len(body)}", *headers), body)


def in_chunks(body: bytes, size: int = 1000) -> Handler:
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    framed = [b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""]]
    return sends(head("Transfer-Encoding: chunked"), *framed)


def hang(connection: socket.socket) -> None:
    connection.recv(1)  # until the client closes the connection


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


def forever(*start: bytes, line: bytes = b"# more\n") -> Handler:
    block = line * (65_536 // len(line))

    def send(connection: socket.socket) -> None:
        for part in start:
            connection.sendall(part)
        for _ in range(1 << 14):  # 1 GB
            connection.sendall(block)

    return send


BOMB = gzip.compress(b"# zeros\n" * (8 * LIMIT))

FAULTS: dict[str, tuple[Handler, str]] = {
    "hangs": (hang, "no complete response within 3 s"),
    "dribbles": (dribble, "no complete response within 3 s"),
    "dribbles headers": (dribble_headers, "no complete response within 3 s"),
    "too long with a length": (forever(head(f"Content-Length: {1 << 30}")), "longer than 1048576"),
    "too long without a length": (forever(head()), "longer than 1048576"),
    "an endless line": (forever(head(), line=b"x"), "a line is longer than 8192"),
    "an endless chunk": (
        forever(head("Transfer-Encoding: chunked"), b"-1\r\n"),
        "longer than 1048576",
    ),
    "endless headers": (forever(b"HTTP/1.1 200 OK\r\n", line=b"X: y\r\n"), "HTTPException"),
    "endless interim responses": (
        forever(line=b"HTTP/1.1 100 Continue\r\n\r\n"),
        # http.client of Python 3.14 stops after a hundred of them.
        "longer than 1048576|interim responses",
    ),
    "a gzip bomb": (complete(BOMB, "Content-Encoding: gzip"), "longer than 1048576"),
    "truncated gzip": (
        complete(gzip.compress(RECORDED)[:-9], "Content-Encoding: gzip"),
        "closed before the end",
    ),
    "gzip with trailing data": (
        complete(gzip.compress(RECORDED) + b"more", "Content-Encoding: gzip"),
        "after the end of the gzip",
    ),
    "invalid gzip": (complete(RECORDED, "Content-Encoding: gzip"), "incorrect header check"),
    "another encoding": (complete(RECORDED, "Content-Encoding: br"), "content encoding 'br'"),
    "not HTTP": (sends(os.urandom(4096).replace(b"\n", b"") + b"\n"), "BadStatusLine|LineTooLong"),
    "an HTML page": (complete(b"<html><body>Welcome</body></html>\n"), "no node_cpu_seconds_total"),
    "garbage": (complete(b"node_load1{\xff\xfe} }{\n" + RECORDED), "invalid sample"),
    "an empty body": (complete(b""), "no node_cpu_seconds_total"),
    "closes without a response": (sends(), "RemoteDisconnected"),
    "closes early": (
        sends(head(f"Content-Length: {len(RECORDED)}"), RECORDED[:20_000]),
        "closed before the end|middle of a line",
    ),
    "closes early after a line": (
        sends(head(f"Content-Length: {len(RECORDED)}"), RECORDED.partition(b"\n")[0] + b"\n"),
        "closed before the end",
    ),
    "closes in the middle of a line": (sends(head(), RECORDED[:-3]), "middle of a line"),
    "closes in a chunk": (
        sends(head("Transfer-Encoding: chunked"), b"ffff\r\n", RECORDED[:20_000]),
        "IncompleteRead",
    ),
    "500": (sends(head("Content-Length: 0", status="500 Oops")), "status 500 Oops"),
    "redirect": (
        sends(head("Location: /other", "Content-Length: 0", status="302 Found")),
        "status 302 Found",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_target_is_missing_and_the_other_is_collected(fault: str) -> None:
    handler, reason = FAULTS[fault]
    with serving(handler) as bad, serving(complete(RECORDED)) as good:
        result = collect(bad, good, timeout=3 if "no complete response" in reason else 60)
    assert [record.resource_id for record in result.records] == [good]
    assert result.missing == [bad]
    (failure,) = result.failures
    assert failure.startswith(f"node_exporter {bad}: ")
    assert re.search(reason, failure)


def test_a_redirect_is_not_followed() -> None:
    requests: list[int] = []

    def count(connection: socket.socket) -> None:
        requests.append(1)
        complete(RECORDED)(connection)

    with serving(count) as other:
        location = head(f"Location: http://{other}/metrics", "", status="301 Moved Permanently")
        with serving(sends(location)) as target:
            collect(target)
    assert not requests


def test_a_target_that_refuses_connections_is_missing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        target = f"127.0.0.1:{closed.getsockname()[1]}"
    result = collect(target)
    assert result.missing == [target]
    assert "refused" in result.failures[0]


def test_a_target_with_an_unknown_name_is_missing() -> None:
    assert collect("web-1.invalid:9100").missing == ["web-1.invalid:9100"]


@pytest.mark.parametrize("fault", ["too long without a length", "an endless chunk", "a gzip bomb"])
def test_an_endless_response_takes_no_more_memory_than_a_complete_one(fault: str) -> None:
    with serving(FAULTS[fault][0]) as target:
        tracemalloc.start()
        try:
            collect(target)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 3 * LIMIT


def test_targets_are_scraped_concurrently() -> None:
    """Each server responds only when all three have received a request."""
    together = threading.Barrier(3)

    def respond(connection: socket.socket) -> None:
        together.wait(timeout=60)
        complete(RECORDED)(connection)

    with serving(respond) as one, serving(respond) as two, serving(respond) as three:
        assert len(collect(one, two, three).records) == 3


def test_more_silent_targets_than_threads_are_all_missing() -> None:
    with serving(hang) as target:
        result = source(timeout=0.2).collect(scope("cpu"), [Target(target)] * 40)
    assert len(result.missing) == len(result.failures) == 40


@pytest.mark.parametrize(
    "handler",
    [
        complete(RECORDED),
        in_chunks(RECORDED),
        sends(head(), RECORDED),
        complete(gzip.compress(RECORDED), "Content-Encoding: gzip"),
    ],
    ids=["length", "chunked", "until close", "gzip"],
)
def test_a_response_in_any_framing_is_read_completely(handler: Handler) -> None:
    with serving(handler) as target:
        (record,) = collect(target, metric_type="disk").records
    assert {name: each.last for name, each in record.measurements.items()} == values(
        RECORDED, "disk"
    )


def test_an_ipv6_address_is_a_target() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with serving(complete(RECORDED), host="::1") as target:
        (record,) = collect(target).records
    assert record.resource_id == target


def test_the_resource_is_the_target_and_the_host_name_is_a_label() -> None:
    with serving(complete(RECORDED)) as target:
        (record,) = collect(target).records
    assert (record.resource_id, record.source) == (target, "node_exporter")
    assert record.labels == {"instance": target, "nodename": "vm"}
    assert record.timestamp == WINDOW_END
    assert record.metric_id is not None


def test_a_host_without_uname_has_no_nodename_label() -> None:
    with serving(complete(without("node_uname_info"))) as target:
        (record,) = collect(target).records
    assert record.labels == {"instance": target}


@pytest.mark.parametrize(
    "paths",
    [["/" + "x" * 600], [f"/{number}" for number in range(3000)]],
    ids=["name too long", "too many"],
)
def test_a_target_with_an_invalid_record_is_missing(paths: Sequence[str]) -> None:
    body = b"".join(file_system(path, "ext4", path, (10, 5, 4)) for path in paths)
    with serving(complete(body)) as target:
        result = collect(target, metric_type="disk")
    assert result.missing == [target]


# TLS


def certificate(folder: Path, address: str) -> Path:
    """A self-signed certificate for an address, and its key, in one PEM file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, address)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / f"{address}.pem"
    path.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return path


def server_context(path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


@pytest.fixture
def trust(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], None]]:
    """Trust a certificate, as a stage does with the environment variable SSL_CERT_FILE."""

    def set_file(path: Path) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        http._tls_context.cache_clear()

    yield set_file
    http._tls_context.cache_clear()


def test_a_target_with_a_trusted_certificate_is_collected(
    tmp_path: Path, trust: Callable[[Path], None]
) -> None:
    path = certificate(tmp_path, "127.0.0.1")
    trust(path)
    with serving(complete(RECORDED), tls=server_context(path)) as target:
        (record,) = collect(f"https://{target}").records
    assert (record.resource_id, record.labels["instance"]) == (target, target)


def test_a_target_with_an_untrusted_certificate_is_missing(tmp_path: Path) -> None:
    path = certificate(tmp_path, "127.0.0.1")
    with serving(complete(RECORDED), tls=server_context(path)) as target:
        result = collect(f"https://{target}")
    assert result.missing == [target]
    assert "CERTIFICATE_VERIFY_FAILED" in result.failures[0]


def test_a_target_with_a_certificate_for_another_address_is_missing(
    tmp_path: Path, trust: Callable[[Path], None]
) -> None:
    path = certificate(tmp_path, "192.0.2.1")
    trust(path)
    with serving(complete(RECORDED), tls=server_context(path)) as target:
        result = collect(f"https://{target}")
    assert result.missing == [target]
    assert "certificate is not valid for" in result.failures[0]


def test_a_tls_connection_cut_after_a_line_is_an_incomplete_response(
    tmp_path: Path, trust: Callable[[Path], None]
) -> None:
    """Without a length, only TLS's close_notify shows that the response is complete."""
    path = certificate(tmp_path, "127.0.0.1")
    trust(path)
    with serving(sends(head(), RECORDED), tls=server_context(path)) as target:
        result = collect(f"https://{target}")
    assert result.missing == [target]
    assert "EOF occurred in violation of protocol" in result.failures[0]


def test_an_incomplete_tls_handshake_ends_at_the_deadline() -> None:
    with serving(hang) as target:
        started = time.monotonic()
        result = collect(f"https://{target}", timeout=0.3)
        assert time.monotonic() - started < 1.3
    assert "no complete response within 0.3 s" in result.failures[0]


# A real exporter


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
        pytest.skip(
            "prometheus-node-exporter is not installed: apt-get install prometheus-node-exporter"
        )
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
        process.wait(LIMIT_SECONDS)


def wait_for(check: Callable[[], bool], log: Path) -> None:
    limit = time.monotonic() + LIMIT_SECONDS
    while not check():
        if time.monotonic() > limit:
            pytest.fail(f"node_exporter does not respond:\n{log.read_text()}")
        time.sleep(0.1)


def test_the_real_memory_equals_psutil(exporter: Exporter) -> None:
    found = exporter.values("memory")
    assert found["total"] == psutil.virtual_memory().total
    assert found["available"] == pytest.approx(psutil.virtual_memory().available, rel=0.05)


def test_the_real_root_file_system_equals_psutil(exporter: Exporter) -> None:
    usage, found = psutil.disk_usage("/"), exporter.values("disk")
    if "used:/" not in found:
        pytest.skip("this machine has an overlay as root, which node_exporter excludes")
    assert found["used:/"] == pytest.approx(usage.used, rel=0.01)
    assert found["free:/"] == pytest.approx(usage.free, rel=0.01)


def test_the_real_network_counters_continue_those_of_psutil(exporter: Exporter) -> None:
    before = psutil.net_io_counters(pernic=True)
    found = exporter.values("network")
    interfaces = [name.partition(":")[2] for name in found if name.startswith("bytes_sent:")]
    assert len(interfaces) == found["interfaces"]
    for name in interfaces:
        assert (found[f"bytes_sent:{name}"] or 0) >= before[name].bytes_sent
        assert (found[f"bytes_received:{name}"] or 0) >= before[name].bytes_recv


def test_the_real_host_has_the_cores_and_boot_time_of_psutil(exporter: Exporter) -> None:
    found = exporter.values("cpu")
    assert found["cpu_count"] == psutil.cpu_count()
    assert found["boot_time"] == pytest.approx(psutil.boot_time(), abs=2)


def test_two_real_scrapes_give_a_utilization(exporter: Exporter) -> None:
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
def test_the_real_exporter_gives_a_record_of_every_metric_type(
    exporter: Exporter, metric_type: MetricType
) -> None:
    assert exporter.record(metric_type).metric_type == metric_type


def test_instances_with_a_tag_are_targets_with_their_private_address() -> None:
    with mock_aws():
        ec2 = boto3.client("ec2")
        image = ec2.describe_images()["Images"][0]["ImageId"]

        def launch(role: str) -> dict[str, Any]:
            tags = [{"ResourceType": "instance", "Tags": [{"Key": "role", "Value": role}]}]
            response: Any = ec2.run_instances(
                ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=tags
            )
            return dict(response["Instances"][0])

        web, stopped = launch("web"), launch("web")
        launch("db")
        ec2.stop_instances(InstanceIds=[stopped["InstanceId"]])
        exporters = source("ec2+role=web:9100", open_fleets=fleet_opener(SETTINGS))
        assert names(exporters.targets(scope("cpu"))) == [f"{web['PrivateIpAddress']}:9100"]
