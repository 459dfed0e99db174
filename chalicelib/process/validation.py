"""Validation of decoded records before they are stored."""

from datetime import datetime

from ..model.items import largest_item
from ..model.records import Record
from ..model.windows import format_utc

# The limit of DynamoDB.
_MAX_ITEM_BYTES = 400_000


def validate(record: Record, latest: datetime) -> str:
    """Reason why a valid record cannot be stored, or ''.

    `latest` is the upper limit for the record's times.
    """
    for name, moment in (("timestamp", record.timestamp), ("collected_at", record.collected_at)):
        if moment is not None and moment > latest:
            return (
                f"{name} {format_utc(moment)} is in the future: the latest time accepted for this"
                f" object is {format_utc(latest)}"
            )
    if (size := largest_item(record)) > _MAX_ITEM_BYTES:
        return (
            f"too many measurements or labels for one DynamoDB item: up to {size} bytes, the limit"
            f" is {_MAX_ITEM_BYTES}"
        )
    return ""
