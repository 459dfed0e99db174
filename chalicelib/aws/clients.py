"""Clients that are made when they are first needed, and then kept."""

import threading
from typing import Any

import boto3
from botocore.config import Config

# Parameters are built in this package and nowhere else. Time-outs leave room for a retry.
_CONFIG = Config(
    connect_timeout=3,
    read_timeout=8,
    max_pool_connections=32,
    parameter_validation=False,
    retries={"mode": "standard", "total_max_attempts": 4},
)


class Clients:
    """Clients on the credentials, region and endpoint of the environment, by service."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[str, Any] = {}

    def __call__(self, service: str) -> Any:
        with self._lock:  # sessions are not for several threads at once
            if service not in self._made:
                factory: Any = boto3.Session().client
                self._made[service] = factory(service, config=_CONFIG)
            return self._made[service]
