"""The sound device: what is queued for it, what it captures, and why there may be none."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.talk import TalkError
from antiphon.talk.device import Device, opened
from antiphon.talk.sound import MAX_QUEUED_S, PlaybackQueue

LIBRARY = Path(__file__).parents[1] / "sound_library"


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the library that stands in for the real one."""
    monkeypatch.syspath_prepend(LIBRARY)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)


class TestQueue:
    def test_silence_where_there_is_no_more(self) -> None:
        queue = PlaybackQueue()
        queue.play(b"\1\2\3\4")
        assert queue.pull(2) == b"\1\2"
        assert queue.pull(4) == b"\3\4\0\0"
        assert queue.played_ms == 4 / 48

    def test_a_flush(self) -> None:
        queue = PlaybackQueue()
        queue.play(bytes(4800))
        queue.pull(480)
        queue.flush()
        assert queue.played_ms == 10
        queue.play(b"\1\1")
        assert queue.pull(2) == b"\1\1"

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


class TestDevice:
    async def test_what_is_captured_is_read_in_order(self) -> None:
        device = Device(asyncio.get_running_loop())
        reading = asyncio.create_task(device.read())
        for number in range(3):
            await asyncio.to_thread(device.capture, memoryview(bytes([number])), 1, None, None)
        assert [await reading, await device.read(), await device.read()] == [b"\0", b"\1", b"\2"]

    async def test_what_nobody_reads_is_bounded_and_the_latest(self) -> None:
        device = Device(asyncio.get_running_loop())
        for number in range(300):
            device.capture(number.to_bytes(2, "big"), 1, None, None)
        await asyncio.sleep(0)
        captured = [await device.read() for _ in range(200)]
        assert captured == [number.to_bytes(2, "big") for number in range(100, 300)]

    @pytest.mark.usefixtures("library")
    async def test_it_captures_and_plays(self) -> None:
        async with asyncio.timeout(5):
            with opened() as device:
                device.play(b"\1\2" * 1200)
                assert await device.read() == bytes(1600)
                while device.played_ms < 50:
                    await asyncio.sleep(0.005)
                assert device.played_ms == 50
                device.play(bytes(480_000))
                device.flush()
                assert device.played_ms < 200


class TestNone:
    async def test_no_package(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "sounddevice", None)
        with (
            pytest.raises(TalkError, match=r"pip install 'antiphon\[microphone\]'\. Or name a sound FILE\.$"),
            opened(),
        ):
            pass

    @pytest.mark.usefixtures("library")
    @pytest.mark.parametrize(
        ("lack", "sentence"),
        [
            (
                "no library",
                r"install PortAudio \(on Debian and Ubuntu: apt install libportaudio2\)\. Or name",
            ),
            ("no device", r"No microphone and loudspeaker can be opened: Error querying device -1\. Or name"),
        ],
    )
    async def test_nothing_to_use(self, monkeypatch: pytest.MonkeyPatch, lack: str, sentence: str) -> None:
        monkeypatch.setenv("TEST_SOUND", lack)
        with pytest.raises(TalkError, match=sentence), opened():
            pass
