"""A page as Vite builds it: an index, files named by their content, and things that do not belong to it."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

HTML = "text/html; charset=utf-8"
SCRIPT = "text/javascript; charset=utf-8"


class Part(NamedTuple):
    """What is to be served of a file; `kept` says that browsers may keep it for ever."""

    name: str
    content_type: str
    body: bytes
    kept: bool
    gzipped: bool


INDEX = (
    b'<!doctype html><script type="module" src="./assets/index-D1gest.js"></script>\n' + b"<p>text</p>\n" * 20
)
PARTS = {
    "/": Part("index.html", HTML, INDEX, kept=False, gzipped=True),
    "/assets/index-D1gest.js": Part(
        "assets/index-D1gest.js", SCRIPT, b"speak(1);\n" * 500, kept=True, gzipped=True
    ),
    "/assets/worklet-B2.js": Part("assets/worklet-B2.js", SCRIPT, b";", kept=True, gzipped=False),
    "/assets/style-C3.css": Part(
        "assets/style-C3.css", "text/css; charset=utf-8", b"p {}\n" * 99, kept=True, gzipped=True
    ),
    "/assets/codec-D4.wasm": Part(
        "assets/codec-D4.wasm", "application/wasm", bytes(500), kept=True, gzipped=True
    ),
    "/assets/face-E5.woff2": Part("assets/face-E5.woff2", "font/woff2", bytes(500), kept=True, gzipped=False),
    "/assets/picture-F6.png": Part(
        "assets/picture-F6.png", "image/png", bytes(500), kept=True, gzipped=False
    ),
    "/favicon.svg": Part("favicon.svg", "image/svg+xml", b"<svg/>" * 50, kept=False, gzipped=True),
    "/manifest.json": Part("manifest.json", "application/json", b"{}", kept=False, gzipped=False),
}
NO_PARTS = (".sources", "assets/index-D1gest.js.map", "assets/notes")


def write(folder: Path) -> None:
    """Write the page into a folder."""
    for name, body in [
        *((part.name, part.body) for part in PARTS.values()),
        *((name, b"x") for name in NO_PARTS),
    ]:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(body)
