"""A fleet to look at: real EC2 traces, moved and scaled for each host, as records of windows.

CPU and network are Numenta's traces (tests/data/nab), which begin again when they end. Memory
follows a host's CPU and disks grow slowly: of these there is no trace.
"""

import csv
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import requests

from chalicelib.model.records import (
    Measurement,
    MetricType,
    Record,
    Unit,
    encode,
)
from chalicelib.model.window_statistics import Period, reduce_window

_FOLDER = Path(__file__).resolve().parents[2] / "tests" / "data" / "nab"
_BUCKET = "infra-monitoring-pipeline-data"
_CPU = ("ec2_cpu_utilization_77c1ca", "ec2_cpu_utilization_24ae8d")
_NETWORK = "ec2_network_in_257a54"

WINDOW = timedelta(hours=3)
_PERIOD = 300  # seconds; the traces' own
_READINGS = 36  # in a window
_ROLES = ("web", "web", "api", "worker", "cache", "db")
_SIZES = ("t3.medium", "t3.large", "m6i.large", "m6i.xlarge")
_CRITICAL = {"cpu": 80.0, "memory": 90.0, "disk": 90.0}  # as in .chalice/config.json
_OBJECT = 1_500  # records in a raw object


def last_tick() -> datetime:
    """When the clock ticked last."""
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    return hour - timedelta(hours=hour.hour % 3)


def name_of(number: int) -> str:
    return f"{_ROLES[number % len(_ROLES)]}-{number + 1:03}"


def records(number: int, ends: Iterable[datetime]) -> Iterator[Record]:
    """The four records of each window of a host."""
    for end in ends:
        start = int(end.timestamp()) // _PERIOD - _READINGS
        moments = range(start, start + _READINGS)
        for metric_type, measurements in _measured(number, moments).items():
            yield Record(
                schema_version=1,
                timestamp=end,
                metric_type=metric_type,
                resource_id=name_of(number),
                window_seconds=int(WINDOW.total_seconds()),
                measurements=measurements,
                labels={
                    "role": _ROLES[number % len(_ROLES)],
                    "instance_type": _SIZES[number % len(_SIZES)],
                    "zone": f"eu-west-1{'abc'[number % 3]}",
                },
            )


def _measured(number: int, moments: range) -> dict[MetricType, dict[str, Measurement]]:
    cpu = [_cpu(number, moment) for moment in moments]
    memory = [34 + 7 * (number % 7) + 0.12 * value for value in cpu]
    # They fill up for 14 days; then somebody clears up.
    fullness, growth = 18 + (number * 17) % 60, 0.001 * (1 + number % 4)
    disk = [fullness + growth * ((moment + 500 * number) % 4032) for moment in moments]
    received = [_reading(_NETWORK, moment + 53 * number) / 60 for moment in moments]
    sent = [value * (0.2 + 0.1 * (number % 5)) for value in received]
    return {
        "cpu": {"utilization": _window(cpu, "percent", _CRITICAL["cpu"])},
        "memory": {"percent": _window(memory, "percent", _CRITICAL["memory"])},
        "disk": {
            "percent": _window(disk, "percent", _CRITICAL["disk"]),
            "percent:/": _window(disk, "percent", _CRITICAL["disk"]),
            "percent:/var": _window([0.6 * value for value in disk], "percent", _CRITICAL["disk"]),
        },
        "network": {
            "bytes_sent_rate": _window(sent, "bytes_per_second", None),
            "bytes_received_rate": _window(received, "bytes_per_second", None),
        },
    }


def _cpu(number: int, moment: int) -> float:
    trace = _CPU[number % 3 == 2]
    scale = 0.35 + 0.13 * (number % 5) if trace == _CPU[0] else 6 + number % 9
    return min(4 + number % 6 + scale * _reading(trace, moment + 288 * number), 100)


def _window(readings: list[float], unit: Unit, threshold: float | None) -> Measurement:
    values = [min(value, 100) if unit == "percent" else value for value in readings]
    periods = [Period(_PERIOD * at, value, value, value) for at, value in enumerate(values)]
    return reduce_window(periods, unit=unit, period_seconds=_PERIOD, threshold=threshold)


def _reading(trace: str, moment: int) -> float:
    values = _trace(trace)
    return values[moment % len(values)]


@cache
def _trace(name: str) -> list[float]:
    with (_FOLDER / f"{name}.csv").open() as file:
        return [float(row["value"]) for row in csv.DictReader(file)]


def ends(count: int, last: datetime) -> list[datetime]:
    """The ends of so many windows up to `last`, oldest first."""
    return [last - number * WINDOW for number in reversed(range(count))]


def put(s3: Any, made: Iterable[Record]) -> int:
    """Drop records into raw-metrics/, as anybody may; how many."""
    waiting, count = iter(made), 0
    while part := list(islice(waiting, _OBJECT)):
        key = f"raw-metrics/{part[-1].timestamp:%Y/%m/%d}/fleet-{time.time_ns()}.json"
        s3.put_object(Bucket=_BUCKET, Key=key, Body=b"".join(encode(each) + b"\n" for each in part))
        count += len(part)
    return count


def settle(endpoint: str, *, seconds: float = 600) -> None:
    """Wait until a local cloud has processed every object.

    Raises:
        TimeoutError: it has not.
    """
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if requests.get(f"{endpoint}/_local/idle", timeout=30).json():
            return
        time.sleep(0.3)
    raise TimeoutError(f"objects are still processed after {seconds} s")
