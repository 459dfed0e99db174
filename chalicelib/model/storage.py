"""What the use cases need of storage, as a protocol; `aws.MetricStore` is the real one."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from .dynamodb import Item


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object being read: its bytes as `chunks`, and when it was stored.

    `size` is the whole object's in bytes, wherever reading starts; `etag` tells it from
    another one of its key.
    """

    chunks: Iterator[bytes]
    stored_at: datetime
    size: int
    etag: str


class Store(Protocol):
    """The bucket and the table. Every method raises StorageError."""

    def put_object(self, key: str, body: bytes, *, content_type: str) -> None:
        """Write an object, replacing one of that key."""

    def open_object(self, key: str, *, start: int = 0, etag: str = "") -> StoredObject:
        """Read an object as a stream, from a byte of it on.

        Raises:
            ObjectNotFoundError: it is not there.
            ObjectChangedError: it is not the one with `etag`.
        """

    def etag(self, key: str) -> str:
        """What tells an object from another one of its key; empty if it is not there."""

    def insert_raw(self, items: Sequence[Item]) -> int:
        """Write items that no enriched one stands in place of; how many were written."""

    def put_items(self, items: Sequence[Item]) -> None:
        """Write items, replacing those of the same key; keys must differ."""

    def put_later(self, items: Sequence[Item]) -> int:
        """Write items in whose place none of a greater precedence stands; how many were written."""

    def get_items(self, keys: Sequence[Item], attributes: Sequence[str]) -> list[Item]:
        """Those of the keys that exist, strongly consistent, with these attributes."""
