"""Log lines: one JSON object each, so that CloudWatch Logs Insights finds its fields."""

from typing import Any

import msgspec


def line(message: str, **fields: Any) -> str:
    """`message` and the fields as one line of JSON."""
    return msgspec.json.encode({"message": message, **fields}).decode()
