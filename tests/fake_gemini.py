"""A scriptable Gemini Live server over real gRPC, over its WebSocket or over both: each conversation runs
a script of the test's.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Literal

import grpc
import grpc.aio

from antiphon.gemini.client import METHOD
from antiphon.gemini.codec import ClientMessage, ServerMessage
from fake_socket import FakeSocketServer, relay

Script = Callable[["Conversation"], Awaitable[None]]
Serving = Literal["grpc", "websocket", "both"]


class Conversation:
    """One RPC, seen from the model's side."""

    def __init__(self, requests: AsyncIterator[Any], context: Any) -> None:
        self.context = context
        self.metadata = dict(context.invocation_metadata())
        self.setup: Any = None
        self.heard = bytearray()
        self.texts: list[str] = []
        self.results: list[Any] = []
        self.ended = 0
        self._requests = requests
        self._turn = asyncio.Lock()
        """grpc.aio refuses a write that begins before the last one is over."""

    async def begin(self) -> None:
        """Take the set-up and acknowledge it."""
        self.setup = (await self.receive()).setup
        await self.send(setup_complete={})

    async def receive(self) -> Any:
        """Return the next client message, noting audio, text and results; EOFError at the end."""
        try:
            message = await anext(self._requests)
        except StopAsyncIteration:
            raise EOFError from None
        self.heard += message.realtime_input.audio.data
        if message.realtime_input.text:
            self.texts.append(message.realtime_input.text)
        self.texts += [part.text for turn in message.client_content.turns for part in turn.parts]
        self.ended += message.realtime_input.audio_stream_end
        self.results += message.tool_response.function_responses
        return message

    async def until_audio_end(self) -> None:
        ended = self.ended
        while self.ended == ended:
            await self.receive()

    async def until_gone(self) -> None:
        """Take whatever comes until the client leaves."""
        try:
            while True:
                await self.receive()
        except EOFError:
            return

    async def send(self, **fields: Any) -> None:
        async with self._turn:
            await self.context.write(ServerMessage(**fields))

    async def send_raw(self, data: bytes) -> None:
        """Send bytes that need not be a message."""
        await self.context.write(Raw(data))

    async def hear(self, text: str) -> None:
        await self.send(server_content={"input_transcription": {"text": text}})

    async def say(self, text: str, pcm: bytes, mime_type: str = "audio/pcm;rate=24000") -> None:
        await self.send(
            server_content={
                "output_transcription": {"text": text},
                "model_turn": {"parts": [{"inline_data": {"mime_type": mime_type, "data": pcm}}]},
            }
        )

    async def end_turn(self) -> None:
        await self.send(server_content={"generation_complete": True})
        await self.send(server_content={"turn_complete": True})

    async def fail(self, code: grpc.StatusCode, details: str = "") -> None:
        await self.context.abort(code, details)


class Raw:
    """What goes out as it is."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def SerializeToString(self) -> bytes:  # noqa: N802 (protobuf's name)
        return self._data


class FakeGemini:
    """The server: where it listens, and what it has seen."""

    def __init__(self, script: Script, serving: Serving = "grpc", tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.serving = serving
        self.target = ""
        self.refuses_with: int | None = None
        """The HTTP status that the handshake of a WebSocket is answered with."""
        self.conversations: list[Conversation] = []
        self.open = 0
        self.most_open = 0
        self._tls = tls
        self._grpc: grpc.aio.Server | None = None
        self._sockets: FakeSocketServer | None = None
        self._front: asyncio.Server | None = None

    async def start(self, port: int = 0, max_streams: int | None = None) -> None:
        ports: list[int] = []
        if self.serving != "websocket":
            ports.append(await self._start_grpc(port if self.serving == "grpc" else 0, max_streams))
        if self.serving != "grpc":
            self._sockets = FakeSocketServer(self._converse, lambda: self.refuses_with)
            ports.append(await self._sockets.start(port if self.serving == "websocket" else 0, self._tls))
        if self.serving == "both":
            self._front = await relay(*ports)
            ports = [self._front.sockets[0].getsockname()[1]]
        self.target = f"127.0.0.1:{ports[0]}"

    async def _start_grpc(self, port: int, max_streams: int | None) -> int:
        options = [("grpc.so_reuseport", 0)]
        if max_streams:
            options.append(("grpc.max_concurrent_streams", max_streams))
        server = self._grpc = grpc.aio.server(options=options)
        handler = grpc.stream_stream_rpc_method_handler(
            self._converse,
            request_deserializer=ClientMessage.FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )
        service, _, method = METHOD.strip("/").partition("/")
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
        bound: int = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        return bound

    async def stop(self) -> None:
        """Go away at once, as a killed process does."""
        if self._front:
            self._front.close()
        if self._grpc:
            await self._grpc.stop(None)
        if self._sockets:
            await self._sockets.stop()

    async def idle(self) -> None:
        """Wait until no conversation is open."""
        async with asyncio.timeout(10):
            while self.open:
                await asyncio.sleep(0.01)

    async def _converse(self, requests: AsyncIterator[Any], context: Any) -> None:
        conversation = Conversation(requests, context)
        self.conversations.append(conversation)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            await self.script(conversation)
        except EOFError:
            pass
        finally:
            self.open -= 1


@asynccontextmanager
async def fake_gemini(
    script: Script,
    max_streams: int | None = None,
    serving: Serving = "grpc",
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[FakeGemini]:
    server = FakeGemini(script, serving, tls)
    await server.start(max_streams=max_streams)
    try:
        yield server
    finally:
        await server.stop()


ANSWER = bytes(range(256)) * 60
"""320 ms of sound at 24 kHz that no piece of is like another."""


async def attentive(conversation: Conversation) -> None:
    """Answer every stream and every typed turn with the same words."""
    await conversation.begin()
    while True:
        message = await conversation.receive()
        if message.realtime_input.audio_stream_end or message.realtime_input.text:
            await conversation.hear(" hello")
            await conversation.hear(" there")
            await conversation.say("General greeting.", ANSWER)
            await conversation.end_turn()
