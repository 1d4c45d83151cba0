"""What waits in a call: audio to be heard, messages to be read. Bounded by making the other side wait."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from antiphon.engine import wire

MAX_UNHEARD_S: Final = 60.0
"""Audio that may wait to be heard before the client is not read any more."""
MAX_UNREAD_BYTES: Final = 256 * 1024
"""Messages (5 s of audio) that may wait to be read before synthesis pauses."""
MAX_UNREAD_FACTOR: Final = 4
"""How many times that much, of what cannot be paused, ends the call."""

_LEAST_COST_S: Final = 0.001
_LEAST_SIZE: Final = 256
"""What the smallest message counts for: it takes memory too."""

Heard = wire.Audio | wire.AudioEnded | wire.ActivityStarted | wire.ActivityEnded | None
"""What the ear is given, in order; None after the last."""


class Writer(Protocol):
    """Where messages go: gRPC's servicer context."""

    async def write(self, message: Any) -> None: ...


class _Room:
    """Lets tasks wait for a condition on a queue that others change."""

    def __init__(self) -> None:
        self._moved = asyncio.Event()

    def moved(self) -> None:
        self._moved.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._moved.clear()
            await self._moved.wait()


class Inbox:
    """Audio and its marks on the way to the ear."""

    def __init__(self) -> None:
        self._items: deque[tuple[Heard, float]] = deque()
        self._waiting_s = 0.0
        self._room = _Room()

    async def put(self, item: Heard) -> None:
        """Add an item once there is room."""
        await self._room.until(lambda: self._waiting_s < MAX_UNHEARD_S)
        cost_s = _LEAST_COST_S
        if isinstance(item, wire.Audio):
            cost_s = max(cost_s, len(item.pcm) / 2 / item.rate_hz)
        self._items.append((item, cost_s))
        self._waiting_s += cost_s
        self._room.moved()

    async def get(self) -> Heard:
        """Take the first item once there is one."""
        await self._room.until(lambda: bool(self._items))
        item, cost_s = self._items.popleft()
        self._waiting_s = self._waiting_s - cost_s if self._items else 0.0
        self._room.moved()
        return item


class _Unread(NamedTuple):
    message: wire.ServerMessage
    size: int
    is_answer: bool


class Outbox:
    """Messages on the way to the client."""

    def __init__(self) -> None:
        self._messages: deque[_Unread] = deque()
        self._unread_bytes = 0
        self._room = _Room()

    def put(self, message: wire.ServerMessage) -> bool:
        """Add a message; return whether there was room for it."""
        unread = _Unread(message, max(message.ByteSize(), _LEAST_SIZE), wire.is_answer(message))
        if self._unread_bytes + unread.size > MAX_UNREAD_BYTES * MAX_UNREAD_FACTOR:
            return False
        self._messages.append(unread)
        self._unread_bytes += unread.size
        self._room.moved()
        return True

    def drop_answer(self) -> None:
        """Drop what was made of an answer and has not been sent."""
        stale = sum(unread.size for unread in self._messages if unread.is_answer)
        if stale:
            self._messages = deque(unread for unread in self._messages if not unread.is_answer)
            self._unread_bytes -= stale
            self._room.moved()

    async def room(self) -> None:
        """Wait until an answer may go on."""
        await self._room.until(lambda: self._unread_bytes < MAX_UNREAD_BYTES)

    async def flushed(self) -> None:
        """Wait until everything was sent."""
        await self._room.until(lambda: self._unread_bytes == 0)

    async def empty_into(self, writer: Writer) -> None:
        """Send the messages, for ever."""
        while True:
            await self._room.until(lambda: bool(self._messages))
            unread = self._messages.popleft()
            await writer.write(unread.message)
            self._unread_bytes -= unread.size
            self._room.moved()
