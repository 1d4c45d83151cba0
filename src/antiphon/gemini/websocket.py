"""The sockets that the WebSocket form of Gemini is spoken over: how they end, and what that means."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final

import websockets
from google.auth.exceptions import GoogleAuthError
from websockets.asyncio.client import ClientConnection

from antiphon.errors import DISPOSITIONS, ErrorCode, GatewayError
from antiphon.gemini import json_form as gemini_json
from antiphon.gemini.upstream import MAX_MESSAGE_BYTES, QUOTA_RETRY_AFTER_MS, QUOTA_RETRY_AT_MOST_MS

QUEUED_FRAMES: Final = 4
"""Frames that may wait to be read; then nothing more is taken from the network."""
CLOSE_TIMEOUT_S: Final = 1.0

_log = logging.getLogger(__name__)


class Socket(ClientConnection):
    """A connection that ends when it is to, and that the task which has it opened gets hold of.

    google-genai keeps it to itself.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if (sockets := opened.get(None)) is not None:
            sockets.append(self)

    def data_received(self, data: bytes) -> None:
        """Take the service's word for the end, however long it keeps the connection."""
        ending = self.protocol.close_rcvd
        super().data_received(data)
        if self.protocol.close_rcvd and not ending:
            self.transport.close()
            self.loop.call_later(CLOSE_TIMEOUT_S, self.transport.abort)

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Close within a second, also where the service takes nothing any more."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await super().close(code, reason)
        finally:
            self.transport.abort()


opened: ContextVar[list[Socket]] = ContextVar("opened")
"""Where a task wants the sockets noted that it has opened."""

SOCKET_OPTIONS: Final[dict[str, Any]] = {
    "compression": None,  # base64 of sound hardly shrinks
    "open_timeout": None,  # the set-up as a whole has one
    "create_connection": Socket,
    "close_timeout": CLOSE_TIMEOUT_S,
    "max_size": MAX_MESSAGE_BYTES,
    "max_queue": QUEUED_FRAMES,
    "ping_timeout": None,  # while nothing is read, no answer to a ping is, either
    "user_agent_header": "antiphon",
}


def describe(error: BaseException) -> str | None:
    """Return how the service ended or refused a conversation, for the operator; None for any other error."""
    match error:
        case websockets.ConnectionClosed(rcvd=received):
            return f"closed with {received.code}: {received.reason}" if received else "the connection broke"
        case websockets.InvalidStatus(response=response):
            return f"HTTP {response.status_code}"
        case OSError() | websockets.WebSocketException() | GoogleAuthError():
            return str(error)
        case _:
            return None


def gateway_error(error: BaseException) -> GatewayError:
    """Return what the end of a connection or a refused handshake means to a client."""
    details: dict[str, Any] = {}
    match error:
        case websockets.ConnectionClosed(rcvd=received):
            close = received or websockets.frames.Close(1006, "")
            code = gemini_json.close_meaning(close.code, close.reason)
        case websockets.InvalidStatus(response=response):
            code = gemini_json.refusal_meaning(response.status_code)
        case _:
            code = ErrorCode.UPSTREAM_LOST
    if DISPOSITIONS[code].retryable:
        _log.info("The upstream ended a conversation: %s", describe(error))
    else:
        _log.error("The upstream refused a conversation: %s", describe(error))
    if code is ErrorCode.UPSTREAM_QUOTA:
        details["retryAfterMs"] = _retry_after_ms(error)
    return GatewayError(code, **details)


def _retry_after_ms(error: BaseException) -> int:
    said = (
        error.response.headers.get("Retry-After", "") if isinstance(error, websockets.InvalidStatus) else ""
    )
    wait_ms = int(said) * 1000 if said.isascii() and said.isdigit() and len(said) < 10 else 0
    return min(wait_ms, QUOTA_RETRY_AT_MOST_MS) or QUOTA_RETRY_AFTER_MS
