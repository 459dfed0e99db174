"""Wait for events. Elapsed time is never a result: the limit only ends a test that hangs."""

import time
from collections.abc import Callable
from typing import TypeVar

import pytest

LIMIT_SECONDS = 600

T = TypeVar("T")


def wait_until(check: Callable[[], T], *, every: float = 0.1) -> T:
    """Call `check` until it returns a true value, and return that value."""
    limit = time.monotonic() + LIMIT_SECONDS
    while not (value := check()):
        if time.monotonic() > limit:
            pytest.fail(f"not so after {LIMIT_SECONDS} s; last value: {value!r}")
        time.sleep(every)
    return value
