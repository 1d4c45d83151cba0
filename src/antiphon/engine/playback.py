"""The audio of an answer: cut into pieces, and how long it will have been playing."""

from __future__ import annotations

from typing import Final, NamedTuple

RATE_HZ: Final = 24_000
PIECE_S: Final = 0.16

_BYTES_PER_S: Final = 2 * RATE_HZ
_PIECE_BYTES: Final = int(PIECE_S * RATE_HZ) * 2


class Piece(NamedTuple):
    """Mono PCM16 at `RATE_HZ`, and the sentence that begins with it, if one does."""

    pcm: bytes
    text: str


class Playback:
    """One answer after the other, as a client plays it that began at once and never paused.

    `over_at` is when that would be over, `total_bytes` the audio that was handed out, of all answers.
    """

    def __init__(self) -> None:
        self.over_at = 0.0
        self.total_bytes = 0
        self._begin = True
        self._rest = bytearray()
        self._text = ""
        self._starts: list[tuple[float, str]] = []

    def begin(self, now: float) -> None:
        """Begin a new answer; what is left of the last one is dropped."""
        self.over_at = now
        self._begin = True
        self._rest.clear()
        self._text = ""
        self._starts.clear()

    def begun(self, now: float) -> list[str]:
        """Return the sentences of the present answer that have begun to be played."""
        return [text for at, text in self._starts if at < now]

    def add(self, pcm: bytes, text: str, now: float) -> list[Piece]:
        """Take audio, with the sentence that begins with it, if one does; return the pieces that are full."""
        pieces = []
        if text:
            pieces = self.flush()
            self._text = text if self._begin else f" {text}"
            self._begin = False
            self._starts.append((max(self.over_at, now), text))
        self._rest += pcm
        self.over_at = max(self.over_at, now) + len(pcm) / _BYTES_PER_S
        while len(self._rest) >= _PIECE_BYTES:
            pieces.append(self._take(_PIECE_BYTES))
        return pieces

    def flush(self) -> list[Piece]:
        """Return what is left."""
        return [self._take(len(self._rest))] if self._rest else []

    def _take(self, size: int) -> Piece:
        pcm = bytes(self._rest[:size])
        del self._rest[:size]
        text, self._text = self._text, ""
        self.total_bytes += size
        return Piece(pcm, text)
