"""botocore's errors, made ours once and for all, with cause and context."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError

from ..model.errors import ObjectChangedError, ObjectNotFoundError, StorageError

_KINDS = {
    "NoSuchKey": ObjectNotFoundError,
    "404": ObjectNotFoundError,  # the answer to HEAD has no body to say more
    "PreconditionFailed": ObjectChangedError,
}


@contextmanager
def translated(operation: str, target: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        code, detail = error.response["Error"]["Code"], error.response["Error"]["Message"]
        raise _KINDS.get(code, StorageError)(operation, target, code, detail) from error
    except BotoCoreError as error:
        raise StorageError(operation, target, type(error).__name__, str(error)) from error
