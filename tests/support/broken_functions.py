"""The functions of the fault harness with a fault of their own: `BREAKAGE SOCKET`.

Each is one that somebody could write, and that no test without faults would see.
"""

import contextlib
import sys
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from benchmarks.faults import worker
from chalicelib.aws.errors import translated
from chalicelib.aws.store import MetricStore
from chalicelib.model.dynamodb import Item
from chalicelib.model.errors import ObjectNotFoundError
from chalicelib.model.storage import StoredObject
from chalicelib.process.output_keys import OutputKeys


def _take_unprocessed_for_written(store: MetricStore, items: Sequence[Item]) -> None:
    for start in range(0, len(items), 25):
        batch: Any = [{"PutRequest": {"Item": item}} for item in items[start : start + 25]]
        with translated("write items", store._table):
            store._dynamodb.batch_write_item(RequestItems={store._table: batch})


def _overwrite_late(store: MetricStore, items: Sequence[Item]) -> int:
    time.sleep(30)  # a hundredth of it: long enough for the processor to come first
    store.put_items(items)
    return len(items)


def _put_in_any_case(store: MetricStore, items: Sequence[Item]) -> int:
    _put_items(store, items)
    return len(items)


def _leave_it_at_that(store: MetricStore, key: str, body: bytes, *, content_type: str) -> None:
    with contextlib.suppress(ClientError, BotoCoreError):
        store._s3.put_object(Bucket=store._bucket, Key=key, Body=body, ContentType=content_type)


def _skip_what_was_begun(
    store: MetricStore, key: str, *, start: int = 0, etag: str = ""
) -> StoredObject:
    stem = OutputKeys(key, datetime.now(UTC)).stem
    with translated("list objects", "processed/"):
        listed = store._s3.list_objects_v2(Bucket=store._bucket, Prefix="processed/")
    if any(f"/{stem}-" in entry["Key"] for entry in listed.get("Contents", [])):
        raise ObjectNotFoundError("get object", key, "NoSuchKey", "processed already")
    return _open_object(store, key, start=start, etag=etag)


def _write_later(store: MetricStore, items: Sequence[Item]) -> int:
    _later.submit(_put_later, store, items)
    return len(items)


def _append(store: MetricStore, key: str, body: bytes, *, content_type: str) -> None:
    before = b""
    if key.startswith("processed/") and store.etag(key):
        before = b"".join(_open_object(store, key).chunks)
    _put_object(store, key, before + body, content_type=content_type)


def _new_name(names: OutputKeys, day: str, batch: int) -> str:
    return f"processed/dt={day}/{names.stem}-{batch}-{uuid.uuid4()}.json.gz"


_open_object, _put_object, _put_items, _put_later = (
    MetricStore.open_object,
    MetricStore.put_object,
    MetricStore.put_items,
    MetricStore.put_later,
)
_later = ThreadPoolExecutor(max_workers=1)

BREAKAGES = {
    "unprocessed items taken for written": (
        MetricStore,
        "put_items",
        _take_unprocessed_for_written,
    ),
    "raw items over enriched ones": (MetricStore, "insert_raw", _overwrite_late),
    "later items written in any case": (MetricStore, "put_later", _put_in_any_case),
    "errors of S3 forgotten": (MetricStore, "put_object", _leave_it_at_that),
    "what was begun taken for done": (MetricStore, "open_object", _skip_what_was_begun),
    "acknowledged before it is written": (MetricStore, "put_later", _write_later),
    "lines appended by each try": (MetricStore, "put_object", _append),
    "a new name for each try": (OutputKeys, "processed", _new_name),
}

if __name__ == "__main__":
    setattr(*BREAKAGES[sys.argv[1]])
    worker.main(sys.argv[2])
