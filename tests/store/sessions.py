"""Sessions as the tests save them."""

from __future__ import annotations

import itertools

from antiphon.store import Change, Log

NOTHING = Log(0, 0, whole=True)

_numbers = itertools.count()


def new_id() -> str:
    return f"session-{next(_numbers)}"


def change(
    session_id: str,
    fence: int = 1,
    *,
    log: Log = NOTHING,
    state: bytes = b"state",
    digests: tuple[str, ...] = ("digest",),
    user_id: str = "alice",
) -> Change:
    """Return a change of which only the first log says something."""
    return Change(session_id, user_id, fence, digests, state, (log, NOTHING, NOTHING))
