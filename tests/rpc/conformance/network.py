"""What lies between a client and a server: it can be frozen, cut, and gone."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

AT_ONCE: Final = struct.pack("ii", 1, 0)
"""The socket option that makes the end of a connection an RST."""


class Network:
    """Passes connections on to `target`, which may change; those that are made stay where they are."""

    _listener: socket.socket

    def __init__(self, target: str) -> None:
        self.target = target
        self.port = 0
        self.held = 0
        """How much waits to be thawed, in both directions."""
        self._flows = asyncio.Event()
        self._flows.set()
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def here(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    async def up(self) -> None:
        """Take connections, at the same port as before."""
        # Not by a server of asyncio's: one that is closed as it accepts a connection never closes that.
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=100)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def down(self) -> None:
        """Refuse connections, and break those that are."""
        if self._listener.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
        self.reset()

    def freeze(self) -> None:
        """Pass nothing on, and tell nobody."""
        self._flows.clear()

    def thaw(self) -> None:
        self._flows.set()

    def reset(self) -> None:
        """Break every connection with an RST."""
        for task in self._connections:
            task.cancel()

    async def over(self) -> None:
        """Return when there is no connection any more."""
        while self._connections:
            await asyncio.wait(list(self._connections))

    # ---- a connection

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except BlockingIOError:
            return  # it is gone again
        task = asyncio.get_running_loop().create_task(self._take(accepted))
        self._connections.add(task)
        task.add_done_callback(partial(self._ended, accepted))

    def _ended(self, accepted: socket.socket, task: asyncio.Task[None]) -> None:
        """Close a connection whose task was cancelled before it began."""
        accepted.close()
        self._connections.discard(task)

    async def _take(self, accepted: socket.socket) -> None:
        reader, writer = await asyncio.open_connection(sock=accepted)
        try:
            await self._pass_on(reader, writer)
        except asyncio.CancelledError:
            _close(writer, at_once=True)
            raise
        finally:
            _close(writer)
            # The event loop closes the socket in its next turn.
            await asyncio.sleep(0)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self.target.rpartition(":")
        try:
            onwards, back = await asyncio.open_connection(host, int(port))
        except OSError:
            return
        try:
            await self._copy_both(reader, writer, onwards, back)
        except asyncio.CancelledError:
            _close(back, at_once=True)
            raise
        finally:
            _close(back)

    async def _copy_both(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        onwards: asyncio.StreamReader,
        back: asyncio.StreamWriter,
    ) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._copy(reader, back))
                tasks.create_task(self._copy(onwards, writer))
        except* OSError:
            pass  # it is cut where it was cut

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            self.held += len(data)
            await self._flows.wait()
            self.held -= len(data)
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


def _close(writer: asyncio.StreamWriter, *, at_once: bool = False) -> None:
    """Close a connection; `at_once`: with an RST."""
    if writer.is_closing():
        return
    if at_once:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    writer.transport.abort()


@asynccontextmanager
async def network(target: str) -> AsyncIterator[Network]:
    made = Network(target)
    await made.up()
    try:
        yield made
    finally:
        made.down()
        await made.over()
