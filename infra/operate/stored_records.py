"""Read raw objects, items, processed lines and quarantined lines of a stage."""

import gzip
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.model.dynamodb import INDEX_NAME, Item
from chalicelib.model.metric_types import METRIC_TYPES

from .deployment import Stage
from .reconciliation import (
    FIXED,
    ProcessedLine,
    RawContent,
    RecordKey,
    StoredItem,
    read_item,
    read_processed_line,
    read_raw,
)

_READ_BATCH = 100
_ITEM = ("metric_id", "timestamp", "source_object", "version", "measurements")


class Stores:
    """The bucket and the table of a stage.

    Thread-safe. Every method raises ClientError or BotoCoreError.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._s3 = stage.client("s3")
        self._bucket = stage.bucket
        self._account_id, self._region = stage.account_id, stage.region

    def content(self, key: str) -> RawContent | None:
        """A raw object; None if it does not exist."""
        try:
            response = self._s3.get_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise
        return read_raw(
            response["Body"].iter_chunks(1 << 18),
            bucket=self._bucket,
            key=key,
            stored_at=response["LastModified"],
            account_id=self._account_id,
            region=self._region,
            max_ahead=self._stage.max_ahead,
        )

    def items(self, keys: Iterable[RecordKey]) -> Iterator[tuple[RecordKey, StoredItem]]:
        """The items with these keys; keys without an item are left out."""
        names = {f"#{number}": name for number, name in enumerate(_ITEM)}
        wanted = list(keys)
        for start in range(0, len(wanted), _READ_BATCH):
            batch: Any = [
                {"metric_id": {"S": each[0]}, "timestamp": {"S": each[1]}}
                for each in wanted[start : start + _READ_BATCH]
            ]
            while batch:
                response = self._stage.client("dynamodb").batch_get_item(
                    RequestItems={
                        self._stage.table: {
                            "Keys": batch,
                            "ConsistentRead": True,
                            "ProjectionExpression": ",".join(names),
                            "ExpressionAttributeNames": names,
                        }
                    }
                )
                yield from map(read_item, response["Responses"].get(self._stage.table, []))
                batch = response.get("UnprocessedKeys", {}).get(self._stage.table, {}).get("Keys")

    def items_of(self, day: date) -> Iterator[Item]:
        """Keys, metric type, host and source of the items of a day."""
        pages = self._stage.client("dynamodb").get_paginator("query")
        for metric_type in METRIC_TYPES:
            for page in pages.paginate(
                TableName=self._stage.table,
                IndexName=INDEX_NAME,
                KeyConditionExpression="metric_type = :type AND begins_with(#time, :day)",
                ProjectionExpression="metric_id, #time, metric_type, resource_id, source_object",
                ExpressionAttributeNames={"#time": "timestamp"},
                ExpressionAttributeValues={":type": {"S": metric_type}, ":day": {"S": f"{day}T"}},
            ):
                yield from page["Items"]

    def keys(self, prefix: str) -> Iterator[str]:
        """The keys with this prefix, except the lists of fixed entries."""
        pages = self._s3.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self._bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                if not entry["Key"].endswith(FIXED):
                    yield entry["Key"]

    def lines(self, key: str) -> Iterator[ProcessedLine]:
        """The lines of a processed object."""
        return (read_processed_line(key, text) for text in self.body(key).splitlines())

    def body(self, key: str) -> bytes:
        """The body of an object, decompressed."""
        body: bytes = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        return gzip.decompress(body) if key.endswith(".gz") else body
