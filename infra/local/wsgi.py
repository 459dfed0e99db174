"""WSGI types and helpers for the middleware in front of moto's server."""

import io
from collections.abc import Callable, Iterable
from typing import Any

# PEP 3333: (environ, start_response) -> body
WsgiApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def read_body(environ: dict[str, Any]) -> bytes:
    """Read the request body and make it available again to the wrapped application."""
    body: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    environ["wsgi.input"] = io.BytesIO(body)
    return body
