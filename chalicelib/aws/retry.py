"""The rule for repeating a request that AWS did not process, or processed in part."""

import random
from collections.abc import Callable
from typing import Any, TypeVar

from ..model.errors import StorageError

ATTEMPTS = 8

_MAX_SECONDS = 2.0

_Request = TypeVar("_Request")


def back_off(attempt: int, *, first_seconds: float = 0.05) -> float:
    """Seconds to wait after an attempt, counted from 0: exponential back-off with full jitter.

    https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/
    """
    limit = min(_MAX_SECONDS, first_seconds * 2**attempt)
    return random.uniform(0, limit)  # nosec B311 # noqa: S311 - not a secret


def send_until_processed(
    request: _Request,
    send: Callable[[_Request], _Request | None],
    *,
    sleep: Callable[[float], None],
    operation: str,
    target: str,
    count: Callable[[Any], int] = len,
) -> None:
    """Call `send` with the request, and again with what it returns as unprocessed.

    Raises:
        StorageError: some of it is unprocessed after every attempt.
    """
    for attempt in range(ATTEMPTS):
        unprocessed = send(request)
        if not unprocessed:
            return
        request = unprocessed
        sleep(back_off(attempt))
    detail = f"{count(request)} left unprocessed after {ATTEMPTS} attempts"
    raise StorageError(operation, target, "Throttled", detail)
