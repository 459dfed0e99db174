"""Opaque cursors: the position of the next page, bound to its query. Pure functions.

A cursor is its content, preceded by a digest. The digest is not a secret and does not need to be:
a forged cursor contains only a position, and gives access to nothing that the parameters do not.
It makes a changed, truncated or swapped cursor an error instead of a wrong page.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from ..model.errors import InvalidRequestError

_DIGEST = 12

Query = Mapping[str, str]


def seal(scope: str, query: Query, position: Any) -> str:
    """A cursor for `scope`, for example a table's records or an execution's rows."""
    content = msgspec.json.encode([query, position])
    return base64.urlsafe_b64encode(_digest(scope, content) + content).decode().rstrip("=")


def unseal(scope: str, cursor: str) -> tuple[dict[str, str], Any]:
    """The query and the position of a cursor.

    Raises:
        InvalidRequestError: the cursor belongs to another scope, or was changed.
    """
    try:
        sealed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        digest, content = sealed[:_DIGEST], sealed[_DIGEST:]
        if digest != _digest(scope, content):
            raise InvalidRequestError("cursor does not belong to this query")
        query, position = msgspec.json.decode(content, type=tuple[dict[str, str], Any])
    except (binascii.Error, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise InvalidRequestError("cursor does not belong to this query") from error
    if cursor != seal(scope, query, position):  # Base64 has several encodings of the same bytes
        raise InvalidRequestError("cursor does not belong to this query")
    return query, position


def check_same(cursor: Query, query_params: Query) -> None:
    """Check that parameters given together with a cursor equal those of the cursor.

    Raises:
        InvalidRequestError: one is different.
    """
    for name, value in query_params.items():
        if cursor.get(name) != value:
            raise InvalidRequestError(f"the cursor was made for another {name}")


def _digest(scope: str, content: bytes) -> bytes:
    return hashlib.sha256(scope.encode() + b"\0" + content).digest()[:_DIGEST]
