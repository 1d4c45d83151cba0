"""What is answered to plain requests, and whose WebSocket is refused: the same before every front."""

from __future__ import annotations

from collections.abc import Collection
from http import HTTPStatus
from importlib.resources import files
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from antiphon import __version__
from antiphon.errors import DISPOSITIONS, ErrorCode

SOCKET_PATH: Final = "/ws"

_NOT_FOUND: Final = b"Not found: the page is /, the WebSocket /ws.\n"

_PAGE: Final = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
}
_SECURITY_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; media-src 'self' blob:; worker-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self)",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class About(Struct, frozen=True):
    """What `GET /about` tells: nothing a stranger should not know."""

    upstream: str
    name: str = "antiphon"
    version: str = __version__


class Answer(NamedTuple):
    """Status, content type and body of a response."""

    status: HTTPStatus
    content_type: str
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        """The headers that go with it."""
        return {
            **_SECURITY_HEADERS,
            "Content-Type": self.content_type,
            "Content-Length": str(len(self.body)),
            "Cache-Control": "no-cache",
        }


def answer(method: str, path: str, *, about: bytes, stopping: bool, ready: bool) -> Answer:
    """Return the answer to a plain request; `about` is the JSON of `About`."""
    if method not in ("GET", "HEAD"):
        return Answer(HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", b"Only GET is served here.\n")
    match path:
        case "/" | "/app.js" | "/style.css":
            name, content_type = _PAGE[path]
            body = files("antiphon.console").joinpath(name).read_bytes()
            return Answer(HTTPStatus.OK, content_type, body)
        case "/about":
            return Answer(HTTPStatus.OK, "application/json", about)
        case "/healthz":
            return Answer(HTTPStatus.OK, "text/plain", b"ok\n")
        case "/readyz" if stopping:
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"stopping\n")
        case "/readyz" if not ready:
            return Answer(HTTPStatus.SERVICE_UNAVAILABLE, "text/plain", b"the upstream is not ready\n")
        case "/readyz":
            return Answer(HTTPStatus.OK, "text/plain", b"ready\n")
        case _:
            return Answer(
                HTTPStatus.NOT_FOUND, "text/plain", b"Not found: the page is /, the WebSocket /ws.\n"
            )


def refusal(status: HTTPStatus, code: ErrorCode) -> Answer:
    """Return the answer to a handshake that is refused."""
    body = msgspec.json.encode({"code": code, "message": DISPOSITIONS[code].message})
    return Answer(status, "application/json", body)


def origin_allowed(origin: str | None, host: str | None, origins: Collection[str]) -> bool:
    """Whether a page of this origin may connect. A program that is no browser sends none."""
    if origin is None or "*" in origins or origin in origins:
        return True
    own = _authority(f"{origin.partition(':')[0]}://{host}")
    return own is not None and own == _authority(origin)


def is_forwarded(names: Collection[str]) -> bool:
    """Whether a balancer stands in between that says so; `names` of headers in lower case."""
    return any(name in names for name in ("x-forwarded-for", "forwarded", "via"))


def _authority(url: str) -> tuple[str, int | None] | None:
    """Return host and port of an origin; None where it has none, as `null`."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    return (host, port or {"http": 80, "https": 443}.get(parts.scheme)) if host else None
