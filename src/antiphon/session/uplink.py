"""What waits for the model: a queue bounded in seconds of audio.

When it is full the client is not read, so nothing is dropped. When its head has not moved for the
same number of seconds, `deadline` passes and the model is given up as too slow.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from antiphon import live

_BYTES_A_SECOND: Final = 2 * live.INPUT_RATE_HZ
_LEAST_COST: Final = 64
_TURN_COST: Final = _BYTES_A_SECOND
"""A typed turn or a tool's result counts as a second of audio: both are bounded by the frame size."""


class Uplink:
    """Items for the model, in order."""

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._items: deque[live.LiveInput] = deque()
        self._cost = 0
        self._audio_bytes = 0
        self._moved_at = 0.0
        self.results = 0
        """Results of calls that wait. The model causes them, so it is the model that must not be read."""

    def add(self, item: live.LiveInput, now: float) -> None:
        if not self._items:
            self._moved_at = now
        self._items.append(item)
        self._count(item, 1)

    def take(self, now: float) -> live.LiveInput | None:
        if not self._items:
            return None
        item = self._items.popleft()
        self._count(item, -1)
        self._moved_at = now
        return item

    def discard(self, *kinds: type) -> None:
        """Forget the items of these kinds."""
        kept = [item for item in self._items if not isinstance(item, kinds)]
        self._items.clear()
        self._cost = self._audio_bytes = self.results = 0
        for item in kept:
            self._items.append(item)
            self._count(item, 1)

    def touch(self, now: float) -> None:
        """Count the wait of what is queued from `now`."""
        self._moved_at = now

    @property
    def empty(self) -> bool:
        return not self._items

    @property
    def audio_ms(self) -> float:
        """Audio that waits, in milliseconds."""
        return self._audio_bytes * 1000 / _BYTES_A_SECOND

    @property
    def full(self) -> bool:
        return self._cost >= self._limit_s * _BYTES_A_SECOND

    @property
    def deadline(self) -> float:
        return self._moved_at + self._limit_s if self._items else float("inf")

    def _count(self, item: live.LiveInput, sign: int) -> None:
        self._cost += sign * _cost(item)
        self.results += sign * isinstance(item, live.ToolResult)
        if isinstance(item, live.Audio):
            self._audio_bytes += sign * len(item.pcm)


def _cost(item: live.LiveInput) -> int:
    match item:
        case live.Audio(pcm=pcm):
            return max(len(pcm), _LEAST_COST)
        case live.Text() | live.ToolResult():
            return _TURN_COST
        case _:
            return _LEAST_COST
