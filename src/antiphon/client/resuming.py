"""One attempt to go on with a session over a new connection."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Final

import msgspec
from msgspec import UNSET
from websockets import exceptions as ws
from websockets.asyncio.client import ClientConnection

from antiphon import extension, messages
from antiphon.client.dial import dial, drop
from antiphon.client.errors import AuthorizationLost, CannotConnect, Refused, SessionLost
from antiphon.client.reconnect import Fate, fate
from antiphon.errors import DISPOSITIONS, ErrorCode
from antiphon.extension import SUBPROTOCOL, Resume, Resumed

_QUOTA: Final = 4429
_UNAUTHORIZED: Final = (4401, 4403)
_LATER: Final = (408, 425, 429)
"""Of HTTP, beside what begins with a 5: what stands between may be overwhelmed."""


class TryAgain(Exception):  # noqa: N818 (reads as what to do)
    """The attempt failed, and another may not; `after_s` is how long the gateway asks to wait."""

    def __init__(self, sentence: str, after_s: float = 0.0) -> None:
        self.after_s = after_s
        super().__init__(sentence)


class TokenExpired(Exception):  # noqa: N818
    """The attempt failed for want of another token."""


async def resume(
    url: str, timeout_s: float, message: Resume
) -> tuple[ClientConnection, str | bytes, Resumed]:
    """Return an open socket over which the session goes on, and what the gateway answered.

    `timeout_s` bounds the handshake and, again, the wait for the answer.

    Raises:
        TryAgain, TokenExpired: it may be tried again.
        SessionLost: it is of no use to try again.
    """
    try:
        socket = await dial(url, timeout_s, (SUBPROTOCOL,))
    except CannotConnect as error:
        raise TryAgain(str(error)) from None
    except Refused as error:
        if error.status >= 500 or error.status in _LATER:
            raise TryAgain(str(error)) from None
        raise SessionLost(f"The connection was lost. {error}", None, error.code) from None
    async with AsyncExitStack() as stack:
        stack.push_async_callback(drop, socket)
        try:
            async with asyncio.timeout(timeout_s):
                await socket.send(messages.encode(message), text=True)
                frame, answer = await _answer(socket, url)
        except TimeoutError:
            raise TryAgain(f"The gateway at {url} did not answer in {timeout_s:g} seconds.") from None
        except ws.ConnectionClosed:
            raise _failure(socket.close_code, socket.close_reason) from None
        if isinstance(answer, Resumed):
            stack.pop_all()
            return socket, frame, answer
        raise _failure_of(answer)


async def _answer(socket: ClientConnection, url: str) -> tuple[str | bytes, Resumed | messages.Error]:
    while True:
        frame = await socket.recv()
        try:
            answer = extension.decode_server(frame)
        except msgspec.DecodeError:
            answer = None
        match answer:
            case Resumed() | messages.Error():
                return frame, answer
            case extension.ServerPing():
                pass
            case _:
                raise SessionLost(
                    f"The connection was lost. What answers at {url} now does not resume sessions.",
                    None,
                    None,
                )


def _failure_of(error: messages.Error) -> Exception:
    if error.code == ErrorCode.SESSION_RESUME_REFUSED:
        sentence = "The connection was lost, and the gateway has the session no more. Connect anew."
        return SessionLost(sentence, None, error.code)
    after_ms = error.details.retry_after_ms if error.details else UNSET
    return _failure(None, error.code, error.message, 0.0 if after_ms is UNSET else after_ms / 1000)


def _failure(
    close_code: int | None, code: str | None, message: str | None = None, after_s: float = 0.0
) -> Exception:
    """Return what is to be raised of a refusal, by its close code or, where it was told, its error."""
    if code in DISPOSITIONS:
        disposition = DISPOSITIONS[ErrorCode(code)]
        close_code = disposition.close or close_code
        message = message or disposition.message
    else:
        code = None
    sentence = message or f"The gateway closed the connection ({close_code})."
    match fate(close_code, code):
        case Fate.RESUME:
            return TryAgain(sentence, after_s)
        case Fate.RENEW:
            return TokenExpired(sentence)
        case _ if close_code == _QUOTA:
            return TryAgain(sentence, after_s)
        case _:
            kind = AuthorizationLost if close_code in _UNAUTHORIZED else SessionLost
            return kind(f"The connection was lost, and the session cannot be resumed: {sentence}", None, code)
