"""What a conversation wants done; `stream` does it."""

from __future__ import annotations

from msgspec import Struct

from antiphon.engine import wire
from antiphon.engine.chat import Question


class Send(Struct, frozen=True):
    """Send a message to the client."""

    message: wire.ServerMessage


class Say(Struct, frozen=True):
    """Synthesise sentences after those of the same turn; report with `spoke`, and with `generated` after the
    `last`."""

    turn: int
    sentences: tuple[str, ...]
    last: bool = True


class Ask(Struct, frozen=True):
    """Ask the brain; report with `thought`, then `thought_over`, `wants_tools` or `brain_failed`."""

    turn: int
    question: Question


class Hush(Struct, frozen=True):
    """Stop the brain and synthesis, and drop audio that has not been sent."""


class End(Struct, frozen=True):
    """End the connection after what was sent, with a gRPC status by its name."""

    status: str
    sentence: str


Effect = Send | Say | Ask | Hush | End
