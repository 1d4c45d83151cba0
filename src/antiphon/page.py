"""The files of the console, as they are served: what `scripts/console` has built into `console/`.

All are found once, when the node starts, and requests only look in that table: no path of a request ever
becomes one of a file.
"""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple

FOLDER: Final = Path(__file__).parent / "console"
INDEX: Final = "index.html"

FOR_EVER: Final = "public, max-age=31536000, immutable"
"""What is below assets/ has a digest of its content in its name, and never changes."""
NOT_KEPT: Final = "no-cache"

_TEXT: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}
_PACKED: Final = {".ico": "image/x-icon", ".png": "image/png", ".webp": "image/webp", ".woff2": "font/woff2"}
"""Formats that are compressed themselves."""
_TYPES: Final = _TEXT | _PACKED


class File(NamedTuple):
    """A file of the page; `gzipped` is the same in fewer bytes, None where it would not be fewer."""

    content_type: str
    cache_control: str
    body: bytes
    gzipped: bytes | None


Page = Mapping[str, File]
"""The files by the paths of their requests; empty where the page is not built."""


@cache
def load(folder: Path) -> Page:
    """Read the page from the folder where it was built. Suffixes of other things (.map) are passed over."""
    if not (folder / INDEX).is_file():
        return MappingProxyType({})
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix in _TYPES and file.is_file():
            path = file.relative_to(folder).as_posix()
            found["/" if path == INDEX else f"/{path}"] = _read(file, path)
    return MappingProxyType(found)


def _read(file: Path, path: str) -> File:
    body = file.read_bytes()
    gzipped = gzip.compress(body, mtime=0) if file.suffix in _TEXT else body
    return File(
        _TYPES[file.suffix],
        FOR_EVER if path.startswith("assets/") else NOT_KEPT,
        body,
        gzipped if len(gzipped) < len(body) else None,
    )


def takes_gzip(accept_encoding: str | None) -> bool:
    """Whether a client takes gzip, by its header (RFC 9110, section 12.5.3); one without it is not asked."""
    weights = {}
    for item in (accept_encoding or "").lower().split(","):
        coding, *parameters = (part.strip() for part in item.split(";"))
        weights[coding] = next((_weight(one) for one in parameters if one.startswith("q=")), 1.0)
    return weights.get("gzip", weights.get("*", 0.0)) > 0.0


def _weight(parameter: str) -> float:
    try:
        return float(parameter.removeprefix("q="))
    except ValueError:
        return 0.0
