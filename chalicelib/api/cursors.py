"""Opaque cursors: where the next page begins, bound to the query that it belongs to. Pure.

A cursor is its content with a digest before it. That is no secret, and needs none: whoever made
one by hand would get what the parameters give to everybody, because it names a position only,
and every query is held to the same limits. The digest is there so that a cursor that was
changed, cut or mixed up is an error and not a wrong page.
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
    """A cursor for what `scope` names (a table's records, an execution's rows)."""
    content = msgspec.json.encode([query, position])
    return base64.urlsafe_b64encode(_digest(scope, content) + content).decode().rstrip("=")


def unseal(scope: str, cursor: str) -> tuple[dict[str, str], Any]:
    """The query and the position of a cursor.

    Raises:
        InvalidRequestError: it is not a cursor of this scope, or was changed.
    """
    try:
        sealed = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        digest, content = sealed[:_DIGEST], sealed[_DIGEST:]
        if digest != _digest(scope, content):
            raise InvalidRequestError("cursor is not one of this query's")
        query, position = msgspec.json.decode(content, type=tuple[dict[str, str], Any])
    except (binascii.Error, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise InvalidRequestError("cursor is not one of this query's") from error
    if cursor != seal(scope, query, position):  # Base64 can say the same in several ways
        raise InvalidRequestError("cursor is not one of this query's")
    return query, position


def agree(cursor: Query, given: Query) -> None:
    """What is given beside a cursor has to be the cursor's own.

    Raises:
        InvalidRequestError: it is something else.
    """
    for name, value in given.items():
        if cursor.get(name) != value:
            raise InvalidRequestError(f"the cursor was made for another {name}")


def _digest(scope: str, content: bytes) -> bytes:
    return hashlib.sha256(scope.encode() + b"\0" + content).digest()[:_DIGEST]
