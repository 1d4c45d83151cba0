"""What the page plays and hears in real time: wire to loudspeaker, microphone to wire."""

from __future__ import annotations

import asyncio
import wave
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import soxr
from playwright.async_api import Page

from antiphon import messages
from browser.conftest import OpenPage
from browser.hands import press, type_command
from browser.scripted_gateway import Gateway, Handler, Session, pieces
from browser.sound import Samples, impurity, played, runs, tapped, tone, without_ramps

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


def write_wav(path: Path, samples: Samples, rate_hz: int) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate_hz, 0, "NONE", ""))
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path


async def open_tapped(gateway: Gateway, open_page: OpenPage) -> Page:
    """Open the page and wait until its sound is on and tapped."""
    page = await open_page(gateway.link, tap=True)
    await type_command(page, "wake up")
    await page.wait_for_function("window.tapping")
    await page.evaluate("window.tapping")
    return page


def answers_with(
    *turns: Iterable[tuple[float, bytes]], audio_format: str = "audio/pcm;rate=24000"
) -> Handler:
    """Return a handler that answers each "sing" with the next turn: pieces, and the second each is due."""
    waiting = iter(turns)

    async def answer(session: Session, message: messages.ClientMessage) -> None:
        if isinstance(message, messages.Command) and message.command == "sing":
            began = asyncio.get_running_loop().time()
            for due, pcm in next(waiting):
                await asyncio.sleep(began + due - asyncio.get_running_loop().time())
                await session.say(pcm, audio_format=audio_format)

    return answer


# ---- the answer


async def test_pieces_play_as_one(gateway: Gateway, open_page: OpenPage) -> None:
    gateway.on_message = answers_with([(0, piece) for piece in pieces(tone(1.5))])
    page = await open_tapped(gateway, open_page)
    await type_command(page, "sing")
    await played(page)
    samples, rate_hz = await tapped(page)
    (run,) = runs(samples, rate_hz)
    assert len(run) / rate_hz == pytest.approx(1.5, abs=0.003)
    assert impurity(without_ramps(run, rate_hz), rate_hz) < 2e-4


async def test_stop_ends_an_answer_but_not_the_next(gateway: Gateway, open_page: OpenPage) -> None:
    long = [(max(0, (i - 2) * 0.1), piece) for i, piece in enumerate(pieces(tone(3)))]
    gateway.on_message = answers_with(long, [(0, tone(0.3))])
    page = await open_tapped(gateway, open_page)
    await press(page, "Talk")
    await page.wait_for_selector("#state[data-state=listening]", state="attached")
    await type_command(page, "sing")
    await page.wait_for_function("states.includes('answering')")
    await press(page, "Stop")
    await asyncio.sleep(0.1)  # what is on its way to the tap
    before, _ = await tapped(page)
    await asyncio.sleep(3)  # for so long the gateway goes on sending
    after, rate_hz = await tapped(page)
    assert (np.count_nonzero(after) - np.count_nonzero(before)) / rate_hz < 0.05

    await type_command(page, "sing")
    await played(page, 2)
    samples, _ = await tapped(page)
    assert (np.count_nonzero(samples) - np.count_nonzero(after)) / rate_hz == pytest.approx(0.3, abs=0.01)


async def test_the_format_says_the_rate(gateway: Gateway, open_page: OpenPage) -> None:
    page = await open_tapped(gateway, open_page)
    gateway.on_message = answers_with([(0, tone(0.5, 16_000))], audio_format="audio/PCM; rate=16000")
    await type_command(page, "sing")
    await played(page)
    samples, rate_hz = await tapped(page)
    assert np.count_nonzero(samples) / rate_hz == pytest.approx(0.5, abs=0.01)


# ---- the microphone


async def test_the_microphone_arrives_as_it_is(gateway: Gateway, open_page: OpenPage, tmp_path: Path) -> None:
    """A sweep from 100 Hz to 6.5 kHz, through the browser, the worklet and the wire."""
    rate_hz = 48_000
    time = np.arange(2 * rate_hz) / rate_hz
    edges = np.minimum(1, 50 * np.minimum(time, 2 - time))
    sweep = 0.5 * edges * np.sin(2 * np.pi * (100 * time + 1600 * time**2))
    silence = np.zeros(rate_hz // 2)
    played = np.concatenate([silence, sweep, silence, silence]).astype(np.float32)
    page = await open_page(
        gateway.link.replace("#", "?raw=1#"), microphone=write_wav(tmp_path / "sweep.wav", played, rate_hz)
    )
    await press(page, "Talk")
    stream = await gateway.stream()
    await gateway.chunks(stream, 33)
    await press(page, "Stop")
    await gateway.ended(stream)

    assert stream.config == messages.StreamConfig(sample_rate=16_000, format="LINEAR16", language="en-US")
    assert stream.duration_ms == len(stream.pcm) / 2 / 16
    heard = np.frombuffer(stream.pcm, dtype="<i2").astype(np.float32) / np.float32(32767)
    expected = soxr.resample(sweep, rate_hz, 16_000, quality="VHQ").astype(np.float32)
    errors = [best_fit_error(heard, part) for part in np.split(expected, 8)]
    # Each part spans two borders of chunks. A machine that is too busy tears the capture itself, in places.
    assert sorted(errors)[1] < -60, errors


def best_fit_error(heard: Samples, expected: Samples) -> float:
    """Return in dB what is left of `expected` where it fits `heard` best, to a fraction of a sample."""
    lag = int(np.argmax(np.correlate(heard, expected, "valid")))
    there = heard[lag : lag + len(expected)]
    frequencies = np.fft.rfftfreq(len(expected))
    middle = slice(100, -100)  # a part begins and ends abruptly, which a shift smears
    left = []
    for shift in np.arange(-0.5, 0.5, 0.01):
        turned = np.fft.rfft(there) * np.exp(2j * np.pi * frequencies * shift)
        left.append(np.sum((np.fft.irfft(turned, len(there)) - expected)[middle] ** 2))
    return 10 * float(np.log10(min(left) / np.sum(expected[middle] ** 2)))


async def test_each_press_begins_a_stream_of_its_own(gateway: Gateway, open_page: OpenPage) -> None:
    page = await open_page(gateway.link)
    for count in (1, 2):
        await press(page, "Talk")
        stream = await gateway.stream(count)
        await gateway.chunks(stream, 5)
        await press(page, "Stop")
        await gateway.ended(stream)
        assert stream.duration_ms == len(stream.pcm) / 2 / 16
    assert len(gateway.sessions) == 1
