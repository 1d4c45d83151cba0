"""What a session sends, over one connection after the other.

Senders never write. They add to what is to be written, and one task for each connection writes that. So to
cancel a sender neither tears a message nor changes their order, and what is sent again comes before the new.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from msgspec import Struct
from websockets import exceptions as ws
from websockets.asyncio.client import ClientConnection

from antiphon import messages
from antiphon.client.errors import Closed
from antiphon.client.outgoing import Frame, Outgoing


class Sender:
    """Sends while `up`, keeps what is sent if it `keeps`, and waits for another connection if `resumable`.

    `closed` says, to be raised, why the session is over. `settle` waits until more has been acknowledged, or
    the connection is lost.
    """

    def __init__(
        self, outgoing: Outgoing, closed: Callable[[], Closed], settle: Callable[[], Awaitable[None]]
    ) -> None:
        self.outgoing = outgoing
        self.up = True
        self.over = False
        self.keeps = False
        self.resumable = False
        self.turn = asyncio.Lock()
        """Is held while adding what waits for room, so that senders keep their order."""
        self._closed = closed
        self._settle = settle
        self._passing: deque[_Passing] = deque()
        self._event = asyncio.Event()

    @property
    def gone(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.over or not (self.up or self.resumable)

    async def send(self, frame: Frame) -> None:
        """Send a frame, which outlives a lost connection; wait while there is no room for it.

        Raises:
            Closed: the session is over.
        """
        async with self.turn:
            await self.add(frame)
        await self.flush()

    async def add(self, frame: Frame) -> None:
        """Let a frame be sent after all others. Holding `turn`; it is added when this returns, and only then.

        Raises:
            Closed: the session is over.
        """
        while True:
            if self.gone:
                raise self._closed()
            if self.outgoing.make_room_for(frame):
                break
            if self.up and self.resumable:
                await self._settle()
            else:
                await self._event.wait()
        self.outgoing.add(frame)
        self.changed()

    async def flush(self) -> None:
        """Wait until all that was added is written, or is kept for another connection.

        Raises:
            Closed: the session is over.
        """
        number = self.outgoing.added
        await self.until(lambda: self.outgoing.written >= number or not self.up)
        if self.gone and self.outgoing.written < number:
            raise self._closed()

    async def answer(self, message: Struct) -> None:
        """Send what answers a message that was read, if there is a connection. It is kept, room or none.

        Room is made by what is read next, so the reader must not wait for it.
        """
        if not self.up:
            return
        number = self.outgoing.add(Frame(messages.encode(message)))
        self.changed()
        await self.until(lambda: self.outgoing.written > number or not self.up)

    async def pass_on(self, message: Struct) -> bool:
        """Send what is about this connection, ahead of all else; return False where it is lost before."""
        if not self.up:
            return False
        passing = _Passing(messages.encode(message), asyncio.get_running_loop().create_future())
        self._passing.append(passing)
        self.changed()
        return await passing.written

    async def write(self, socket: ClientConnection) -> None:
        """Write what is to be sent over a connection, until that is lost."""
        try:
            while True:
                if self._passing:
                    await socket.send(self._passing[0].data, text=True)
                    self._passing.popleft().settle(written=True)
                elif frame := self.outgoing.peek():
                    number = self.outgoing.written
                    await socket.send(frame.data, text=frame.text)
                    self.outgoing.wrote(number)
                    if not self.keeps:
                        self.outgoing.forget_written()
                    self.changed()
                else:
                    await self._event.wait()
        except ws.ConnectionClosed:
            self.lose()

    def lose(self) -> None:
        """Note that the connection is lost."""
        self.up = False
        while self._passing:
            self._passing.popleft().settle(written=False)
        self.changed()

    def changed(self) -> None:
        """Let everybody look again at what they wait for."""
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so."""
        while not condition():
            await self._event.wait()


class _Passing(NamedTuple):
    """A message about the connection, and whether it was written."""

    data: bytes
    written: asyncio.Future[bool]

    def settle(self, *, written: bool) -> None:
        if not self.written.done():
            self.written.set_result(written)
