"""Whether and when a client whose connection is lost comes back. Pure: chance is given."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from msgspec import Struct

from antiphon.errors import DISPOSITIONS, ErrorCode

_TOKEN_EXPIRED: Final = 4440
_RESUMABLE: Final = frozenset({1001, 1006, 1011, 1012, 1013, 1014, 4413})
"""Close codes after which the session still is. 1012 and 1014 are those of proxies on the way."""


class Reconnect(Struct, frozen=True, kw_only=True):
    """How a client comes back.

    It waits up to `delays_s[n]` before its attempt n, so that not all clients of a node come at once, and up
    to the last of them before every further one. It gives up after `give_up_s`; None is as long as the
    gateway keeps the session. What is sent and not acknowledged is kept, up to `max_bytes` of it, of which
    `max_audio_s` may be audio.
    """

    delays_s: tuple[float, ...] = (0.0, 0.3, 1.2, 2.7, 4.8, 7.0)
    give_up_s: float | None = None
    max_bytes: int = 1024 * 1024
    max_audio_s: float = 60.0

    def delay_s(self, attempt: int, chance: float) -> float:
        """Return how long to wait before an attempt, the first being 0; `chance` is from 0 to 1."""
        return self.delays_s[min(attempt, len(self.delays_s) - 1)] * chance


DEFAULT: Final = Reconnect()


class Fate(Enum):
    """What follows from the end of a connection."""

    RESUME = auto()
    RENEW = auto()
    """Resume, with another token."""
    OVER = auto()


def fate(close_code: int | None, code: str | None) -> Fate:
    """Return what follows from a close code, and from the error that was told before it, where there was one.

    The error counts: the close code may have been lost with the connection.
    """
    if code in DISPOSITIONS:
        disposition = DISPOSITIONS[ErrorCode(code)]
        if not disposition.retryable:
            return Fate.OVER
        close_code = disposition.close or close_code
    if close_code == _TOKEN_EXPIRED:
        return Fate.RENEW
    return Fate.RESUME if close_code in _RESUMABLE else Fate.OVER
