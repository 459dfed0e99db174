"""The bucket and the table behind `storage.Store`."""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from ..model.errors import ObjectNotFoundError, StorageError
from ..model.items import Item
from ..model.storage import StoredObject
from .errors import translated

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

# Limits of one DynamoDB request.
_WRITE_BATCH = 25
_READ_BATCH = 100

_CHUNK_BYTES = 1 << 18
_ATTEMPTS = 8

# `items.precedence` as a condition; a replay of the same object writes again.
_LATER = (
    "attribute_not_exists(#version) OR #version < :version"
    " OR (#version = :version AND #source <= :source)"
)

# Parameters are built here and nowhere else, so botocore need not check each of them again:
# a third of the CPU that an item costs. Time-outs leave room for a retry within 30 s.
_CONFIG = Config(
    connect_timeout=3,
    read_timeout=8,
    max_pool_connections=16,
    parameter_validation=False,
    retries={"mode": "standard", "total_max_attempts": 4},
)


def create_store(*, bucket: str, table: str) -> "MetricStore":
    """A store on the credentials, region and endpoint of the environment."""
    session = boto3.Session()
    return MetricStore(
        session.client("s3", config=_CONFIG),
        session.client("dynamodb", config=_CONFIG),
        bucket=bucket,
        table=table,
    )


class MetricStore:
    """The bucket and the table; see `storage.Store`."""

    def __init__(
        self,
        s3: "S3Client",
        dynamodb: "DynamoDBClient",
        *,
        bucket: str,
        table: str,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._s3 = s3
        self._dynamodb = dynamodb
        self._bucket = bucket
        self._table = table
        self._sleep = sleep

    def put_object(self, key: str, body: bytes, *, content_type: str) -> None:
        with translated("put object", f"s3://{self._bucket}/{key}"):
            self._s3.put_object(Bucket=self._bucket, Key=key, Body=body, ContentType=content_type)

    def open_object(self, key: str, *, start: int = 0, etag: str = "") -> StoredObject:
        request: Any = {"Bucket": self._bucket, "Key": key}
        if start:
            request["Range"] = f"bytes={start}-"
        if etag:
            request["IfMatch"] = etag
        with translated("get object", f"s3://{self._bucket}/{key}"):
            answer = self._s3.get_object(**request)
        return StoredObject(
            chunks=self._chunks(key, answer["Body"]),
            stored_at=answer["LastModified"],
            size=start + answer["ContentLength"],
            etag=answer["ETag"],
        )

    def etag(self, key: str) -> str:
        try:
            with translated("head object", f"s3://{self._bucket}/{key}"):
                return self._s3.head_object(Bucket=self._bucket, Key=key)["ETag"]
        except ObjectNotFoundError:
            return ""

    def _chunks(self, key: str, body: Any) -> Iterator[bytes]:
        with closing(body), translated("read object", f"s3://{self._bucket}/{key}"):
            yield from body.iter_chunks(_CHUNK_BYTES)

    def insert_raw(self, items: Sequence[Item]) -> int:
        return self._put_each(
            {"Item": item, "ConditionExpression": "attribute_not_exists(processed_at)"}
            for item in items
        )

    def put_later(self, items: Sequence[Item]) -> int:
        return self._put_each(
            {
                "Item": item,
                "ConditionExpression": _LATER,
                "ExpressionAttributeNames": {"#version": "version", "#source": "source_object"},
                "ExpressionAttributeValues": {
                    ":version": item["version"],
                    ":source": item["source_object"],
                },
            }
            for item in items
        )

    def _put_each(self, requests: Iterable[dict[str, Any]]) -> int:
        """Single writes, side by side, for a batch takes no conditions; how many were taken."""
        wanted = list(requests)
        if len(wanted) < 2:  # needs no threads
            return sum(map(self._put_if, wanted))
        with ThreadPoolExecutor(max_workers=8) as pool:
            return sum(pool.map(self._put_if, wanted))

    def _put_if(self, request: dict[str, Any]) -> bool:
        try:
            with translated("put item", self._table):
                self._dynamodb.put_item(TableName=self._table, **request)
        except StorageError as error:
            if error.code != "ConditionalCheckFailedException":
                raise
            return False
        return True

    def put_items(self, items: Sequence[Item]) -> None:
        for start in range(0, len(items), _WRITE_BATCH):
            batch: Any = [
                {"PutRequest": {"Item": item}} for item in items[start : start + _WRITE_BATCH]
            ]
            for attempt in range(_ATTEMPTS):
                with translated("write items", self._table):
                    answer = self._dynamodb.batch_write_item(RequestItems={self._table: batch})
                batch = answer.get("UnprocessedItems", {}).get(self._table)
                if not batch:
                    break
                self._back_off(attempt)
            else:
                raise self._unprocessed("write items", len(batch))

    def get_items(self, keys: Sequence[Item], attributes: Sequence[str]) -> list[Item]:
        names = {f"#{number}": name for number, name in enumerate(attributes)}
        found: list[Item] = []
        for start in range(0, len(keys), _READ_BATCH):
            request: Any = {
                "Keys": list(keys[start : start + _READ_BATCH]),
                "ConsistentRead": True,
                "ProjectionExpression": ",".join(names),
                "ExpressionAttributeNames": names,
            }
            for attempt in range(_ATTEMPTS):
                with translated("read items", self._table):
                    answer = self._dynamodb.batch_get_item(RequestItems={self._table: request})
                found += answer["Responses"].get(self._table, [])
                request = answer.get("UnprocessedKeys", {}).get(self._table)
                if not request:
                    break
                self._back_off(attempt)
            else:
                raise self._unprocessed("read items", len(request["Keys"]))
        return found

    def _back_off(self, attempt: int) -> None:
        """Full jitter: up to 50 ms at first, twice as much each time, 2 s at most."""
        self._sleep(random.uniform(0, min(2.0, 0.05 * 2**attempt)))  # nosec B311 # noqa: S311 - no secret

    def _unprocessed(self, operation: str, count: int) -> StorageError:
        detail = f"{count} left unprocessed after {_ATTEMPTS} attempts"
        return StorageError(operation, self._table, "Throttled", detail)
