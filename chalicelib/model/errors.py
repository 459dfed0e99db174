"""The errors that chalicelib raises; any other exception is a bug."""

from collections.abc import Sequence


class InfraMonitoringError(Exception):
    """Base class of the errors."""


class SettingsError(InfraMonitoringError):
    """Environment variables are missing or invalid; `problems` has a sentence for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("invalid settings: " + "; ".join(problems))
        self.problems = tuple(problems)


class InvalidEventError(InfraMonitoringError):
    """The event of an invocation is incomplete or unknown."""


class RequestError(InfraMonitoringError):
    """A request to the API failed; the message is for the caller."""


class InvalidRequestError(RequestError):
    """A parameter is invalid."""


class UnknownThingError(RequestError):
    """The metric type, host or query does not exist."""


class BusyError(RequestError):
    """A run is in progress."""


class InvalidRecordError(InfraMonitoringError):
    """Bytes are not a valid record; the message is the reason stored in quarantine."""


class CollectionError(InfraMonitoringError):
    """A source or a metric type could not be collected."""


class StorageError(InfraMonitoringError):
    """An AWS operation failed; `code` is botocore's error code or exception name."""

    def __init__(self, operation: str, target: str, code: str, detail: str) -> None:
        super().__init__(f"{operation} {target}: {code}: {detail}")
        self.operation = operation
        self.target = target
        self.code = code


class ObjectNotFoundError(StorageError):
    """The S3 object does not exist."""


class ObjectChangedError(StorageError):
    """The S3 object was replaced: its ETag differs from the requested one."""


class OutOfTimeError(InfraMonitoringError):
    """The invocation is about to reach its timeout; the next one continues."""
