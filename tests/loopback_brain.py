"""A server of the chat API on loopback, which answers as a test's script says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any


class Reply:
    """One answer, while it is written: chunks, so that a cut is told from an end."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def head(self, status: str = "200 OK", kind: str = "text/event-stream", more: str = "") -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}Transfer-Encoding: chunked\r\n\r\n"
        await self.raw(head.encode())

    async def raw(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def chunk(self, data: str) -> None:
        encoded = data.encode()
        await self.raw(b"%x\r\n%s\r\n" % (len(encoded), encoded))

    async def event(self, payload: object) -> None:
        await self.chunk(f"data: {payload if isinstance(payload, str) else json.dumps(payload)}\n\n")

    async def delta(self, **delta: object) -> None:
        await self.event({"choices": [{"index": 0, "delta": delta}]})

    async def end(self) -> None:
        await self.raw(b"0\r\n\r\n")


Script = Callable[[Reply], Awaitable[None]]


def says(*pieces: str) -> Script:
    """Return a script that streams pieces of text."""

    async def script(reply: Reply) -> None:
        await reply.head()
        await reply.delta(role="assistant", content=None)
        for piece in pieces:
            await reply.delta(content=piece)
        await reply.event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        await reply.event("[DONE]")
        await reply.end()

    return script


def calls(*functions: tuple[str, str], text: str = "") -> Script:
    """Return a script that says something and calls functions, the arguments a letter at a time."""

    async def script(reply: Reply) -> None:
        await reply.head()
        await reply.delta(content=text)
        for index, (name, arguments) in enumerate(functions):
            begun = {"index": index, "id": f"id{index}", "type": "function", "function": {"name": name}}
            await reply.delta(tool_calls=[begun])
            for letter in arguments:
                await reply.delta(tool_calls=[{"index": index, "function": {"arguments": letter}}])
        await reply.event("[DONE]")
        await reply.end()

    return script


def refuses(status: str = "500 Internal Server Error", body: str = "", more: str = "") -> Script:
    """Return a script that answers with an error."""

    async def script(reply: Reply) -> None:
        await reply.head(status, "application/json", more)
        await reply.chunk(body or "{}")
        await reply.end()

    return script


class ChatServer:
    """Answers each request with the next script, the last of them for ever."""

    def __init__(self, *scripts: Script) -> None:
        self.url = ""
        self.scripts = list(scripts)
        self.asked: list[dict[str, Any]] = []
        self.heads: list[str] = []
        self.models: Script = refuses(body='{"data": [{"id": "small"}, {"id": "large"}]}', status="200 OK")
        self.left = asyncio.Event()
        """Set once a client has gone before the end of its answer."""
        self._open: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._open[task] = writer
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    await self._exchange(reader, writer)
        finally:
            del self._open[task]
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        script = self.models
        if head.startswith("POST"):
            length = next(line for line in head.split("\r\n") if line.lower().startswith("content-length"))
            self.asked.append(json.loads(await reader.readexactly(int(length.split(":")[1]))))
            script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        answering = asyncio.ensure_future(script(Reply(writer)))
        # Nothing more comes on this connection before the answer, unless it is its end.
        leaving = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (answering, leaving):
                task.cancel()
            await asyncio.wait((answering, leaving))
        broken = not answering.cancelled() and answering.exception()
        if broken or not leaving.cancelled():
            self.left.set()
            raise ConnectionError

    async def close(self) -> None:
        for writer in self._open.values():
            writer.close()
        if self._open:
            await asyncio.wait(tuple(self._open))


@asynccontextmanager
async def chat_server(*scripts: Script) -> AsyncIterator[ChatServer]:
    """Run the server."""
    running = ChatServer(*scripts)
    server = await asyncio.start_server(running.serve, "127.0.0.1", 0)
    running.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield running
    finally:
        server.close()
        await running.close()
        await server.wait_closed()
