"""When things came to the gateway, for a client that shows where the time to an answer went.

Times are seconds on the caller's clock. What is not known is None: no time is made up.
"""

from __future__ import annotations

from collections import deque
from typing import Any, ClassVar, Final

MAX_CHUNKS: Final = 512
"""Chunks whose time is known, the latest: ten seconds of them at 20 ms, as much as may wait for the model."""


class Arrivals:
    """When which audio of the session came; places are milliseconds."""

    def __init__(self) -> None:
        self._chunks: deque[tuple[float, float]] = deque(maxlen=MAX_CHUNKS)
        self._known_from_ms = 0.0

    def note(self, begin_ms: float, end_ms: float, now: float) -> None:
        """Note a chunk that has come."""
        if not self._chunks:
            self._known_from_ms = begin_ms
        elif len(self._chunks) == MAX_CHUNKS:
            self._known_from_ms = self._chunks[0][0]
        self._chunks.append((end_ms, now))

    def at(self, place_ms: float) -> float | None:
        """Return when the audio up to a place had come."""
        if place_ms <= self._known_from_ms:
            return None
        return next((at for end_ms, at in self._chunks if end_ms >= place_ms), None)


class UserTurn:
    """The user's last turn, as a response to it is told of it.

    A turn is begun by voice, by the talk button or by typing, and over for these times once the model's turn
    that answered it has ended: what the model says after that answers something else.
    """

    KEPT: ClassVar[dict[str, Any]] = {
        "ended_at": float | None,
        "transcribed_at": float | None,
        "_stream_ended_at": float | None,
        "_typed": bool,
        "_answered": bool,
    }

    def __init__(self) -> None:
        self.ended_at: float | None = None
        """When all that he said, or typed, had come."""
        self.transcribed_at: float | None = None
        """When the last of the transcript came from the model; None where he typed."""
        self._stream_ended_at: float | None = None
        self._typed = False
        self._answered = False
        """Whether a response to it was begun."""

    def begin(self) -> None:
        """Note that the user begins another turn."""
        self.ended_at = self.transcribed_at = None
        self._typed = self._answered = False

    def typed(self, now: float) -> None:
        """Note a typed turn, which is whole."""
        self.begin()
        self.ended_at, self._typed = now, True

    def stream_begun(self) -> None:
        """Note that what is said from now on is of another audio stream."""
        self._stream_ended_at = None

    def stream_ended(self, now: float) -> None:
        """Note that the audio stream is over, and with it what is said in it."""
        self._stream_ended_at = now

    def spoken(self, at: float | None) -> None:
        """Note that the user has ceased to speak; what he said had come `at` this time, if that is known."""
        self.ended_at = at if self._stream_ended_at is None else self._stream_ended_at

    def released(self, now: float) -> None:
        """Note that the talk button was released."""
        self.ended_at = now

    def transcribed(self, now: float) -> None:
        """Note a piece of the transcript; that of what was said before may come after a typed turn."""
        if not self._typed:
            self.transcribed_at = now

    def answer(self) -> None:
        """Note that a response to it is begun."""
        self._answered = True

    def finish(self, *, guessed: bool) -> None:
        """Note that the model's turn has ended. Where turns are `guessed` from their transcripts, which may
        come late, what came meanwhile may be of the one that was answered.
        """
        if self._answered or (guessed and not self._typed):
            self.begin()
