"""Records of a sample fleet, made from real EC2 traces that are shifted and scaled for each host.

CPU and network values are Numenta's traces (tests/data/nab), repeated when they end. Numenta has no
memory or disk traces: memory follows the CPU of the host, and disk usage grows slowly.
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

from chalicelib.model.metric_types import MetricType, Unit
from chalicelib.model.records import Measurement, Record, encode
from chalicelib.model.window_statistics import Period, reduce_window

_FOLDER = Path(__file__).resolve().parents[2] / "tests" / "data" / "nab"
_BUCKET = "infra-monitoring-pipeline-data"
_CPU = ("ec2_cpu_utilization_77c1ca", "ec2_cpu_utilization_24ae8d")
_NETWORK = "ec2_network_in_257a54"

WINDOW = timedelta(hours=3)
_PERIOD = 300  # seconds between readings of the traces
_READINGS = 36  # per window
_ROLES = ("web", "web", "api", "worker", "cache", "db")
_SIZES = ("t3.medium", "t3.large", "m6i.large", "m6i.xlarge")
_CRITICAL = {"cpu": 80.0, "memory": 90.0, "disk": 90.0}  # as in .chalice/config.json
_RECORDS_PER_OBJECT = 1_500


def last_scheduled_time() -> datetime:
    """The schedule's most recent time."""
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    return hour - timedelta(hours=hour.hour % 3)


def name_of(number: int) -> str:
    return f"{_ROLES[number % len(_ROLES)]}-{number + 1:03}"


def records(number: int, ends: Iterable[datetime]) -> Iterator[Record]:
    """Yield the four records of each window of a host."""
    for end in ends:
        start = int(end.timestamp()) // _PERIOD - _READINGS
        readings = range(start, start + _READINGS)
        for metric_type, measurements in _measurements(number, readings).items():
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


def _measurements(number: int, readings: range) -> dict[MetricType, dict[str, Measurement]]:
    cpu = [_cpu(number, reading) for reading in readings]
    memory = [34 + 7 * (number % 7) + 0.12 * value for value in cpu]
    # Disks fill up for 14 days (4,032 readings), then are cleaned up.
    initial, growth = 18 + (number * 17) % 60, 0.001 * (1 + number % 4)
    disk = [initial + growth * ((reading + 500 * number) % 4032) for reading in readings]
    received = [_value(_NETWORK, reading + 53 * number) / 60 for reading in readings]
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


def _cpu(number: int, reading: int) -> float:
    trace = _CPU[number % 3 == 2]
    scale = 0.35 + 0.13 * (number % 5) if trace == _CPU[0] else 6 + number % 9
    return min(4 + number % 6 + scale * _value(trace, reading + 288 * number), 100)


def _window(readings: list[float], unit: Unit, threshold: float | None) -> Measurement:
    values = [min(value, 100) if unit == "percent" else value for value in readings]
    periods = [Period(_PERIOD * at, value, value, value) for at, value in enumerate(values)]
    return reduce_window(periods, unit=unit, period_seconds=_PERIOD, threshold=threshold)


def _value(trace: str, reading: int) -> float:
    values = _trace(trace)
    return values[reading % len(values)]


@cache
def _trace(name: str) -> list[float]:
    with (_FOLDER / f"{name}.csv").open() as file:
        return [float(row["value"]) for row in csv.DictReader(file)]


def ends(count: int, last: datetime) -> list[datetime]:
    """End times of `count` windows up to `last`, oldest first."""
    return [last - number * WINDOW for number in reversed(range(count))]


def put(s3: Any, records: Iterable[Record]) -> int:
    """Put records into raw-metrics/, like any external producer; return their number."""
    remaining, count = iter(records), 0
    while batch := list(islice(remaining, _RECORDS_PER_OBJECT)):
        key = f"raw-metrics/{batch[-1].timestamp:%Y/%m/%d}/fleet-{time.time_ns()}.json"
        s3.put_object(
            Bucket=_BUCKET, Key=key, Body=b"".join(encode(each) + b"\n" for each in batch)
        )
        count += len(batch)
    return count


def wait_until_processed(endpoint: str, *, seconds: float = 600) -> None:
    """Wait until a local cloud has processed every object.

    Raises:
        TimeoutError: objects are still being processed after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if requests.get(f"{endpoint}/_local/idle", timeout=30).json():
            return
        time.sleep(0.3)
    raise TimeoutError(f"objects are still being processed after {seconds} s")
