"""The answer's way to the client: cut into pieces, paced, dropped when stale.

A base client cannot be told to flush its player, so no piece is released more than `LEAD_S` ahead of
the moment it will be heard. When the user barges in, silence then comes by itself.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from msgspec import Struct

LEAD_S: Final = 0.25
PIECE_S: Final = 0.1

_CHARACTERS_A_SECOND: Final = 100
"""Nobody speaks so fast. Text without its audio counts by it, so that it too is bounded by what may wait."""
_LEAST_COST_S: Final = 0.001
_MAX_TEXT: Final = 4096
"""Characters that wait for the audio they belong to; more of them go out without."""


class Piece(Struct, frozen=True, gc=False):
    """A piece of the answer: mono PCM16 at `rate_hz`, and the text that is said from here on."""

    pcm: bytes
    rate_hz: int
    text: str

    @property
    def duration_s(self) -> float:
        return len(self.pcm) / 2 / self.rate_hz

    @property
    def duration_ms(self) -> float:
        return round(self.duration_s * 1000, 3)

    @property
    def format(self) -> str:
        return f"audio/pcm;rate={self.rate_hz}"


class Answer:
    """A queue of pieces with the moment each may go out."""

    def __init__(self) -> None:
        self._pieces: deque[Piece] = deque()
        self._waiting_s = 0.0
        self._text = ""
        self._rest = b""
        self._rate_hz = 24_000
        self._played_until = 0.0
        self._superseded = False
        self._growing = False

    @property
    def waiting_s(self) -> float:
        """Seconds of audio that have not gone out yet; text that is longer than its audio counts as more."""
        return self._waiting_s

    @property
    def release_at(self) -> float:
        """When the next piece may go out; infinity when there is none."""
        if not self._pieces:
            return float("inf")
        return self._played_until + self._pieces[0].duration_s - LEAD_S

    def begin(self) -> None:
        """Note a new turn of the model: drop what the user has meanwhile spoken over."""
        if self._superseded:
            self.drop()
        self._superseded = False

    def supersede(self) -> None:
        """Note a new turn of the user: what still waits is stale once the model answers that."""
        self._superseded = bool(self._pieces)

    def add_text(self, text: str) -> None:
        self._text += text
        if len(self._text) > _MAX_TEXT:
            self._add(b"")

    def add_audio(self, pcm: bytes, rate_hz: int) -> None:
        if rate_hz != self._rate_hz:
            self._rest, self._rate_hz = b"", rate_hz
        pcm = self._rest + pcm if self._rest else pcm
        whole = len(pcm) // 2 * 2
        self._rest = pcm[whole:]
        size = self._piece_bytes
        for start in range(0, whole, size):
            self._add(pcm[start : min(start + size, whole)])

    def end(self) -> None:
        """End the turn: text that no audio followed goes out as a piece of its own."""
        self._rest = b""
        if self._text:
            self._add(b"")
        self._growing = False

    def drop(self) -> None:
        """Forget everything that has not gone out."""
        self._pieces.clear()
        self._waiting_s = 0.0
        self._text = ""
        self._rest = b""
        self._superseded = False

    def next_piece(self, now: float) -> Piece | None:
        """Take the next piece if it may go out at `now`."""
        if now < self.release_at:
            return None
        piece = self._pieces.popleft()
        self._waiting_s = self._waiting_s - _cost_s(piece) if self._pieces else 0.0
        self._played_until = max(self._played_until, now) + piece.duration_s
        return piece

    @property
    def _piece_bytes(self) -> int:
        return int(self._rate_hz * PIECE_S) * 2

    def _add(self, pcm: bytes) -> None:
        piece = Piece(pcm, self._rate_hz, self._text)
        self._text = ""
        if self._growing and self._pieces and _continues(self._pieces[-1], piece, self._piece_bytes):
            last = self._pieces.pop()
            self._waiting_s -= _cost_s(last)
            piece = Piece(last.pcm + pcm, last.rate_hz, last.text)
        self._pieces.append(piece)
        self._waiting_s += _cost_s(piece)
        self._growing = True


def _continues(last: Piece, piece: Piece, limit_bytes: int) -> bool:
    """Whether two pieces are better one: models may speak in blobs of any size."""
    fits = len(last.pcm) + len(piece.pcm) <= limit_bytes
    return fits and last.rate_hz == piece.rate_hz and not piece.text


def _cost_s(piece: Piece) -> float:
    return max(piece.duration_s, len(piece.text) / _CHARACTERS_A_SECOND, _LEAST_COST_S)
