"""How many calls of one tool run at once, and how many wait."""

from __future__ import annotations

import asyncio
from typing import Final

from antiphon.tools.call import BUSY, ToolFailed

PARALLEL: Final = 32
MAX_WAITING: Final = 256


class Slots:
    """The slots of one tool: 32 calls run, 256 more wait for their turn, others are refused."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(PARALLEL)
        self._waiting = 0

    async def take(self) -> None:
        """Wait for a slot; whoever takes it gives it back.

        Raises:
            ToolFailed: too many wait already.
        """
        if self._waiting >= MAX_WAITING:
            raise ToolFailed(BUSY)
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1

    def give_back(self) -> None:
        self._free.release()
