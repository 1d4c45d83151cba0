"""Talking by microphone with the Python client, against a real WebSocket server; the sound is ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from antiphon import extension, messages
from antiphon.client import BaseOnly, Client, ClientError, SoundError, connect
from antiphon.client.voice import by_hand, by_voice
from antiphon.extension import ClientHello
from antiphon.messages import AudioChunk, AudioStreamEnd
from fake_sound import BLOCK, FakeSound
from scripted_gateway import EXTENDED, Peer, Script, scripted_gateway

PCM = "audio/pcm;rate=24000"


class Noting:
    """A script that accepts, then notes what comes until the client leaves."""

    def __init__(self) -> None:
        self.came: list[Any] = []
        self.peer: Peer | None = None

    async def __call__(self, peer: Peer) -> None:
        await peer.accept()
        self.peer = peer
        while True:
            self.came.append(await peer.receive())

    def kinds(self) -> list[type]:
        """Return what came, with what follows its like left out."""
        kinds = [type(message) for message in self.came]
        return [kind for place, kind in enumerate(kinds) if place == 0 or kinds[place - 1] is not kind]

    async def until(self, kind: type, count: int) -> None:
        """Wait until so many of a kind have come."""
        await so_far(lambda: sum(isinstance(message, kind) for message in self.came) == count)

    def audio(self) -> bytes:
        return b"".join(message.data for message in self.came if isinstance(message, AudioChunk))


@asynccontextmanager
async def connected(script: Script, **options: Any) -> AsyncIterator[Client]:
    async with (
        asyncio.timeout(20),
        scripted_gateway(script, **EXTENDED) as url,
        connect(url, "a token", **options) as client,
    ):
        yield client


async def so_far(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


class Broken(FakeSound):
    """A microphone that is unplugged, or a loudspeaker that is, once something is to be played."""

    def __init__(self, microphone: Exception | None = None, loudspeaker: Exception | None = None) -> None:
        super().__init__()
        self._microphone = microphone
        self._loudspeaker = loudspeaker

    async def read(self) -> bytes:
        pcm = await super().read()
        if self._microphone:
            raise self._microphone
        return pcm

    def play(self, pcm: bytes) -> None:
        if self._loudspeaker:
            raise self._loudspeaker
        super().play(pcm)


class TestSpeaking:
    async def test_what_the_microphone_hears_is_sent(self) -> None:
        noting, sound = Noting(), FakeSound()
        sound.say(b"\1\2" * BLOCK)
        async with connected(noting) as client:
            async with client.talk(sound, language="de") as voice:
                assert voice.talking
                await so_far(lambda: len(noting.audio()) > 3 * BLOCK)
            await so_far(lambda: noting.kinds()[-1] is ClientHello)
        start = noting.came[0]
        assert (start.config.sample_rate, start.config.language) == (16_000, "de")
        assert noting.audio()[: 2 * BLOCK] == b"\1\2" * BLOCK
        assert set(noting.audio()[2 * BLOCK :]) == {0}
        kinds = [kind for kind in noting.kinds() if kind not in (AudioChunk, ClientHello)]
        assert kinds == [extension.AudioStreamStart, AudioStreamEnd]

    async def test_it_is_said_that_marks_come_and_then_that_they_do_not(self) -> None:
        noting = Noting()
        async with connected(noting, features=["tools"], output_formats=["audio/flac"]) as client:
            async with client.talk(FakeSound()):
                pass
            await so_far(lambda: noting.kinds()[-1] is ClientHello)
        first, during, after = [one for one in noting.came if isinstance(one, ClientHello)]
        assert (during.features, during.output_formats) == (("tools", "playback_mark"), (PCM,))
        assert during.playback_buffer_ms == 2000
        assert (after.features, after.output_formats) == (first.features, first.output_formats)
        assert after.playback_buffer_ms == 250, "as for one who has not said"

    def test_what_was_wished_for_stays(self) -> None:
        hello = ClientHello(features=("playback_mark",), playback_buffer_ms=500, binary_audio=True)
        assert by_voice(hello) == ClientHello(
            features=("playback_mark",), output_formats=(PCM,), playback_buffer_ms=500, binary_audio=True
        )
        assert by_hand(hello) == by_voice(hello)
        assert by_hand(ClientHello()) == ClientHello(
            features=(), output_formats=(PCM,), playback_buffer_ms=250
        )

    async def test_again_and_again(self) -> None:
        noting = Noting()
        async with connected(noting) as client:
            for count in (1, 2):
                async with client.talk(FakeSound()):
                    await so_far(lambda: noting.kinds()[-1] is AudioChunk)
                await noting.until(AudioStreamEnd, count)

    async def test_it_ends_when_what_is_within_fails(self) -> None:
        noting, sound = Noting(), FakeSound()
        async with connected(noting) as client:
            with pytest.raises(ZeroDivisionError):
                async with client.talk(sound):
                    await so_far(lambda: noting.kinds()[-1] is AudioChunk)
                    _ = 1 / 0
            await so_far(lambda: noting.kinds()[-1] is ClientHello)
            assert AudioStreamEnd in noting.kinds()
        assert len(sound.flushes) == 1

    async def test_not_beside_a_stream(self) -> None:
        noting = Noting()
        async with connected(noting) as client:
            await client.start()
            with pytest.raises(ClientError, match=r"end\(\) it before"):
                async with client.talk(FakeSound()):
                    pass
            await client.send_audio(b"\1\1")
            await client.end()
            await so_far(lambda: noting.kinds()[-1] is AudioStreamEnd)
        assert noting.kinds() == [extension.AudioStreamStart, AudioChunk, AudioStreamEnd]


class TestPushToTalk:
    async def test_only_what_is_said_with_the_button_pressed_is_sent(self) -> None:
        noting, sound = Noting(), FakeSound()
        async with connected(noting) as client, client.talk(sound, push_to_talk=True) as voice:
            for count in (1, 2):
                states = [voice.talking]
                sound.say(b"\1\1" * BLOCK)
                await so_far(lambda: not sound._said)
                voice.start_talking()
                voice.start_talking()
                states.append(voice.talking)
                sound.say(b"\2\2" * BLOCK)
                await so_far(lambda: not sound._said)
                voice.stop_talking()
                voice.stop_talking()
                assert [*states, voice.talking] == [False, True, False]
                await noting.until(extension.ActivityEnd, count)
        assert noting.kinds()[2:8] == [extension.ActivityStart, AudioChunk, extension.ActivityEnd] * 2
        assert noting.audio().count(b"\2\2") == 2 * BLOCK
        assert b"\1" not in noting.audio()

    async def test_a_tap_is_a_turn(self) -> None:
        noting, sound = Noting(), FakeSound()
        async with connected(noting) as client, client.talk(sound, push_to_talk=True) as voice:
            for _ in range(9):
                voice.start_talking()
                voice.stop_talking()
            assert len(voice._button) <= 2
            await so_far(lambda: extension.ActivityEnd in noting.kinds())
            voice.start_talking()
            await so_far(lambda: noting.kinds()[-1] is AudioChunk)
        assert noting.kinds()[2:7] == [
            *(extension.ActivityStart, AudioChunk, extension.ActivityEnd),
            *(extension.ActivityStart, AudioChunk),
        ]

    async def test_where_there_is_no_button(self) -> None:
        async with connected(Noting()) as client, client.talk(FakeSound()) as voice:
            with pytest.raises(RuntimeError, match="push_to_talk=True"):
                voice.start_talking()

    async def test_not_in_a_base_session(self) -> None:
        async with connected(Noting(), base=True) as client:
            with pytest.raises(BaseOnly):
                async with client.talk(FakeSound(), push_to_talk=True):
                    pass
            async with client.talk(FakeSound()):
                pass


class TestListening:
    async def test_it_is_played_and_told_however_slow_the_iteration_is(self) -> None:
        done = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.until(ClientHello)
            await peer.respond("Yes.", duration_ms=300)
            done.set()

        sound = FakeSound()
        async with connected(script) as client, client.talk(sound):
            await done.wait()
            assert len(sound.recorded) == 300 * 48

    async def test_a_flush_is_silence_and_a_mark_of_what_was_played(self) -> None:
        marks: list[tuple[str, float]] = []
        sound = FakeSound()

        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.until(ClientHello)
            await peer.send("response_started", responseId="r1", format=PCM, language="en")
            await peer.answer("A long story.", duration_ms=5000)
            await so_far(lambda: sound.played_ms > 100)
            await peer.send("audio_flush", responseId="r1", reason="interrupted")
            await so_far(lambda: sound.flushes)
            while ("r1", round(sound.flushes[0], 3)) not in peer.marks:
                await peer.receive()
            marks.extend(peer.marks)
            await peer.socket.close(1000)

        async with connected(script) as client, client.talk(sound):
            async for _ in client:
                pass
            at_ms = sound.flushes[0]
            assert 100 < at_ms < 5000
            assert sound.played_ms == at_ms
        assert marks[-1] == ("r1", round(at_ms, 3))

    async def test_what_was_played_before_does_not_count(self) -> None:
        marks: list[list[tuple[str, float]]] = []

        async def script(peer: Peer) -> None:
            await peer.accept()
            for number in range(2):
                peer.marks.clear()
                await peer.until(ClientHello)
                await peer.respond("Yes.", of=f"r{number}", duration_ms=300)
                marks.append(list(peer.marks))
                await peer.until(AudioStreamEnd)
                await peer.until(ClientHello)

        sound = FakeSound()
        async with connected(script) as client:
            for count in (300, 600):
                async with client.talk(sound):
                    async for message in client:
                        if isinstance(message, extension.ResponseDone):
                            break
                    assert sound.played_ms == count
        assert [one for (one, _), *_ in marks] == ["r0", "r1"]
        assert all(first_ms < 300 for (_, first_ms), *_ in marks), "each began at nothing"

    async def test_an_answer_that_had_begun_before_is_left_out(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.until(ClientHello)
            piece = {"data": "AAA=", "format": "audio/flac", "duration": 1, "text": "", "language": "en"}
            await peer.send("audio_response", **piece)
            await peer.respond("Yes.")
            await peer.socket.close(1000)

        sound = FakeSound()
        async with connected(script) as client, client.talk(sound):
            async for _ in client:
                pass
            assert len(sound.recorded) == 100 * 48


class TestFailure:
    async def test_a_microphone_that_is_gone_is_raised_by_the_iteration(self) -> None:
        noting = Noting()
        async with connected(noting) as client:
            with pytest.raises(SoundError, match="gone"):
                async with client.talk(Broken(microphone=SoundError("It is gone."))):
                    async for _ in client:
                        pass
            await client.command("I type.")
            await so_far(lambda: noting.kinds()[-1] is messages.Command)
            async with client.talk(FakeSound()):
                await so_far(lambda: noting.kinds()[-1] is AudioChunk)

    async def test_or_on_leaving(self) -> None:
        noting = Noting()
        async with connected(noting) as client:
            with pytest.raises(SoundError, match="gone"):
                async with client.talk(Broken(microphone=SoundError("It is gone."))):
                    await asyncio.sleep(0.1)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(client), 0.05)

    @pytest.mark.parametrize("rate_hz", [16_000, 24_000])
    async def test_what_cannot_be_played(self, rate_hz: int) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.until(ClientHello)
            await peer.send("response_started", responseId="r1", format=PCM, language="en")
            for _ in range(2):
                await peer.answer("Yes.", rate_hz=rate_hz)
            while True:
                await peer.receive()

        sound = Broken(loudspeaker=OSError("burnt")) if rate_hz == 24_000 else FakeSound()
        async with connected(script) as client:
            with pytest.raises(OSError if rate_hz == 24_000 else SoundError):
                async with client.talk(sound):
                    async for _ in client:
                        pass
            assert client.connected
