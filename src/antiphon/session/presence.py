"""The client of a session, on one connection after the other, or gone for now.

What was sent to it is numbered and kept (`outbox`), what came from it is counted, and the audio that is safe
is acknowledged. A resume token is good once. While nothing shows that a client has had the answer to its
resume, with the next token in it, the spent one is good again, should that connection be lost.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any, ClassVar, Final

from antiphon.session.outbox import Outbox

ACK_EVERY_MS: Final = 250.0
"""So much audio comes between two acknowledgements."""


def digest(token: str) -> str:
    """Return what is kept of a resume token."""
    return sha256(token.encode()).hexdigest()


class Presence:
    """Whether the client is there, and what it has had and has sent."""

    KEPT: ClassVar[dict[str, Any]] = {
        "received": int,
        "outbox": Outbox,
        "streams": int,
        "_sequence": int | None,
    }

    def __init__(self) -> None:
        self.attached = True
        self.detached_at = float("inf")
        self.left = False
        """Whether it has said that it goes."""
        self.outbox = Outbox()
        self.received = 0
        """The client's messages that have come, auth, resume, ping and pong apart."""
        self.token = ""
        """The resume token that is good, as far as it is known here."""
        self.digests: tuple[str, ...] = ()
        """Of the tokens that are good: the last, and that before it while the last may not have come."""
        self.streams = 0
        """How many streams there were: each numbers its chunks anew."""
        self._sequence: int | None = None
        self._safe: int | None = None
        self._acked: int | None = None
        self._unacked_ms = 0.0
        self._at_once = False
        """Whether the stream is over, so that its last chunk is acknowledged as soon as it is safe."""

    # ---- connections

    def issue(self, token: str) -> None:
        """Give the client its first resume token."""
        self.token, self.digests = token, (digest(token),)

    def admits(self, resume_digest: str) -> bool:
        """Whether a token is good; the spent one is while its connection is not."""
        good = self.digests[:1] if self.attached else self.digests
        return resume_digest in good

    def attach(self, token: str, spent: str) -> None:
        """Note that the client is there again; `spent` is the digest of the token it came with."""
        self.attached, self.detached_at, self.left = True, float("inf"), False
        self.token, self.digests = token, (digest(token), spent)

    def detach(self, now: float, *, clean: bool = False) -> None:
        """Note that the client is gone; `clean`: it has said so."""
        self.attached, self.detached_at, self.left = False, now, clean

    def confirm(self) -> None:
        """Note that the client has had what was sent when it came: a spent token stays spent."""
        self.digests = self.digests[:1]

    # ---- audio

    @property
    def next_sequence(self) -> int:
        """The sequence of the chunk that is expected next; 0 where no stream is open or nothing has come."""
        return 0 if self._sequence is None else self._sequence + 1

    def begin_stream(self) -> None:
        self.streams += 1
        self._sequence = self._safe = self._acked = None
        self._unacked_ms = 0.0
        self._at_once = False

    def chunk(self, sequence: int, audio_ms: float) -> None:
        """Note a chunk that was taken, and how much audio that was."""
        if self._sequence is None or sequence > self._sequence:
            self._sequence = sequence
            self._unacked_ms += max(audio_ms, 1.0)

    def mark(self) -> int | None:
        """Return the last sequence, to be handed to `safe()` once all that has come so far is."""
        return self._sequence

    def safe(self, sequence: int | None) -> None:
        """Note that the audio up to a sequence is safe."""
        self._safe = sequence

    def ack(self, *, at_once: bool = False) -> int | None:
        """Return what is to be acknowledged now; None where nothing is."""
        self._at_once |= at_once
        if self._safe is None or self._safe == self._acked:
            return None
        if not self._at_once and self._unacked_ms < ACK_EVERY_MS:
            return None
        if self._safe == self._sequence:
            self._at_once = False
        self._acked, self._unacked_ms = self._safe, 0.0
        return self._acked
