"""The benchmark's gRPC upstream, by its bytes and before both clients of gRPC that there are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest

from antiphon.gemini.client import METHOD
from antiphon.gemini.codec import ClientMessage, ServerMessage
from antiphon.rpc import grpc as own_grpc
from antiphon.rpc.events import DataCame, Event, HeadersCame
from antiphon.rpc.http2 import STREAM_WINDOW_BYTES, Http2Client
from bench import replies
from bench.grpc_upstream import GrpcUpstream

from .hosting import hosted


class Wire(asyncio.Transport):
    """What the upstream writes to."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.written += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


class Conversation:
    """Our client of HTTP/2 and the upstream, without a socket between them."""

    def __init__(self, answer: bytes | None = None) -> None:
        self.wire = Wire()
        self.client = Http2Client()
        self.upstream = GrpcUpstream(3200, answer)
        self.upstream.connection_made(self.wire)
        self.messages = own_grpc.Messages(1 << 20)
        self.answers: list[Any] = []
        self.headers: list[HeadersCame] = []
        self.exchange()

    def call(self, method: str = METHOD) -> int:
        headers = own_grpc.request_headers(
            "127.0.0.1", method, (), secure=False, timeout_s=None, agent="test"
        )
        stream = self.client.open(headers)
        self.exchange()
        return stream

    def say(self, stream: int, message: Any) -> None:
        self.client.send(stream, own_grpc.framed(message.SerializeToString()))
        self.exchange()

    def exchange(self, piece: int = 1 << 20) -> None:
        """Let bytes go both ways until there are none."""
        while (out := b"".join(self.client.take())) or self.wire.written:
            for at in range(0, len(out), piece):
                self.upstream.data_received(out[at : at + piece])
            came, self.wire.written = self.wire.written, b""
            for event in self.client.receive(came):
                self._take(event)

    def _take(self, event: Event) -> None:
        if isinstance(event, HeadersCame):
            self.headers.append(event)
        elif isinstance(event, DataCame):
            self.answers += [ServerMessage.FromString(each) for each in self.messages.feed(event.data)]


def audio(size: int) -> Any:
    message = ClientMessage()
    message.realtime_input.audio.mime_type = "audio/pcm;rate=16000"
    message.realtime_input.audio.data = bytes(size)
    return message


def set_up() -> Any:
    message = ClientMessage()
    message.setup.model = "models/any"
    return message


def numbers(answers: list[Any]) -> list[int]:
    return [int(answer.server_content.input_transcription.text) for answer in answers]


def test_each_chunk_is_answered_by_its_number() -> None:
    conversation = Conversation()
    stream = conversation.call()
    assert dict(conversation.headers[0].headers)[":status"] == "200"
    conversation.say(stream, set_up())
    assert conversation.answers.pop().HasField("setup_complete")
    for _ in range(300):
        conversation.say(stream, audio(3200))
    assert numbers(conversation.answers) == list(range(300))


@pytest.mark.parametrize("sizes", [[6400] * 3, [1600] * 12, [3199, 1, 6400, 9600], [4800, 0, 4800, 9600]])
def test_audio_is_counted_however_it_is_cut(sizes: list[int]) -> None:
    conversation = Conversation()
    stream = conversation.call()
    for size in sizes:
        conversation.say(stream, audio(size))
    assert numbers(conversation.answers) == list(range(6))


def test_conversations_are_counted_apart() -> None:
    conversation = Conversation()
    streams = [conversation.call() for _ in range(3)]
    for stream in streams * 2:
        conversation.say(stream, audio(3200))
    assert numbers(conversation.answers) == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_bytes_may_be_cut_anywhere(piece: int) -> None:
    conversation = Conversation()
    stream = conversation.call()
    for _ in range(3):
        conversation.client.send(stream, own_grpc.framed(audio(3200).SerializeToString()))
    conversation.exchange(piece)
    assert numbers(conversation.answers) == [0, 1, 2]


def test_what_does_not_fit_into_the_window_waits() -> None:
    pcm = bytes(range(256)) * 18 + bytes(192)
    conversation = Conversation(replies.audio(pcm))
    stream = conversation.call()
    for _ in range(100):
        conversation.say(stream, audio(3200))
    held = len(conversation.answers)
    assert 40 < held < STREAM_WINDOW_BYTES / len(pcm)
    conversation.client.consumed(stream, STREAM_WINDOW_BYTES)
    conversation.exchange()
    assert len(conversation.answers) == 100
    parts = [answer.server_content.model_turn.parts[0].inline_data for answer in conversation.answers]
    assert {(part.mime_type, part.data) for part in parts} == {("audio/pcm;rate=24000", pcm)}


def test_anything_else_is_unimplemented() -> None:
    conversation = Conversation()
    conversation.call("/grpc.health.v1.Health/Check")
    (trailers,) = conversation.headers
    assert trailers.ends
    assert dict(trailers.headers)["grpc-status"] == "12"


def test_a_ping_is_answered() -> None:
    conversation = Conversation()
    conversation.client.ping(b"12345678")
    out = b"".join(conversation.client.take())
    conversation.upstream.data_received(out)
    assert [repr(event) for event in conversation.client.receive(conversation.wire.written)] == [
        "PingAnswered(payload=b'12345678')"
    ]


@asynccontextmanager
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    async with (
        hosted(lambda: GrpcUpstream(3200, None)) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as found,
    ):
        yield found


async def test_before_grpc_aio() -> None:
    async with channel() as found:
        converse = found.stream_stream(
            METHOD,
            request_serializer=ClientMessage.SerializeToString,
            response_deserializer=ServerMessage.FromString,
        )
        call = converse()
        await call.write(set_up())
        assert (await call.read()).HasField("setup_complete")
        for _ in range(200):
            await call.write(audio(3200))
        assert numbers([await call.read() for _ in range(200)]) == list(range(200))
        await call.done_writing()
        assert await call.code() is grpc.StatusCode.OK


async def test_the_health_check_of_grpc_aio() -> None:
    async with channel() as found:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await found.unary_unary("/grpc.health.v1.Health/Check")(b"")
        assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
