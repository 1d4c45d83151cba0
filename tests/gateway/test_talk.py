"""`antiphon talk` with a real gateway: by files in every way, and by a microphone and loudspeaker of ours."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import time
import wave
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import av
import pytest

from antiphon.talk import Exchange, TalkError, Turn, add_arguments, talk
from audio_samples import speech, write_wav
from fake_gemini import ANSWER, Conversation
from fake_sound import LOUD, FakeSound
from gateway.running import Gateway, running_gateway
from gateway.test_push_to_talk import Patient
from gateway.test_tools import Caller, configured

FIRST, SECOND = b"\x01\x02" * 24_000, b"\x03\x04" * 24_000
"""A second of an answer, and of another."""


def arguments(gateway: Gateway, *words: str | Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(
        [str(word) for word in (*words, "--url", gateway.url, "--token", gateway.token())]
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_wav(tmp_path / "words.wav", speech()[:16_000])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for less long than is sensible on a network."""
    monkeypatch.setattr(Turn, "TAIL_S", 0.5)
    monkeypatch.setattr(Exchange, "TAIL_S", 0.1)
    monkeypatch.setattr(Exchange, "SILENCE_S", 2.0)


class TestByFile:
    async def test_it_is_shown_and_saved(
        self, gateway: Gateway, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert await talk(arguments(gateway, file, "--fast", "--save", tmp_path)) == 0
        assert capsys.readouterr() == ("You: hello there\nAntiphon: General greeting.\n", "")
        with wave.open(str(tmp_path / "words.answer.wav"), "rb") as saved:
            assert saved.readframes(10**6) == ANSWER

    async def test_base_messages_only(
        self, gateway: Gateway, file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert await talk(arguments(gateway, file, "--fast", "--base")) == 0
        assert capsys.readouterr() == ("You: hello there\nAntiphon: General greeting.\n", "")

    @pytest.mark.parametrize(
        ("output", "suffix", "binary"),
        [("wav", "wav", True), ("flac", "flac", False), ("opus", "ogg", True)],
    )
    async def test_other_formats(
        self, gateway: Gateway, file: Path, tmp_path: Path, output: str, suffix: str, binary: bool
    ) -> None:
        words = ("--format", "OPUS", "--output", output, "--fast", "--save", tmp_path)
        assert await talk(arguments(gateway, file, *words, *(["--binary"] if binary else []))) == 0
        data = (tmp_path / f"words.answer.{suffix}").read_bytes()
        with av.open(io.BytesIO(data), "r") as container:
            decoded = list(container.decode(audio=0))
        if output == "opus":
            assert sum(frame.samples / frame.sample_rate for frame in decoded) > 0.3
        else:
            assert b"".join(bytes(frame.planes[0])[: frame.samples * 2] for frame in decoded) == ANSWER

    async def test_binary_frames_as_json(
        self, gateway: Gateway, file: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert await talk(arguments(gateway, file, "--fast", "--binary", "--json")) == 0
        messages = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        kinds = [message["type"] for message in messages]
        assert kinds[:2] == ["auth_success", "session_info"]
        assert {"transcript_update", "response_started", "audio_response", "response_done"} <= set(kinds)
        assert sum(m["duration"] for m in messages if m["type"] == "audio_response") == pytest.approx(320)

    @pytest.mark.parametrize("output", ["pcm", "flac"])
    async def test_a_long_answer_is_saved_sooner_than_it_is_played(
        self, file: Path, tmp_path: Path, output: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Exchange, "SILENCE_S", 30.0)

        async def lecture(conversation: Conversation) -> None:
            await conversation.begin()
            await conversation.until_audio_end()
            await conversation.hear("speak")
            for number in range(40):
                await conversation.say(f" {number}", SECOND)
            await conversation.end_turn()
            await conversation.until_gone()

        async with running_gateway(lecture) as gateway:
            began = time.monotonic()
            words = ("--fast", "--binary", "--output", output, "--save", tmp_path)
            assert await talk(arguments(gateway, file, *words)) == 0
            assert time.monotonic() - began < 20, "forty seconds of sound"
        (saved,) = tmp_path.glob("words.answer.*")
        with av.open(str(saved), "r") as container:
            samples = sum(frame.samples for frame in container.decode(audio=0))
        assert samples == 40 * 24_000

    async def test_push_to_talk(self, file: Path) -> None:
        model = Patient()
        async with running_gateway(model) as gateway:
            assert await talk(arguments(gateway, file, file, "--fast", "--push-to-talk")) == 0
        kept = [told for told in model.told if told != "audio"]
        assert [told for told in kept if told != "stream end"] == ["start", "end", "start", "end"]
        assert model.automatic == [False]

    async def test_a_tool_call_is_declined_and_the_answer_waited_for(
        self, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        caller = Caller()

        async def model(conversation: Conversation) -> None:
            await conversation.begin()
            await conversation.until_audio_end()
            await conversation.hear("order tea")
            await conversation.send(tool_call={"function_calls": [{"id": "c1", "name": "order"}]})
            while not conversation.results:
                await conversation.receive()
            caller.results.append(dict(conversation.results[0].response))
            await conversation.say("I cannot.", ANSWER)
            await conversation.end_turn()
            await conversation.until_gone()

        tools = configured(tmp_path, '{ by = "client" }')
        async with running_gateway(model, configured=tools) as gateway:
            assert await talk(arguments(gateway, file, "--fast")) == 0
        assert caller.results == [{"error": "This client carries out no commands."}]
        assert capsys.readouterr().out.splitlines()[-1] == "Antiphon: I cannot."


async def conversant(conversation: Conversation) -> None:
    """Hear a word in every sound, be interrupted by it, and answer at length with a sound of its own."""
    await conversation.begin()
    for sound in (FIRST, SECOND):
        data = b""
        while b"\x11" not in data:
            data = (await conversation.receive()).realtime_input.audio.data
        await conversation.send(server_content={"interrupted": True})
        await conversation.hear("speak")
        await conversation.say("A", sound[:9600])
        await conversation.say(" long", sound[:9600])
        await conversation.say(" story.", sound * 9)
        await conversation.end_turn()
        while b"\x11" in data:
            data = (await conversation.receive()).realtime_input.audio.data
    await conversation.until_gone()


async def so_far(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


@asynccontextmanager
async def talking(
    args: argparse.Namespace, sound: FakeSound, keys: int = 0
) -> AsyncIterator[asyncio.Task[int]]:
    """Talk by voice; cancel it at the end, as Ctrl-C does."""
    task = asyncio.create_task(talk(args, sound, keys))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


class TestByVoice:
    async def test_to_speak_up_silences_the_answer_at_once(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> None:
        async with running_gateway(conversant) as gateway:
            sound = FakeSound()
            async with talking(arguments(gateway, "--save", tmp_path), sound) as task:
                sound.say(LOUD)
                await so_far(lambda: sound.played_ms > 400)
                sound.say(bytes(3200) + LOUD)
                await so_far(lambda: bool(sound.flushes))
                (flushed_ms,) = sound.flushes
                await so_far(lambda: sound.played_ms > flushed_ms + 200)
                played = round(flushed_ms * 48)
                assert 400 * 48 <= played < 5000 * 48, "of nine seconds"
                assert set(sound.recorded[:played]) == {1, 2}
                assert set(sound.recorded[played:]) == {3, 4}, "nothing more of the first answer"
                assert not task.done()
            await gateway.deserted()
        out, err = capsys.readouterr()
        assert out.splitlines()[:3] == ["You: speak", "Antiphon: A long", "You: speak"], (
            "what was heard of it"
        )
        assert err == "", "no terminal, no hints"
        with wave.open(str(tmp_path / "microphone.answer.wav"), "rb") as saved:
            assert saved.getnframes() > 24_000 * 0.4

    async def test_base_messages_only(self) -> None:
        async with running_gateway(conversant) as gateway:
            sound = FakeSound()
            async with talking(arguments(gateway, "--base"), sound):
                sound.say(LOUD)
                await so_far(lambda: sound.played_ms > 200)
                assert not sound.flushes

    async def test_push_to_talk(self, capsys: pytest.CaptureFixture[str]) -> None:
        model = Patient()
        keys, enter = os.pipe()
        async with running_gateway(model) as gateway:
            sound = FakeSound()
            async with talking(arguments(gateway, "--push-to-talk"), sound, keys) as task:
                os.write(enter, b"\n")
                await so_far(lambda: model.told.count("audio") >= 2)
                os.write(enter, b"\n")
                await so_far(lambda: sound.played_ms == 320)
                assert sound.recorded == ANSWER
                os.close(enter)
                assert await task == 0, "the keys are gone"
        os.close(keys)
        assert (model.told[0], model.told[-1]) == ("start", "end")
        assert capsys.readouterr().out.splitlines() == ["You: hello", "Antiphon: Yes."]

    @pytest.mark.parametrize("words", [("--fast",), ("--output", "flac"), ("--format", "OPUS")])
    async def test_what_is_for_files(self, gateway: Gateway, words: tuple[str, ...]) -> None:
        with pytest.raises(TalkError, match=rf"^{words[0]} is for files: name one, or leave it out"):
            await talk(arguments(gateway, *words), FakeSound())
