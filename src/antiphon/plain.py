"""What is answered to plain requests, and whose WebSocket is refused: the same before every front."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from antiphon import __version__
from antiphon.errors import DISPOSITIONS, ErrorCode
from antiphon.page import NOT_KEPT, File, Page, takes_gzip

SOCKET_PATH: Final = "/ws"

_NOT_FOUND: Final = b"Not found: the page is /, the WebSocket /ws.\n"
_NO_PAGE: Final = (
    b"The console is not built, so there is no page here; `make setup` in a checkout builds it. "
    b"The WebSocket is /ws.\n"
)

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})
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
    """Status, content type and body of a response, and headers that only this one has."""

    status: HTTPStatus
    content_type: str
    body: bytes
    own_headers: Mapping[str, str] = _NOTHING

    @property
    def headers(self) -> dict[str, str]:
        """The headers that go with it."""
        return {
            **_SECURITY_HEADERS,
            "Content-Type": self.content_type,
            "Content-Length": str(len(self.body)),
            "Cache-Control": NOT_KEPT,
            **self.own_headers,
        }


def answer(
    method: str,
    path: str,
    accept_encoding: str | None,
    *,
    page: Page,
    about: bytes,
    stopping: bool,
    ready: bool,
) -> Answer:
    """Return the answer to a plain request; `about` is the JSON of `About`."""
    if method not in ("GET", "HEAD"):
        return Answer(HTTPStatus.METHOD_NOT_ALLOWED, "text/plain", b"Only GET is served here.\n")
    match path:
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
        case _ if file := page.get(path):
            return _part(file, accept_encoding)
        case "/":
            return Answer(HTTPStatus.NOT_FOUND, "text/plain", _NO_PAGE)
        case _:
            return Answer(HTTPStatus.NOT_FOUND, "text/plain", _NOT_FOUND)


def _part(file: File, accept_encoding: str | None) -> Answer:
    """Return a file of the page, in few bytes to who takes it so."""
    headers = {"Cache-Control": file.cache_control}
    body = file.body
    if file.gzipped is not None:
        headers["Vary"] = "Accept-Encoding"
        if takes_gzip(accept_encoding):
            headers["Content-Encoding"] = "gzip"
            body = file.gzipped
    return Answer(HTTPStatus.OK, file.content_type, body, headers)


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
