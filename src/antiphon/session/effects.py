"""What a session wants done by its shell. Effects are performed in order."""

from __future__ import annotations

from msgspec import Struct

from antiphon import live
from antiphon.session.answer import Piece
from antiphon.tools.call import Call


class Send(Struct, frozen=True, gc=False):
    """Write a message to the client, as a text frame."""

    message: Struct


class SendBinary(Struct, frozen=True, gc=False):
    """Write a binary frame to the client."""

    data: bytes


class Verify(Struct, frozen=True):
    """Verify a token, then call `authenticated()` or `refused()`."""

    token: str


class Open(Struct, frozen=True):
    """Open a conversation with the model, in place of one that is open; call `opened()` or `failed()`."""

    setup: live.Setup


class Encode(Struct, frozen=True):
    """Encode a piece of the answer, after those that came before it; then call `encoded()`."""

    piece: Piece


class Run(Struct, frozen=True):
    """Have a worker carry out a call, then call `ran()`."""

    call: Call


class Abort(Struct, frozen=True):
    """Cancel the worker of a call."""

    call_id: str


class Close(Struct, frozen=True):
    """Close the client's connection and the conversation with the model."""

    code: int
    reason: str


Effect = Send | SendBinary | Verify | Open | Encode | Run | Abort | Close
