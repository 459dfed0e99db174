"""List the raw objects of a range of days."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime

from chalicelib.model.object_keys import RAW_PREFIX

from .deployment import Days, Stage, day_of


@dataclass(frozen=True, slots=True)
class RawObject:
    """A raw object; `size` is in bytes."""

    key: str
    stored_at: datetime
    size: int

    @property
    def dated(self) -> bool:
        """Whether the key has a date."""
        return day_of(self.key) is not None

    @property
    def day(self) -> date:
        """The date in the key, or the date of storage if the key has none."""
        return day_of(self.key) or self.stored_at.date()


def list_raw(stage: Stage, days: Days) -> Iterator[RawObject]:
    """The raw objects of these days; lists all keys, 1,000 per request."""
    pages = stage.client("s3").get_paginator("list_objects_v2")
    for page in pages.paginate(Bucket=stage.bucket, Prefix=RAW_PREFIX):
        for entry in page.get("Contents", []):
            raw = RawObject(entry["Key"], entry["LastModified"], entry["Size"])
            if raw.day in days and not raw.key.endswith("/"):
                yield raw
