"""The functions of the fault harness with a fault of their own: `BREAKAGE SOCKET`.

Each is one that somebody could write, and that no test without faults would see.
"""

import contextlib
import sys
import time
import uuid
from collections.abc import Sequence
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from benchmarks.faults import worker
from chalicelib.aws.store import MetricStore
from chalicelib.items import Item
from chalicelib.names import Names


def _take_unprocessed_for_written(store: MetricStore, items: Sequence[Item]) -> None:
    for start in range(0, len(items), 25):
        batch: Any = [{"PutRequest": {"Item": item}} for item in items[start : start + 25]]
        store._dynamodb.batch_write_item(RequestItems={store._table: batch})


def _overwrite_late(store: MetricStore, items: Sequence[Item]) -> int:
    time.sleep(30)  # a hundredth of it: long enough for the processor to come first
    store.put_items(items)
    return len(items)


def _leave_it_at_that(store: MetricStore, key: str, body: bytes, *, content_type: str) -> None:
    with contextlib.suppress(ClientError, BotoCoreError):
        store._s3.put_object(Bucket=store._bucket, Key=key, Body=body, ContentType=content_type)


def _new_name(names: Names, day: str, batch: int) -> str:
    return f"processed/dt={day}/{names.stem}-{batch}-{uuid.uuid4()}.json.gz"


BREAKAGES = {
    "unprocessed items taken for written": (
        MetricStore,
        "put_items",
        _take_unprocessed_for_written,
    ),
    "raw items over enriched ones": (MetricStore, "insert_raw", _overwrite_late),
    "errors of S3 forgotten": (MetricStore, "put_object", _leave_it_at_that),
    "a new name for each try": (Names, "processed", _new_name),
}

if __name__ == "__main__":
    setattr(*BREAKAGES[sys.argv[1]])
    worker.main(sys.argv[2])
