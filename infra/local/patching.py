"""Replacement of attributes of moto's classes and modules.

Every replacement goes through `patch`, from the `install` function of the module that defines it;
`cloud.LocalCloud` calls these functions. Installing again overwrites the earlier replacement, so
a second local cloud in the same process does not call into the first.
"""

from typing import Any

_originals: dict[tuple[Any, str], Any] = {}


def patch(owner: Any, name: str, replacement: Any) -> None:
    """Set an attribute of a moto class or module and keep the original."""
    _originals.setdefault((owner, name), getattr(owner, name, None))
    setattr(owner, name, replacement)


def original(owner: Any, name: str) -> Any:
    """Return moto's own attribute, whether or not it has been replaced."""
    return _originals.get((owner, name)) or getattr(owner, name)
