"""A gateway that does what a test says: a real server, without a model behind it.

It serves the page with the headers of the real one and speaks the base messages. It is strict: what the
page sends must decode, carry no field that the base messages do not have, and be in order.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import msgspec
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

import antiphon
from antiphon import messages
from antiphon.errors import DISPOSITIONS, ErrorCode, GatewayError

CONSOLE = Path(antiphon.__file__).parent / "console"
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "media-src 'self' blob:; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
FIELDS = {
    "auth": {"token"},
    "audio_stream_start": {"config"},
    "audio_chunk": {"data", "sequence"},
    "audio_stream_end": {"duration"},
    "command": {"command"},
}
GOOD_TOKEN = "good.token.here"
PIECE_MS = 100


class Stream:
    """One audio stream of the page."""

    def __init__(self, config: messages.StreamConfig) -> None:
        self.config = config
        self.pcm = bytearray()
        self.chunks = 0
        self.duration_ms: float | None = None


class Session:
    """One connection of the page, and what came through it."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection
        self.token = ""
        self.streams: list[Stream] = []
        self.commands: list[str] = []
        self.open_stream: Stream | None = None

    async def authenticated(self) -> None:
        await self.send(
            messages.AuthSuccess(timestamp=time.time() * 1000, session_id="a-session", user_id="a-user")
        )

    async def recognise(self, transcript: str, *, final: bool = False, command: str | None = None) -> None:
        await self.send(
            messages.RecognitionResult(
                timestamp=time.time() * 1000,
                transcript=transcript,
                confidence=0.9 if final else 0.0,
                is_final=final,
                command=command if command else msgspec.UNSET,
            )
        )

    async def say(self, pcm: bytes, text: str = "", audio_format: str = "audio/pcm;rate=24000") -> None:
        """Send one piece of an answer, 24 kHz."""
        await self.send(
            messages.AudioResponse(
                timestamp=time.time() * 1000,
                data=pcm,
                format=audio_format,
                duration=len(pcm) / 48,
                text=text,
                language="en-US",
            )
        )

    async def fail(self, code: ErrorCode, **details: Any) -> None:
        """Send an error, and close as the table has it."""
        await self.send(messages.error_message(GatewayError(code, **details), round(time.time() * 1000)))
        if close := DISPOSITIONS[code].close:
            await self.connection.close(close)

    async def send(self, message: messages.ServerMessage) -> None:
        await self.connection.send(messages.encode(message).decode())


Handler = Callable[[Session, messages.ClientMessage], Awaitable[None]]


async def ignore(session: Session, message: messages.ClientMessage) -> None:
    """Say nothing."""


class Gateway:
    """What the test controls and asks. `on_message` is called for every message once the page is in."""

    def __init__(self) -> None:
        self.port = 0
        self.sessions: list[Session] = []
        self.faults: list[str] = []
        self.on_message: Handler = ignore
        self.on_token: Callable[[Session], Awaitable[None]] = Session.authenticated
        self.ready = True
        self.paths: list[str] = []
        self._server: Server | None = None
        self._changed = asyncio.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    @property
    def link(self) -> str:
        return f"{self.url}#token={GOOD_TOKEN}"

    async def listen(self) -> None:
        self._server = await serve(
            self._run,
            "127.0.0.1",
            self.port,
            process_request=self._respond,
            compression=None,
            close_timeout=1,
        )
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def vanish(self) -> None:
        """Go away without a word, connections and all."""
        for session in self.sessions:
            session.connection.transport.abort()
        if self._server:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def until(self, condition: Callable[[], object], what: str, timeout_s: float = 15) -> None:
        """Wait until something that the page sends makes `condition` true."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: bool(condition()))
        except TimeoutError:
            raise AssertionError(f"In {timeout_s} s it never came to this: {what}") from None

    async def stream(self, count: int = 1) -> Stream:
        """Wait for that many audio streams, over all sessions, and return the last."""
        await self.until(lambda: len(self.streams) >= count, f"{count} audio streams")
        return self.streams[count - 1]

    async def chunks(self, stream: Stream, count: int) -> None:
        """Wait until a stream has that many."""
        await self.until(lambda: stream.chunks >= count, f"{count} chunks of audio")

    async def ended(self, stream: Stream) -> None:
        """Wait for the end of a stream."""
        await self.until(lambda: stream.duration_ms is not None, "the end of the stream")

    @property
    def streams(self) -> list[Stream]:
        return [stream for session in self.sessions for stream in session.streams]

    def _respond(self, _connection: ServerConnection, request: Request) -> Response | None:
        path = request.path.partition("?")[0]
        self.paths.append(path)
        if path == "/ws":
            return None
        if path in FILES:
            name, content_type = FILES[path]
            return answer(HTTPStatus.OK, content_type, (CONSOLE / name).read_bytes())
        if path == "/readyz":
            status = HTTPStatus.OK if self.ready else HTTPStatus.SERVICE_UNAVAILABLE
            return answer(status, "text/plain", b"")
        if path == "/about":
            body = {"name": "antiphon", "version": "0.1.0", "upstream": "a script", "models": []}
            return answer(HTTPStatus.OK, "application/json", json.dumps(body).encode())
        return answer(HTTPStatus.NOT_FOUND, "text/plain", b"")

    async def _run(self, connection: ServerConnection) -> None:
        session = Session(connection)
        self.sessions.append(session)
        try:
            async for frame in connection:
                message = self._check(session, frame)
                if isinstance(message, messages.Auth):
                    session.token = message.token
                    await self.on_token(session)
                elif message:
                    await self.on_message(session, message)
                async with self._changed:
                    self._changed.notify_all()
        except ConnectionClosed:
            pass  # the page, or the test, has closed it
        async with self._changed:
            self._changed.notify_all()

    def _check(self, session: Session, frame: str | bytes) -> messages.ClientMessage | None:
        if isinstance(frame, bytes):
            self._fault("a binary frame")
            return None
        fields: dict[str, Any] = json.loads(frame)
        kind = fields.get("type")
        if kind not in FIELDS or set(fields) != {"type", "timestamp"} | FIELDS[kind]:
            self._fault(f"not a base message: {frame[:200]}")
            return None
        if abs(fields["timestamp"] - time.time() * 1000) > 5000:
            self._fault("a timestamp that is not now in milliseconds")
            return None
        message = messages.decode(frame)
        if not session.token and kind != "auth":
            self._fault(f"{kind} before auth")
            return None
        self._follow(session, message)
        return message

    def _follow(self, session: Session, message: messages.ClientMessage) -> None:
        stream = session.open_stream
        match message:
            case messages.AudioStreamStart(config=config):
                if stream:
                    self._fault("a second stream while one is open")
                session.open_stream = Stream(config)
                session.streams.append(session.open_stream)
            case messages.AudioChunk(data=data, sequence=sequence):
                if not stream:
                    self._fault("audio without a stream")
                else:
                    if sequence != stream.chunks:
                        self._fault(f"chunk {sequence} where {stream.chunks} was due")
                    stream.chunks += 1
                    stream.pcm += data
            case messages.AudioStreamEnd(duration=duration):
                if not stream:
                    self._fault("the end of no stream")
                else:
                    stream.duration_ms = duration
                    session.open_stream = None
            case messages.Command(command=command):
                session.commands.append(command)
            case messages.Auth():
                pass

    def _fault(self, what: str) -> None:
        self.faults.append(what)


def answer(status: HTTPStatus, content_type: str, body: bytes) -> Response:
    """Return a response with the headers of the real gateway."""
    headers = Headers(
        {
            "Content-Security-Policy": POLICY,
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-cache",
            "Connection": "close",
        }
    )
    return Response(status.value, status.phrase, headers, body)


def pieces(pcm: bytes, rate_hz: int = 24_000) -> Iterable[bytes]:
    """Cut an answer as the gateway does."""
    size = rate_hz * PIECE_MS // 1000 * 2
    return (pcm[start : start + size] for start in range(0, len(pcm), size))


@asynccontextmanager
async def scripted_gateway() -> AsyncIterator[Gateway]:
    """Run a gateway on a free port; at the end, everything it was sent must have been right."""
    gateway = Gateway()
    await gateway.listen()
    try:
        yield gateway
    finally:
        await gateway.vanish()
    assert gateway.faults == [], gateway.faults
