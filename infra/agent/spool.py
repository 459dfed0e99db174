"""The spool: what the agent measured and S3 has not taken yet, one file for each object."""

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
_ODD = re.compile(r"[^\w.-]", re.ASCII)

# Names end so while a file is being written, and when it turned out not to be what was written.
_PARTIAL = ".tmp"
_CORRUPT = ".corrupt"


class SpoolError(Exception):
    """The spool cannot be used; the message is one line that says why."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A spooled object. `digest` is its content's, so the same bytes always get the same key."""

    time: datetime
    host: str
    digest: str

    @classmethod
    def of(cls, body: bytes, *, host: str, time: datetime) -> "Entry":
        return cls(time.astimezone(UTC), _ODD.sub("_", host)[:80], _digest(body))

    @classmethod
    def from_name(cls, name: str) -> "Entry | None":
        """From a file's name; None for a file that is not the agent's."""
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
        """The file's name; sorts in the order of time."""
        return f"{self.time.strftime(_TIME)}-{self.host}-{self.digest}.json"

    @property
    def key(self) -> str:
        """`raw-metrics/YYYY/MM/DD/agent-<host>-<HHMMSS>-<digest>.json`, in UTC."""
        return (
            f"{RAW_PREFIX}{self.time:%Y/%m/%d}/"
            f"agent-{self.host}-{self.time:%H%M%S}-{self.digest}.json"
        )


class Spool:
    """A folder of entries that one process at a time may use, as a context manager.

    `max_bytes` bounds what the folder holds; beyond it the oldest go, each with a message to
    `log`, and are counted in `dropped`. Files that are not the agent's are never touched.
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
            self._refuse_shared_folder()
            self._lock = self._take_lock()
        except OSError as error:
            raise SpoolError(f"the spool {self._folder} cannot be used: {error}") from error
        for path in self._own(_PARTIAL):
            # Nobody else is writing: this one's writer died.
            self._set_aside(path, "was not written to its end")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._lock)  # which lets go of the lock, as does the end of the process

    def entries(self) -> list[Entry]:
        """What waits to be sent, oldest first."""
        found = (Entry.from_name(path.name) for path in self._own(""))
        return sorted((entry for entry in found if entry), key=lambda entry: entry.name)

    def add(self, entry: Entry, body: bytes) -> None:
        """Write an entry so that it is there whole or not at all, even if the power fails.

        Raises:
            OSError: the disk is full, log; nothing is left of the entry.
        """
        self._make_room(len(body))
        path = self._folder / entry.name
        partial = path.with_name(path.name + _PARTIAL)
        try:
            _write(partial, body)
            partial.rename(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        self._sync_folder()

    def read(self, entry: Entry) -> bytes | None:
        """The bytes of an entry; None, and out of the way, if they are not what was written."""
        path = self._folder / entry.name
        try:
            body = path.read_bytes()
        except OSError as error:
            self._log(f"warning: {path} cannot be read and is left out: {error}")
            return None
        if _digest(body) == entry.digest:
            return body
        self._set_aside(path, "is corrupt: its bytes are not those that were written")
        return None

    def remove(self, entry: Entry) -> None:
        (self._folder / entry.name).unlink()
        self._sync_folder()

    def _own(self, suffix: str) -> list[Path]:
        return [
            path
            for path in self._folder.iterdir()
            if path.name.endswith(suffix) and Entry.from_name(path.name.removesuffix(suffix))
        ]

    def _make_room(self, size: int) -> None:
        waiting = [self._folder / entry.name for entry in self.entries()]
        candidates = [*sorted(self._own(_CORRUPT)), *waiting]
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
        entry_name = path.name.removesuffix(_PARTIAL)
        path.rename(path.with_name(entry_name + _CORRUPT))
        self._log(f"warning: {path} {reason}; kept as {entry_name}{_CORRUPT}, not sent")

    def _refuse_shared_folder(self) -> None:
        """Whoever may write here could have anything sent with the agent's credentials."""
        status = self._folder.stat()
        if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise SpoolError(
                f"the spool {self._folder} belongs to, or can be written by, others:"
                " choose a folder of the agent's own with --spool"
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
        with contextlib.suppress(OSError):  # a full disk: the lock holds, its text does not matter
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
    """`infra-monitoring/spool` in `XDG_STATE_HOME` or, without one, in `~/.local/state`.

    Raises:
        SpoolError: this user has no home directory.
    """
    state = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not state.is_absolute():  # the specification of XDG: a relative path is to be ignored
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
