"""What has been read and waits to be iterated over: a bounded queue that can end."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """A queue of `limit` items at most. To cancel either side loses nothing."""

    def __init__(self, limit: int) -> None:
        self._items: deque[T] = deque()
        self._limit = limit
        self._ended = False
        self.failure: Exception | None = None
        """What the next `get` raises."""
        self._filled = asyncio.Event()
        self._room = asyncio.Event()

    async def put(self, item: T) -> None:
        """Add an item; wait while there is no room."""
        while len(self._items) >= self._limit:
            self._room.clear()
            await self._room.wait()
        self._items.append(item)
        self._filled.set()

    async def get(self) -> T:
        """Take the next item.

        Raises:
            EOFError: there is none, and none will come.
            Exception: what `fail` was given, once.
        """
        while True:
            if failure := self.failure:
                self.failure = None
                raise failure
            if self._items:
                break
            if self._ended:
                raise EOFError
            self._filled.clear()
            await self._filled.wait()
        self._room.set()
        return self._items.popleft()

    def fail(self, failure: Exception | None) -> None:
        """Let the next `get` raise this, ahead of all that waits; with None, let it raise nothing."""
        self.failure = failure
        self._filled.set()

    def end(self) -> None:
        """Let nothing more come."""
        self._ended = True
        self._filled.set()
