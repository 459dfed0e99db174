"""Keys of the objects written for a raw object."""

import hashlib
import re
from datetime import datetime

from ..model.object_keys import PROCESSED_PREFIX, QUARANTINE_PREFIX, RAW_PREFIX

_DATED = re.compile(r"\d{4}/\d{2}/\d{2}/", re.ASCII)
_UNSAFE = re.compile(r"[^\w-]+", re.ASCII)


class OutputKeys:
    """Keys derived from the raw object's key, so that a retry writes the same objects.

    `stem` is the common prefix of their names after the date, unique to the raw object.
    """

    def __init__(self, key: str, stored_at: datetime) -> None:
        tail = key.removeprefix(RAW_PREFIX)
        dated = _DATED.match(tail)
        self.date = dated.group() if dated else f"{stored_at:%Y/%m/%d/}"
        # The digest distinguishes keys that differ only in their folder or in unsafe characters.
        stem = _UNSAFE.sub("_", tail.rpartition("/")[2].partition(".")[0])[:80]
        self.stem = f"{stem}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"

    def processed(self, day: str, batch: int) -> str:
        return f"{PROCESSED_PREFIX}dt={day}/{self.stem}-{batch:05d}.json.gz"

    def quarantine(self, batch: int) -> str:
        return f"{QUARANTINE_PREFIX}{self.date}{self.stem}-{batch:05d}.jsonl"
