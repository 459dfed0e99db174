"""What the archive saves: the bytes that a query over 60 days reads, before and after compaction.

    .venv/bin/python -m benchmarks.compaction [--hosts 20] [--days 60]

Starts the local cloud, writes lines into `processed/` as log-processor would (eight runs a day,
an object for each metric type, each window once more by the run after it), lets the state machine
InfraMonitoring-Compaction write every day into the archive, and asks the same question of both.
DuckDB counts what it reads of the files; Athena counts in its own way, and reads whole lines of
JSON and single columns of Parquet just so.
"""

import argparse
import gzip
import json
import random
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console
from rich.table import Table

from chalicelib.model.enrichment import enrich
from chalicelib.model.records import (
    Measurement,
    MetricType,
    Record,
    Unit,
)
from chalicelib.process.output_keys import OutputKeys
from chalicelib.process.processed_lines import lines
from infra.local.cloud import LocalCloud
from infra.operate.athena import QueryResult, format_bytes, run_query
from infra.operate.deployment import Stage
from tests.conftest import (
    ACCOUNT,
    BUCKET,
    REGION,
    SETTINGS,
)

WINDOW = timedelta(hours=3)

# What CloudWatch and its agent tell of an instance.
MEASURED: dict[MetricType, dict[str, Unit]] = {
    "cpu": {"utilization": "percent"},
    "memory": {"percent": "percent", "used": "bytes", "available": "bytes"},
    "disk": {"percent:/": "percent", "used:/": "bytes", "free:/": "bytes", "write_bytes": "bytes"},
    "network": {"bytes_sent": "bytes", "bytes_received": "bytes"},
}

# One percentile of one measurement, a row for each host and day.
QUESTION = """
SELECT resource_id, dt, avg(value_avg) AS average, max(value_p95) AS p95 FROM {table}
WHERE metric_type = 'cpu' AND measurement = 'utilization'
  AND dt >= date_format(date_add('day', {first} - {days}, current_date), '%Y-%m-%d')
GROUP BY resource_id, dt
"""

Clients = Callable[[str], Any]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--hosts", type=int, default=20)
    parser.add_argument("--days", type=int, default=60)
    options = parser.parse_args()
    with LocalCloud() as cloud:
        measure(cloud.client, hosts=options.hosts, days=options.days)


def measure(clients: Clients, *, hosts: int, days: int) -> None:
    """Fill, ask, compact, ask again, and print both."""
    console, stage = (
        Console(highlight=False),
        Stage("local", _clients={"athena": clients("athena")}),
    )
    console.print(f"{hosts} hosts, {days} days: writing lines")
    fill(clients("s3"), hosts, days)
    question = QUESTION.format(table="metrics", first=1, days=days)
    before = run_query(stage, question)
    console.print("compacting")
    started = time.monotonic()
    compact(clients("stepfunctions"), days)
    console.print(f"compacted in {time.monotonic() - started:.0f} s")
    after = run_query(stage, question.replace("FROM metrics", "FROM history"))
    assert len(before.rows) == len(after.rows) == hosts * days
    _print(console, clients("s3"), before, after)


def fill(s3: Any, hosts: int, days: int) -> None:
    """The lines of every run of these days, the last of them today."""
    random.seed(1)
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for number in range(1, 8 * days):
        tick = midnight - timedelta(days=days - 1) + number * WINDOW
        for metric_type in MEASURED:
            _put_run(s3, metric_type, hosts, tick)


def _put_run(s3: Any, metric_type: MetricType, hosts: int, tick: datetime) -> None:
    """One object for each day that the run's two windows end on."""
    key = f"raw-metrics/{tick:%Y/%m/%d}/{metric_type}-{tick:%H%M%S}-run.json"
    for end in (tick - WINDOW, tick):
        body = b"\n".join(
            line
            for host in range(hosts)
            for line in lines(_enriched(metric_type, f"i-{host:017x}", end, tick, key))
        )
        name = OutputKeys(key, tick).processed(f"{end:%Y-%m-%d}", int(end == tick))
        s3.put_object(Bucket=BUCKET, Key=name, Body=gzip.compress(body, 6))


def _enriched(metric_type: MetricType, host: str, end: datetime, tick: datetime, key: str) -> Any:
    record = Record(
        schema_version=1,
        timestamp=end,
        collected_at=tick,
        metric_type=metric_type,
        resource_id=host,
        window_seconds=int(WINDOW.total_seconds()),
        source="cloudwatch",
        execution_id=f"arn:aws:states:{REGION}:{ACCOUNT}:execution:Orch:{tick:%d%H}",
        labels={"instance_type": "m5.large", "name": f"web-{host[-4:]}"},
        measurements={name: _measurement(unit) for name, unit in MEASURED[metric_type].items()},
    ).identified(account_id=ACCOUNT, region=REGION)
    uri = f"s3://{BUCKET}/{key}"
    return enrich(record, None, settings=SETTINGS, source_object=uri, stored_at=tick, now=tick)


def _measurement(unit: Unit) -> Measurement:
    values = sorted(random.uniform(0, 100) for _ in range(4))
    scale = 1 if unit == "percent" else 1e7
    least, average, p95, most = (round(scale * value, 4) for value in values)
    return Measurement(
        unit=unit, last=average, avg=average, min=least, max=most, p95=p95, samples=36
    )


def compact(sfn: Any, days: int) -> None:
    """Every day, as an operator would after the first deployment."""
    machines = sfn.list_state_machines()["stateMachines"]
    (arn,) = [each["stateMachineArn"] for each in machines if "Compaction" in each["name"]]
    today = datetime.now(UTC).date()
    names = [str(today - timedelta(days=number)) for number in range(days)]
    execution = sfn.start_execution(stateMachineArn=arn, input=json.dumps({"days": names}))
    while True:
        described = sfn.describe_execution(executionArn=execution["executionArn"])
        if described["status"] != "RUNNING":
            break
        time.sleep(0.5)
    assert described["status"] == "SUCCEEDED", described


def _print(console: Console, s3: Any, before: QueryResult, after: QueryResult) -> None:
    table = Table("", "before", "after", "ratio")
    stored = [_stored(s3, prefix) for prefix in ("processed/", "archive/")]
    rows: list[tuple[str, float, float, Callable[[float], str]]] = [
        ("objects", stored[0][0], stored[1][0], "{:,.0f}".format),
        ("stored", stored[0][1], stored[1][1], _size),
        ("read by the query", before.scanned_bytes, after.scanned_bytes, _size),
        ("seconds here", before.seconds, after.seconds, "{:.1f}".format),
    ]
    for name, first, second, text in rows:
        table.add_row(name, text(first), text(second), f"{first / second:.1f}")
    console.print(table)


def _stored(s3: Any, prefix: str) -> tuple[int, int]:
    sizes = list(_sizes(s3, prefix))
    return len(sizes), sum(sizes)


def _sizes(s3: Any, prefix: str) -> Iterator[int]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix):
        yield from (each["Size"] for each in page.get("Contents", []))


def _size(count: float) -> str:
    return format_bytes(int(count))


if __name__ == "__main__":
    main()
