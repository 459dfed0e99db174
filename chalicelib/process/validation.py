"""What can be decoded, but is no record to store."""

from datetime import datetime

from ..model.items import largest_item
from ..model.records import Record
from ..model.windows import format_utc

# DynamoDB takes 400 KB.
_MAX_ITEM_BYTES = 400_000


def refusal(record: Record, latest: datetime) -> str:
    """Why a record that can be decoded is none to store, or nothing."""
    for name, moment in (("timestamp", record.timestamp), ("collected_at", record.collected_at)):
        if moment is not None and moment > latest:
            return (
                f"its {name} {format_utc(moment)} is in the future: when this object came,"
                f" nothing later than {format_utc(latest)} was taken"
            )
    if (size := largest_item(record)) > _MAX_ITEM_BYTES:
        return (
            f"it has too many measurements or labels for one item of DynamoDB: up to {size} bytes,"
            f" and {_MAX_ITEM_BYTES} are taken"
        )
    return ""
