"""The client's audio at the model: every sample, in order, once."""

from __future__ import annotations

import asyncio
import io
import math
import random
from collections.abc import Iterator

import av
import numpy as np
import pytest

from antiphon import arrivals
from antiphon.session import Limits, uplink
from fake_gemini import Conversation
from gateway.raw_socket import TEXT, RawSocket, frame, raw_socket
from gateway.running import Gateway, running_gateway
from gateway.talker import chunk, message, talking

RATE_HZ = 16_000
MINUTE = np.random.default_rng(7).integers(-0x8000, 0x8000, 60 * RATE_HZ, dtype="<i2")
MAX_CHUNK_BYTES = 48_000  # as base64 in JSON still below 64 KiB


def flac(samples: np.ndarray[tuple[int], np.dtype[np.int16]], rate_hz: int = RATE_HZ) -> bytes:
    """Encode mono samples."""
    file = io.BytesIO()
    with av.open(file, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=rate_hz, layout="mono")
        assert isinstance(stream, av.AudioStream)
        sound = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        sound.sample_rate = rate_hz
        for packet in [*stream.encode(sound), *stream.encode(None)]:
            container.mux(packet)
    return file.getvalue()


def cuts(size: int, chunk_bytes: int | str) -> Iterator[slice]:
    """Cut a stream of bytes: evenly, or at random from 1 byte to the longest that fits a frame."""
    dice = random.Random(7)
    at = 0
    while at < size:
        length = int(math.exp(dice.uniform(0, math.log(MAX_CHUNK_BYTES))))
        step = chunk_bytes if isinstance(chunk_bytes, int) else length
        yield slice(at, at + step)
        at += step


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take audio faster than any client sends it: much may be on its way, and is heard as it arrives."""
    monkeypatch.setattr(arrivals, "SETTLE_S", 0.0)
    monkeypatch.setattr(uplink, "IN_FLIGHT_S", 10.0)


async def heard(gateway: Gateway, streams: int = 1) -> bytes:
    """Return what the model heard, once that many streams have ended."""
    async with asyncio.timeout(20):
        while not gateway.upstream.conversations or gateway.upstream.conversations[0].ended < streams:
            await asyncio.sleep(0.01)
    return bytes(gateway.upstream.conversations[0].heard)


async def silent(conversation: Conversation) -> None:
    await conversation.begin()
    await conversation.until_gone()


@pytest.mark.slow
@pytest.mark.parametrize("chunk_bytes", [331, 640, 3200, 3201, 32_000, MAX_CHUNK_BYTES - 1, "random"])
async def test_a_minute_of_linear16_at_every_chunking(gateway: Gateway, chunk_bytes: int | str) -> None:
    pcm = MINUTE.tobytes()
    async with talking(gateway) as talker:
        await talker.start()
        for cut in cuts(len(pcm), chunk_bytes):
            await talker.chunk(pcm[cut])
        await talker.end()
        assert await heard(gateway) == pcm
        await talker.until("audio_response")


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3])
async def test_single_bytes_and_samples(gateway: Gateway, chunk_bytes: int) -> None:
    pcm = MINUTE[:3000].tobytes()
    async with talking(gateway) as talker:
        await talker.speak(pcm, chunk_bytes)
        assert await heard(gateway) == pcm


@pytest.mark.slow
@pytest.mark.parametrize("chunk_bytes", [997, 3200, MAX_CHUNK_BYTES, "random"])
async def test_a_minute_of_flac_at_every_chunking(gateway: Gateway, chunk_bytes: int | str) -> None:
    encoded = flac(MINUTE)
    async with talking(gateway) as talker:
        await talker.start(audio_format="FLAC")
        for cut in cuts(len(encoded), chunk_bytes):
            await talker.chunk(encoded[cut])
        await talker.end()
        samples = np.frombuffer(await heard(gateway), "<i2")
        await talker.until("audio_response")
    np.testing.assert_array_equal(samples, MINUTE)


@pytest.mark.parametrize("rate_hz", [8_000, 24_000, 44_100, 48_000])
@pytest.mark.parametrize("audio_format", ["LINEAR16", "FLAC"])
async def test_other_rates_lose_no_time(gateway: Gateway, rate_hz: int, audio_format: str) -> None:
    tone = np.rint(np.sin(np.arange(2 * rate_hz) * 440 * math.tau / rate_hz) * 10_000).astype("<i2")
    encoded = tone.tobytes() if audio_format == "LINEAR16" else flac(tone, rate_hz)
    async with talking(gateway) as talker:
        await talker.start(rate_hz, audio_format)
        for cut in cuts(len(encoded), "random"):
            await talker.chunk(encoded[cut])
        await talker.end()
        samples = np.frombuffer(await heard(gateway), "<i2").astype(float)
    assert len(samples) == 2 * RATE_HZ
    expected = np.sin(np.arange(2 * RATE_HZ) * 440 * math.tau / RATE_HZ) * 10_000
    assert np.abs(samples - expected)[400:-400].max() < 50


async def test_streams_follow_one_another_in_one_conversation(gateway: Gateway) -> None:
    parts = [MINUTE[:16_000], MINUTE[16_000:17_111], MINUTE[17_111:40_000]]
    async with talking(gateway) as talker:
        for part in parts:
            await talker.speak(part.tobytes(), 3201)
        assert await heard(gateway, 3) == MINUTE[:40_000].tobytes()
        async with asyncio.timeout(5):
            while gateway.upstream.most_open != 1:
                await asyncio.sleep(0.01)
    assert len(gateway.upstream.conversations) == 1


async def test_what_the_model_is_sent() -> None:
    received = []

    async def note(conversation: Conversation) -> None:
        await conversation.begin()
        while not conversation.ended:
            received.append(await conversation.receive())
        await conversation.until_gone()

    async with running_gateway(note) as gateway, talking(gateway) as talker:
        await talker.speak(MINUTE[:8_000].tobytes())
        await heard(gateway)
    *audio, last = (message.realtime_input for message in received)
    assert len(audio) == 5
    for message_ in audio:
        assert message_.audio.mime_type == "audio/pcm;rate=16000"
        assert not message_.media_chunks
        assert not message_.audio_stream_end
    assert last.audio_stream_end
    assert not last.audio.data


async def test_audio_waits_for_a_model_that_is_slow_to_begin() -> None:
    async def slow(conversation: Conversation) -> None:
        conversation.setup = (await conversation.receive()).setup
        await asyncio.sleep(0.5)
        await conversation.send(setup_complete={})
        await conversation.until_gone()

    async with running_gateway(slow) as gateway, talking(gateway) as talker:
        await talker.speak(MINUTE.tobytes(), 32_000)
        assert await heard(gateway) == MINUTE.tobytes()


@pytest.mark.slow
async def test_audio_waits_for_a_model_that_is_slow_to_listen() -> None:
    async def slow(conversation: Conversation) -> None:
        await conversation.begin()
        while True:
            await conversation.receive()
            await asyncio.sleep(0.02)

    async with running_gateway(slow, limits=Limits(uplink_s=1)) as gateway, talking(gateway) as talker:
        await talker.speak(MINUTE.tobytes(), 32_000)
        assert await heard(gateway) == MINUTE.tobytes()


async def flooded(raw: RawSocket, gateway: Gateway, sent_bytes: int) -> None:
    """Send a burst of audio without looking at what comes back."""
    await raw.upgrade()
    raw.send(text_frame(message("auth", token=gateway.token())))
    assert (await raw.message())["type"] == "auth_success"
    config = {"sampleRate": RATE_HZ, "format": "LINEAR16", "language": "en-US"}
    raw.send(text_frame(message("audio_stream_start", config=config)))
    size = 32_000
    for sequence in range(sent_bytes // size):
        raw.send(text_frame(chunk(sequence, bytes(size))))


def text_frame(text: str) -> bytes:
    return frame(TEXT, text.encode())


async def test_a_model_that_never_begins_is_given_up() -> None:
    async def deaf(conversation: Conversation) -> None:
        await conversation.until_gone()

    limits = Limits(uplink_s=0.5)
    async with running_gateway(deaf, limits=limits) as gateway, raw_socket(gateway.port) as raw:
        await flooded(raw, gateway, 600 * 32_000)
        assert (await raw.message())["code"] == "UPSTREAM_SLOW"
        unsent = raw.writer.transport.get_write_buffer_size()
        assert unsent > 10_000_000, "the gateway reads what it has no room for"


@pytest.mark.interpreted
@pytest.mark.slow
async def test_a_model_that_stops_listening_is_given_up() -> None:
    async def deaf(conversation: Conversation) -> None:
        await conversation.begin()
        await asyncio.Event().wait()

    limits = Limits(uplink_s=0.5)
    async with running_gateway(deaf, limits=limits) as gateway, raw_socket(gateway.port) as raw:
        await flooded(raw, gateway, 200 * 32_000)
        await raw.closed("UPSTREAM_SLOW", 1011)


# ---- chunks that are missing, doubled, or broken


async def test_a_repeated_chunk_counts_once(gateway: Gateway) -> None:
    pcm = MINUTE[:4_800].tobytes()
    async with talking(gateway) as talker:
        await talker.start()
        for sequence in (7, 7, 8, 7, 8, 9, 9, 0):
            await talker.socket.send(chunk(sequence, pcm[(sequence - 7) * 3200 : (sequence - 6) * 3200]))
        await talker.end()
        assert await heard(gateway) == pcm
        assert [m["type"] for m in await talker.until("audio_response")].count("error") == 0


async def test_a_gap_is_told_once_and_the_stream_goes_on(gateway: Gateway) -> None:
    async with talking(gateway) as talker:
        await talker.start()
        for sequence in (0, 1, 5, 6):
            await talker.socket.send(chunk(sequence, bytes([sequence, 0])))
        error = await talker.refused("AUDIO_SEQUENCE_GAP")
        assert (error["details"]["expected"], error["details"]["received"]) == (2, 5)
        await talker.end()
        assert await heard(gateway) == bytes([0, 0, 1, 0, 5, 0, 6, 0])
        assert [m["type"] for m in await talker.until("audio_response")].count("error") == 0


async def test_corrupt_flac_is_told_and_decoding_goes_on(gateway: Gateway) -> None:
    encoded = bytearray(flac(MINUTE[: 10 * RATE_HZ]))
    middle = len(encoded) // 2
    encoded[middle : middle + 40] = bytes(40)
    async with talking(gateway) as talker:
        await talker.start(audio_format="FLAC")
        for cut in cuts(len(encoded), 3200):
            await talker.chunk(bytes(encoded[cut]))
        await talker.refused("AUDIO_CORRUPT")
        await talker.end()
        samples = np.frombuffer(await heard(gateway), "<i2")
        assert [m["type"] for m in await talker.until("audio_response")].count("error") == 0
    assert 9 * RATE_HZ <= len(samples) < 10 * RATE_HZ
    np.testing.assert_array_equal(samples[:64_000], MINUTE[:64_000])
    np.testing.assert_array_equal(samples[-64_000:], MINUTE[10 * RATE_HZ - 64_000 : 10 * RATE_HZ])


async def test_flac_of_another_rate_is_told_and_taken(gateway: Gateway) -> None:
    async with talking(gateway) as talker:
        await talker.start(8_000, "FLAC")
        await talker.chunk(flac(MINUTE[:16_000])[:48_000])
        error = await talker.refused("AUDIO_RATE_MISMATCH")
        assert (error["details"]["expected"], error["details"]["received"]) == (8_000, 16_000)
        await talker.end()
        assert await heard(gateway) == MINUTE[:16_000].tobytes()


async def test_audio_nobody_can_decode_ends_the_stream_and_nothing_else(gateway: Gateway) -> None:
    async with talking(gateway) as talker:
        await talker.start(audio_format="FLAC")
        await talker.chunk(flac(MINUTE[:1600], 96_000))
        await talker.refused("AUDIO_UNSUPPORTED")
        await talker.chunk(bytes(100))
        await talker.refused("AUDIO_STREAM_INACTIVE")
        await heard(gateway)  # the model is told that no more will come
        await talker.until("audio_response")
        await talker.speak(MINUTE[:1600].tobytes())
        assert await heard(gateway, 2) == MINUTE[:1600].tobytes()
        await talker.until("audio_response")
