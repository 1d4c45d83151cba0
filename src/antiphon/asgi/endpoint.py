"""What a connection of a server of ASGI is answered by a front."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from antiphon.asgi.protocol import Receive, Scope, Send, field, route
from antiphon.asgi.websocket import WebSocket
from antiphon.front import Front
from antiphon.plain import SOCKET_PATH, Answer

_NO_WEBSOCKET: Final = Answer(
    HTTPStatus.UPGRADE_REQUIRED,
    "text/plain",
    b"Only a WebSocket is served here; open it with ws:// or wss://.\n",
)


async def answer(front: Front, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a scope of type `websocket` or `http`, to its end."""
    if scope["type"] == "websocket":
        await WebSocket(front, scope, receive, send).run()
    else:
        await _plain(front, scope, send)


async def _plain(front: Front, scope: Scope, send: Send) -> None:
    method, path = scope["method"], route(scope)
    if path == SOCKET_PATH and method == "GET":
        found, also = _NO_WEBSOCKET, [(b"upgrade", b"websocket")]
    else:
        found, also = front.answer(method, path, field(scope, b"accept-encoding")), []
    headers = [(name.lower().encode(), value.encode()) for name, value in found.headers.items()]
    await send({"type": "http.response.start", "status": found.status.value, "headers": headers + also})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else found.body})
