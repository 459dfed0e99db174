"""The bucket and the table: implements `model.storage.Store`."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

from ..model.dynamodb import Item
from ..model.errors import ObjectNotFoundError, StorageError
from ..model.storage import StoredObject
from .clients import Clients
from .errors import translated
from .retry import send_until_processed

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client

# Limits of one DynamoDB request.
_WRITE_BATCH = 25
_READ_BATCH = 100

_CHUNK_BYTES = 1 << 18

# `items.precedence` as a condition; a replay of the same object meets it.
_LATER = (
    "attribute_not_exists(#version) OR #version < :version"
    " OR (#version = :version AND #source <= :source)"
)


def create_store(*, bucket: str, table: str) -> "MetricStore":
    """A store with the credentials, region and endpoint of the environment."""
    clients = Clients()
    return MetricStore(clients("s3"), clients("dynamodb"), bucket=bucket, table=table)


class MetricStore:
    """The bucket and the table; see `model.storage.Store`."""

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
            response = self._s3.get_object(**request)
        return StoredObject(
            chunks=self._chunks(key, response["Body"]),
            stored_at=response["LastModified"],
            size=start + response["ContentLength"],
            etag=response["ETag"],
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
        """Conditional writes in parallel, because a batch has no conditions; the number written."""
        pending = list(requests)
        if len(pending) < 2:  # no threads needed
            return sum(map(self._put_if, pending))
        with ThreadPoolExecutor(max_workers=8) as pool:
            return sum(pool.map(self._put_if, pending))

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
            batch = [{"PutRequest": {"Item": item}} for item in items[start : start + _WRITE_BATCH]]
            send_until_processed(
                batch,
                self._write_batch,
                sleep=self._sleep,
                operation="write items",
                target=self._table,
            )

    def _write_batch(self, batch: Any) -> Any:
        with translated("write items", self._table):
            response = self._dynamodb.batch_write_item(RequestItems={self._table: batch})
        return response.get("UnprocessedItems", {}).get(self._table)

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
            found += read_batch(self._dynamodb, self._table, request, self._sleep)
        return found


def read_batch(
    dynamodb: Any, table: str, request: Any, sleep: Callable[[float], None]
) -> list[Item]:
    """The items of one BatchGetItem request, at most a hundred keys.

    Raises:
        StorageError: DynamoDB failed, or did not process every key.
    """
    found: list[Item] = []

    def send(pending: Any) -> Any:
        with translated("read items", table):
            response = dynamodb.batch_get_item(RequestItems={table: pending})
        found.extend(response["Responses"].get(table, []))
        return response.get("UnprocessedKeys", {}).get(table)

    send_until_processed(
        request,
        send,
        sleep=sleep,
        operation="read items",
        target=table,
        count=lambda pending: len(pending["Keys"]),
    )
    return found
