"""The Python client by microphone and loudspeaker, with the product as a whole; the speech is human."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from antiphon.audio.resampling import Resampler
from antiphon.client import Client, connect
from antiphon.client.sound import CAPTURE_HZ, PLAYBACK_HZ
from antiphon.extension import ResponseDone, TranscriptUpdate
from fake_sound import FakeSound
from recordings import recording, word_errors, words

from .running import serving


async def said(client: Client) -> dict[str, str]:
    """Return what user and model say, up to the end of the answer."""
    found: dict[str, str] = {}
    async with asyncio.timeout(60):
        async for message in client:
            match message:
                case TranscriptUpdate(role=role, text=text, is_final=True):
                    found[role] = text
                case ResponseDone(status="completed"):
                    return found
                case _:
                    pass
    raise client.closed()


@pytest.mark.speech
@pytest.mark.slow
@pytest.mark.parametrize("push_to_talk", [False, True])
async def test_what_is_heard_at_the_loudspeaker_is_the_answer(tmp_path: Path, push_to_talk: bool) -> None:
    spoken = recording("ps_goforward")
    sound = FakeSound(speed=1)
    sound.say(spoken.pcm)
    async with serving(tmp_path) as gateway:
        await gateway.until_line("#token=")
        async with (
            connect(gateway.ws_url, gateway.token) as client,
            client.talk(sound, push_to_talk=push_to_talk) as voice,
        ):
            if push_to_talk:
                voice.start_talking()
                asyncio.get_running_loop().call_later(spoken.seconds + 0.3, voice.stop_talking)
            turn = await said(client)
        assert word_errors(spoken.reference, turn["user"]) == 0
        assert sound.played_ms == pytest.approx(len(sound.recorded) / 48)

        # What was played is said to the gateway in its turn.
        resampler = Resampler(PLAYBACK_HZ, CAPTURE_HZ)
        heard = resampler.feed(bytes(sound.recorded)) + resampler.flush()
        async with connect(gateway.ws_url, gateway.token) as client:
            await client.start()
            await client.send_audio(heard + bytes(32_000))
            await client.end()
            again = await said(client)
    assert len(words(turn["model"])) >= 3
    assert word_errors(turn["model"], again["user"]) <= len(words(turn["model"])) * 0.25
