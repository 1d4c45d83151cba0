"""The answer's way to the client: cut into pieces, encoded if asked for, paced, dropped when stale.

A base client cannot be told to flush its player, so no piece is released more than `LEAD_S` ahead of
the moment it will be heard. When the user barges in, silence then comes by itself. A client that can flush
may have more ahead: `lead_s`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice, takewhile
from typing import Any, ClassVar, Final

from msgspec import msgpack

from antiphon.session.piece import Piece

LEAD_S: Final = 0.25
PIECE_S: Final = 0.1
CRUMB_S: Final = 0.01
"""A piece shorter than this waits so long after the one before for what follows, that it may grow."""

_CHARACTERS_A_SECOND: Final = 100
"""Nobody speaks so fast. Text without its audio counts by it, so that it too is bounded by what may wait."""
_LEAST_COST_S: Final = 0.001
_MAX_TEXT: Final = 4096
"""Characters that wait for the audio they belong to; more of them go out without."""


class Answer:
    """A queue of pieces with the moment each may go out.

    `lead_s` is how far ahead of the ear that may be; pieces of a response after the one that is played have
    only `LEAD_S`, so that it is known which one the user hears. Nothing goes out while `held`.
    """

    KEPT: ClassVar[dict[str, Any]] = {
        "lead_s": float,
        "played_until": float,
        "first": int,
        "_text": str,
        "_rest": bytes,
        "_rate_hz": int,
        "_number": int,
        "_encoding": str | None,
        "_playing": int,
    }

    def __init__(self) -> None:
        self.first = 1
        """The number of the first piece that waits."""
        self.lead_s = LEAD_S
        self.held = False
        self.played_until = 0.0
        """When all that went out will have been heard."""
        self._pieces: deque[Piece] = deque()
        self.unencoded: list[Piece] = []
        """What `take_unencoded()` returns."""
        self.waiting_s = 0.0
        """Seconds of audio that have not gone out yet; text that is longer than its audio counts as more."""
        self._sent_at = float("-inf")
        self._text = ""
        self._rest = b""
        self._rate_hz = 24_000
        self._growing = False
        self._number = 0
        self._encoding: str | None = None
        self._playing = 0

    @property
    def end(self) -> int:
        """The number of the next piece."""
        return self.first + len(self._pieces)

    def entries(self, begin: int) -> list[bytes]:
        """Return the pieces from a number on, as they are written down; none of them changes any more."""
        self._growing = False
        return [msgpack.encode(piece) for piece in islice(self._pieces, max(0, begin - self.first), None)]

    def restore(self, entries: Iterable[bytes]) -> None:
        """Take what was written down, from `first` on."""
        for entry in entries:
            piece = msgpack.decode(entry, type=Piece)
            self._pieces.append(piece)
            self.waiting_s += _cost_s(piece)

    @property
    def release_at(self) -> float:
        """When the next piece may go out; infinity when there is none."""
        if not self._pieces or self.held or self._pieces[0].data is None:
            return float("inf")
        piece = self._pieces[0]
        lead_s = self.lead_s if piece.number == self._playing else min(self.lead_s, LEAD_S)
        due_at = self.played_until + piece.duration_s - lead_s
        # A model may speak in blobs of a few bytes, late: not each of them is a message.
        grows = self._growing and len(self._pieces) == 1 and piece.duration_s < CRUMB_S
        return max(due_at, self._sent_at + CRUMB_S) if grows else due_at

    @property
    def until_text_s(self) -> float:
        """Seconds of what waits, up to the next text: the text that went out last goes on in them."""
        waiting = takewhile(lambda piece: piece.number == self._playing and not piece.text, self._pieces)
        return sum(piece.duration_s for piece in waiting)

    def holds(self, number: int) -> bool:
        """Whether pieces of a response still wait."""
        return any(piece.number == number for piece in self._pieces)

    def begin(self, number: int, encoding: str | None = None) -> None:
        """Begin a response; what is added from now on is of it, and encoded before it goes out."""
        self._number = number
        self._encoding = encoding
        self._growing = False

    def add_text(self, text: str) -> None:
        if self._encoding:
            self._add_rest()  # it was said before this
        self._text += text
        if len(self._text) > _MAX_TEXT:
            self._add(b"")

    def add_audio(self, pcm: bytes, rate_hz: int) -> None:
        if rate_hz != self._rate_hz:
            self._add_rest()
            self._rest, self._rate_hz = b"", rate_hz
        pcm = self._rest + pcm if self._rest else pcm
        size = self._piece_bytes
        # An encoder is given whole pieces: of less than one of its frames it makes nothing.
        unit = size if self._encoding else 2
        whole = len(pcm) // unit * unit
        self._rest = pcm[whole:]
        for start in range(0, whole, size):
            self._add(pcm[start : min(start + size, whole)])

    def finish(self) -> None:
        """End the response: text that no audio followed goes out as a piece of its own."""
        if self._encoding:
            self._add_rest()
        self._rest = b""
        if self._text:
            self._add(b"")
        if self._encoding:
            self._append(Piece(b"", self._rate_hz, "", self._number, self._encoding, last=True))
        self._growing = False
        self._encoding = None

    def drop(self) -> None:
        """Forget everything that has not gone out; no encoder need bother with it."""
        for piece in self._pieces:
            piece.data = piece.data or b""
        self.first += len(self._pieces)
        self._pieces.clear()
        self.unencoded.clear()
        self.waiting_s = 0.0
        self._text = ""
        self._rest = b""
        self._encoding = None

    def heard_until(self, at: float) -> None:
        """Correct the clock: all that went out will have been heard at this time."""
        self.played_until = at

    def take_unencoded(self) -> list[Piece]:
        """Return the pieces to encode, in order; each is returned once, and gets its `data`."""
        taken, self.unencoded = self.unencoded, []
        return taken

    def next_piece(self, now: float) -> Piece | None:
        """Take the next piece if it may go out at `now`."""
        if now < self.release_at:
            return None
        piece = self._pieces.popleft()
        self.first += 1
        self.waiting_s = self.waiting_s - _cost_s(piece) if self._pieces else 0.0
        self._playing = piece.number
        self._sent_at = now
        self.played_until = max(self.played_until, now) + piece.duration_s
        return piece

    @property
    def _piece_bytes(self) -> int:
        return int(self._rate_hz * PIECE_S) * 2

    def _add_rest(self) -> None:
        """Make a piece of what is left of the sound, half a sample apart."""
        whole = len(self._rest) // 2 * 2
        rest, self._rest = self._rest[:whole], self._rest[whole:]
        if rest:
            self._add(rest)

    def _add(self, pcm: bytes) -> None:
        piece = Piece(pcm, self._rate_hz, self._text, self._number, self._encoding)
        self._text = ""
        if self._growing and self._pieces and _continues(self._pieces[-1], piece, self._piece_bytes):
            last = self._pieces.pop()
            self.waiting_s -= _cost_s(last)
            piece = Piece(last.pcm + pcm, last.rate_hz, last.text, last.number)
        self._append(piece)
        self._growing = self._encoding is None

    def _append(self, piece: Piece) -> None:
        if piece.encoding:
            self.unencoded.append(piece)
        else:
            piece.data = piece.pcm
        self._pieces.append(piece)
        self.waiting_s += _cost_s(piece)


def _continues(last: Piece, piece: Piece, limit_bytes: int) -> bool:
    """Whether two pieces are better one: models may speak in blobs of any size."""
    fits = len(last.pcm) + len(piece.pcm) <= limit_bytes
    return fits and last.rate_hz == piece.rate_hz and not piece.text


def _cost_s(piece: Piece) -> float:
    return max(piece.duration_s, len(piece.text) / _CHARACTERS_A_SECOND, _LEAST_COST_S)
