"""Servers that stand where a store looks for its own: with TLS, holding back what it says, or strangers."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from valkey_server import HOST

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Run a server, and yield its port; at the end, its connections end."""
    connections: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        connections.add(task)
        try:
            await serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # it is the end of the test, which the server's own task would log
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(accept, HOST, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections)
        await asyncio.sleep(0.01)  # what was aborted is closed in the loop's next turns


class Proxy:
    """Passes all on; while `flowing` is not set, what clients send waits, whether they are gone or not."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self.flowing = asyncio.Event()
        self.flowing.set()
        self._target_port = target_port

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(HOST, self._target_port)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pass_on(reader, back, self.flowing))
                tasks.create_task(self._pass_on(there, writer, None))
        finally:
            back.transport.abort()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event | None
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                if flowing:
                    await flowing.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


@asynccontextmanager
async def proxy(target_port: int, tls: ssl.SSLContext | None = None) -> AsyncIterator[Proxy]:
    """Run a proxy; its end ends the connections."""
    between = Proxy(target_port)
    async with serving(between.serve, tls) as between.port:
        yield between


@asynccontextmanager
async def saying(answer: bytes) -> AsyncIterator[int]:
    """Run a server that says the same to everything, and yield its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(answer)
            await writer.drain()

    async with serving(serve) as port:
        yield port
