"""What a client has seen of its conversation, for the verdict."""

from __future__ import annotations

from typing import Any

from msgspec import Struct, field


class Epoch(Struct):
    """One session, from its `auth_success` on; places are samples of the client's track."""

    session_id: str
    begin: int
    at: float
    sent: int = 0
    """What was handed to the connection, the end of it."""
    acked: int = 0
    """What was acknowledged, the end of it."""
    ended: str = ""
    """Why it could not go on, where it was not the client that ended it."""
    commands: list[str] = field(default_factory=list)
    """Typed turns that were sent before audio that was acknowledged."""


class Resumed(Struct):
    """A session that went on over another connection."""

    at: float
    took_s: float
    """From the beginning of the connection that succeeded to `resumed`."""
    replayed: int
    lossy: bool
    acked: int = 0
    sent: int = 0
    """Audio from `acked` to `sent` had been sent and not been acknowledged; samples of the client's track."""


class Fault(Struct):
    """Something that the protocol does not allow."""

    at: float
    client: int
    what: str


class Diary(Struct):
    """All of one client."""

    client: int
    extended: bool = True
    epochs: list[Epoch] = field(default_factory=list)
    resumed: list[Resumed] = field(default_factory=list)
    rotations: list[dict[str, Any]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    closes: dict[str, int] = field(default_factory=dict)
    """How connections ended: how often by which code, or otherwise."""
    errors: dict[str, int] = field(default_factory=dict)
    refused_handshakes: list[str] = field(default_factory=list)
    messages: int = 0
    unacknowledged_ends: int = 0
    """Streams whose end was not acknowledged although the connection was there."""
    responses: dict[str, int] = field(default_factory=dict)
    """How many ended with which status."""
