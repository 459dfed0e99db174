"""The host source, compared with psutil and the kernel of the test host."""

import shutil
import socket
import threading
from collections import namedtuple
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from chalicelib.collect.sources import create_sources, host
from chalicelib.collect.sources.exclusions import VIRTUAL_INTERFACES
from chalicelib.collect.sources.protocol import Scope
from chalicelib.model.errors import CollectionError
from chalicelib.model.metric_types import METRIC_TYPES, MetricType
from chalicelib.model.records import Record
from chalicelib.model.windows import Window
from tests.conftest import ACCOUNT, REGION, SETTINGS, WINDOW_END

SEED_FIELDS = {
    "cpu": {"utilization", "load_average"},
    "memory": {"used", "available", "percent"},
    "disk": {"used", "free", "percent"},
    "network": {"bytes_sent", "bytes_received"},
}


def collect(metric_type: MetricType) -> Record:
    (source,) = create_sources(SETTINGS)
    scope = Scope(metric_type, Window(WINDOW_END, 10_800), ACCOUNT, REGION, "run-1")
    (record,) = source.collect(scope, source.targets(scope).targets).records
    return record


@pytest.mark.parametrize("metric_type", METRIC_TYPES)
def test_each_metric_type_has_the_seed_fields(metric_type: MetricType) -> None:
    record = collect(metric_type)
    assert SEED_FIELDS[metric_type] <= set(record.measurements)
    assert record.resource_id == socket.gethostname()
    assert record.source == "host"
    assert record.timestamp == WINDOW_END
    assert record.metric_id is not None


def test_collected_at_is_the_time_of_the_reading() -> None:
    before = datetime.now(UTC)
    collected_at = collect("memory").collected_at
    assert collected_at is not None
    assert before <= collected_at <= datetime.now(UTC)


def test_memory_equals_psutil() -> None:
    measurements = collect("memory").measurements
    assert measurements["total"].last == psutil.virtual_memory().total
    assert measurements["available"].last == pytest.approx(
        psutil.virtual_memory().available, rel=0.05
    )


def test_the_root_file_system_equals_df() -> None:
    measurements = collect("disk").measurements
    usage = shutil.disk_usage("/")
    assert measurements["used:/"].last == pytest.approx(usage.used, rel=0.01)
    assert measurements["free:/"].last == pytest.approx(usage.free, rel=0.01)


def test_disk_totals_are_the_sum_of_the_file_systems() -> None:
    measurements = collect("disk").measurements
    parts = [each.last or 0 for name, each in measurements.items() if name.startswith("used:")]
    assert measurements["used"].last == sum(parts)


def test_network_totals_are_the_sum_of_the_interfaces() -> None:
    measurements = collect("network").measurements
    parts = [
        each.last or 0 for name, each in measurements.items() if name.startswith("bytes_received:")
    ]
    assert measurements["bytes_received"].last == sum(parts)
    assert measurements["interfaces"].last == len(parts)


def test_a_busy_cpu_is_measured() -> None:
    """A busy loop runs between the two readings."""
    stop = threading.Event()

    def spin() -> None:
        while not stop.is_set():
            sum(range(1000))

    thread = threading.Thread(target=spin)
    thread.start()
    try:
        utilization = host.measure_cpu(0.3)["utilization"].last or 0
    finally:
        stop.set()
        thread.join()
    assert utilization >= 50 / (psutil.cpu_count() or 1)


Partition = namedtuple("Partition", "device mountpoint fstype opts")


def mounted(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, *kinds: str
) -> list[str]:
    """The paths found if psutil lists one mount per kind; all are on one device."""
    folders = [str(tmp_path_factory.mktemp("mount")) for _ in kinds]
    partitions = [
        Partition("/dev/x", folder, kind, "rw") for folder, kind in zip(folders, kinds, strict=True)
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: partitions)
    return [system.mountpoint for system in host.file_systems()]


@pytest.mark.parametrize("kind", ["tmpfs", "proc", "overlay", "squashfs", "cgroup2", "nsfs"])
def test_pseudo_file_systems_are_excluded(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert mounted(monkeypatch, tmp_path_factory, kind) == ["/"]


def test_a_device_mounted_twice_is_counted_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    paths = mounted(monkeypatch, tmp_path_factory, "ext4", "ext4", "xfs")
    devices = [Path(path).stat().st_dev for path in paths]
    assert len(devices) == len(set(devices))


def test_an_unavailable_mount_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    gone = [Partition("server:/share", "/nowhere/at/all", "nfs4", "rw")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: gone)
    assert [system.mountpoint for system in host.file_systems()] == ["/"]


@pytest.mark.parametrize("mounts", [[Partition("overlay", "/", "overlay", "rw")], []])
def test_the_root_is_counted_in_a_container_and_in_a_chroot(
    mounts: list[Partition], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: mounts)
    assert [system.mountpoint for system in host.file_systems()] == ["/"]


@pytest.mark.parametrize("name", ["eth0", "ens5", "enp0s31f6", "wlan0", "eno1", "en0", "wwan0"])
def test_physical_interfaces_are_counted(name: str) -> None:
    assert not VIRTUAL_INTERFACES.fullmatch(name)


@pytest.mark.parametrize(
    "name",
    (
        "lo lo0 docker0 veth9a3b2c1 br-1f2e3d4c br0 bond0 eth0.100 virbr0 cali1a2b flannel.1 cni0"
        " tun0 tap1 wg0 ifb0 kube-ipvs0 tailscale0"
    ).split(),
)
def test_loopback_and_virtual_interfaces_are_excluded(name: str) -> None:
    assert VIRTUAL_INTERFACES.fullmatch(name)


def test_a_psutil_error_is_a_collection_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Psutil reads /proc from PROCFS_PATH, which does not exist here."""
    monkeypatch.setattr(psutil, "PROCFS_PATH", "/nowhere")
    with pytest.raises(CollectionError, match="memory"):
        collect("memory")


def test_an_unknown_source_is_rejected_by_name() -> None:
    with pytest.raises(CollectionError, match=r"vax; available: host, cloudwatch, node_exporter"):
        create_sources(replace(SETTINGS, sources=("host", "vax")))
