"""The audio of an answer in another rhythm, and in pieces of another size. Pure: time is passed in."""

from __future__ import annotations

from typing import NamedTuple

from antiphon.engine.faults.kinds import AnswerAudio
from antiphon.engine.faults.messages import BYTES_PER_MS, samples


class Piece(NamedTuple):
    """Audio (24 kHz PCM16), the transcription that begins with it, and when it is due."""

    pcm: bytes
    text: str
    due: float


class Shaper:
    """Takes the audio of one answer after the other, as it is made."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._text = ""
        self._held: list[tuple[bytes, str]] = []
        self._free_at = 0.0
        self._speed: float | str = "as_made"

    def add(self, pcm: bytes, text: str, now: float, shape: AnswerAudio) -> list[Piece]:
        """Take audio; return the pieces that are to be sent."""
        self._speed = shape.speed
        self._rest += pcm
        self._text += text
        size = samples(shape.chunk_ms) if shape.chunk_ms else len(self._rest)
        while self._rest and len(self._rest) >= size:
            self._cut(size)
        return [] if shape.speed == "burst" else self._release(now)

    def flush(self, now: float) -> list[Piece]:
        """Return what is left, once all of it is made."""
        if self._rest:
            self._cut(len(self._rest))
        return self._release(now)

    def drop(self) -> None:
        """Forget what is left."""
        self._rest.clear()
        self._held.clear()
        self._text = ""
        self._free_at = 0.0

    def _cut(self, size: int) -> None:
        self._held.append((bytes(self._rest[:size]), self._text))
        del self._rest[:size]
        self._text = ""

    def _release(self, now: float) -> list[Piece]:
        pieces = []
        for pcm, text in self._held:
            due = now
            if not isinstance(self._speed, str):
                due = max(now, self._free_at)
                self._free_at = due + len(pcm) / BYTES_PER_MS / 1000 / self._speed
            pieces.append(Piece(pcm, text, due))
        self._held.clear()
        return pieces
