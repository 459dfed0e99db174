"""Error messages for botocore's errors."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import BotoCoreError, ClientError

from ..command_line import CommandError


@contextmanager
def aws_errors() -> Iterator[None]:
    """Raise botocore's errors as CommandError; also usable as a decorator."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise CommandError(describe_error(error)) from error


def describe_error(error: Exception) -> str:
    """The error in one line, with the operation and the error code where AWS gave them."""
    if isinstance(error, ClientError):
        detail = error.response["Error"]
        return f"{error.operation_name}: {detail['Code']}: {detail.get('Message', '')}"
    return f"{type(error).__name__}: {error}" if isinstance(error, BotoCoreError) else str(error)
