"""Invoking a function of ours once more."""

from collections.abc import Mapping
from typing import Any

import boto3
import msgspec
from botocore.config import Config

from .errors import translated

_CONFIG = Config(
    connect_timeout=3,
    read_timeout=8,
    parameter_validation=False,
    retries={"mode": "standard", "total_max_attempts": 4},
)


def invoke_later(function: str, event: Mapping[str, Any]) -> None:
    """Invoke a function asynchronously.

    The client is made only here: what hardly any object needs must not cost each cold start.

    Raises:
        StorageError: Lambda did not take it.
    """
    factory: Any = boto3.Session().client
    with translated("invoke", function):
        factory("lambda", config=_CONFIG).invoke(
            FunctionName=function, InvocationType="Event", Payload=msgspec.json.encode(event)
        )
