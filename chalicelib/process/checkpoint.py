"""The event of a raw object, and the checkpoint from which the next invocation resumes it.

See docs/adr/0009-an-object-is-read-on-by-the-next-invocation.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Struct

from .parsing import Position


class Checkpoint(Struct, frozen=True, kw_only=True):
    """The progress of all invocations so far; the event carries it in `detail.resume`.

    `batch` is the number of the next batch. `rejected_bytes` is the approximate size in
    quarantine of all rejected entries.
    """

    etag: str
    position: Position
    batch: int = 0
    continuation: int = 0
    records: int = 0
    rejected: int = 0
    rejected_bytes: int = 0

    @property
    def start(self) -> int:
        """The first byte of the object to fetch. Gzip can only be read from the beginning."""
        return 0 if self.position.compressed else self.position.offset


BEGINNING = Checkpoint(etag="", position=Position())


@dataclass(frozen=True, slots=True)
class RawObjectEvent:
    """A raw object from an S3 "Object Created" event, and the checkpoint to resume from."""

    bucket: str
    key: str
    account_id: str
    region: str
    checkpoint: Checkpoint = BEGINNING

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> "RawObjectEvent":
        """Parse an EventBridge event. Unlike in S3 notifications, its key is not URL-encoded."""
        resume = event["detail"].get("resume")
        return cls(
            bucket=event["detail"]["bucket"]["name"],
            key=event["detail"]["object"]["key"],
            account_id=event["account"],
            region=event["region"],
            checkpoint=msgspec.convert(resume, Checkpoint) if resume else BEGINNING,
        )

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


def resume_event(event: Mapping[str, Any], checkpoint: Checkpoint) -> dict[str, Any]:
    """The event that processes the same object from the checkpoint on."""
    resume = msgspec.to_builtins(checkpoint)
    return {**event, "detail": {**event["detail"], "resume": resume}}
