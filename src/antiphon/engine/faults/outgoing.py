"""Messages on their way to the client, each with the time when it is due. Pure: time is passed in."""

from __future__ import annotations

import heapq
from collections import deque
from typing import Final, NamedTuple

from antiphon.engine import wire

NEVER: Final = float("inf")


class _Held(NamedTuple):
    due: float
    number: int
    message: wire.ServerMessage
    in_order: bool


class Outgoing:
    """What is to be sent, and when. What is to stay in order never overtakes what of it was put before."""

    def __init__(self) -> None:
        self._next: deque[wire.ServerMessage] = deque()
        self._held: list[_Held] = []
        self._count = 0
        self._order_at = -NEVER
        self._opens_at = -NEVER
        self.held_bytes = 0

    def __bool__(self) -> bool:
        return bool(self._next or self._held)

    @property
    def due_at(self) -> float:
        """When there is something to send; infinite where nothing waits."""
        if self._next:
            return -NEVER
        return self._held[0].due if self._held else NEVER

    def put(self, message: wire.ServerMessage, due: float, *, in_order: bool, opens: bool = False) -> float:
        """Add a message; return when it is due. `opens`: nothing is sent before it, nor, if that is never,
        at all."""
        due = max(due, self._opens_at, self._order_at if in_order else -NEVER)
        if opens:
            self._opens_at = due
        if due == NEVER:
            return due
        if in_order:
            self._order_at = due
        self._count += 1
        heapq.heappush(self._held, _Held(due, self._count, message, in_order))
        self.held_bytes += message.ByteSize()
        return due

    def put_first(self, message: wire.ServerMessage) -> None:
        """Add a message that goes before all others."""
        self._next.appendleft(message)
        self.held_bytes += message.ByteSize()

    def drop_answer(self) -> None:
        """Drop what was made of an answer."""
        self._next = deque(one for one in self._next if not wire.is_answer(one))
        self._held = [one for one in self._held if not wire.is_answer(one.message)]
        heapq.heapify(self._held)
        self._order_at = max((one.due for one in self._held if one.in_order), default=-NEVER)
        waiting = (*self._next, *(one.message for one in self._held))
        self.held_bytes = sum(message.ByteSize() for message in waiting)

    def pop(self, now: float) -> wire.ServerMessage | None:
        """Take the first message that is due."""
        if self._next:
            message = self._next.popleft()
        elif self._held and self._held[0].due <= now:
            message = heapq.heappop(self._held).message
        else:
            return None
        self.held_bytes -= message.ByteSize()
        return message
