"""The one translation of botocore's errors to ours; keeps cause and context."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError

from ..model.errors import ObjectChangedError, ObjectNotFoundError, StorageError

_KINDS = {
    "NoSuchKey": ObjectNotFoundError,
    "404": ObjectNotFoundError,  # the response to HEAD has no body with a code
    "PreconditionFailed": ObjectChangedError,
}


@contextmanager
def translated(operation: str, target: str) -> Iterator[None]:
    """Raise botocore's errors as StorageError or a subclass of it."""
    try:
        yield
    except ClientError as error:
        code, detail = error.response["Error"]["Code"], error.response["Error"]["Message"]
        raise _KINDS.get(code, StorageError)(operation, target, code, detail) from error
    except BotoCoreError as error:
        raise StorageError(operation, target, type(error).__name__, str(error)) from error
