"""What one run puts in, drawn from its seed: plain JSON, made without any code of the product."""

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

# What clients need besides an endpoint; no account's.
ENVIRONMENT = {
    "AWS_DEFAULT_REGION": REGION,
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_EC2_METADATA_DISABLED": "true",
}

WINDOW = timedelta(hours=3)

Json = dict[str, Any]

# Metric type -> measurement -> unit; `bytes_sent` is a counter, of which the product makes a rate.
MEASURED: Mapping[str, Mapping[str, str]] = {
    "cpu": {"utilization": "percent", "load_average": "count"},
    "memory": {"percent": "percent", "used": "bytes"},
    "disk": {"percent": "percent", "percent:/var": "percent", "free": "bytes"},
    "network": {"bytes_sent": "bytes", "bytes_received:eth0": "bytes"},
}


@dataclass(frozen=True, slots=True)
class Drop:
    """An object that others put under `raw-metrics/`, and what is in it."""

    key: str
    body: bytes
    good: Sequence[Json]
    bad: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Tick:
    """One call of the clock for some metric types, whose readings the seed decides."""

    time: datetime
    metric_types: Sequence[str]
    hosts: Sequence[str]
    restates: bool
    event: Json

    @property
    def window_end(self) -> datetime:
        return self.time.replace(minute=0, second=0)

    def keys(self) -> list[str]:
        """What the raw objects' keys start with; what ends them is the product's affair."""
        return [
            f"{RAW}{self.time:%Y/%m/%d}/{each}-{self.time:%H%M%S}-" for each in self.metric_types
        ]


@dataclass(frozen=True, slots=True)
class Scenario:
    """A run's input, all of one `day`.

    `lanes` are the invocations at once, `batch` the pieces that the processor takes at a time;
    `hurried` invocations have little time, so that large objects are read on by the next one.
    `restated` says that objects hold other versions of records that others hold too. Two
    such objects are not processed in the same moment (docs/faults.md says why).
    """

    seed: int
    day: date
    restated: bool
    drops: Sequence[Drop]
    ticks: Sequence[Tick]
    lanes: int
    batch: int
    hurried: bool
    duplicates: float


def draw(seed: int, *, today: datetime | None = None) -> Scenario:
    """The scenario of a seed; its windows end before today (default: of UTC now)."""
    rng = Random(f"scenario {seed}")
    midnight = datetime.combine((today or datetime.now(UTC)).date(), time(), UTC)
    ends = [midnight - timedelta(days=1) + WINDOW * n for n in range(1, rng.randint(2, 4))]
    hosts = [f"host-{seed}-{n}" for n in range(rng.randint(1, 4))]
    types = rng.sample(sorted(MEASURED), rng.randint(1, 4))
    pool: list[Json] = []
    batch, restated = rng.choice((4, 11, 500)), rng.random() < 0.5
    drops = [
        _drop(
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
            repeats=batch == 500,
        )
        for number in range(rng.choice((1, 1, 2, 2, 3)))
    ]
    collected = hosts if restated else [f"{host}-collected" for host in hosts]
    ticks = [_tick(rng, seed, end, types, collected) for end in ends if rng.random() < 0.25]
    return Scenario(
        seed=seed,
        day=ends[0].date(),
        restated=restated,
        drops=drops,
        ticks=ticks,
        lanes=rng.choice((1, 2, 2, 3)),
        batch=batch,
        hurried=batch < 500 and rng.random() < 0.4,
        duplicates=rng.choice((0, 0.2, 0.4)),
    )


def reading(
    seed: int, host: str, metric_type: str, end: datetime, version: int, *, source: str
) -> Json:
    """What is measured of a host over a window, as one version of it: a later one, other values."""
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
            name: _measurement(rng, name, unit, end) for name, unit in MEASURED[metric_type].items()
        },
        "labels": {"version": str(version)},
    }


def _measurement(rng: Random, name: str, unit: str, end: datetime) -> Json:
    if name.startswith("bytes_"):
        # Grows from window to window, as a total since boot does.
        return {"unit": unit, "last": int(end.timestamp()) * 1000 + rng.randrange(1_000_000)}
    top = 100 if unit == "percent" else 1 << 40
    low, middle, high = sorted(round(rng.uniform(0, top), 3) for _ in range(3))
    kind = rng.random()
    if kind < 0.1:
        return {"unit": unit, "last": None, "samples": 0}
    if kind < 0.4:
        return {"unit": unit, "last": middle}
    window = {"last": low, "avg": middle, "min": low, "max": high, "p95": high}
    return {"unit": unit, **window, "samples": rng.randint(2, 36)}


def _tick(
    rng: Random, seed: int, end: datetime, types: Sequence[str], hosts: Sequence[str]
) -> Tick:
    moment = end + timedelta(minutes=rng.randint(0, 4), seconds=rng.randint(0, 59))
    wanted = [rng.choice(types)] if rng.random() < 0.8 else sorted(MEASURED)
    event = {
        "version": "0",
        "id": f"run-{seed}-{end:%H}",
        "account": ACCOUNT,
        "region": REGION,
        "time": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
        "source": "infra-monitoring",
        "detail-type": "Collection",
        "resources": [],
        "detail": {"metric_type": wanted[0]} if len(wanted) == 1 else {},
    }
    return Tick(moment, wanted, hosts, rng.random() < 0.4, event)


def _drop(
    rng: Random,
    name: str,
    read: Callable[[int], Json],
    pool: list[Json],
    *,
    version: int,
    repeats: bool,
) -> Drop:
    """An object of new versions of records, and of some that earlier objects hold too.

    `repeats` lets it hold a record twice, which counts once in a batch of the processor's.
    """
    good: list[Json] = []
    held: set[tuple[str, ...]] = set()
    for _ in range(rng.choice((1, 2, 2, 3, 5, 8, 28))):
        record = read(version)
        if pool and rng.random() < 0.2:
            record = rng.choice(pool)
        identity = (record["resource_id"], record["metric_type"], record["timestamp"])
        if repeats or identity not in held:
            held.add(identity)
            good.append(record)
    pool += good
    array = rng.random() < 0.3
    bad = [_bad(rng, n, in_array=array) for n in range(rng.choice((0, 0, 1, 2, 7)))]
    pieces = [json.dumps(each).encode() for each in good] + bad
    rng.shuffle(pieces)
    body = b"[" + b", ".join(pieces) + b"]" if array else b"\n".join(pieces) + b"\n"
    packed = rng.random() < 0.4
    name += ".json.gz" if packed else ".json"
    return Drop(name, gzip.compress(body, mtime=0) if packed else body, good, bad)


def _bad(rng: Random, number: int, *, in_array: bool) -> bytes:
    """A piece that is no record; the number makes it the only one of its kind in its object."""
    whole = reading(0, f"bad-{number}", "cpu", datetime(2026, 1, 1, tzinfo=UTC), 1, source="host")
    kinds = [
        json.dumps(whole | {"schema_version": 99}).encode(),
        json.dumps(whole | {"measurements": {}}).encode(),
        json.dumps({"number": number}).encode(),
    ]
    if not in_array:
        kinds += [
            json.dumps(whole).encode()[: 40 + number],
            b"no JSON %d" % number,
            b"\xff\xfe%d" % number,
        ]
    return rng.choice(kinds)
