"""A call without gRPC: a client that reads and writes only when the test lets it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import json_format

from antiphon.engine import stream as module
from antiphon.engine import wire
from antiphon.engine.memory import Handles, Memory
from antiphon.engine.playback import PIECE_S, RATE_HZ
from antiphon.engine.stream import CallEnded, Parts, Resampler, Stream
from loopback_engine import ClientMessage, Hum, Reader, pcm, said, spoken


class Client:
    """The other side of a call; `reads` lets it take messages."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[Any] = asyncio.Queue()
        self.got: list[Any] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.is_gone = False
        self.news = asyncio.Event()

    async def read(self) -> Any:
        return await self.sent.get()

    async def write(self, message: Any) -> None:
        await self.reads.wait()
        if self.is_gone:
            raise grpc.aio.InternalError
        self.got.append(message)
        self.news.set()

    def send(self, **message: Any) -> None:
        self.sent.put_nowait(json_format.ParseDict(message, ClientMessage()).SerializeToString())

    def type(self, text: str) -> None:
        self.send(realtimeInput={"text": text})

    def speak(self, text: str) -> None:
        message = ClientMessage()
        message.realtime_input.audio.mime_type = "audio/pcm;rate=16000"
        message.realtime_input.audio.data = pcm(text)
        self.sent.put_nowait(message.SerializeToString())

    async def until(self, field: str) -> None:
        """Wait for a message of server content with a field."""
        async with asyncio.timeout(10):
            while not any(getattr(message.server_content, field) for message in self.got):
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def serving(voice: Hum | None = None) -> AsyncIterator[tuple[Client, asyncio.Task[CallEnded]]]:
    client = Client()
    (setup,) = wire.parse(
        ClientMessage(setup={"model": "m", "output_audio_transcription": {}}).SerializeToString()
    )
    assert isinstance(setup, wire.Setup)
    parts = Parts(Reader, voice or Hum(), Handles(), lambda: datetime(2026, 1, 1, tzinfo=UTC), 600.0)
    task = asyncio.create_task(Stream(client, setup, Memory(), object(), parts).run())
    try:
        yield client, task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_an_interruption_drops_what_has_not_been_sent() -> None:
    voice = Hum(seconds=2.0)
    async with serving(voice) as (client, _):
        await settle()
        client.reads.clear()
        client.type("hello")
        while voice.pieces < 20:
            await asyncio.sleep(0)
        client.speak("th")
        await settle()
        client.reads.set()
        await client.until("turn_complete")
        # One piece was on its way already.
        assert len(spoken(client.got)) == 2 * int(PIECE_S * RATE_HZ)
        assert [message.server_content.interrupted for message in client.got[-2:]] == [True, False]
        assert not any(message.server_content.generation_complete for message in client.got)


async def test_an_interruption_stops_the_voice() -> None:
    voice = Hum(seconds=2.0)
    async with serving(voice) as (client, _):
        client.type("hello")
        voice.may_speak.clear()
        await settle()
        client.speak("th")
        await client.until("interrupted")
        voice.may_speak.set()
        await settle()
        assert (voice.pieces, voice.stopped) == (0, 1)


async def test_the_voice_waits_for_a_client_that_does_not_read() -> None:
    voice = Hum(seconds=60.0)
    async with serving(voice) as (client, _):
        client.reads.clear()
        client.type("thanks")
        await settle()
        made = voice.pieces
        assert 0 < made < 3
        await settle()
        assert voice.pieces == made
        client.reads.set()
        await client.until("generation_complete")
        assert len(spoken(client.got)) == 2 * 60 * RATE_HZ


async def test_what_cannot_be_held_back_ends_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FLUSH_TIMEOUT_S", 0.01)
    async with serving() as (client, task):
        await settle()
        client.reads.clear()
        async with asyncio.timeout(20):
            while not task.done():
                client.send(realtimeInput={"audioStreamEnd": True})
                await asyncio.sleep(0)
                client.type("thanks")
                await asyncio.sleep(0)
        ended = task.result()
        assert (ended.status, ended.sentence) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "The answers are read too slowly.",
        )


async def test_what_was_sent_before_the_end_still_leaves() -> None:
    async with serving() as (client, task):
        await settle()
        client.reads.clear()
        client.type("thanks")
        await settle()
        client.send()
        await settle()
        assert not task.done()
        client.reads.set()
        assert (await task).status is grpc.StatusCode.INVALID_ARGUMENT
        assert said(client.got) == "You're welcome."


async def test_a_client_that_is_gone_is_noticed_when_writing() -> None:
    async with serving() as (client, task):
        client.is_gone = True
        assert (await task).status is grpc.StatusCode.CANCELLED


async def test_what_goes_wrong_in_the_ear_is_not_hidden() -> None:
    class Broken(Reader):
        async def feed(self, audio: bytes) -> None:
            raise RuntimeError("broken ear")

    client = Client()
    (setup,) = wire.parse(ClientMessage(setup={"model": "m"}).SerializeToString())
    assert isinstance(setup, wire.Setup)
    parts = Parts(Broken, Hum(), Handles(), lambda: datetime(2026, 1, 1, tzinfo=UTC), 600.0)
    client.speak("hello")
    with pytest.raises(ExceptionGroup) as raised:
        await Stream(client, setup, Memory(), object(), parts).run()
    assert raised.group_contains(RuntimeError, match="broken ear")


def test_resampling_keeps_the_length_at_any_rate_and_chunking() -> None:
    for rate in (8_000, 11_025, 22_050, 44_100, 48_000):
        resampler = Resampler()
        audio = bytes(2 * rate)
        size = 0
        for start in range(0, len(audio), 514):
            size += len(resampler.feed(wire.Audio(audio[start : start + 514], rate)))
        size += len(resampler.flush())
        assert abs(size - 2 * 16_000) <= 4


def test_audio_at_16_khz_passes_through() -> None:
    resampler = Resampler()
    assert resampler.feed(wire.Audio(b"\x01\x02", 16_000)) == b"\x01\x02"
    assert resampler.flush() == b""


def test_a_change_of_rate_loses_nothing() -> None:
    resampler = Resampler()
    sizes = [len(resampler.feed(wire.Audio(bytes(rate), rate))) for rate in (48_000, 16_000, 8_000, 48_000)]
    assert abs(sum(sizes) + len(resampler.flush()) - 4 * 16_000) <= 12
