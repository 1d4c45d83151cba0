"""A client that knows the base messages only, and holds every message it gets to their exact fields."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway.running import Reachable

Message = dict[str, Any]

FIELDS: dict[str, tuple[dict[str, type], dict[str, type]]] = {
    "auth_success": ({"sessionId": str, "userId": str}, {}),
    "recognition_result": ({"transcript": str, "confidence": float, "isFinal": bool}, {"command": str}),
    "audio_response": ({"data": str, "format": str, "duration": float, "text": str, "language": str}, {}),
    "error": ({"code": str, "message": str}, {"details": dict}),
}
"""The request's interfaces, as (required, optional) fields beside `type` and `timestamp`."""


def checked(text: str | bytes) -> Message:
    """Return the message of a frame, which has the fields of the request's interface and no other."""
    assert isinstance(text, str), "binary where text is due"
    message = json.loads(text)
    required, optional = FIELDS[message["type"]]
    found = {name: value for name, value in message.items() if name not in ("type", "timestamp")}
    assert abs(message["timestamp"] - time.time() * 1000) < 60_000
    assert required.keys() <= found.keys() <= required.keys() | optional.keys(), message
    for name, value in found.items():
        kind = {**required, **optional}[name]
        assert isinstance(value, int | float if kind is float else kind), (name, value)
    return dict(message)


class Talker:
    """A connected client."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.sequence = 0

    async def send(self, kind: str, **fields: Any) -> None:
        await self.socket.send(message(kind, **fields))

    async def auth(self, token: str) -> Message:
        await self.send("auth", token=token)
        return await self.receive("auth_success")

    async def start(
        self, rate_hz: float = 16_000, audio_format: str = "LINEAR16", language: str = "en-US"
    ) -> None:
        config = {"sampleRate": rate_hz, "format": audio_format, "language": language}
        await self.send("audio_stream_start", config=config)

    async def chunk(self, data: bytes) -> None:
        await self.socket.send(chunk(self.sequence, data))
        self.sequence += 1

    async def end(self, duration_ms: float = 0) -> None:
        await self.send("audio_stream_end", duration=duration_ms)

    async def speak(self, pcm: bytes, chunk_bytes: int = 3200) -> None:
        """Send a whole stream."""
        await self.start()
        for at in range(0, len(pcm), chunk_bytes):
            await self.chunk(pcm[at : at + chunk_bytes])
        await self.end(len(pcm) / 32)

    async def receive(self, kind: str | None = None, within_s: float = 10) -> Message:
        """Return the next message, which must be of the kind where one is named."""
        async with asyncio.timeout(within_s):
            message = checked(await self.socket.recv())
        assert kind in (None, message["type"]), message
        return message

    async def until(self, kind: str, within_s: float = 10, **where: Any) -> list[Message]:
        """Return messages up to the first of a kind that has the given fields."""
        messages = []
        async with asyncio.timeout(within_s):
            while True:
                messages.append(await self.receive(within_s=within_s))
                last = messages[-1]
                if last["type"] == kind and all(last[name] == value for name, value in where.items()):
                    return messages

    async def during(self, duration_s: float) -> list[Message]:
        """Return what comes in a time."""
        messages = []
        try:
            async with asyncio.timeout(duration_s):
                while True:
                    messages.append(checked(await self.socket.recv()))
        except TimeoutError:
            return messages

    async def refused(self, code: str, within_s: float = 10) -> Message:
        """Return the next message, an error of this code; the connection lives on."""
        error = await self.receive("error", within_s)
        assert (error["code"], error["details"]["fatal"]) == (code, False), error
        return error

    async def closed(self, code: str, close: int, within_s: float = 10) -> Message:
        """Return the last message before the close, an error of this code, after which comes this close."""
        last: Message = {}
        async with asyncio.timeout(within_s):
            try:
                while True:
                    last = checked(await self.socket.recv())
            except ConnectionClosed:
                pass
        assert (last["code"], last["details"]["fatal"]) == (code, True), last
        assert (self.socket.close_code, self.socket.close_reason) == (close, code)
        return last

    async def answered(self) -> None:
        """Prove that the session works: a typed turn is answered."""
        await self.send("command", command="Are you there?")
        await self.until("audio_response")


def message(kind: str, **fields: Any) -> str:
    """Return the text of a client's message."""
    return json.dumps({"type": kind, "timestamp": int(time.time() * 1000), **fields})


def chunk(sequence: int, data: bytes) -> str:
    return message("audio_chunk", sequence=sequence, data=base64.b64encode(data).decode())


@asynccontextmanager
async def connected(gateway: Reachable, **options: Any) -> AsyncIterator[Talker]:
    """Connect a client that has yet to authenticate."""
    url = gateway.url.replace("ws:", "wss:") if "ssl" in options else gateway.url
    async with connect(url, **options) as socket:
        yield Talker(socket)


@asynccontextmanager
async def talking(gateway: Reachable, user: str = "alice", **options: Any) -> AsyncIterator[Talker]:
    """Connect a client and let it authenticate."""
    async with connected(gateway, **options) as talker:
        await talker.auth(gateway.token(user))
        yield talker
