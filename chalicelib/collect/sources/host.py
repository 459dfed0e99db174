"""The local host through psutil: one sample of CPU, memory, file systems and interfaces."""

import os
import socket
import stat
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil

from ...model.errors import CollectionError
from ...model.metric_types import MetricType
from ...model.records import SCHEMA_VERSION, Record
from ...model.settings import Settings
from .exclusions import PSEUDO_FILE_SYSTEMS, VIRTUAL_INTERFACES
from .measurements import (
    FileSystem,
    Measurements,
    Traffic,
    disk_measurements,
    network_measurements,
    point,
)
from .protocol import CollectionResult, Inventory, Scope, Target


def create(settings: Settings, _: object = None) -> "HostSource":
    return HostSource(cpu_interval=settings.cpu_interval)


def _labels() -> dict[str, str]:
    """Operating system and architecture; in AWS Lambda also the function's name."""
    labels = {"os": os.uname().sysname.lower(), "architecture": os.uname().machine}
    function = os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
    return labels if function is None else labels | {"lambda_function": function}


class HostSource:
    """Measures the local host; one record per metric type."""

    def __init__(
        self,
        *,
        cpu_interval: float,
        hostname: Callable[[], str] = socket.gethostname,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._cpu_interval = cpu_interval
        self._hostname = hostname
        self._now = now

    def targets(self, scope: Scope, page_token: str = "") -> Inventory:  # noqa: ARG002 - constant # nosec B107
        """List the local host."""
        return Inventory([Target(self._hostname())])

    def collect(self, scope: Scope, targets: Sequence[Target]) -> CollectionResult:
        """Collect one record of the local host.

        Raises:
            CollectionError: psutil could not read from the operating system.
        """
        try:
            measurements = self._measure(scope.metric_type)
        except (psutil.Error, OSError) as error:
            raise CollectionError(f"host {scope.metric_type}: {error}") from error
        record = Record(
            schema_version=SCHEMA_VERSION,
            timestamp=scope.window.end,
            metric_type=scope.metric_type,
            resource_id=targets[0].name,
            source="host",
            window_seconds=scope.window.seconds,
            execution_id=scope.execution_id,
            collected_at=self._now(),
            measurements=measurements,
            labels=_labels(),
        )
        return CollectionResult(
            [record.identified(account_id=scope.account_id, region=scope.region)]
        )

    def _measure(self, metric_type: MetricType) -> Measurements:
        match metric_type:
            case "cpu":
                return measure_cpu(self._cpu_interval)
            case "memory":
                return measure_memory()
            case "disk":
                return measure_disk()
            case "network":
                return measure_network()


def measure_cpu(interval: float) -> Measurements:
    """Measure CPU. Utilization is computed from two readings, `interval` seconds apart."""
    utilization = psutil.cpu_percent(interval=interval)
    one, five, fifteen = psutil.getloadavg()
    return {
        "utilization": point("percent", utilization),
        "load_average": point("count", one),
        "load_average_5m": point("count", five),
        "load_average_15m": point("count", fifteen),
        "cpu_count": point("count", psutil.cpu_count() or 1),
    }


def measure_memory() -> Measurements:
    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return {
        "used": point("bytes", memory.used),
        "available": point("bytes", memory.available),
        "percent": point("percent", memory.percent),
        "total": point("bytes", memory.total),
        "swap_used": point("bytes", swap.used),
        "swap_percent": point("percent", swap.percent),
    }


def measure_disk() -> Measurements:
    return disk_measurements(file_systems())


def file_systems() -> Iterator[FileSystem]:
    """File systems that hold data, each device once, under its shortest path.

    The root is always included, because programs write to it: in a container it is an overlay,
    and in a chroot it is not in the mount table.
    """
    mounted = {
        each.mountpoint
        for each in psutil.disk_partitions(all=True)
        if each.fstype not in PSEUDO_FILE_SYSTEMS
    }
    seen: set[int] = set()
    for path in sorted(mounted | {"/"}, key=len):
        try:
            status = Path(path).stat()
            usage = psutil.disk_usage(path)
        except OSError:
            continue  # no permission, or a network share that is offline
        # In containers, single files are mounted from the host's disk.
        if status.st_dev in seen or usage.total == 0 or not stat.S_ISDIR(status.st_mode):
            continue
        seen.add(status.st_dev)
        yield FileSystem(path, usage.used, usage.free)


def measure_network() -> Measurements:
    """Bytes of each physical interface since boot."""
    counters = psutil.net_io_counters(pernic=True)
    return network_measurements(
        {
            name: Traffic(each.bytes_sent, each.bytes_recv)
            for name, each in counters.items()
            if not VIRTUAL_INTERFACES.fullmatch(name)
        }
    )
