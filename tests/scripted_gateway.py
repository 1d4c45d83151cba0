"""A gateway of a few lines on a real socket, that does what a test tells it to."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from websockets.asyncio.server import ServerConnection, serve

from antiphon import extension, frames, messages
from antiphon.extension import SUBPROTOCOL

T = TypeVar("T")
Message = dict[str, Any]
ClientMessage = messages.ClientMessage | extension.ClientMessage

EXTENDED: dict[str, Any] = {
    "subprotocols": [SUBPROTOCOL],
    "select_subprotocol": lambda socket, offered: SUBPROTOCOL if SUBPROTOCOL in offered else None,
}
"""Options of a gateway that speaks antiphon.v1."""

INFO: Message = {
    "protocol": SUBPROTOCOL,
    "features": extension.FEATURES,
    "inputFormats": ["LINEAR16", "FLAC", "audio/ogg;codecs=opus"],
    "outputFormats": ["audio/pcm;rate=24000", "audio/flac"],
    "limits": {
        "messageBytes": 65_536,
        "playbackBufferMs": 30_000,
        "uplinkBufferMs": 10_000,
        "idleMs": 300_000,
        "sessionMs": 7_200_000,
        "resumeMs": 120_000,
    },
    "heartbeatMs": 30_000,
}


class Peer:
    """The gateway's side of one connection."""

    def __init__(self, socket: ServerConnection) -> None:
        self.socket = socket
        self.received: list[Message] = []
        self.marks: list[tuple[str, float]] = []

    @property
    def extended(self) -> bool:
        return self.socket.subprotocol == SUBPROTOCOL

    async def receive(self) -> ClientMessage:
        """Return the client's next message, which must be a valid one; binary chunks are chunks, too."""
        data = await self.socket.recv()
        if isinstance(data, bytes):
            assert self.extended
            frame = frames.unpack(data, frames.AUDIO_CHUNK)
            self.received.append({"type": "binary", "sequence": frame.sequence})
            return messages.AudioChunk(
                timestamp=frame.timestamp_ms, data=frame.audio, sequence=frame.sequence
            )
        self.received.append(json.loads(data))
        message = extension.decode(data) if self.extended else messages.decode(data)
        if isinstance(message, extension.PlaybackMark):
            self.marks.append((message.response_id, message.played_ms))
        return message

    async def until(self, kind: type[T]) -> T:
        """Return the client's next message of a kind."""
        while not isinstance(message := await self.receive(), kind):
            pass
        return message

    async def accept(self) -> messages.Auth:
        auth = await self.receive()
        assert isinstance(auth, messages.Auth)
        await self.send("auth_success", sessionId="a session", userId="alice")
        if self.extended:
            await self.send("session_info", **INFO)
        return auth

    async def hear(self) -> bytes:
        """Return the audio of the next stream, to its end. Between, there may be what is no audio."""
        start = await self.receive()
        while self.extended and not isinstance(start, extension.AudioStreamStart):
            start = await self.receive()
        assert isinstance(start, extension.AudioStreamStart | messages.AudioStreamStart)
        audio = b""
        while not isinstance(message := await self.receive(), messages.AudioStreamEnd):
            assert self.extended or isinstance(message, messages.AudioChunk)
            if isinstance(message, messages.AudioChunk):
                audio += message.data
        return audio

    async def send(self, kind: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": kind, "timestamp": 0, **fields}))

    async def result(self, transcript: str, *, final: bool = True, **fields: Any) -> None:
        await self.send("recognition_result", transcript=transcript, confidence=0.5, isFinal=final, **fields)

    async def update(self, role: str, text: str, *, of: str = "r1", revision: int = 1, final: bool) -> None:
        await self.send(
            "transcript_update", role=role, utteranceId=of, revision=revision, text=text, isFinal=final
        )

    async def respond(self, text: str, *, of: str = "r1", duration_ms: int = 100) -> None:
        """Send a whole response, and wait until the client says that it was heard."""
        await self.send("response_started", responseId=of, format="audio/pcm;rate=24000", language="en-US")
        await self.update("model", text, of=of, final=False)
        await self.answer(text, duration_ms)
        while (of, duration_ms) not in self.marks:
            await self.receive()
        await self.update("model", text, of=of, revision=2, final=True)
        await self.send("response_done", responseId=of, status="completed")

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
