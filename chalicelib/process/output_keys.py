"""The keys of what is made of a raw object."""

import hashlib
import re
from datetime import datetime

from ..model.object_keys import PROCESSED_PREFIX, QUARANTINE_PREFIX, RAW_PREFIX

_DATED = re.compile(r"\d{4}/\d{2}/\d{2}/", re.ASCII)
_ODD = re.compile(r"[^\w-]+", re.ASCII)


class Names:
    """The keys of what is made of an object: made of its own key, so that they repeat.

    `stem` begins the names of them all and of nothing else, after the day that they are under.
    """

    def __init__(self, key: str, stored_at: datetime) -> None:
        tail = key.removeprefix(RAW_PREFIX)
        dated = _DATED.match(tail)
        self.date = dated.group() if dated else f"{stored_at:%Y/%m/%d/}"
        # The digest keeps apart keys that differ only in folder or in odd letters.
        stem = _ODD.sub("_", tail.rpartition("/")[2].partition(".")[0])[:80]
        self.stem = f"{stem}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"

    def processed(self, day: str, batch: int) -> str:
        return f"{PROCESSED_PREFIX}dt={day}/{self.stem}-{batch:05d}.json.gz"

    def quarantine(self, batch: int) -> str:
        return f"{QUARANTINE_PREFIX}{self.date}{self.stem}-{batch:05d}.jsonl"
