"""How fast a client sends audio: one that sends much faster than real time is read more slowly."""

from __future__ import annotations

from typing import Final

WINDOW_S: Final = 5.0
TOLD_EVERY_S: Final = 60.0


class Pace:
    """Audio received, against the clock: over `WINDOW_S` at most `speed` times as much as it lasts.

    Times are seconds on the caller's clock.
    """

    def __init__(self, speed: float) -> None:
        self.resume_at = 0.0
        """Until then the client is not to be read."""
        self._speed = speed
        self._begin = float("-inf")
        self._audio_s = 0.0
        self._told_at = float("-inf")

    def add(self, audio_s: float, now: float) -> bool:
        """Note audio; return whether the client is to be told that it is too fast."""
        if now >= self._begin + WINDOW_S:
            self._begin, self._audio_s = now, 0.0
        self._audio_s += audio_s
        if self._audio_s <= self._speed * WINDOW_S:
            return False
        self.resume_at = self._begin + self._audio_s / self._speed
        if now < self._told_at + TOLD_EVERY_S:
            return False
        self._told_at = now
        return True
