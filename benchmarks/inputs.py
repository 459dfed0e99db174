"""Process large inputs: many objects at once, a million records, a gigabyte, a gzip bomb.

Each input is put into a separate local cloud, whose `log-processor` is a real process that is
killed when it uses more than its 128 MB. The output compares the input with the stored data.

moto uses about 25 KB for each DynamoDB item. Of the million records, therefore, only one for each
of `--hosts` hosts is current. The others are older than the table's retention, so they are lines of
`processed/` only.
"""

import argparse
import gzip
import io
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from chalicelib.model import records
from chalicelib.model.records import Measurement, Record
from chalicelib.process.parsing import MAX_ENTRY_BYTES
from infra.local.cloud import LocalCloud

BUCKET = "infra-monitoring-pipeline-data"
FUNCTION = "log-processor"
GIGABYTE = 1 << 30
RETENTION = timedelta(days=90)  # RETENTION_DAYS of .chalice/config.json
CADENCE = timedelta(hours=3)


@dataclass
class Case:
    """An input with the expected number of records, items and rejected entries."""

    name: str
    bodies: Iterator[bytes]
    records: int
    items: int
    rejected: int | None = 0
    suffix: str = ".json"
    put_bytes: int = 0
    keys: list[str] = field(default_factory=list)


def record(number: int, age: timedelta = timedelta()) -> bytes:
    result = Record(
        schema_version=1,
        timestamp=datetime.now(UTC) - age,
        metric_type="cpu",
        resource_id=f"host-{number}",
        window_seconds=0,
        measurements={"utilization": Measurement(unit="percent", last=number % 100)},
    )
    return records.encode(result)


def cases(arguments: argparse.Namespace) -> dict[str, Case]:
    """All cases by name. Bodies are generated lazily."""
    count, hosts, size = arguments.records, arguments.hosts, arguments.bytes
    padded = size // 100_000
    return {
        "objects": Case(
            f"{arguments.objects:,} objects at once with one record each",
            (record(number) for number in range(arguments.objects)),
            arguments.objects,
            arguments.objects,
        ),
        "records": Case(
            f"one object of {count:,} records, {hosts:,} of them current",
            lazily(lambda: lines(aged(count, hosts))),
            count,
            min(count, hosts),
        ),
        "bytes": Case(
            f"one object of {size:,} bytes, {padded:,} records padded with blanks",
            lazily(lambda: lines(record(n).ljust(99_999) for n in range(padded))),
            padded,
            padded,
        ),
        "line": Case(
            f"one line of {size:,} zero bytes",
            lazily(lambda: bytes(size)),
            0,
            0,
            rejected=-(-size // MAX_ENTRY_BYTES),
        ),
        "element": Case(
            f"one array element of {size:,} bytes",
            lazily(lambda: b'["' + b"\\a" * (size // 2) + b'"]'),
            0,
            0,
            rejected=-(-(size + 3) // MAX_ENTRY_BYTES),
        ),
        "bomb": Case(
            f"gzip that unpacks to {size:,} bytes",
            lazily(lambda: bomb(size)),
            0,
            0,
            rejected=None,
        ),
    }


def aged(count: int, hosts: int) -> Iterator[bytes]:
    """A current record of each host, then records older than the table's retention."""
    for number in range(count):
        runs = number // hosts
        yield record(number % hosts, RETENTION + runs * CADENCE if runs else timedelta())


def lazily(make: Any) -> Iterator[bytes]:
    yield make()


def lines(entries: Iterator[bytes]) -> bytes:
    return b"\n".join(entries) + b"\n"


def bomb(size: int) -> bytes:
    compressed = io.BytesIO()
    with gzip.GzipFile(fileobj=compressed, mode="wb") as file:
        for _ in range(size >> 20):
            file.write(bytes(1 << 20))
    return compressed.getvalue()


def measure(case: Case) -> None:
    with LocalCloud() as cloud:
        s3 = cloud.client("s3")
        for number, body in enumerate(case.bodies):
            case.keys.append(f"raw-metrics/{number:06d}{case.suffix}")
            case.put_bytes += len(body)
            s3.put_object(Bucket=BUCKET, Key=case.keys[-1], Body=body)
            del body
        start = time.monotonic()
        while not cloud.wiring.idle:
            time.sleep(0.5)
        report(case, cloud, time.monotonic() - start)


def report(case: Case, cloud: LocalCloud, seconds: float) -> None:
    invocations = list(cloud.functions.invocations[FUNCTION])
    summaries = [json.loads(each.payload) for each in invocations if not each.error]
    states = Counter(each["status"] for each in summaries)
    found = sum(each["records"] for each in summaries)
    rejected = sum(each["rejected"] for each in summaries)
    print(case.name)
    print(f"  put             {len(case.keys):,} objects, {case.put_bytes:,} bytes")
    print(f"  found           {found:,} records of {case.records:,}, {rejected:,} rejected")
    print(f"  stored          {stored_lines(cloud):,} lines, {stored_items(cloud):,} items")
    print(f"  quarantined     {quarantined_bytes(cloud):,} bytes")
    ended = ", ".join(f"{count:,} {status}" for status, count in sorted(states.items()))
    print(f"  invocations     {len(invocations):,}: {ended}")
    failed = [each for each in invocations if each.error]
    print(f"  failed          {len(failed)} (retried by Lambda)")
    for each in failed[:3]:
        print(f"    {each.payload.decode()[:300]}")
    print(f"  peak memory     {max(each.memory_mb for each in invocations):.0f} MB of 128")
    print(f"  longest         {max(each.duration_ms for each in invocations) / 1000:.1f} s of 30")
    print(f"  took            {seconds:.0f} s")
    is_exact = found == case.records == stored_lines(cloud) and stored_items(cloud) == case.items
    is_exact = is_exact and (case.rejected is None or rejected == case.rejected)
    print(f"  exact           {'yes' if is_exact else 'NO'}", flush=True)
    if not is_exact:
        raise SystemExit(f"{case.name}: the counts differ")


def objects(cloud: LocalCloud, prefix: str) -> Iterator[dict[str, Any]]:
    pages = cloud.client("s3").get_paginator("list_objects_v2")
    for page in pages.paginate(Bucket=BUCKET, Prefix=prefix):
        yield from page.get("Contents", [])


def stored_lines(cloud: LocalCloud) -> int:
    s3 = cloud.client("s3")
    return sum(
        gzip.decompress(s3.get_object(Bucket=BUCKET, Key=each["Key"])["Body"].read()).count(b"\n")
        for each in objects(cloud, "processed/")
    )


def stored_items(cloud: LocalCloud) -> int:
    # The count is current in the local cloud; on AWS it may be hours old.
    described = cloud.client("dynamodb").describe_table(TableName="InfraMetrics")
    return int(described["Table"]["ItemCount"])


def quarantined_bytes(cloud: LocalCloud) -> int:
    return sum(each["Size"] for each in objects(cloud, "quarantine/"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="cases to run (default: all of them)")
    parser.add_argument("--objects", type=int, default=1_000)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--hosts", type=int, default=200_000)
    parser.add_argument("--bytes", type=int, default=GIGABYTE)
    arguments = parser.parse_args()
    known = cases(arguments)
    for name in arguments.names:
        if name not in known:
            parser.error(f"unknown case {name}; choose from {', '.join(known)}")
    if len(arguments.names) == 1:
        measure(known[arguments.names[0]])
        return
    options = [text for text in sys.argv[1:] if text not in known]
    for name in arguments.names or known:  # moto's state is per process
        subprocess.run([sys.executable, __file__, name, *options], check=True)


if __name__ == "__main__":
    main()
