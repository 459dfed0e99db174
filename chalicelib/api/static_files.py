"""The page's files in chalicelib/page, which has no build step.

They are returned as text. API Gateway compresses them if the browser accepts that
(`minimum_compression_size`). Compressed here they would be binary to API Gateway, which returns
binary bodies as Base64 unless the Accept header names their type, and a browser's requests for
scripts do not.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..model.errors import UnknownThingError

INDEX = "index.html"

_FOLDER = Path(__file__).resolve().parents[1] / "page"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}

# Only our own files and responses: no other host, no inline script, no embedding in a frame.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    # The browser caches the file and revalidates it at each use.
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

    def is_cached_by(self, headers: Mapping[str, str]) -> bool:
        """Whether the browser that sent these headers has the file in its cache."""
        tags = headers.get("if-none-match", "").split(",")
        # Compression on the way turns the tag into a weak one.
        return self.tag in {tag.strip().removeprefix("W/") for tag in tags}


@cache
def names() -> frozenset[str]:
    """The names of the files; no other file is ever opened."""
    return frozenset(file.name for file in _FOLDER.iterdir() if file.suffix in _TYPES)


def get_file(name: str) -> File:
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
