"""What /hosts and /hosts/{resource_id} cost over HTTP: 5 and 500 hosts, 90 days of one of them.

`python -m benchmarks.api`: moto's DynamoDB with the local cloud's reads, `chalice local` over it.
"""

import argparse
import tempfile
import threading
import time
import zlib
from datetime import timedelta
from pathlib import Path

import boto3
import requests
from botocore.config import Config
from moto.dynamodb.models import dynamodb_backends
from moto.dynamodb.models.dynamo_type import DynamoType, Item
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from chalicelib.windows import format_utc
from infra.local.cloud import ACCOUNT, REGION
from infra.local.fast_reads import with_fast_reads
from tests.api import TABLE, WINDOW, Table, item_of, now, records_of
from tests.served import chalice_local

DAYS = 90


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=[5, 500])
    counts = parser.parse_args().hosts
    backend = dynamodb_backends[ACCOUNT][REGION]
    moto = DomainDispatcherApplication(create_backend_app)
    server = make_server("127.0.0.1", 0, with_fast_reads(moto, backend), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    client = boto3.client(
        "dynamodb",
        region_name=REGION,
        endpoint_url=endpoint,
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(retries={"total_max_attempts": 1}),
    )
    print(f"{'hosts':>5}  {'request':<34}{'seconds':>8}{'again':>8}{'KB':>7}{'gzip KB':>9}")
    for count in counts:
        backend.reset()
        Table(client)
        plant(count)
        with tempfile.TemporaryDirectory() as folder, chalice_local(endpoint, Path(folder)) as api:
            month = format_utc(now() - timedelta(days=DAYS - 1))
            for path in ("/hosts", f"/hosts/host-0?from={month}", "/metrics/cpu"):
                show(count, api, path)
    server.shutdown()


def plant(count: int) -> None:
    """Eight windows of each host, and of the first one all of 90 days."""
    table = dynamodb_backends[ACCOUNT][REGION].tables[TABLE]
    for host in range(count):
        for window in range(8 * DAYS if host == 0 else 8):
            value = 10.0 + (7 * host + window) % 90
            for record in records_of(f"host-{host}", now() - window * WINDOW, value):
                item = item_of(record)
                held = Item(DynamoType(item["metric_id"]), DynamoType(item["timestamp"]), item)
                table.items[held.hash_key][held.range_key] = held


def show(count: int, api: str, path: str) -> None:
    seconds, body = [], b""
    for _ in range(2):
        began = time.perf_counter()
        answer = requests.get(f"{api}{path}", timeout=120)
        answer.raise_for_status()
        seconds.append(time.perf_counter() - began)
        body = answer.content
    short = path.partition("?")[0] + (f" of {DAYS} days" if "?" in path else "")
    print(
        f"{count:>5}  {short:<34}{seconds[0]:>8.2f}{seconds[1]:>8.2f}"
        f"{len(body) / 1000:>7.0f}{len(zlib.compress(body)) / 1000:>9.0f}"
    )


if __name__ == "__main__":
    main()
