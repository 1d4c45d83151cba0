"""A server of HTTP/2 that does what a test tells it, frame by frame."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from hpack import Decoder, Encoder

from antiphon.rpc import frames
from antiphon.rpc.events import Frame
from antiphon.rpc.frames import FrameReader

OK = [(":status", "200"), ("content-type", "application/grpc")]
DONE = [("grpc-status", "0")]


class Peer:
    """A client's connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._frames = FrameReader()
        self._read: list[Frame] = []
        self._encoder = Encoder()
        self._decoder = Decoder()

    async def begin(self, settings: dict[int, int] | None = None) -> None:
        """Exchange settings."""
        assert await self._reader.readexactly(len(frames.PREFACE)) == frames.PREFACE
        self.send(frames.settings(settings or {}))
        await self.until(frames.SETTINGS)
        self.send(frames.pack(frames.SETTINGS, frames.ACK, 0))

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def drain(self) -> None:
        """Return when the client takes more."""
        await self._writer.drain()

    def cut(self) -> None:
        """Break the connection."""
        self._writer.transport.abort()

    def headers(self, stream: int, headers: list[tuple[str, str]] = OK, *, ends: bool = False) -> None:
        flags = frames.END_HEADERS | frames.END_STREAM * ends
        self.send(frames.pack(frames.HEADERS, flags, stream, self._encoder.encode(headers)))

    def data(self, stream: int, payload: bytes) -> None:
        self.send(frames.pack(frames.DATA, 0, stream, payload))

    async def frame(self) -> Frame:
        """Return the next frame.

        Raises:
            ConnectionError: the client is gone.
        """
        while not self._read:
            data = await self._reader.read(65_536)
            if not data:
                raise ConnectionError
            self._read = list(self._frames.feed(data))
        return self._read.pop(0)

    async def until(self, kind: int) -> Frame:
        """Return the next frame of a kind."""
        while (frame := await self.frame()).kind != kind:
            pass
        return frame

    async def call(self) -> int:
        """Return the stream of the next call."""
        frame = await self.until(frames.HEADERS)
        self._decoder.decode(frame.payload)
        return frame.stream

    async def gone(self) -> None:
        """Return when the client is."""
        try:
            while True:
                await self.frame()
        except ConnectionError:
            pass


Script = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def serving(*scripts: Script) -> AsyncIterator[int]:
    """Serve the first connection by the first script, and so on; the last is for all that follow."""
    left = list(scripts)
    tasks: set[asyncio.Task[None]] = set()
    writers: set[asyncio.StreamWriter] = set()
    failures: list[BaseException] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        writers.add(writer)
        script = left.pop(0) if len(left) > 1 else left[0]
        try:
            await script(Peer(reader, writer))
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client is gone, or the test
        except AssertionError as error:
            failures.append(error)
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(list(tasks))
        for writer in writers:
            writer.transport.abort()  # whatever a client has not read
        await asyncio.sleep(0)
    assert not failures, failures
