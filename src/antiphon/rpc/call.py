"""One streaming RPC, over a stream of a connection."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from antiphon.rpc import grpc
from antiphon.rpc.grpc import Messages, Pairs
from antiphon.rpc.status import RpcError, Status

GIVE_BACK_BYTES: Final = 16 * 1024
"""What was handed over is given back to the peer's window by so much, of the 256 KiB that it has."""


class Carrier(Protocol):
    """The connection that a call is on."""

    def send(self, number: int, data: bytes, *, ends: bool = False) -> bool: ...

    def consumed(self, number: int, size: int) -> None: ...

    def reset(self, number: int) -> None: ...

    def over(self, number: int) -> None: ...

    @property
    def is_writable(self) -> bool: ...


class Call:
    """A call that is under way; made by `Connection.call()`.

    `read()` raises the status that it has ended with, OK too; so does whatever else is done with it from then
    on. What came before is read first.
    """

    def __init__(self, carrier: Carrier, number: int, max_bytes: int) -> None:
        self._carrier = carrier
        self._number = number
        self.ended: RpcError | None = None
        """What it has ended with."""
        self.metadata: tuple[tuple[str, str | bytes], ...] = ()
        """What the answer's headers said."""
        self._messages = Messages(max_bytes)
        self._answered = False
        self._unread: deque[tuple[bytes, int]] = deque()
        """Messages, and how much of the window each gives back when it is read."""
        self._unread_part = 0
        """How much of the window is taken by a message that is not whole."""
        self._reader: asyncio.Future[None] | None = None
        self._taken_by: Callable[[bytes], bool] | None = None
        self._is_full = False
        self._broken: Exception | None = None
        self._writer: asyncio.Future[None] | None = None
        self._waits = False
        self._timer: asyncio.TimerHandle | None = None

    # ---- for whoever calls

    def write(self, message: bytes) -> bool:
        """Send a message; return `is_drained`. Where the peer takes it slowly it waits here: `drained()`
        bounds that.

        Raises:
            RpcError: the call has ended.
        """
        if self.ended:
            raise self.ended
        sent = self._carrier.send(self._number, grpc.framed(message))
        self._waits = not sent
        return sent and self._carrier.is_writable

    @property
    def is_drained(self) -> bool:
        """Whether all that was written is on its way."""
        return not self._waits and self._carrier.is_writable

    async def drained(self) -> None:
        """Return when all that was written is on its way.

        Raises:
            RpcError: the call has ended.
        """
        while not self.is_drained and not self.ended:
            self._writer = asyncio.get_running_loop().create_future()
            try:
                await self._writer
            finally:
                self._writer = None
        if self.ended:
            raise self.ended

    def close_write(self) -> None:
        """Say that nothing more is written."""
        if not self.ended:
            self._waits = not self._carrier.send(self._number, b"", ends=True)

    async def read(self) -> bytes:
        """Return the next message.

        Raises:
            RpcError: the call has ended.
        """
        while not self._unread:
            if self.ended:
                raise self.ended
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        message, size = self._unread.popleft()
        self._give_back(size)
        return message

    async def outcome(self) -> RpcError:
        """Drop what comes, and return what the call ends with: what is not raised has no traceback, which
        would hold the call, as that does it, until the collector finds both.
        """
        while not self.ended:
            while self._unread:
                _, size = self._unread.popleft()
                self._give_back(size)
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return self.ended

    async def listen(self, take: Callable[[bytes], bool], room: Callable[[], Awaitable[None]]) -> None:
        """Hand every message to `take` as it comes, in the very call that brings it, until the call ends.

        Where `take` returns False nothing more is handed over until `room()` returns. What it raises is
        raised here, and ends nothing else.

        Raises:
            RpcError: the call has ended.
        """
        while True:
            while self._unread:
                message, size = self._unread.popleft()
                self._give_back(size)
                if not take(message):
                    await room()
            if self.ended:
                raise self.ended
            self._taken_by = take
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._taken_by = self._reader = None
            if self._broken:
                raise self._broken
            if self._is_full:
                self._is_full = False
                await room()

    def cancel(self, status: Status = Status.CANCELLED, details: str = "") -> None:
        """End the call, if it has not ended; what has come and was not read is dropped."""
        self._unread.clear()
        self._abandon(RpcError(status, details))

    # ---- for its connection

    def end_after(self, timeout_s: float) -> None:
        """End it with DEADLINE_EXCEEDED, unless it ends before."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(timeout_s, self.cancel, Status.DEADLINE_EXCEEDED)

    def headers(self, headers: Pairs, *, ends: bool) -> None:
        """Take headers or trailers."""
        if self.ended or (grpc.is_informational(headers) and not ends):
            return
        if not self._answered and (refusal := grpc.refusal(headers)):
            self._abandon(refusal)
        elif ends:
            self._end(grpc.ended(headers))
        elif self._answered:
            self._abandon(RpcError(Status.INTERNAL, "Headers came in the middle of the answer."))
        else:
            self._answered = True
            self.metadata = grpc.metadata_of(headers)

    def data(self, data: bytes, size: int, *, ends: bool) -> None:
        """Take bytes of the answer, which count as `size` against the stream's window."""
        if self.ended:
            return
        if not self._answered:
            self._abandon(RpcError(Status.INTERNAL, "The answer begins without headers."))
            return
        try:
            messages = self._messages.feed(data)
        except RpcError as error:
            self._abandon(error)
            return
        self._unread_part += size
        if messages and self._taken_by:
            self._hand_over(self._taken_by, messages)
        elif messages:
            self._unread.extend((message, 0) for message in messages[:-1])
            self._unread.append((messages[-1], self._unread_part))
            self._unread_part = 0
            _wake(self._reader)
        else:
            self._give_back(0)
        if ends:
            self._end(RpcError(Status.INTERNAL, "The answer ends without trailers."))

    def flushed(self) -> None:
        """Note that what waited is on its way."""
        self._waits = False
        self.writable()

    def writable(self) -> None:
        """Note that the connection takes more."""
        _wake(self._writer)

    def lost(self, error: RpcError) -> None:
        """Note that its stream is over, for this reason."""
        self._end(error)

    # ---- within

    def _hand_over(self, take: Callable[[bytes], bool], messages: list[bytes]) -> None:
        """Hand messages to who listens; those that there is no room for wait."""
        if self._unread_part >= GIVE_BACK_BYTES:
            self._give_back(0)
        for place, message in enumerate(messages, 1):
            try:
                self._is_full = not take(message)
            except Exception as error:  # noqa: BLE001 (raised by listen(); other calls share this connection)
                self._broken = error
            if self._is_full or self._broken:
                self._taken_by = None
                self._unread.extend((later, 0) for later in messages[place:])
                _wake(self._reader)
                return

    def _give_back(self, size: int) -> None:
        """Let the peer send on: so much was read, and a message may be longer than the window."""
        if not self._unread:
            size += self._unread_part
            self._unread_part = 0
        if size and not self.ended:
            self._carrier.consumed(self._number, size)

    def _abandon(self, error: RpcError) -> None:
        if not self.ended:
            self._carrier.reset(self._number)
        self._end(error)

    def _end(self, error: RpcError) -> None:
        if self.ended:
            return
        if error.status is Status.OK and not self._messages.whole:
            error = RpcError(Status.INTERNAL, "The answer ends within a message.")
        self.ended = error
        if self._timer:
            self._timer.cancel()
        _wake(self._reader)
        _wake(self._writer)
        self._carrier.over(self._number)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter and not waiter.done():
        waiter.set_result(None)
