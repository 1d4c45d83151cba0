"""Where a session stands, and what its client may say then."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from msgspec import Struct

from antiphon import extension, messages
from antiphon.errors import ErrorCode, GatewayError


class State(Enum):
    """Where a session stands."""

    NEW = auto()
    AUTHENTICATING = auto()
    READY = auto()
    OPENING = auto()
    LIVE = auto()
    CLOSED = auto()

    __hash__ = (
        object.__hash__
    )  # Enum's own is a function of Python's, and states are looked up for every chunk


_HELLO: Final[frozenset[type]] = frozenset({extension.ClientHello})
_ANY_TURN: Final[frozenset[type]] = _HELLO | {
    messages.Auth,
    messages.AudioStreamStart,
    messages.AudioChunk,
    messages.AudioStreamEnd,
    messages.Command,
    extension.AudioStreamStart,
    extension.Ping,
    extension.Pong,
    extension.ActivityStart,
    extension.ActivityEnd,
    extension.Interrupt,
    extension.PlaybackMark,
    extension.ToolResult,
    extension.Provoke,
}

LEGAL: Final[dict[State, frozenset[type]]] = {
    State.NEW: _HELLO | {messages.Auth, extension.Resume},
    State.AUTHENTICATING: frozenset(),
    State.READY: _ANY_TURN,
    State.OPENING: _ANY_TURN,
    State.LIVE: _ANY_TURN,
    State.CLOSED: frozenset(),
}
"""What a client may say when. The shell holds messages back while AUTHENTICATING."""

NOT_ACTIVE: Final[frozenset[type]] = frozenset({extension.Ping, extension.Pong})
"""What does not keep an idle session open."""
NOT_COUNTED: Final[frozenset[type]] = NOT_ACTIVE | {messages.Auth, extension.Resume}
"""What is about the connection rather than the session."""


def out_of_place(message: Struct) -> GatewayError:
    """Return the error that answers what may not be said now."""
    if isinstance(message, extension.Resume):
        sentence = "A resume is the first message of a connection, in place of auth."
        return GatewayError(ErrorCode.PROTOCOL_BAD_MESSAGE, sentence, path="$.type")
    return GatewayError(ErrorCode.AUTH_REQUIRED)
