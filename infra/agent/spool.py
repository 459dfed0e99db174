"""The spool: a directory with the objects that are not in S3 yet, one file for each."""

import contextlib
import fcntl
import hashlib
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from chalicelib.model.object_keys import RAW_PREFIX

_TIME = "%Y%m%dT%H%M%S.%fZ"
_NAME = re.compile(r"(\d{8}T\d{6}\.\d{6}Z)-([\w.-]{1,80})-([0-9a-f]{12})\.json", re.ASCII)
_UNSAFE = re.compile(r"[^\w.-]", re.ASCII)

# Suffixes of files that are being written, and of files whose content is damaged.
_PARTIAL = ".tmp"
_CORRUPT = ".corrupt"


class SpoolError(Exception):
    """The spool cannot be used; the message is one line."""


@dataclass(frozen=True, slots=True)
class SpooledObject:
    """An object in the spool; `digest` is part of the key, so that a repeated send overwrites."""

    time: datetime
    host: str
    digest: str

    @classmethod
    def of(cls, body: bytes, *, host: str, time: datetime) -> "SpooledObject":
        return cls(time.astimezone(UTC), _UNSAFE.sub("_", host)[:80], _digest(body))

    @classmethod
    def from_name(cls, name: str) -> "SpooledObject | None":
        """Parse a file name; None for a file that the agent did not write."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        try:
            time = datetime.strptime(match[1], _TIME).replace(tzinfo=UTC)
        except ValueError:
            return None
        return cls(time, match[2], match[3])

    @property
    def name(self) -> str:
        """The file's name; names sort by time."""
        return f"{self.time.strftime(_TIME)}-{self.host}-{self.digest}.json"

    @property
    def key(self) -> str:
        """The S3 key: `raw-metrics/YYYY/MM/DD/agent-<host>-<HHMMSS>-<digest>.json`, in UTC."""
        return (
            f"{RAW_PREFIX}{self.time:%Y/%m/%d}/"
            f"agent-{self.host}-{self.time:%H%M%S}-{self.digest}.json"
        )


class Spool:
    """A directory of objects, locked for one process while the context manager is open.

    Above `max_bytes` the oldest objects are dropped, logged and counted in `dropped`. Files that
    the agent did not write are never touched.
    """

    def __init__(self, folder: Path, *, max_bytes: int, log: Callable[[str], None]) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._log = log
        self._lock = -1
        self.dropped = 0

    def __enter__(self) -> Self:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_permissions()
            self._lock = self._take_lock()
        except OSError as error:
            raise SpoolError(f"the spool {self._folder} cannot be used: {error}") from error
        for path in self._files(_PARTIAL):
            # The lock is held, so the process that was writing this file has died.
            self._set_aside(path, "is incomplete")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._lock)  # releases the lock, as the end of the process does

    def objects(self) -> list[SpooledObject]:
        """The objects to send, oldest first."""
        found = (SpooledObject.from_name(path.name) for path in self._files(""))
        return sorted((each for each in found if each), key=lambda each: each.name)

    def add(self, spooled: SpooledObject, body: bytes) -> None:
        """Write an object atomically and durably, so that a power failure leaves no partial file.

        Raises:
            OSError: the disk is full, for example; no file is left behind.
        """
        self._make_room(len(body))
        path = self._folder / spooled.name
        partial = path.with_name(path.name + _PARTIAL)
        try:
            _write(partial, body)
            partial.rename(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        self._sync_folder()

    def read(self, spooled: SpooledObject) -> bytes | None:
        """The body of an object; None if it cannot be read, or is damaged and was set aside."""
        path = self._folder / spooled.name
        try:
            body = path.read_bytes()
        except OSError as error:
            self._log(f"warning: {path} cannot be read and is skipped: {error}")
            return None
        if _digest(body) == spooled.digest:
            return body
        self._set_aside(path, "is corrupt: its checksum does not match")
        return None

    def remove(self, spooled: SpooledObject) -> None:
        (self._folder / spooled.name).unlink()
        self._sync_folder()

    def _files(self, suffix: str) -> list[Path]:
        return [
            path
            for path in self._folder.iterdir()
            if path.name.endswith(suffix)
            and SpooledObject.from_name(path.name.removesuffix(suffix))
        ]

    def _make_room(self, size: int) -> None:
        waiting = [self._folder / each.name for each in self.objects()]
        candidates = [*sorted(self._files(_CORRUPT)), *waiting]
        excess = size - self._max_bytes + sum(path.stat().st_size for path in candidates)
        while excess > 0 and candidates:
            oldest = candidates.pop(0)
            excess -= oldest.stat().st_size
            oldest.unlink()
            self.dropped += 1
            self._log(
                f"WARNING: DROPPED {oldest.name}, never sent: the spool {self._folder} is full"
                f" ({self._max_bytes:,} bytes, --max-spool-mb)"
            )

    def _set_aside(self, path: Path, reason: str) -> None:
        name = path.name.removesuffix(_PARTIAL) + _CORRUPT
        path.rename(path.with_name(name))
        self._log(f"warning: {path} {reason}; kept as {name}, not sent")

    def _check_permissions(self) -> None:
        """A user who can write to the spool can send any object with the agent's credentials."""
        status = self._folder.stat()
        if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise SpoolError(
                f"the spool {self._folder} is owned or writable by another user:"
                " choose a private directory with --spool"
            )

    def _take_lock(self) -> int:
        lock = os.open(self._folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(lock, 20, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(lock)
            raise SpoolError(
                f"another agent (process {owner}) is using the spool {self._folder}"
            ) from error
        with contextlib.suppress(
            OSError
        ):  # the disk is full; the lock works without the process id
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(os.getpid()).encode(), 0)
        return lock

    def _sync_folder(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def default_folder() -> Path:
    """`infra-monitoring/spool` in `XDG_STATE_HOME`, which defaults to `~/.local/state`.

    Raises:
        SpoolError: this user has no home directory.
    """
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():  # the XDG specification: ignore relative paths
        try:
            state = Path.home() / ".local" / "state"
        except RuntimeError as error:
            raise SpoolError("this user has no home directory: give --spool") from error
    return state / "infra-monitoring" / "spool"


def _write(path: Path, body: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(file, "wb") as stream:
        stream.write(body)
        stream.flush()
        os.fsync(stream.fileno())


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:12]
