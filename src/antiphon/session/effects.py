"""What a session wants done by its shell. Effects are performed in order."""

from __future__ import annotations

from msgspec import Struct

from antiphon import live
from antiphon.extension import Resume
from antiphon.session.outbox import Frame
from antiphon.session.piece import Piece
from antiphon.tools.call import Call


class Send(Struct, frozen=True, gc=False):
    """Write a message to the client, as a text frame; `data` is it as JSON, where that has been made."""

    message: Struct
    data: bytes | None = None


class SendBinary(Struct, frozen=True, gc=False):
    """Write a binary frame to the client."""

    data: bytes


class Again(Struct, frozen=True, gc=False):
    """Write a frame to the client that may have been lost, as it was."""

    frame: Frame


class Find(Struct, frozen=True):
    """Find the session that the client wants to resume, and hand the connection over to it; or call
    `unfound()`.
    """

    request: Resume


class Verify(Struct, frozen=True):
    """Verify a token, then call `authenticated()` or `refused()`."""

    token: str


class Open(Struct, frozen=True):
    """Open a conversation with the model, in place of one that is open; call `opened()` or `lost()`.

    The other is closed first: a model refuses to resume what is still connected.
    """

    setup: live.Setup


class HangUp(Struct, frozen=True):
    """Close the conversation with the model, if one is open."""


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
    """Close the client's connection. The session itself is over where its state says so."""

    code: int
    reason: str


Effect = Send | SendBinary | Again | Find | Verify | Open | HangUp | Encode | Run | Abort | Close
