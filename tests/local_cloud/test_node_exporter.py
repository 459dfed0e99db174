"""The pipeline in the local cloud scrapes a real prometheus-node-exporter on loopback."""

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import requests

from tests.conftest import RunningCloud, start_cloud, stop_cloud
from tests.local_cloud.test_pipeline import control, execute, items, machine_arn
from tests.support.waiting import wait_until

EXPORTER = shutil.which("prometheus-node-exporter")

pytestmark = pytest.mark.skipif(
    EXPORTER is None,
    reason="prometheus-node-exporter is not installed; apt-get install prometheus-node-exporter",
)

TIMES = [f"2026-11-20T{hour:02d}:00:00Z" for hour in (0, 3, 6, 9, 12)]


@contextlib.contextmanager
def exporter(port: int) -> Iterator[None]:
    process = subprocess.Popen(
        [str(EXPORTER), f"--web.listen-address=127.0.0.1:{port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: is_up(port))
        yield
    finally:
        process.terminate()
        process.wait()


def is_up(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/", timeout=300).ok
    except requests.ConnectionError:
        return False


class Runs:
    """Five runs: two with the exporter, one without, two with it again."""

    def __init__(self, cloud: RunningCloud, port: int) -> None:
        self.cloud, self.target = cloud, f"127.0.0.1:{port}"
        self.cpu_times: list[Any] = []
        self.mails: list[str] = []
        with exporter(port):
            self._run(TIMES[0])
            self._run(TIMES[1])
            self.disk, self.memory = psutil.disk_usage("/"), psutil.virtual_memory()
            self.network = psutil.net_io_counters(pernic=True)
        self._run(TIMES[2])
        with exporter(port):
            self._run(TIMES[3])
            self._run(TIMES[4])
        self.records = {
            (item["metric_type"]["S"], item["timestamp"]["S"]): item for item in items(cloud)
        }

    def _run(self, scheduled_time: str) -> None:
        execution = execute(self.cloud, machine_arn(self.cloud), {"time": scheduled_time})
        assert execution["status"] == "SUCCEEDED", execution
        self.cpu_times.append(psutil.cpu_times())
        wait_until(lambda: control(self.cloud, "idle"))
        mails = control(self.cloud, "mails")
        self.mails.append(
            [each["body"] for each in mails if "run succeeded" in each["subject"]][-1]
        )

    def value(self, run: int, metric_type: str, name: str) -> float | None:
        last = self.records[metric_type, TIMES[run]]["measurements"]["M"][name]["M"]["last"]
        return float(last["N"]) if "N" in last else None


@pytest.fixture(scope="module")
def runs() -> Iterator[Runs]:
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
        yield Runs(cloud, port)
    finally:
        stop_cloud(cloud)


def test_memory_agrees_with_psutil(runs: Runs) -> None:
    assert runs.value(1, "memory", "total") == runs.memory.total
    # The memory of the functions changes between the two readings.
    assert runs.value(1, "memory", "percent") == pytest.approx(runs.memory.percent, abs=5)


def test_disk_agrees_with_psutil(runs: Runs) -> None:
    assert runs.value(1, "disk", "used:/") == pytest.approx(runs.disk.used, rel=0.01)
    assert runs.value(1, "disk", "free:/") == pytest.approx(runs.disk.free, rel=0.01)


def test_network_counters_agree_with_psutil(runs: Runs) -> None:
    measured = runs.records["network", TIMES[1]]["measurements"]["M"]
    names = [name.partition(":")[2] for name in measured if name.startswith("bytes_received:")]
    for name in names:
        # psutil was read after the scrape, and the counters only increase.
        assert float(measured[f"bytes_received:{name}"]["M"]["last"]["N"]) <= (
            runs.network[name].bytes_recv
        )


def test_cpu_utilization_agrees_with_psutil(runs: Runs) -> None:
    before, after = runs.cpu_times[:2]
    total = sum(after) - sum(before) - (after.guest - before.guest)
    idle = sum(getattr(after, mode) - getattr(before, mode) for mode in ("idle", "iowait", "steal"))
    # The readings are up to a second apart and cover a few seconds with cold starts.
    assert runs.value(1, "cpu", "utilization") == pytest.approx(100 * (1 - idle / total), abs=30)


@pytest.mark.parametrize(
    ("metric_type", "name"), [("cpu", "utilization"), ("network", "bytes_received_rate")]
)
def test_the_first_rate_is_null_and_the_second_is_a_value(
    runs: Runs, metric_type: str, name: str
) -> None:
    assert runs.value(0, metric_type, name) is None
    second = runs.value(1, metric_type, name)
    assert second is not None
    assert second >= 0


def test_a_stopped_exporter_is_missing_and_has_no_record(runs: Runs) -> None:
    assert f"missing 1 of 1: {runs.target}" in runs.mails[2]
    assert not [key for key in runs.records if key[1] == TIMES[2]]


@pytest.mark.parametrize(
    ("metric_type", "name"), [("cpu", "utilization"), ("network", "bytes_received_rate")]
)
def test_the_first_rate_after_a_gap_is_null_and_the_next_is_plausible(
    runs: Runs, metric_type: str, name: str
) -> None:
    assert runs.value(3, metric_type, name) is None
    last = runs.value(4, metric_type, name)
    assert last is not None
    assert 0 <= last < 1e9
