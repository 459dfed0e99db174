"""What the stores of a stage hold, in the ledger's terms; reads S3 and DynamoDB."""

import gzip
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Any

from botocore.exceptions import ClientError

from chalicelib.model.records import METRIC_TYPES

from .deployment import Stage
from .reconciliation import (
    FIXED,
    Content,
    Identity,
    Line,
    Stored,
    read_item,
    read_line,
    read_raw,
)

_READ_BATCH = 100
_ITEM = ("metric_id", "timestamp", "source_object", "version", "measurements")


class Stores:
    """The raw, processed and quarantined objects of a stage, and its table.

    Every method raises ClientError or BotoCoreError. Several threads may use it at once.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._s3 = stage.client("s3")
        self._bucket = stage.bucket
        self._place = stage.account_id, stage.region

    def content(self, key: str) -> Content | None:
        """What a raw object holds; None if it is not there."""
        try:
            answer = self._s3.get_object(Bucket=self._bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise
        return read_raw(
            answer["Body"].iter_chunks(1 << 18),
            bucket=self._bucket,
            key=key,
            stored_at=answer["LastModified"],
            place=self._place,
            ahead=self._stage.ahead,
        )

    def items(self, identities: Iterable[Identity]) -> Iterator[tuple[Identity, Stored]]:
        """Those of the items that the table holds."""
        names = {f"#{number}": name for number, name in enumerate(_ITEM)}
        wanted = list(identities)
        for start in range(0, len(wanted), _READ_BATCH):
            keys: Any = [
                {"metric_id": {"S": each[0]}, "timestamp": {"S": each[1]}}
                for each in wanted[start : start + _READ_BATCH]
            ]
            while keys:
                answer = self._stage.client("dynamodb").batch_get_item(
                    RequestItems={
                        self._stage.table: {
                            "Keys": keys,
                            "ConsistentRead": True,
                            "ProjectionExpression": ",".join(names),
                            "ExpressionAttributeNames": names,
                        }
                    }
                )
                yield from map(read_item, answer["Responses"].get(self._stage.table, []))
                keys = answer.get("UnprocessedKeys", {}).get(self._stage.table, {}).get("Keys")

    def items_of(self, day: date) -> Iterator[Mapping[str, Any]]:
        """The items of a day, in brief."""
        pages = self._stage.client("dynamodb").get_paginator("query")
        for metric_type in METRIC_TYPES:
            for page in pages.paginate(
                TableName=self._stage.table,
                IndexName="metric_type-timestamp-index",
                KeyConditionExpression="metric_type = :type AND begins_with(#time, :day)",
                ProjectionExpression="metric_id, #time, metric_type, resource_id, source_object",
                ExpressionAttributeNames={"#time": "timestamp"},
                ExpressionAttributeValues={":type": {"S": metric_type}, ":day": {"S": f"{day}T"}},
            ):
                yield from page["Items"]

    def keys(self, prefix: str) -> Iterator[str]:
        """The objects whose keys begin so, but for the marks of what was mended."""
        pages = self._s3.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self._bucket, Prefix=prefix):
            for entry in page.get("Contents", []):
                if not entry["Key"].endswith(FIXED):
                    yield entry["Key"]

    def lines(self, key: str) -> Iterator[Line]:
        """The lines of a processed object."""
        return (read_line(key, text) for text in self.body(key).splitlines())

    def body(self, key: str) -> bytes:
        """An object's bytes, unpacked."""
        body: bytes = self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        return gzip.decompress(body) if key.endswith(".gz") else body
