"""Compare the bytes that a 60-day query reads before and after compaction.

    .venv/bin/python -m benchmarks.compaction [--hosts 20] [--days 60]

Starts the local cloud and writes lines to `processed/` like log-processor: eight runs a day, an
object for each metric type, and each window again by the next run. The state machine
InfraMonitoring-Compaction then writes every day to the archive, and the same query runs on both.
DuckDB counts the bytes that it reads. Athena's count differs, but it also reads entire lines of
JSON and single columns of Parquet.
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
from chalicelib.model.metric_types import MetricType, Unit
from chalicelib.model.records import Measurement, Record
from chalicelib.process.output_keys import OutputKeys
from chalicelib.process.processed_lines import lines
from infra.local.cloud import LocalCloud
from infra.operate.athena import QueryResult, format_bytes, run_query
from infra.operate.deployment import Stage
from tests.conftest import ACCOUNT, BUCKET, REGION, SETTINGS

WINDOW = timedelta(hours=3)

# Measurements of an instance from CloudWatch and its agent.
MEASUREMENTS: dict[MetricType, dict[str, Unit]] = {
    "cpu": {"utilization": "percent"},
    "memory": {"percent": "percent", "used": "bytes", "available": "bytes"},
    "disk": {"percent:/": "percent", "used:/": "bytes", "free:/": "bytes", "write_bytes": "bytes"},
    "network": {"bytes_sent": "bytes", "bytes_received": "bytes"},
}

# Average and percentile of one measurement, a row for each host and day.
QUERY = """
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
    """Write lines, query them, compact them, query again and print both results."""
    console, stage = (
        Console(highlight=False),
        Stage("local", _clients={"athena": clients("athena")}),
    )
    console.print(f"{hosts} hosts, {days} days: writing lines")
    fill(clients("s3"), hosts, days)
    query = QUERY.format(table="metrics", first=1, days=days)
    before = run_query(stage, query)
    console.print("compacting")
    started = time.monotonic()
    compact(clients("stepfunctions"), days)
    console.print(f"compacted in {time.monotonic() - started:.0f} s")
    after = run_query(stage, query.replace("FROM metrics", "FROM history"))
    assert len(before.rows) == len(after.rows) == hosts * days
    _print(console, clients("s3"), before, after)


def fill(s3: Any, hosts: int, days: int) -> None:
    """Write the lines of every run of the last `days` days, including today."""
    random.seed(1)
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for number in range(1, 8 * days):
        scheduled_time = midnight - timedelta(days=days - 1) + number * WINDOW
        for metric_type in MEASUREMENTS:
            _put_run(s3, metric_type, hosts, scheduled_time)


def _put_run(s3: Any, metric_type: MetricType, hosts: int, scheduled_time: datetime) -> None:
    """Write one object for each of the run's two windows."""
    key = f"raw-metrics/{scheduled_time:%Y/%m/%d}/{metric_type}-{scheduled_time:%H%M%S}-run.json"
    for end in (scheduled_time - WINDOW, scheduled_time):
        body = b"\n".join(
            line
            for host in range(hosts)
            for line in lines(_enriched(metric_type, f"i-{host:017x}", end, scheduled_time, key))
        )
        name = OutputKeys(key, scheduled_time).processed(
            f"{end:%Y-%m-%d}", int(end == scheduled_time)
        )
        s3.put_object(Bucket=BUCKET, Key=name, Body=gzip.compress(body, 6))


def _enriched(
    metric_type: MetricType, host: str, end: datetime, scheduled_time: datetime, key: str
) -> Any:
    record = Record(
        schema_version=1,
        timestamp=end,
        collected_at=scheduled_time,
        metric_type=metric_type,
        resource_id=host,
        window_seconds=int(WINDOW.total_seconds()),
        source="cloudwatch",
        execution_id=f"arn:aws:states:{REGION}:{ACCOUNT}:execution:Orch:{scheduled_time:%d%H}",
        labels={"instance_type": "m5.large", "name": f"web-{host[-4:]}"},
        measurements={name: _measurement(unit) for name, unit in MEASUREMENTS[metric_type].items()},
    ).identified(account_id=ACCOUNT, region=REGION)
    uri = f"s3://{BUCKET}/{key}"
    return enrich(
        record,
        None,
        settings=SETTINGS,
        source_object=uri,
        stored_at=scheduled_time,
        now=scheduled_time,
    )


def _measurement(unit: Unit) -> Measurement:
    values = sorted(random.uniform(0, 100) for _ in range(4))
    scale = 1 if unit == "percent" else 1e7
    minimum, average, p95, maximum = (round(scale * value, 4) for value in values)
    return Measurement(
        unit=unit, last=average, avg=average, min=minimum, max=maximum, p95=p95, samples=36
    )


def compact(sfn: Any, days: int) -> None:
    """Compact every day, as an operator does after the first deployment."""
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
    stored = [_object_sizes(s3, prefix) for prefix in ("processed/", "archive/")]
    rows: list[tuple[str, float, float, Callable[[float], str]]] = [
        ("objects", stored[0][0], stored[1][0], "{:,.0f}".format),
        ("stored", stored[0][1], stored[1][1], _size),
        ("read by the query", before.scanned_bytes, after.scanned_bytes, _size),
        ("seconds", before.seconds, after.seconds, "{:.1f}".format),
    ]
    for name, first, second, format_value in rows:
        table.add_row(name, format_value(first), format_value(second), f"{first / second:.1f}")
    console.print(table)


def _object_sizes(s3: Any, prefix: str) -> tuple[int, int]:
    """Number of objects and their total size in bytes."""
    sizes = list(_sizes(s3, prefix))
    return len(sizes), sum(sizes)


def _sizes(s3: Any, prefix: str) -> Iterator[int]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix):
        yield from (each["Size"] for each in page.get("Contents", []))


def _size(count: float) -> str:
    return format_bytes(int(count))


if __name__ == "__main__":
    main()
