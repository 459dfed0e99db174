"""Two weeks of two hosts, made of real EC2 traces (tests/data/nab), up to now; in raw objects.

`web-1` has the busy CPU and the network, `web-2` the idle one and the disk, which fills by what
the trace of writes says. Some windows are restated, and one correction comes too late to count.
"""

import csv
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.conftest import ACCOUNT, BUCKET, REGION, ROOT, RunningCloud
from tests.local_cloud.test_pipeline import control, execute, machine_arn
from tests.support.waiting import LIMIT_SECONDS

WINDOW = timedelta(hours=3)
DAYS = 14
CRITICAL_CPU = 80

Line = dict[str, Any]
Point = tuple[datetime, float]


class History:
    """What was put into `raw-metrics/` of a cloud, and processed."""

    def __init__(self, cloud: RunningCloud) -> None:
        self.cloud = cloud
        self.end = _floor(datetime.now(UTC))
        self.today = datetime.now(UTC).date()
        s3 = cloud.client("s3")
        for key, lines in sorted(_objects(self.end).items()):
            body = "\n".join(map(json.dumps, lines)).encode()
            s3.put_object(Bucket=BUCKET, Key=key, Body=body)
        settle(cloud)

    @property
    def days(self) -> list[str]:
        """Every day that there is something of, oldest first."""
        return sorted({row["dt"] for row in self.rows()})

    def rows(self) -> list[Line]:
        """One row for each measurement of each raw line, straight from the raw objects."""
        s3 = self.cloud.client("s3")
        listed = s3.list_objects_v2(Bucket=BUCKET, Prefix="raw-metrics/")["Contents"]
        return [
            row
            for entry in listed
            for line in s3.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].iter_lines()
            for row in _rows(json.loads(line))
        ]

    def compact(self, *days: str) -> None:
        arn = machine_arn(self.cloud, "InfraMonitoring-Compaction")
        execution = execute(self.cloud, arn, {"days": list(days)})
        assert execution["status"] == "SUCCEEDED", execution


def settle(cloud: RunningCloud) -> None:
    """Wait until every object has been processed."""
    limit, quiet = time.monotonic() + LIMIT_SECONDS, 0
    while quiet < 5:
        assert time.monotonic() < limit, "the local cloud does not become idle"
        quiet = quiet + 1 if control(cloud, "idle") else 0
        time.sleep(0.1)


def _objects(end: datetime) -> Mapping[str, Sequence[Line]]:
    """The raw objects' lines by key, one object a day."""
    start = end - timedelta(days=DAYS)
    busy, idle = (_trace(f"ec2_cpu_utilization_{name}", start) for name in ("77c1ca", "24ae8d"))
    network = _trace("ec2_network_in_257a54", start)
    written = _trace("ec2_disk_write_bytes_1ef3de", start)
    records = [
        *_records("web-1", ("cpu", "utilization", "percent"), busy, end),
        *_records("web-1", ("network", "bytes_received", "bytes"), network, end),
        *_records("web-2", ("cpu", "utilization", "percent"), idle, end),
        *_records("web-2", ("disk", "percent:/", "percent"), _filling(written), end),
    ]
    objects = defaultdict(list)
    for record in records:
        day = f"{record['timestamp'][:10].replace('-', '/')}"
        objects[f"raw-metrics/{day}/nab.json"].append(record)
    for number, record in enumerate(records):
        # Every tenth window again, measured later and higher; and one that was read before.
        if number % 10 == 0:
            shift = timedelta(minutes=-1 if number % 20 else 90)
            objects["raw-metrics/2026/01/01/restated.json"].append(_restated(record, shift))
    return objects


def _trace(name: str, start: datetime) -> list[Point]:
    """A trace's rows, moved so that the first is at `start`; odd stamps stay odd."""
    with (ROOT / "tests" / "data" / "nab" / f"{name}.csv").open() as file:
        rows = [
            (datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC), float(row["value"]))
            for row in csv.DictReader(file)
        ]
    return [(moment - rows[0][0] + start, value) for moment, value in rows]


def _filling(written: Sequence[Point]) -> list[Point]:
    """Percent of a disk that was 40 % full and keeps all that is written to it."""
    total, whole = 0.0, sum(value for _, value in written)
    filled = []
    for moment, value in written:
        total += value
        filled.append((moment, 40 + 45 * total / whole))
    return filled


def _records(
    host: str, what: Sequence[str], points: Sequence[Point], end: datetime
) -> Iterator[Line]:
    metric_type, name, unit = what
    windows = defaultdict(list)
    for moment, value in points:
        windows[_floor(moment) + WINDOW].append(value)
    for window_end, values in sorted(windows.items()):
        if window_end <= end:
            yield {
                "schema_version": 1,
                "timestamp": window_end.isoformat(),
                "collected_at": (window_end + timedelta(minutes=5)).isoformat(),
                "metric_type": metric_type,
                "resource_id": host,
                "account_id": ACCOUNT,
                "region": REGION,
                "window_seconds": int(WINDOW.total_seconds()),
                "labels": {"instance_type": "m5.large" if host == "web-1" else "t3.micro"},
                "measurements": {name: _measurement(values, unit)},
            }


def _measurement(values: Sequence[float], unit: str) -> Line:
    measured = {
        "unit": unit,
        "last": values[-1],
        "avg": statistics.fmean(values),
        "min": min(values),
        "max": max(values),
        "p95": sorted(values)[int(0.95 * (len(values) - 1))],
        "samples": len(values),
    }
    if unit == "percent":
        measured["breach_seconds"] = 300.0 * sum(each > CRITICAL_CPU for each in values)
    return measured


def _restated(record: Line, shift: timedelta) -> Line:
    collected = datetime.fromisoformat(record["collected_at"]) + shift
    measurements = {
        name: measured | {"avg": measured["avg"] + 1, "last": measured["last"] + 1}
        for name, measured in record["measurements"].items()
    }
    return record | {"collected_at": collected.isoformat(), "measurements": measurements}


def _rows(record: Line) -> Iterator[Line]:
    ts, collected = (
        datetime.fromisoformat(record[name]).replace(tzinfo=None)
        for name in ("timestamp", "collected_at")
    )
    for name, measured in record["measurements"].items():
        yield {
            "dt": f"{ts:%Y-%m-%d}",
            "ts": ts,
            "collected": collected,
            "metric_type": record["metric_type"],
            "measurement": name,
            "resource_id": record["resource_id"],
            "window_seconds": record["window_seconds"],
            "label": record["labels"]["instance_type"],
            "breach_seconds": None,
            **{key: each for key, each in measured.items() if key != "unit"},
        }


def _floor(moment: datetime) -> datetime:
    """The end of the window before."""
    return datetime.fromtimestamp(moment.timestamp() // 10_800 * 10_800, UTC)
