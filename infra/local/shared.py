"""What the local cloud's parts share: clients, web applications, and loops that go on."""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from botocore.exceptions import ClientError

from .errors import LocalCloudError

# (service) -> the administrator's client; (service, role ARN) -> one under a role
Clients = Callable[..., Any]

# As PEP 3333 has it: (environ, start_response) -> the body
Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_LOG = logging.getLogger(__name__)


@contextlib.contextmanager
def log_and_continue(name: str) -> Iterator[None]:
    """What is deleted meanwhile fails alone: the loop that came by it has others to serve."""
    try:
        yield
    except (ClientError, LocalCloudError) as error:
        _LOG.warning("%s: %s", name, error)
