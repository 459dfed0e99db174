"""The page's files, which chalicelib/page holds as they are: no build step.

They go out as text. API Gateway compresses them where a browser takes that
(`minimum_compression_size`); packed here they would be binary to it, and it gives binary bodies
in Base64 to whoever does not name their type in Accept, as a browser's requests for scripts do.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..model.errors import UnknownThingError

START = "index.html"

_FOLDER = Path(__file__).resolve().parents[1] / "page"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}

# Nothing but our own files and answers: no other host, no inline script, no frame around it.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    # Kept by the browser, and asked for each time whether it is still the same.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class File:
    """One of the page's files."""

    text: str
    tag: str
    content_type: str

    def headers(self) -> dict[str, str]:
        return {**_HEADERS, "Content-Type": self.content_type, "ETag": self.tag}

    def is_known_to(self, headers: Mapping[str, str]) -> bool:
        """Whether the asking browser has it already."""
        tags = headers.get("if-none-match", "").split(",")
        # Who compresses on the way makes a weak tag of ours.
        return self.tag in {tag.strip().removeprefix("W/") for tag in tags}


@cache
def names() -> frozenset[str]:
    """The files that there are; nothing else is ever opened."""
    return frozenset(file.name for file in _FOLDER.iterdir() if file.suffix in _TYPES)


def file_of(name: str) -> File:
    """A file by its name.

    Raises:
        UnknownThingError: the page has no such file.
    """
    if name not in names():
        raise UnknownThingError(f"the page has no file {name[:80]!r}")
    return _read(name)


@cache
def _read(name: str) -> File:
    content = (_FOLDER / name).read_bytes()
    tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'
    return File(content.decode(), tag, _TYPES[Path(name).suffix])
