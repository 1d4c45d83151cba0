"""The machine's ear and mouth, as a conversation needs them. Pure."""

from __future__ import annotations

import math
import threading
from array import array
from operator import mul
from typing import Final, NamedTuple, Protocol

CAPTURE_HZ: Final = 16_000
PLAYBACK_HZ: Final = 24_000

MAX_QUEUED_S: Final = 60.0
"""Audio that may wait to be played; a gateway sends what `playbackBufferMs` allows."""

_FADE_S: Final = 0.005
"""How long it takes to be silent: a cut within a wave is heard as a click."""


class AudioInterface(Protocol):
    """A microphone and a loudspeaker, mono PCM16, that are open: `Sound`, or whatever else can do this.

    All is called in the event loop, and nothing but `read()` may wait.
    """

    async def read(self) -> bytes:
        """Return what was captured next, at 16 kHz; some tens of milliseconds."""

    def discard(self) -> None:
        """Forget what was captured so far and not read."""

    def play(self, pcm: bytes) -> None:
        """Queue audio at 24 kHz."""

    def flush(self) -> None:
        """Be silent at once: drop what is queued."""

    @property
    def played_ms(self) -> float:
        """How much was really played, of all that was ever queued."""


class Levels(NamedTuple):
    """How loud it is just now, as a root mean square from 0 to 1."""

    microphone: float
    loudspeaker: float


def level(pcm: bytes) -> float:
    """Return the root mean square of PCM16, from 0 to 1."""
    samples = array("h", pcm)
    return math.sqrt(sum(map(mul, samples, samples)) / max(len(samples), 1)) / 0x8000


class PlaybackQueue:
    """What a loudspeaker is to play. Filled from one thread, emptied by the sound device's."""

    def __init__(self, rate_hz: int = PLAYBACK_HZ) -> None:
        self._bytes_a_ms = rate_hz * 2 / 1000
        self._limit = int(MAX_QUEUED_S * rate_hz) * 2
        self._fade = int(_FADE_S * rate_hz)
        self._fading = bytearray()
        self._queued = bytearray()
        self._played = 0
        self._lock = threading.Lock()

    @property
    def played_ms(self) -> float:
        """How much was pulled of all that was queued; what fades does not count."""
        return self._played / self._bytes_a_ms

    def play(self, pcm: bytes) -> None:
        """Queue audio; what does not fit is left out."""
        with self._lock:
            self._queued += pcm[: self._limit - len(self._queued)]

    def flush(self) -> None:
        """Drop what is queued; its next 5 ms fade to silence."""
        with self._lock:
            fading = array("h", bytes(self._queued[: self._fade * 2]))
            for place, sample in enumerate(fading):
                fading[place] = sample * (len(fading) - place) // (len(fading) + 1)
            self._fading += fading.tobytes()
            self._queued.clear()

    def pull(self, size: int) -> bytes:
        """Take so many bytes, silence where there are no more; they count as played."""
        with self._lock:
            pcm = bytes(self._fading[:size])
            del self._fading[:size]
            rest = size - len(pcm)
            queued = bytes(self._queued[:rest])
            del self._queued[:rest]
            self._played += len(queued)
        return (pcm + queued).ljust(size, b"\0")
