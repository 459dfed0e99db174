"""The input of a fault run, generated from its seed as JSON, without the product's code."""

import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from random import Random
from typing import Any

ACCOUNT, REGION = "123456789012", "eu-west-1"
BUCKET, TABLE = "infra-monitoring-pipeline-data", "InfraMetrics"
RAW = "raw-metrics/"

# Settings of the AWS clients besides the endpoint; the credentials are not real.
ENVIRONMENT = {
    "AWS_DEFAULT_REGION": REGION,
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_EC2_METADATA_DISABLED": "true",
}

WINDOW = timedelta(hours=3)

Json = dict[str, Any]

# Metric type -> measurement -> unit. The product computes rates from counters such as `bytes_sent`.
MEASUREMENTS: Mapping[str, Mapping[str, str]] = {
    "cpu": {"utilization": "percent", "load_average": "count"},
    "memory": {"percent": "percent", "used": "bytes"},
    "disk": {"percent": "percent", "percent:/var": "percent", "free": "bytes"},
    "network": {"bytes_sent": "bytes", "bytes_received:eth0": "bytes"},
}

# Maximum number of items that the processor writes one by one, as in the product.
FEW = 25


@dataclass(frozen=True, slots=True)
class Upload:
    """An object that an external producer puts under `raw-metrics/`, with its contents."""

    key: str
    body: bytes
    records: Sequence[Json]
    rejected: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class ScheduledRun:
    """A run of the collector for some metric types; its readings depend on the seed."""

    scheduled_time: datetime
    metric_types: Sequence[str]
    hosts: Sequence[str]
    restates: bool
    event: Json

    @property
    def window_end(self) -> datetime:
        return self.scheduled_time.replace(minute=0, second=0)

    def key_prefixes(self) -> list[str]:
        """Prefixes of the raw objects' keys; the product determines the rest."""
        return [
            f"{RAW}{self.scheduled_time:%Y/%m/%d}/{each}-{self.scheduled_time:%H%M%S}-"
            for each in self.metric_types
        ]


@dataclass(frozen=True, slots=True)
class Scenario:
    """The input of a fault run; all its data is of one day.

    Attributes:
        seed: the seed.
        day: the day of its data.
        restated: objects contain other versions of records in other objects. Such objects are small
            (see docs/faults.md); without restated records, all items are written in batches.
        uploads: objects of external producers.
        runs: runs of the collector.
        workers: concurrent invocations.
        batch_size: entries that the processor reads at a time.
        hurried: invocations have little time left, so that large objects need a continuation.
        duplicates: probability of a duplicate event.
        few: maximum number of items that the processor writes one by one.
    """

    seed: int
    day: date
    restated: bool
    uploads: Sequence[Upload]
    runs: Sequence[ScheduledRun]
    workers: int
    batch_size: int
    hurried: bool
    duplicates: float
    few: int


def draw(seed: int, *, today: datetime | None = None) -> Scenario:
    """The scenario of a seed. Its windows end before today (default: today in UTC)."""
    rng = Random(f"scenario {seed}")
    midnight = datetime.combine((today or datetime.now(UTC)).date(), time(), UTC)
    ends = [midnight - timedelta(days=1) + WINDOW * n for n in range(1, rng.randint(2, 4))]
    hosts = [f"host-{seed}-{n}" for n in range(rng.randint(1, 4))]
    types = rng.sample(sorted(MEASUREMENTS), rng.randint(1, 4))
    pool: list[Json] = []
    batch_size, restated = rng.choice((4, 11, 500)), rng.random() < 0.5
    uploads = [
        _upload(
            rng,
            f"{RAW}{ends[0]:%Y/%m/%d}/drop {seed}+{number}",
            lambda version: reading(
                seed,
                rng.choice(hosts),
                rng.choice(types),
                rng.choice(ends),
                version,
                source="external",
            ),
            pool,
            version=100 * (number + 1) if restated else 100,
            repeats=batch_size == 500,
            max_records=FEW if restated else 28,
        )
        for number in range(rng.choice((1, 1, 2, 2, 3)))
    ]
    collected = hosts if restated else [f"{host}-collected" for host in hosts]
    runs = [_scheduled_run(rng, seed, end, types, collected) for end in ends if rng.random() < 0.25]
    return Scenario(
        seed=seed,
        day=ends[0].date(),
        restated=restated,
        uploads=uploads,
        runs=runs,
        workers=rng.choice((1, 2, 2, 3)),
        batch_size=batch_size,
        hurried=batch_size < 500 and rng.random() < 0.4,
        duplicates=rng.choice((0, 0.2, 0.4)),
        few=FEW if restated else 0,
    )


def reading(
    seed: int, host: str, metric_type: str, end: datetime, version: int, *, source: str
) -> Json:
    """A record of a host and window; each version has different values."""
    rng = Random(f"reading {seed} {host} {metric_type} {end} {version}")
    return {
        "schema_version": 1,
        "timestamp": f"{end:%Y-%m-%dT%H:%M:%SZ}",
        "metric_type": metric_type,
        "resource_id": host,
        "source": source,
        "window_seconds": int(WINDOW.total_seconds()),
        "collected_at": f"{end + timedelta(minutes=5, seconds=version):%Y-%m-%dT%H:%M:%SZ}",
        "measurements": {
            name: _measurement(rng, name, unit, end)
            for name, unit in MEASUREMENTS[metric_type].items()
        },
        "labels": {"version": str(version)},
    }


def _measurement(rng: Random, name: str, unit: str, end: datetime) -> Json:
    if name.startswith("bytes_"):
        # Increases from window to window, like a counter since boot.
        return {"unit": unit, "last": int(end.timestamp()) * 1000 + rng.randrange(1_000_000)}
    maximum = 100 if unit == "percent" else 1 << 40
    low, middle, high = sorted(round(rng.uniform(0, maximum), 3) for _ in range(3))
    kind = rng.random()
    if kind < 0.1:
        return {"unit": unit, "last": None, "samples": 0}
    if kind < 0.4:
        return {"unit": unit, "last": middle}
    window = {"last": low, "avg": middle, "min": low, "max": high, "p95": high}
    return {"unit": unit, **window, "samples": rng.randint(2, 36)}


def _scheduled_run(
    rng: Random, seed: int, end: datetime, types: Sequence[str], hosts: Sequence[str]
) -> ScheduledRun:
    scheduled_time = end + timedelta(minutes=rng.randint(0, 4), seconds=rng.randint(0, 59))
    metric_types = [rng.choice(types)] if rng.random() < 0.8 else sorted(MEASUREMENTS)
    event = {
        "version": "0",
        "id": f"run-{seed}-{end:%H}",
        "account": ACCOUNT,
        "region": REGION,
        "time": f"{scheduled_time:%Y-%m-%dT%H:%M:%SZ}",
        "source": "infra-monitoring",
        "detail-type": "Collection",
        "resources": [],
        "detail": {"metric_type": metric_types[0]} if len(metric_types) == 1 else {},
    }
    return ScheduledRun(scheduled_time, metric_types, hosts, rng.random() < 0.4, event)


def _upload(
    rng: Random,
    name: str,
    make_record: Callable[[int], Json],
    pool: list[Json],
    *,
    version: int,
    repeats: bool,
    max_records: int,
) -> Upload:
    """An object with new versions of records and some records of earlier objects (`pool`).

    With `repeats` it may contain a record twice, which the processor stores once per batch.
    """
    records: list[Json] = []
    identities: set[tuple[str, ...]] = set()
    for _ in range(rng.choice((1, 2, 2, 3, 5, 8, max_records))):
        record = make_record(version)
        if pool and rng.random() < 0.2:
            record = rng.choice(pool)
        identity = (record["resource_id"], record["metric_type"], record["timestamp"])
        if repeats or identity not in identities:
            identities.add(identity)
            records.append(record)
    pool += records
    array = rng.random() < 0.3
    rejected = [_rejected_entry(rng, n, in_array=array) for n in range(rng.choice((0, 0, 1, 2, 7)))]
    entries = [json.dumps(each).encode() for each in records] + rejected
    rng.shuffle(entries)
    body = b"[" + b", ".join(entries) + b"]" if array else b"\n".join(entries) + b"\n"
    compressed = rng.random() < 0.4
    name += ".json.gz" if compressed else ".json"
    return Upload(name, gzip.compress(body, mtime=0) if compressed else body, records, rejected)


def _rejected_entry(rng: Random, number: int, *, in_array: bool) -> bytes:
    """An entry that is not a valid record; `number` makes it unique in its object."""
    record = reading(0, f"bad-{number}", "cpu", datetime(2026, 1, 1, tzinfo=UTC), 1, source="host")
    entries = [
        json.dumps(record | {"schema_version": 99}).encode(),
        json.dumps(record | {"measurements": {}}).encode(),
        json.dumps({"number": number}).encode(),
    ]
    if not in_array:
        entries += [
            json.dumps(record).encode()[: 40 + number],
            b"no JSON %d" % number,
            b"\xff\xfe%d" % number,
        ]
    return rng.choice(entries)
