"""A gateway of a few lines on a real socket, that does what a test tells it to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import ServerConnection, serve

from antiphon import messages
from antiphon.messages import ClientMessage

Message = dict[str, Any]


class Peer:
    """The gateway's side of one connection."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.received: list[Message] = []

    async def receive(self) -> ClientMessage:
        """Return the client's next message, which must be a valid one."""
        text = await self.socket.recv()
        assert isinstance(text, str)
        self.received.append(json.loads(text))
        return messages.decode(text)

    async def accept(self) -> messages.Auth:
        auth = await self.receive()
        assert isinstance(auth, messages.Auth)
        await self.send("auth_success", sessionId="a session", userId="alice")
        return auth

    async def hear(self) -> bytes:
        """Return the audio of the next stream, to its end."""
        start = await self.receive()
        assert isinstance(start, messages.AudioStreamStart)
        audio = b""
        while not isinstance(message := await self.receive(), messages.AudioStreamEnd):
            assert isinstance(message, messages.AudioChunk)
            audio += message.data
        return audio

    async def send(self, kind: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": kind, "timestamp": 0, **fields}))

    async def result(self, transcript: str, *, final: bool = True, **fields: Any) -> None:
        await self.send("recognition_result", transcript=transcript, confidence=0.5, isFinal=final, **fields)

    async def answer(self, text: str, duration_ms: int = 100, rate_hz: int = 24_000) -> None:
        await self.socket.send(
            messages.encode(
                messages.AudioResponse(
                    timestamp=0,
                    data=bytes(rate_hz * 2 * duration_ms // 1000),
                    format=f"audio/pcm;rate={rate_hz}",
                    duration=duration_ms,
                    text=text,
                    language="en-US",
                )
            ),
            text=True,
        )

    async def fail(self, code: str, message: str, close: int | None = None) -> None:
        details = {"fatal": close is not None, "retryable": False}
        await self.send("error", code=code, message=message, details=details)
        if close is not None:
            await self.socket.close(close, code)


Script = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def scripted_gateway(script: Script, **options: Any) -> AsyncIterator[str]:
    """Serve, and yield the address; every connection runs the script, then stays open."""

    async def handle(socket: ServerConnection) -> None:
        await script(Peer(socket))
        await socket.wait_closed()

    async with serve(handle, "127.0.0.1", 0, close_timeout=1, **options) as server:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
