"""A conversation with Gemini, over whichever transport: messages one way, events the other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator

from antiphon import live
from antiphon.live import Answered, Full, LiveEvent, LiveInput, Room, Take


class ModelStream(ABC):
    """A `live.LiveStream` that can be read event by event, too."""

    upstream: live.Upstream = "primary"

    @abstractmethod
    def write(self, item: LiveInput) -> bool: ...

    @abstractmethod
    async def drain(self) -> None: ...

    @abstractmethod
    def ask(self, answered: Answered) -> None: ...

    @abstractmethod
    async def read(self) -> list[LiveEvent]:
        """Return what the next message says."""

    async def listen(self, take: Take, full: Full, room: Room) -> None:
        while True:
            for event in await self.read():
                take(event)
            if full():
                await room()

    async def send(self, item: LiveInput) -> None:
        """Send an item, and return when it is on its way."""
        if not self.write(item):
            await self.drain()

    async def __aiter__(self) -> AsyncIterator[LiveEvent]:
        """Yield every event, until the conversation is over, which raises `GatewayError`."""
        while True:
            for event in await self.read():
                yield event
