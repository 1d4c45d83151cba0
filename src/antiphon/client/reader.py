"""What comes from the gateway: read, answered where that cannot wait, and kept for the iteration."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

import msgspec
from msgspec import UNSET, Struct
from websockets import exceptions as ws
from websockets.asyncio.client import ClientConnection

from antiphon import extension, messages
from antiphon.client.binary import Answers
from antiphon.client.dial import drop
from antiphon.client.inbox import Inbox
from antiphon.client.tools import ToolRunner
from antiphon.errors import GatewayError
from antiphon.extension import ServerMessage, SessionInfo

MAX_UNREAD: Final = 256
"""Messages that wait to be iterated over; then the gateway is made to wait."""


class Received(NamedTuple):
    """A frame, and the message in it; None where it is none."""

    frame: str | bytes
    message: ServerMessage | None


class Reader:
    """Reads the sockets of a session, one after the other, each to its end.

    `note` is told of every message as it comes, `reply` sends one if the connection is still open.
    """

    def __init__(
        self,
        extended: bool,
        tools: ToolRunner,
        reply: Callable[[Struct], Awaitable[None]],
        note: Callable[[ServerMessage], None],
    ) -> None:
        self.info: SessionInfo | None = None
        self.last_error: messages.Error | None = None
        self.received = 0
        """Messages of the session that have come, as the protocol counts them."""
        self.patience_s: float | None = None
        """How long a connection may be silent before it is taken for dead."""
        self.holds = False
        """Whether an error that ends a connection is held back until it is known that it ends the session."""
        self.play: Callable[[ServerMessage], Struct | None] | None = None
        """Plays what comes, however late it is iterated over; returns what the gateway is to be told."""
        self._held: Received | None = None
        self._extended = extended
        self._tools = tools
        self._reply = reply
        self._note = note
        self._inbox: Inbox[Received] = Inbox(MAX_UNREAD)
        self._answers = Answers()
        self._pongs: dict[int, asyncio.Future[float | None]] = {}
        self._ping_ids = itertools.count(1)

    async def get(self) -> Received:
        """Return what came next.

        Raises:
            EOFError: nothing more will.
            Exception: what `fail` was given.
        """
        return await self._inbox.get()

    @property
    def failure(self) -> Exception | None:
        """What the iteration is to raise next."""
        return self._inbox.failure

    def fail(self, failure: Exception | None) -> None:
        """Let the iteration raise this next, or no more; it goes on after it."""
        self._inbox.fail(failure)

    @contextmanager
    def pong(self) -> Iterator[tuple[int, asyncio.Future[float | None]]]:
        """Yield the id of a ping, and when its pong came by time.perf_counter(): None if the end did."""
        number = next(self._ping_ids)
        pong: asyncio.Future[float | None] = asyncio.get_running_loop().create_future()
        self._pongs[number] = pong
        try:
            yield number, pong
        finally:
            del self._pongs[number]

    async def read(self, socket: ClientConnection) -> None:
        """Read until the connection is over."""
        try:
            while True:
                try:
                    async with asyncio.timeout(self.patience_s):
                        frame = await socket.recv()
                except TimeoutError:
                    await drop(socket)
                    return
                await self.take(frame)
        except ws.ConnectionClosed:
            pass
        finally:
            for number in self._pongs:
                self._settle(number, None)

    async def take(self, frame: str | bytes) -> None:
        """Take a frame in its turn."""
        message = self._decode(frame)
        if not isinstance(message, extension.ServerPong | extension.Resumed):
            self.received += 1
        if message is not None:
            await self._handle(message)
        await self.release()  # It was not the last.
        if self.holds and isinstance(message, messages.Error) and is_fatal(message):
            self._held = Received(frame, message)
        else:
            await self._inbox.put(Received(frame, message))

    async def release(self) -> None:
        """Let the iteration have what is held back."""
        held, self._held = self._held, None
        if held:
            await self._inbox.put(held)

    def survive(self) -> None:
        """Forget the error that ended a connection, as the session goes on."""
        self._held = self.last_error = None

    def end(self) -> None:
        """Let the iteration end after what has come."""
        self._inbox.end()

    async def aclose(self) -> None:
        """Stop the tools that are at work."""
        await self._tools.aclose()

    def _decode(self, frame: str | bytes) -> ServerMessage | None:
        try:
            if isinstance(frame, str):
                return extension.decode_server(frame) if self._extended else messages.decode_server(frame)
            return self._answers.unpack(frame) if self._extended else None
        except (msgspec.DecodeError, GatewayError):
            return None

    async def _handle(self, message: ServerMessage) -> None:
        """Do what does not wait for the iteration."""
        self._answers.note(message)
        self._note(message)
        if self.play and (answer := self.play(message)):
            await self._reply(answer)
        match message:
            case messages.Error():
                self.last_error = message
            case SessionInfo():
                self.info = message
            case extension.ServerPing(id=number, timestamp=timestamp):
                await self._reply(extension.Pong(id=number, echo_time=timestamp))
            case extension.ServerPong(id=number):
                self._settle(number, time.perf_counter())
            case extension.ToolCall():
                if refusal := self._tools.call(message):
                    await self._reply(refusal)
            case extension.ToolCancelled(call_id=call_id):
                self._tools.cancel(call_id)
            case _:
                pass

    def _settle(self, number: str | float, at: float | None) -> None:
        pong = self._pongs.get(number) if isinstance(number, int) else None
        if pong and not pong.done():
            pong.set_result(at)


def is_fatal(error: messages.Error) -> bool:
    """Return whether the gateway closes the connection after it."""
    return error.details is not UNSET and error.details.fatal is True
