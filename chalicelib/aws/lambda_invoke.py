"""Asynchronous invocation of a function."""

from collections.abc import Mapping
from typing import Any

import msgspec

from .clients import Clients
from .errors import translated


def invoke_later(function: str, event: Mapping[str, Any]) -> None:
    """Invoke a function asynchronously.

    The client is created here: few objects need it, and creating it costs CPU time.

    Raises:
        StorageError: Lambda did not accept the invocation.
    """
    with translated("invoke", function):
        Clients()("lambda").invoke(
            FunctionName=function, InvocationType="Event", Payload=msgspec.json.encode(event)
        )
