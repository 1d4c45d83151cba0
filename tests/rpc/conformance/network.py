"""What lies between a client and a server: it can be frozen, cut, and gone."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

AT_ONCE: Final = struct.pack("ii", 1, 0)
"""The socket option that makes the end of a connection an RST."""


class Network:
    """Passes connections on to `target`, which may change; those that are made stay where they are."""

    _server: asyncio.Server

    def __init__(self, target: str) -> None:
        self.target = target
        self.port = 0
        self.held = 0
        """How much waits to be thawed, in both directions."""
        self._flows = asyncio.Event()
        self._flows.set()
        self._connections: set[asyncio.Task[None]] = set()
        self._cutting = False

    @property
    def here(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    async def up(self) -> None:
        """Take connections, at the same port as before."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    def down(self) -> None:
        """Refuse connections, and break those that are."""
        self._server.close()
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

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._connections.add(task)
        writers = [writer]
        try:
            host, _, port = self.target.rpartition(":")
            onwards, back = await asyncio.open_connection(host, int(port))
            writers.append(back)
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._copy(reader, back))
                tasks.create_task(self._copy(onwards, writer))
        except* OSError:
            pass  # it is cut where it was cut
        except* asyncio.CancelledError:
            for each in writers:
                if not each.is_closing():
                    each.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        finally:
            for each in writers:
                each.transport.abort()
            self._connections.discard(task)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            self.held += len(data)
            await self._flows.wait()
            self.held -= len(data)
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()


@asynccontextmanager
async def network(target: str) -> AsyncIterator[Network]:
    made = Network(target)
    await made.up()
    try:
        yield made
    finally:
        made.down()
        await made.over()
