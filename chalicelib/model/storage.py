"""The protocol of the bucket and the table; `aws.store.MetricStore` implements it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from .dynamodb import Item


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object that is being read.

    `chunks` are its bytes from the requested position on. `size` is the size of the whole object in
    bytes. `etag` differs from that of another object with the same key.
    """

    chunks: Iterator[bytes]
    stored_at: datetime
    size: int
    etag: str


class Store(Protocol):
    """The bucket and the table. Every method raises StorageError."""

    def put_object(self, key: str, body: bytes, *, content_type: str) -> None:
        """Write an object; replaces an object with the same key."""

    def open_object(self, key: str, *, start: int = 0, etag: str = "") -> StoredObject:
        """Read an object as a stream, from the byte `start` on.

        Raises:
            ObjectNotFoundError: the object does not exist.
            ObjectChangedError: the object has another ETag than `etag`.
        """

    def etag(self, key: str) -> str:
        """The ETag of an object; empty if the object does not exist."""

    def insert_raw(self, items: Sequence[Item]) -> int:
        """Write items unless an enriched item with the same key exists; the number written."""

    def put_items(self, items: Sequence[Item]) -> None:
        """Write items with distinct keys; replaces items with the same key."""

    def put_later(self, items: Sequence[Item]) -> int:
        """Write items unless one with a higher precedence exists; the number written."""

    def get_items(self, keys: Sequence[Item], attributes: Sequence[str]) -> list[Item]:
        """The items that exist, read strongly consistent, with these attributes."""
