"""The errors this package raises; everything else that escapes is a bug."""

from collections.abc import Sequence


class InfraMonitoringError(Exception):
    """Base of every error that this package raises on purpose."""


class SettingsError(InfraMonitoringError):
    """One or more environment variables are missing or bad; `problems` names each of them."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("bad settings: " + "; ".join(problems))
        self.problems = tuple(problems)


class InvalidEventError(InfraMonitoringError):
    """An invocation's event does not say what to do."""


class RequestError(InfraMonitoringError):
    """A request to the API that cannot be answered; the message tells its caller why."""


class InvalidRequestError(RequestError):
    """A parameter is wrong."""


class UnknownThingError(RequestError):
    """There is no such metric type, host or query."""


class BusyError(RequestError):
    """A run is under way."""


class InvalidRecordError(InfraMonitoringError):
    """Bytes that are not a record; the message is the reason kept in quarantine."""


class CollectionError(InfraMonitoringError):
    """A source could not measure, or a metric type could not be collected."""


class StorageError(InfraMonitoringError):
    """AWS refused or failed an operation; `code` is botocore's error code or exception name."""

    def __init__(self, operation: str, target: str, code: str, detail: str) -> None:
        super().__init__(f"{operation} {target}: {code}: {detail}")
        self.operation = operation
        self.target = target
        self.code = code


class ObjectNotFoundError(StorageError):
    """The S3 object is not there (deleted or never written)."""


class ObjectChangedError(StorageError):
    """The S3 object is no longer the one that was asked for: it has been replaced."""


class OutOfTimeError(InfraMonitoringError):
    """The invocation nears its end; what is left is for the next one."""
