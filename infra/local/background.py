"""Error handling for loops in background threads."""

import contextlib
import logging
from collections.abc import Iterator

from botocore.exceptions import ClientError

from .errors import LocalCloudError

_LOG = logging.getLogger(__name__)


@contextlib.contextmanager
def log_and_continue(name: str) -> Iterator[None]:
    """Log an error about one resource, for example a deleted one, and continue with the next."""
    try:
        yield
    except (ClientError, LocalCloudError) as error:
        _LOG.warning("%s: %s", name, error)
