"""The machine's ear and mouth, as a conversation needs them."""

from __future__ import annotations

import threading
from typing import Final, Protocol

CAPTURE_HZ: Final = 16_000
PLAYBACK_HZ: Final = 24_000

MAX_QUEUED_S: Final = 60.0
"""Audio that may wait to be played; a gateway sends what `playbackBufferMs` allows."""


class Sound(Protocol):
    """A microphone and a loudspeaker, mono PCM16, that are open."""

    async def read(self) -> bytes:
        """Return what was captured next, at `CAPTURE_HZ`; some tens of milliseconds."""

    def play(self, pcm: bytes) -> None:
        """Queue audio at `PLAYBACK_HZ`."""

    def flush(self) -> None:
        """Be silent at once: drop what is queued."""

    @property
    def played_ms(self) -> float:
        """How much was really played, of all that was queued."""


class PlaybackQueue:
    """What a loudspeaker is to play. Filled from one thread, emptied by the sound device's."""

    def __init__(self, rate_hz: int = PLAYBACK_HZ) -> None:
        self._bytes_a_ms = rate_hz * 2 / 1000
        self._limit = int(MAX_QUEUED_S * rate_hz) * 2
        self._queued = bytearray()
        self._played = 0
        self._lock = threading.Lock()

    @property
    def played_ms(self) -> float:
        return self._played / self._bytes_a_ms

    def play(self, pcm: bytes) -> None:
        """Queue audio; what does not fit is left out."""
        with self._lock:
            self._queued += pcm[: self._limit - len(self._queued)]

    def flush(self) -> None:
        with self._lock:
            self._queued.clear()

    def pull(self, size: int) -> bytes:
        """Take so many bytes, silence where there are no more; they count as played."""
        with self._lock:
            pcm = bytes(self._queued[:size])
            del self._queued[:size]
            self._played += len(pcm)
        return pcm.ljust(size, b"\0")
