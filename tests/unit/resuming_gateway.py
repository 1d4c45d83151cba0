"""A gateway that keeps one session over lost connections; a test tells it what goes wrong."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from antiphon import extension, frames, messages
from scripted_gateway import EXTENDED, INFO, ClientMessage, Message, Peer

Attempt = Callable[[Peer, extension.Resume], Awaitable[None]]


class ResumingGateway:
    """One session. What is `sent` and has `come` is counted as the protocol counts it."""

    def __init__(self, **info: Any) -> None:
        self.sent: list[str | bytes] = []
        self.came: list[ClientMessage] = []
        self.resumes: list[extension.Resume] = []
        self.tokens: list[str] = []
        self.connections = 0
        self.acknowledges = True
        self.heeds = True
        """Whether it reads what comes."""
        self.lossy = False
        self.attempts: deque[Attempt] = deque()
        """What becomes of the next attempts to resume, in place of resuming."""
        self.statuses: deque[HTTPStatus] = deque()
        """What becomes of the next handshakes."""
        self.cut_after: int | None = None
        """How many messages more come before the connection is cut."""
        self.replays: int | None = None
        """How many messages of the next replay are sent before the connection is cut."""
        self.url = ""
        self._info = {**INFO, "resumeToken": "resume 0", **info}
        self._peer: Peer | None = None

    # ---- what a test does

    async def send(self, kind: str, **fields: Any) -> None:
        """Send a message of the session, or keep it for a client that is away."""
        await self._send(json.dumps({"type": kind, "timestamp": 0, **fields}))

    async def say(self, number: int) -> None:
        """Send a message that is told from others by its number."""
        await self.send("speech_started", streamMs=number)

    async def send_audio(self, sequence: int) -> None:
        await self._send(frames.pack(frames.Frame(frames.AUDIO_RESPONSE, sequence, 5, bytes(480))))

    async def fail(self, code: str, close: int) -> None:
        """Send a fatal error, and close."""
        await self.send("error", code=code, message=f"{code}.", details={"fatal": True, "retryable": True})
        await self.close(close, code)

    async def close(self, code: int, reason: str = "") -> None:
        peer, self._peer = self._peer, None
        assert peer
        await peer.socket.close(code, reason)

    def cut(self) -> None:
        """Lose the connection."""
        peer, self._peer = self._peer, None
        if peer:
            peer.socket.transport.abort()

    def cut_within_a_message(self) -> None:
        """Lose the connection when half of a message is on the wire."""
        peer, self._peer = self._peer, None
        assert peer
        peer.socket.transport.write(b'\x81\x7e\x03\xe8{"type": "speech_started", "strea')
        peer.socket.transport.close()

    @property
    def commands(self) -> list[str]:
        return [message.command for message in self.came if isinstance(message, messages.Command)]

    @property
    def chunks(self) -> list[messages.AudioChunk]:
        return [message for message in self.came if isinstance(message, messages.AudioChunk)]

    # ---- connections

    async def handle(self, socket: ServerConnection) -> None:
        self.connections += 1
        peer = Peer(socket)
        try:
            match await peer.receive():
                case messages.Auth(token=token):
                    await self._begin(peer, token)
                case extension.Resume() as resume:
                    await self._resume(peer, resume)
            await socket.wait_closed()
        except ConnectionClosed:
            pass

    def check(self, socket: ServerConnection, _: Request) -> Response | None:
        return socket.respond(self.statuses.popleft(), "not now") if self.statuses else None

    async def _begin(self, peer: Peer, token: str) -> None:
        self._peer = peer
        await self._accept(token)
        await self._listen(peer)

    async def _accept(self, token: str) -> None:
        self.tokens.append(token)
        await self.send("auth_success", sessionId="a session", userId="alice")
        await self.send("session_info", **self._info)

    async def _resume(self, peer: Peer, resume: extension.Resume) -> None:
        self.resumes.append(resume)
        self.tokens.append(resume.token)
        if self.attempts:
            await self.attempts.popleft()(peer, resume)
            return
        assert resume.session_id == "a session"
        assert resume.resume_token == self._info["resumeToken"]
        assert resume.received <= len(self.sent)
        self._info["resumeToken"] = f"resume {self.connections}"
        missed = self.sent[int(resume.received) :]
        self._peer = peer
        await peer.send(
            "resumed",
            sessionId="a session",
            resumeToken=self._info["resumeToken"],
            nextSequence=0,
            replayed=len(missed),
            lossy=self.lossy,
            received=len(self.came),
        )
        replays, self.replays = self.replays, None
        for frame in missed[:replays]:
            await peer.socket.send(frame)
        if replays is not None:
            self.cut()
            return
        await self._listen(peer)

    async def _listen(self, peer: Peer) -> None:
        """Take what comes, as long as the session is this connection's."""
        while self.heeds:
            message = await peer.receive()
            if self._peer is not peer:
                return
            await self._take(message)

    async def _take(self, message: ClientMessage) -> None:
        match message:
            case messages.Auth(token=token):
                await self._accept(token)
                return
            case extension.Ping(id=number, timestamp=timestamp):
                pong = {"type": "pong", "timestamp": 0, "id": number, "echoTime": timestamp}
                await self._out(json.dumps(pong))
                return
            case extension.Pong():
                return
        self.came.append(message)
        if self.cut_after is not None:
            self.cut_after -= 1
            if self.cut_after < 0:
                self.cut_after = None
                self.cut()
        if isinstance(message, messages.AudioChunk) and self.acknowledges:
            stream = sum(isinstance(came, extension.AudioStreamStart) for came in self.came)
            await self.send("audio_ack", sequence=int(message.sequence), windowMs=10_000, stream=stream)

    async def _send(self, frame: str | bytes) -> None:
        self.sent.append(frame)
        await self._out(frame)

    async def _out(self, frame: str | bytes) -> None:
        if self._peer:
            try:
                await self._peer.socket.send(frame)
            except ConnectionClosed:
                self._peer = None


@asynccontextmanager
async def resuming_gateway(**info: Any) -> AsyncIterator[ResumingGateway]:
    """Serve one session. `info` is of its session_info."""
    gateway = ResumingGateway(**info)
    async with serve(
        gateway.handle, "127.0.0.1", 0, close_timeout=1, process_request=gateway.check, **EXTENDED
    ) as server:
        gateway.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
        yield gateway


async def lose(peer: Peer, _: extension.Resume) -> None:
    """Lose the connection in place of an answer."""
    peer.socket.transport.abort()


def refusing(code: str, close: int | None, **details: Any) -> Attempt:
    """Return what refuses an attempt."""

    async def refuse(peer: Peer, _: extension.Resume) -> None:
        fields: Message = {"fatal": close is not None, "retryable": True, **details}
        await peer.send("error", code=code, message=f"{code}.", details=fields)
        if close is not None:
            await peer.socket.close(close, code)

    return refuse
