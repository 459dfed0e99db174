"""The one configuration of boto3 clients, and a cache of clients by service."""

import threading
from typing import Any

import boto3
from botocore.config import Config

# The adapters build every parameter themselves, so botocore does not validate them again: that
# saves a third of the CPU time of writing an item. The timeouts leave time for a retry within 30 s.
CONFIG = Config(
    connect_timeout=3,
    read_timeout=8,
    max_pool_connections=32,
    parameter_validation=False,
    retries={"mode": "standard", "total_max_attempts": 4},
)


class Clients:
    """Clients by service name, created at first use and kept; safe to use from several threads.

    Without `options` (region and credentials, as boto3 names them) they use the environment's.
    Pass one session to several caches to share its service models, which take megabytes each.
    """

    def __init__(self, session: boto3.Session | None = None, **options: str) -> None:
        self._session = session
        self._options = options
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}

    def __call__(self, service: str) -> Any:
        with self._lock:  # a session must not be used by several threads at once
            if service not in self._clients:
                self._session = self._session or boto3.Session()
                factory: Any = self._session.client
                self._clients[service] = factory(service, config=CONFIG, **self._options)
            return self._clients[service]
