"""The sound device: what is queued for it, what it captures, and why there may be none."""

from __future__ import annotations

import asyncio
import itertools
import math
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.client import Device, Sound, SoundError, devices
from antiphon.client.device import ConvertedQueue
from antiphon.client.sound import MAX_QUEUED_S, PlaybackQueue, level

LIBRARY = Path(__file__).parents[1] / "sound_library"
FADE = 240
"""Bytes of five milliseconds."""


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """Have the library that stands in for the real one."""
    monkeypatch.syspath_prepend(LIBRARY)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    import sounddevice

    yield sounddevice
    assert not sounddevice.OPEN


def tone(rate_hz: float, samples: int, begin: int = 0) -> bytes:
    """Return 440 Hz at half of full scale."""
    turn = 2 * math.pi * 440 / rate_hz
    return array("h", [round(16_384 * math.sin(turn * (begin + n))) for n in range(samples)]).tobytes()


class Hearing:
    """What a microphone hears: a tone."""

    def __init__(self, rate_hz: float) -> None:
        self._rate_hz = rate_hz
        self._samples = 0

    def __call__(self, samples: int) -> bytes:
        begin, self._samples = self._samples, self._samples + samples
        return tone(self._rate_hz, samples, begin)


class TestQueue:
    def test_silence_where_there_is_no_more(self) -> None:
        queue = PlaybackQueue()
        queue.play(b"\1\2\3\4")
        assert queue.pull(2) == b"\1\2"
        assert queue.pull(4) == b"\3\4\0\0"
        assert queue.played_ms == 4 / 48

    def test_a_flush_fades_for_five_milliseconds_that_do_not_count(self) -> None:
        queue = PlaybackQueue()
        queue.play(array("h", [30_000] * 2400).tobytes())
        queue.pull(480)
        queue.flush()
        assert queue.played_ms == 10
        faded = array("h", queue.pull(480))
        assert faded[0] > 29_000
        assert all(before > after for before, after in itertools.pairwise(faded[:120]))
        assert faded[119] < 500
        assert faded[120:] == array("h", bytes(240))
        assert queue.played_ms == 10
        queue.play(b"\1\1")
        assert queue.pull(2) == b"\1\1"

    def test_a_flush_of_what_is_short(self) -> None:
        queue = PlaybackQueue()
        queue.flush()
        assert queue.pull(4) == bytes(4)
        queue.play(array("h", [-900, -900]).tobytes())
        queue.flush()
        assert array("h", queue.pull(8)) == array("h", [-600, -300, 0, 0])

    def test_it_is_bounded(self) -> None:
        queue = PlaybackQueue(1000)
        limit = int(MAX_QUEUED_S * 1000) * 2
        for _ in range(3):
            queue.play(b"\1" * (limit // 2 + 2))
        assert queue.pull(limit + 2) == b"\1" * limit + b"\0\0"

    @given(st.lists(st.one_of(st.binary(max_size=64).map(lambda data: data * 2), st.integers(0, 99))))
    def test_all_is_played_in_order(self, steps: list[bytes | int]) -> None:
        queue = PlaybackQueue()
        pulled = b""
        for step in steps:
            if isinstance(step, bytes):
                queue.play(step.replace(b"\0", b"\1"))
            else:
                pulled += queue.pull(step).rstrip(b"\0")
        pulled += queue.pull(100_000).rstrip(b"\0")
        assert pulled == b"".join(step.replace(b"\0", b"\1") for step in steps if isinstance(step, bytes))
        assert queue.played_ms == len(pulled) / 48


class TestConvertedQueue:
    def test_a_tone_stays_one(self) -> None:
        queue = ConvertedQueue(48_000)
        queue.play(tone(24_000, 24_000))
        pulled = array("h", b"".join(queue.pull(1920) for _ in range(60)))
        assert queue.played_ms == 1000
        loud = [place for place, sample in enumerate(pulled) if abs(sample) > 100]
        assert loud[-1] - loud[0] == pytest.approx(48_000, abs=200), "to its last sample"
        middle = pulled[loud[0] + 4800 : loud[0] + 43_200]
        crossings = sum(a < 0 <= b for a, b in itertools.pairwise(middle))
        assert crossings == pytest.approx(440 * 0.8, abs=1)

    def test_a_flush(self) -> None:
        queue = ConvertedQueue(44_100)
        queue.play(tone(24_000, 24_000))
        for _ in range(10):
            queue.pull(1764)
        queue.flush()
        played_ms = queue.played_ms
        assert 200 <= played_ms < 300
        after = b"".join(queue.pull(1764) for _ in range(10))
        assert after[round(0.03 * 88_200) :].strip(b"\0") == b"", (
            "what is left are 5 ms, and the filter's edge"
        )
        assert queue.played_ms == played_ms


class TestLevel:
    def test_of_silence_and_of_all_there_is(self) -> None:
        assert level(b"") == 0
        assert level(bytes(20)) == 0
        assert level(array("h", [-0x8000] * 10).tobytes()) == 1

    def test_of_a_tone(self) -> None:
        assert level(tone(16_000, 16_000)) == pytest.approx(0.5 / math.sqrt(2), abs=0.001)


class TestSound:
    async def test_it_captures_and_plays(self, library: ModuleType) -> None:
        library.PLAYED.clear()
        async with asyncio.timeout(5):
            with Sound() as sound:
                rates = {stream.device["name"]: stream.rate_hz for stream in library.OPEN}
                assert rates == {"Built-in loudspeaker": 24_000, "Built-in microphone": 48_000}
                sound.play(b"\1\2" * 1200)
                assert not any(await sound.read())
                while sound.played_ms < 50:
                    await asyncio.sleep(0.005)
                assert sound.played_ms == 50
                sound.play(bytes(480_000))
                sound.flush()
                assert sound.played_ms < 200
        assert bytes(library.PLAYED).strip(b"\0") == b"\1\2" * 1200, "without a gap"

    @pytest.mark.parametrize(
        ("microphone", "rate_hz"), [(None, 48_000.0), ("headset", 16_000.0), (2, 16_000.0)]
    )
    async def test_the_microphones_own_rate_becomes_16_khz(
        self, library: ModuleType, microphone: Any, rate_hz: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(library.HEARD, rate_hz, Hearing(rate_hz))
        heard = b""
        async with asyncio.timeout(5):
            with Sound(microphone) as sound:
                while len(heard) < 32_000 * 0.5:
                    heard += await sound.read()
                assert sound.levels().microphone == pytest.approx(0.35, abs=0.02)
                assert sound.levels().loudspeaker == 0
        samples = array("h", heard[3200:])
        crossings = sum(a < 0 <= b for a, b in itertools.pairwise(samples))
        assert crossings / (len(samples) / 16_000) == pytest.approx(440, abs=4)

    async def test_a_loudspeaker_that_takes_its_own_rate_only(self, library: ModuleType) -> None:
        library.PLAYED.clear()
        async with asyncio.timeout(5):
            with Sound(loudspeaker="living room") as sound:
                assert library.OPEN[0].rate_hz == 44_100
                sound.play(tone(24_000, 4800))
                while sound.levels().loudspeaker < 0.3:
                    await asyncio.sleep(0.005)
                while sound.played_ms < 200 or sound.levels().loudspeaker:
                    await asyncio.sleep(0.005)
        loud = [place for place, sample in enumerate(array("h", bytes(library.PLAYED))) if abs(sample) > 100]
        assert loud[-1] - loud[0] == pytest.approx(0.2 * 44_100, abs=200)

    async def test_muted(self, library: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(library.HEARD, 16_000.0, Hearing(16_000))
        async with asyncio.timeout(5):
            with Sound("headset") as sound:
                assert any(await sound.read())
                sound.muted = True
                while any(await sound.read()):
                    pass
                assert sound.levels().microphone == 0
                sound.muted = False
                while not any(await sound.read()):
                    pass

    async def test_what_nobody_reads_is_bounded_and_the_latest(self) -> None:
        sound = Sound()
        for number in range(300):
            sound._capture(number.to_bytes(2, "big"), 1, None, None)
        captured = [await sound.read() for _ in range(200)]
        assert captured == [number.to_bytes(2, "big") for number in range(100, 300)]

    async def test_what_was_captured_before_can_be_forgotten(self) -> None:
        sound = Sound()
        sound._capture(b"\1\1", 1, None, None)
        sound.discard()
        sound._capture(b"\2\2", 1, None, None)
        assert await sound.read() == b"\2\2"

    async def test_a_device_that_is_gone(self, library: ModuleType) -> None:
        async with asyncio.timeout(5):
            with Sound() as sound:
                await sound.read()
                reading = asyncio.create_task(self.read_on(sound))
                await asyncio.sleep(0)
                library.OPEN[1].unplug()
                with pytest.raises(SoundError, match=r"^The microphone or the loudspeaker is gone\."):
                    await reading
            with sound:
                await sound.read()

    def test_one_event_loop_after_the_other(self, library: ModuleType) -> None:
        with Sound() as sound:
            for _ in range(2):
                asyncio.run(asyncio.wait_for(self.read_some(sound), 5))

    @staticmethod
    async def read_on(sound: Sound) -> None:
        while True:
            await sound.read()

    @staticmethod
    async def read_some(sound: Sound) -> None:
        for _ in range(5):
            await sound.read()


class TestDevices:
    def test_they_are_listed(self, library: ModuleType) -> None:
        found = devices()
        assert found.microphones == (Device(0, "Built-in microphone"), Device(2, "Headset microphone"))
        assert found.loudspeakers == (Device(1, "Built-in loudspeaker"), Device(3, "Living room loudspeaker"))

    @pytest.mark.parametrize(
        ("microphone", "why"),
        [
            ("no such", "No input device matching 'no such'"),
            ("microphone", "Multiple input device matching 'microphone'"),
            (1, "Not an input device: 'Built-in loudspeaker'"),
        ],
    )
    def test_one_that_is_not_there(self, library: ModuleType, microphone: Any, why: str) -> None:
        with pytest.raises(SoundError) as caught, Sound(microphone):
            pass
        assert str(caught.value) == f"No microphone and loudspeaker can be opened: {why}."


class TestNone:
    @pytest.mark.parametrize("use", [devices, Sound().__enter__])
    def test_no_package(self, monkeypatch: pytest.MonkeyPatch, use: Any) -> None:
        monkeypatch.setitem(sys.modules, "sounddevice", None)
        with pytest.raises(SoundError, match=r"pip install 'antiphon\[microphone\]'\.$"):
            use()

    @pytest.mark.parametrize(
        ("lack", "sentence"),
        [
            ("no library", r"install PortAudio \(on Debian and Ubuntu: apt install libportaudio2\)\.$"),
            ("no device", r"^No microphone and loudspeaker can be opened: Error querying device -1\.$"),
        ],
    )
    def test_nothing_to_use(self, monkeypatch: pytest.MonkeyPatch, lack: str, sentence: str) -> None:
        monkeypatch.syspath_prepend(LIBRARY)
        monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
        monkeypatch.setenv("TEST_SOUND", lack)
        with pytest.raises(SoundError, match=sentence), Sound():
            pass
