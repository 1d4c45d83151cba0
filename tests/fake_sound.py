"""A microphone that says what a test lets it, and a loudspeaker that records: our side of the sound seam."""

from __future__ import annotations

import asyncio
import time

from antiphon.client.sound import PLAYBACK_HZ, PlaybackQueue

BLOCK = 1600
"""Bytes of a captured block: 50 ms at 16 kHz."""

LOUD = b"\x11\x22" * 8000
"""Half a second that is no silence."""


class FakeSound:
    """An `AudioInterface`. The microphone runs five times as fast as time, the loudspeaker as time does."""

    def __init__(self, speed: float = 5) -> None:
        self._block_s = BLOCK / 32_000 / speed
        self.recorded = bytearray()
        self.flushes: list[float] = []
        """Where the loudspeaker had got to, in ms, when it was flushed."""
        self._said = bytearray()
        self._queue = PlaybackQueue()
        self._clock = time.monotonic
        self._at = self._clock()

    def say(self, pcm: bytes) -> None:
        """Let the microphone hear this; it hears silence else."""
        self._said += pcm

    async def read(self) -> bytes:
        await asyncio.sleep(self._block_s)
        block = bytes(self._said[:BLOCK])
        del self._said[:BLOCK]
        return block.ljust(BLOCK, b"\0")

    def discard(self) -> None:
        """Nothing is captured before it is read."""

    def play(self, pcm: bytes) -> None:
        self._run()
        self._queue.play(pcm)

    def flush(self) -> None:
        self.flushes.append(self.played_ms)
        self._queue.flush()
        self._queue.pull(480)  # what fades is not recorded

    @property
    def played_ms(self) -> float:
        self._run()
        return self._queue.played_ms

    def _run(self) -> None:
        """Play for as long as it was since the last time."""
        frames = int((self._clock() - self._at) * PLAYBACK_HZ)
        self._at += frames / PLAYBACK_HZ
        before = self._queue.played_ms
        pcm = self._queue.pull(frames * 2)
        self.recorded += pcm[: round((self._queue.played_ms - before) * PLAYBACK_HZ / 1000) * 2]
