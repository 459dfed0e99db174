"""The running pipeline scrapes a real prometheus-node-exporter on loopback, through its life."""

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import requests

from tests.conftest import RunningCloud, start_cloud, stop_cloud
from tests.local_cloud.test_pipeline import (
    control,
    execute,
    items,
    machine_arn,
)

EXPORTER = shutil.which("prometheus-node-exporter")

pytestmark = pytest.mark.skipif(
    EXPORTER is None,
    reason="no prometheus-node-exporter here; apt-get install prometheus-node-exporter",
)

TICKS = [f"2026-11-20T{hour:02d}:00:00Z" for hour in (0, 3, 6, 9, 12)]


@contextlib.contextmanager
def exporter(port: int) -> Iterator[None]:
    process = subprocess.Popen(
        [str(EXPORTER), f"--web.listen-address=127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 10
        while True:
            with contextlib.suppress(requests.ConnectionError):
                requests.get(f"http://127.0.0.1:{port}/", timeout=1)
                break
            if time.monotonic() > until:
                pytest.fail("the exporter did not start")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


class Life:
    """Five ticks: two with the exporter, one without, two with it again."""

    def __init__(self, cloud: RunningCloud, port: int) -> None:
        self.cloud, self.target = cloud, f"127.0.0.1:{port}"
        self.cpu_times: list[Any] = []
        self.mails: list[str] = []
        with exporter(port):
            self._tick(TICKS[0])
            self._tick(TICKS[1])
            self.disk, self.memory = psutil.disk_usage("/"), psutil.virtual_memory()
            self.network = psutil.net_io_counters(pernic=True)
        self._tick(TICKS[2])
        with exporter(port):
            self._tick(TICKS[3])
            self._tick(TICKS[4])
        self.records = {
            (item["metric_type"]["S"], item["timestamp"]["S"]): item for item in items(cloud)
        }

    def _tick(self, tick: str) -> None:
        execution = execute(self.cloud, machine_arn(self.cloud), {"time": tick})
        assert execution["status"] == "SUCCEEDED", execution
        self.cpu_times.append(psutil.cpu_times())
        until = time.monotonic() + 20
        while not control(self.cloud, "idle") and time.monotonic() < until:
            time.sleep(0.1)
        self.mails.append(control(self.cloud, "mails")[-1]["body"])

    def value(self, tick: int, metric_type: str, name: str) -> float | None:
        last = self.records[metric_type, TICKS[tick]]["measurements"]["M"][name]["M"]["last"]
        return float(last["N"]) if "N" in last else None


@pytest.fixture(scope="module")
def life() -> Iterator[Life]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cloud = start_cloud(
        "--no-tick",
        "--set",
        "METRIC_SOURCES=node_exporter",
        f"NODE_EXPORTER_TARGETS=127.0.0.1:{port}",
    )
    try:
        yield Life(cloud, port)
    finally:
        stop_cloud(cloud)


def test_memory_agrees_with_psutil(life: Life) -> None:
    assert life.value(1, "memory", "total") == life.memory.total
    # What the functions themselves take comes and goes between the two readings.
    assert life.value(1, "memory", "percent") == pytest.approx(life.memory.percent, abs=5)


def test_disk_agrees_with_psutil(life: Life) -> None:
    assert life.value(1, "disk", "used:/") == pytest.approx(life.disk.used, rel=0.01)
    assert life.value(1, "disk", "free:/") == pytest.approx(life.disk.free, rel=0.01)


def test_network_counters_agree_with_psutil(life: Life) -> None:
    measured = life.records["network", TICKS[1]]["measurements"]["M"]
    names = [name.partition(":")[2] for name in measured if name.startswith("bytes_received:")]
    for name in names:
        # The counters only grow, and this was read after the scrape.
        assert float(measured[f"bytes_received:{name}"]["M"]["last"]["N"]) <= (
            life.network[name].bytes_recv
        )


def test_cpu_utilization_agrees_with_psutil(life: Life) -> None:
    before, after = life.cpu_times[:2]
    total = sum(after) - sum(before) - (after.guest - before.guest)
    idle = sum(getattr(after, mode) - getattr(before, mode) for mode in ("idle", "iowait", "steal"))
    # Scrape and psutil look up to a second apart at a span of a few seconds, in which the
    # functions' cold starts come and go.
    assert life.value(1, "cpu", "utilization") == pytest.approx(100 * (1 - idle / total), abs=30)


@pytest.mark.parametrize(
    ("metric_type", "name"), [("cpu", "utilization"), ("network", "bytes_received_rate")]
)
def test_first_sight_is_null_and_then_a_value(life: Life, metric_type: str, name: str) -> None:
    assert life.value(0, metric_type, name) is None
    second = life.value(1, metric_type, name)
    assert second is not None
    assert second >= 0


def test_a_stopped_exporter_is_missing_by_name_and_not_zero(life: Life) -> None:
    assert f"missing 1 of 1: {life.target}" in life.mails[2]
    assert not [key for key in life.records if key[1] == TICKS[2]]


@pytest.mark.parametrize(
    ("metric_type", "name"), [("cpu", "utilization"), ("network", "bytes_received_rate")]
)
def test_after_a_gap_a_rate_is_null_and_then_sane(life: Life, metric_type: str, name: str) -> None:
    assert life.value(3, metric_type, name) is None
    last = life.value(4, metric_type, name)
    assert last is not None
    assert 0 <= last < 1e9
