"""The end of what was said, by both sides: what a model is told that has to begin anew."""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar, Final

from antiphon.live import Turn

MAX_TURNS: Final = 32
MAX_CHARACTERS: Final = 16_000
"""Some 4,000 tokens; a single turn may have a quarter of it."""


class History:
    """The last turns, bounded in number and length."""

    KEPT: ClassVar[dict[str, Any]] = {"_turns": list[Turn], "_characters": int}

    def __init__(self) -> None:
        self._turns: deque[Turn] = deque(maxlen=MAX_TURNS)
        self._characters = 0

    @property
    def turns(self) -> tuple[Turn, ...]:
        return tuple(self._turns)

    def add(self, turn: Turn) -> None:
        """Note a turn; one without words is none. Of a long one the end is kept."""
        text = turn.text.strip()[-MAX_CHARACTERS // 4 :]
        if not text:
            return
        if len(self._turns) == MAX_TURNS:
            self._forget()
        self._turns.append(Turn(turn.role, text))
        self._characters += len(text)
        while self._characters > MAX_CHARACTERS:
            self._forget()

    def _forget(self) -> None:
        self._characters -= len(self._turns.popleft().text)
