"""The engine's server over real gRPC on loopback, with an ear and a voice that need no models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Self

import grpc
import grpc.aio
from google.ai.generativelanguage_v1beta.types import generative_service
from google.protobuf import json_format

from antiphon import voice_activity
from antiphon.engine.brain import Brain
from antiphon.engine.listener import Discarded, Final, ListenerEvent, Partial, SpeechStarted, SpeechStopped
from antiphon.engine.memory import Handles
from antiphon.engine.playback import RATE_HZ
from antiphon.engine.server import listen, serving
from antiphon.engine.stream import OpenEar, Parts, Voice

ClientMessage = generative_service.BidiGenerateContentClientMessage.pb()
ServerMessage = generative_service.BidiGenerateContentServerMessage.pb()
METHOD = "/google.ai.generativelanguage.v1beta.GenerativeService/BidiGenerateContent"

NEXT = {"functionDeclarations": [{"name": "next", "description": 'Go on. Said as: "next", "skip this".'}]}
MODEL = {"model": "models/embedded"}
ALL = {
    **MODEL,
    "inputAudioTranscription": {},
    "outputAudioTranscription": {},
    "sessionResumption": {},
    "tools": [NEXT],
}


def pcm(text: str) -> bytes:
    """Return text as audio that `Reader` hears."""
    return text.encode("utf-16-le")


class Reader:
    """An ear that takes samples for characters; a line is an utterance, a blank one is noise."""

    def __init__(self, on_event: Callable[[ListenerEvent], None], _tasks: asyncio.TaskGroup) -> None:
        self._on_event = on_event
        self._line = ""
        self._samples = 0

    async def feed(self, audio: bytes) -> None:
        for letter in audio.decode("utf-16-le"):
            if letter == "\n":
                await self.end()
                continue
            if not self._line:
                self._on_event(SpeechStarted(self._samples // 16))
            self._line += letter
            self._samples += 1
        if self._line.strip():
            self._on_event(Partial(self._line.strip(), 0.5))

    async def end(self) -> None:
        await asyncio.sleep(0)
        if self._line:
            text, self._line = self._line.strip(), ""
            self._on_event(SpeechStopped(self._samples // 16))
            self._on_event(Final(text, 0.75) if text else Discarded())


class Hum:
    """A voice that makes `seconds` of a constant for each sentence, in ten pieces."""

    def __init__(self, seconds: float = 0.1) -> None:
        self.seconds = seconds
        self.may_speak = asyncio.Event()
        self.may_speak.set()
        self.pieces = 0
        self.stopped = 0

    async def stream(self, _text: str) -> AsyncGenerator[bytes, None]:
        try:
            for _ in range(10):
                await self.may_speak.wait()
                self.pieces += 1
                yield b"\x11\x11" * int(self.seconds * RATE_HZ / 10)
        except (GeneratorExit, asyncio.CancelledError):
            self.stopped += 1
            raise


class Call:
    """A client's side of one call."""

    def __init__(self, call: Any) -> None:
        self.call = call

    async def send(self, message: dict[str, Any]) -> None:
        """Send a client message, given in protobuf's JSON form."""
        await self.call.write(json_format.ParseDict(message, ClientMessage()).SerializeToString())

    async def setup(self, **fields: Any) -> Self:
        await self.send({"setup": fields or ALL})
        assert (await self.receive()).HasField("setup_complete")
        return self

    async def audio(self, data: bytes, mime_type: str = "audio/pcm;rate=16000") -> None:
        message = ClientMessage()
        message.realtime_input.audio.mime_type = mime_type
        message.realtime_input.audio.data = data
        await self.call.write(message.SerializeToString())

    async def end_audio(self) -> None:
        await self.send({"realtimeInput": {"audioStreamEnd": True}})

    async def type(self, text: str) -> None:
        await self.send({"realtimeInput": {"text": text}})

    async def result(self, call_id: str, response: dict[str, Any], name: str = "next") -> None:
        answer = {"id": call_id, "name": name, "response": response}
        await self.send({"toolResponse": {"functionResponses": [answer]}})

    async def receive(self) -> Any:
        """Return the next server message; EOFError at the end of the call."""
        message = await self.call.read()
        if message is grpc.aio.EOF:
            raise EOFError
        return message

    async def until(self, condition: Callable[[Any], bool]) -> list[Any]:
        """Return the messages up to the first that meets a condition."""
        messages = [await self.receive()]
        while not condition(messages[-1]):
            messages.append(await self.receive())
        return messages

    async def turn(self) -> list[Any]:
        """Return the messages up to the end of the turn."""
        return await self.until(lambda message: bool(message.server_content.turn_complete))

    async def answer(self) -> list[Any]:
        """Return the messages up to the end of the answer's making, which may still be played."""
        return await self.until(lambda message: bool(message.server_content.generation_complete))

    async def handle(self) -> str:
        """Return the next handle that can be used."""
        messages = await self.until(lambda message: bool(message.session_resumption_update.resumable))
        return str(messages[-1].session_resumption_update.new_handle)

    async def status(self) -> tuple[str, str]:
        """Return how the call ends, by the status's name, and the sentence with it."""
        with suppress(EOFError, grpc.aio.AioRpcError):
            while True:
                await self.receive()
        code: grpc.StatusCode = await self.call.code()
        return code.name, await self.call.details() or ""


class Engine:
    """A running engine, for clients."""

    def __init__(self, port: int) -> None:
        self.target = f"127.0.0.1:{port}"
        self.channel = grpc.aio.insecure_channel(self.target)
        self._method = self.channel.stream_stream(
            METHOD, request_serializer=None, response_deserializer=ServerMessage.FromString
        )

    @asynccontextmanager
    async def call(self) -> AsyncIterator[Call]:
        """Open a call, and cancel it at the end unless it is over."""
        call = Call(self._method())
        try:
            async with asyncio.timeout(20):
                yield call
        finally:
            call.call.cancel()


@asynccontextmanager
async def engine(
    open_ear: OpenEar = Reader,
    voice: Voice | None = None,
    *,
    max_conversations: int = 64,
    max_connection_s: float = 600.0,
    handles: Handles | None = None,
    brain: Brain | None = None,
    delay_s: Callable[[], float] = lambda: 0.0,
) -> AsyncIterator[Engine]:
    """Run the server of the engine."""
    parts = Parts(
        open_ear,
        voice or Hum(),
        Handles() if handles is None else handles,
        lambda: datetime(2026, 11, 22, 9, 5, tzinfo=UTC),
        max_connection_s,
        brain,
        delay_s,
    )
    server, port = listen("127.0.0.1", 0)
    running = Engine(port)
    try:
        async with serving(server, parts, max_conversations):
            yield running
    finally:
        await running.channel.close()


def activity(messages: list[Any]) -> list[tuple[bool, float | None]]:
    """Return when the user began to speak and ceased to."""
    told = (voice_activity.decode(message.server_content) for message in messages)
    return [one for one in told if one]


def said(messages: list[Any]) -> str:
    """Return what the output transcriptions say."""
    return "".join(message.server_content.output_transcription.text for message in messages)


def spoken(messages: list[Any]) -> bytes:
    """Return the audio of the answers."""
    return b"".join(
        part.inline_data.data for message in messages for part in message.server_content.model_turn.parts
    )
