"""The Python client with a real gateway: every method, and what each brings."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any, Final

import av
import pytest

from antiphon import extension, frames
from antiphon.audio.recording import Recording
from antiphon.client import Client, Speaker, connect
from antiphon.extension import ServerMessage
from antiphon.messages import AudioResponse, AuthSuccess, Error, RecognitionResult
from fake_gemini import ANSWER, Conversation
from gateway.running import Gateway, running_gateway
from gateway.test_push_to_talk import LOUD, Patient
from gateway.test_tools import Caller, configured

SECOND = b"\x01\x02" * 24_000
PCM = "audio/pcm;rate=24000"
OPUS: Final = "audio/ogg;codecs=opus"


async def until(client: Client, kind: type[Any], **where: Any) -> list[ServerMessage]:
    """Return the messages up to the first of a kind that has the given fields."""
    found: list[ServerMessage] = []
    async with asyncio.timeout(10):
        async for message in client:
            found.append(message)
            if isinstance(message, kind) and all(getattr(message, k) == v for k, v in where.items()):
                return found
    raise AssertionError(found)


def answer(messages: list[ServerMessage]) -> list[AudioResponse]:
    return [message for message in messages if isinstance(message, AudioResponse)]


async def long_answer(conversation: Conversation) -> None:
    """Answer every command with ten seconds, a word each."""
    await conversation.begin()
    while True:
        if (await conversation.receive()).realtime_input.text:
            for number in range(10):
                await conversation.say(f" {number}", SECOND)
            await conversation.end_turn()


class TestNegotiation:
    async def test_what_is_offered(self, gateway: Gateway) -> None:
        async with connect(gateway.url, gateway.token()) as client:
            assert client.info is not None
            assert set(client.info.features) == set(extension.FEATURES)
            await client.renew(gateway.token())
            assert isinstance(await anext(client), AuthSuccess)
            assert isinstance(await anext(client), extension.SessionInfo)

    async def test_base_messages_only(self, gateway: Gateway) -> None:
        async with connect(gateway.url, gateway.token(), base=True) as client:
            assert not client.extended
            await client.command("hello")
            kinds = {type(message) for message in await until(client, AudioResponse)}
            assert kinds <= {AudioResponse, RecognitionResult}

    async def test_ping(self, gateway: Gateway) -> None:
        async with connect(gateway.url, gateway.token()) as client, asyncio.timeout(5):
            assert 0 < await client.ping() < 5


class TestAnswers:
    @pytest.mark.parametrize(
        ("format_", "binary"),
        [(PCM, False), (PCM, True), ("audio/wav", False), ("audio/flac", True), (OPUS, True)],
    )
    async def test_in_every_format(self, gateway: Gateway, format_: str, binary: bool) -> None:
        wishes: dict[str, Any] = {"output_formats": [format_], "binary_audio": binary}
        raw: list[bytes] = []
        opened = connect(gateway.url, gateway.token(), on_frame=raw.append, playback_buffer_ms=5000, **wishes)
        async with opened as client:
            assert client.binary_audio is binary
            await client.command("hello")
            pieces = answer(await until(client, extension.ResponseDone, status="completed"))
        assert {piece.format for piece in pieces} == {format_}
        assert "".join(piece.text for piece in pieces) == "General greeting."
        assert any(frame[0] == frames.VERSION for frame in raw) is binary
        data = b"".join(piece.data for piece in pieces)
        if format_ == PCM:
            assert data == ANSWER
            assert sum(piece.duration for piece in pieces) == pytest.approx(320)
            return
        with av.open(io.BytesIO(data), "r") as container:
            decoded = list(container.decode(audio=0))
        samples = b"".join(bytes(frame.planes[0])[: frame.samples * 2] for frame in decoded)
        if format_ == OPUS:
            assert sum(frame.samples / frame.sample_rate for frame in decoded) == pytest.approx(
                0.32, abs=0.05
            )
        else:
            assert samples == ANSWER

    async def test_marks_end_a_response_before_its_time(self) -> None:
        async with running_gateway(long_answer) as gateway:
            wishes: dict[str, Any] = {"features": ["playback_mark"], "playback_buffer_ms": 30_000}
            async with connect(gateway.url, gateway.token(), **wishes) as client:
                speaker = Speaker()
                began = asyncio.get_running_loop().time()
                await client.command("count")
                async for message in client:
                    match message:
                        case extension.ResponseStarted(response_id=response_id):
                            speaker.begin(response_id)
                        case AudioResponse(duration=duration_ms):
                            speaker.add(duration_ms)
                            for mark in speaker.marks(speaker.given_ms, began):
                                await client.playback_mark(*mark)
                        case extension.ResponseDone(status=status):
                            break
                        case _:
                            pass
                assert status == "completed"
                assert speaker.given_ms == pytest.approx(10_000)
                assert asyncio.get_running_loop().time() - began < 8, "ten seconds of sound"


class TestInterruption:
    async def test_by_the_client_and_the_transcript_ends_at_the_mark(self) -> None:
        async with running_gateway(long_answer) as gateway:
            wishes: dict[str, Any] = {"features": ["playback_mark"], "playback_buffer_ms": 5000}
            async with connect(gateway.url, gateway.token(), **wishes) as client:
                await client.command("count")
                seen = await until(client, AudioResponse)
                (started,) = (m for m in seen if isinstance(m, extension.ResponseStarted))
                while sum(piece.duration for piece in answer(seen)) < 4000:
                    seen += await until(client, AudioResponse)
                await client.interrupt(started.response_id)
                flush = (await until(client, extension.AudioFlush))[-1]
                assert isinstance(flush, extension.AudioFlush)
                assert (flush.response_id, flush.reason) == (started.response_id, "client")
                await client.playback_mark(started.response_id, 2500)
                last = await until(client, extension.TranscriptUpdate, role="model", is_final=True)
                assert isinstance(last[-1], extension.TranscriptUpdate)
                assert last[-1].text in ("0 1", "0 1 2")
                await client.interrupt(started.response_id)
                await client.interrupt("r77")
                error = (await until(client, Error))[-1]
                assert isinstance(error, Error)
                assert error.code == "PROTOCOL_UNKNOWN_RESPONSE"


class TestSpeech:
    async def test_push_to_talk(self) -> None:
        model = Patient()
        async with (
            running_gateway(model) as gateway,
            connect(gateway.url, gateway.token(), binary_audio=True) as client,
        ):
            await client.start()
            await client.send_audio(LOUD)  # which nobody hears
            await client.activity_start()
            await client.send_audio(LOUD)
            await client.activity_end()
            seen = await until(client, extension.ResponseDone)
            assert [m for m in seen if isinstance(m, extension.SpeechStarted)]
            assert [m for m in seen if isinstance(m, extension.SpeechStopped)]
        assert model.told[-3:] == ["start", "audio", "end"]

    async def test_opus(self, gateway: Gateway) -> None:
        recording = Recording(Path("a"), LOUD * 5, 16_000)
        async with connect(gateway.url, gateway.token(), binary_audio=True) as client:
            await client.start(OPUS)
            for _, data in recording.chunks(OPUS):
                await client.send_audio(data)
            await client.end(recording.duration_s * 1000)
            seen = await until(client, extension.ResponseDone)
        assert not [m for m in seen if isinstance(m, Error)]
        heard = gateway.upstream.conversations[-1].heard
        assert len(heard) / 32_000 == pytest.approx(recording.duration_s, abs=0.05)

    async def test_the_transcript(self, gateway: Gateway) -> None:
        async with connect(gateway.url, gateway.token()) as client:
            await client.start()
            await client.send_audio(LOUD)
            await client.end()
            seen = await until(client, extension.UsageUpdate)
        said = [m for m in seen if isinstance(m, extension.TranscriptUpdate) and m.is_final]
        assert [(m.role, m.text) for m in said] == [("user", "hello there"), ("model", "General greeting.")]


class TestTools:
    async def test_carried_out_by_a_function(self, tmp_path: Path) -> None:
        model = Caller()
        tools = configured(tmp_path, '{ by = "client" }')

        async def order(item: str) -> dict[str, Any]:
            await asyncio.sleep(0.01)
            return {"ordered": item}

        async with (
            running_gateway(model, configured=tools) as gateway,
            connect(gateway.url, gateway.token(), tools={"order": order}) as client,
        ):
            await client.command("order tea")
            seen = await until(client, extension.ResponseDone)
            assert [m.name for m in seen if isinstance(m, extension.ToolCall)] == ["order"]
        assert model.results == [{"c1": {"ordered": "tea"}}]

    async def test_carried_out_by_hand(self, tmp_path: Path) -> None:
        model = Caller()
        tools = configured(tmp_path, '{ by = "client" }')
        async with (
            running_gateway(model, configured=tools) as gateway,
            connect(gateway.url, gateway.token()) as client,
        ):
            await client.command("order tea")
            await until(client, extension.ToolCall)
            await client.tool_result("c1", {"cups": 2})
            await until(client, extension.ResponseDone)
            await client.command("order tea")
            await until(client, extension.ToolCall)
            await client.tool_error("c2", "Sold out.")
            await until(client, extension.ResponseDone)
        assert model.results == [{"c1": {"cups": 2}}, {"c2": {"error": "Sold out."}}]

    async def test_cancelled_by_the_model(self, tmp_path: Path) -> None:
        model = Caller()
        tools = configured(tmp_path, '{ by = "client" }')
        stopped = asyncio.Event()

        async def order(item: str) -> None:
            try:
                model.cancel.set()
                await asyncio.sleep(60)
            finally:
                stopped.set()

        async with (
            running_gateway(model, configured=tools) as gateway,
            connect(gateway.url, gateway.token(), tools={"order": order}) as client,
            asyncio.timeout(5),
        ):
            await client.command("order tea")
            await stopped.wait()
            cancelled = (await until(client, extension.ToolCancelled))[-1]
            assert isinstance(cancelled, extension.ToolCancelled)
            assert cancelled.reason == "cancelled"
        assert not model.results
