"""How many conversations the engine carries, and when it takes no more for the time being.

No I/O and no clock. Those that are open are never ended for it, and one that is renewed is not refused.
"""

from __future__ import annotations

from typing import Final

CONVERSATIONS_A_CORE: Final = 8
"""Measured with `python -m bench.engine`."""

BEHIND_S: Final = 0.5
CAUGHT_UP_S: Final = 0.2
"""Where finals wait longer than this for a thread, no new conversation is taken until they wait less than
that. It is what is left of 1.5 s after the end of speech when the pause that ends it has been waited for and
its text made."""

RETRY_S: Final = 5.0
"""When a client that was refused may try again."""

_SPARE_CALLS: Final = 16


class Admission:
    """Counts of what is open. Who was let in by `call()` or `admit()` goes by its counterpart."""

    def __init__(self, max_conversations: int) -> None:
        self._max_conversations = max_conversations
        # A renewal may come while the connection that it renews is still there.
        self._max_calls = 2 * max_conversations + _SPARE_CALLS
        self._calls = 0
        self._conversations = 0
        self._behind = False

    def call(self) -> str | None:
        """Count a call in, whatever it will want; return a sentence why not."""
        if self._calls >= self._max_calls:
            return "There are too many calls; try again later."
        self._calls += 1
        return None

    def hang_up(self) -> None:
        """Count a call out."""
        self._calls -= 1

    def admit(self, delay_s: float, *, renewal: bool) -> str | None:
        """Count a conversation in; return a sentence why not. `delay_s` is how long finals wait at present.

        One that is renewed is no new one: it is let in at any time.
        """
        self._behind = delay_s > (CAUGHT_UP_S if self._behind else BEHIND_S)
        if not renewal and self._conversations >= self._max_conversations:
            return f"All {self._max_conversations} conversations are taken; try again later."
        if not renewal and self._behind:
            return "The machine is behind with the conversations that it has; try again later."
        self._conversations += 1
        return None

    def leave(self) -> None:
        """Count a conversation out."""
        self._conversations -= 1
