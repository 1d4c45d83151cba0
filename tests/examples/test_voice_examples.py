"""microphone.py and synchronous.py, run as processes against a running gateway; the sound library is ours."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from antiphon.tools import commands
from audio_samples import tone, write_wav
from fake_gemini import ANSWER, Conversation
from gateway.running import Gateway, running_gateway

from .model import GREETING, Model
from .running import EXAMPLES, NOWHERE, Runner, commands_file

LIBRARY: Final = Path(__file__).parents[1] / "sound_library"
FADE: Final = 240
"""Bytes of five milliseconds."""

SPOKEN: Final = tone(16_000, 16_000)
"""A second."""


async def hearing(conversation: Conversation) -> None:
    """Answer what was heard once half a second of it is there, or when the button is released."""
    await conversation.begin()
    detection = conversation.setup.realtime_input_config.automatic_activity_detection
    while True:
        message = await conversation.receive()
        sound = conversation.heard.replace(b"\0", b"")
        released = message.realtime_input.HasField("activity_end")
        if released if detection.disabled else len(sound) > 14_000:
            conversation.heard.clear()
            await conversation.hear("hello there")
            await conversation.say(GREETING, ANSWER)
            await conversation.end_turn()


class Talking:
    """microphone.py at work."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def until(self, line: str) -> None:
        assert self.process.stdout
        async with asyncio.timeout(30):
            while self.lines[-1:] != [line]:
                read = (await self.process.stdout.readline()).decode()
                assert read, self.lines
                self.lines.append(read.rstrip("\n"))

    async def interrupt(self) -> tuple[int | None, str]:
        """Press Ctrl-C; return the exit status, and what else was printed."""
        self.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            out, err = await self.process.communicate()
        return self.process.returncode, (out + err).decode()

    def press_enter(self) -> None:
        assert self.process.stdin
        self.process.stdin.write(b"\n")


@asynccontextmanager
async def talking(gateway: Gateway, folder: Path, *arguments: str) -> AsyncIterator[Talking]:
    environ = {
        **os.environ,
        "ANTIPHON_URL": gateway.url,
        "ANTIPHON_TOKEN": gateway.token(),
        "PYTHONPATH": str(LIBRARY),
        "TEST_SOUND_HEARD": str(write_wav(folder / "heard.wav", SPOKEN)),
        "TEST_SOUND_PLAYED": str(folder / "played"),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLES / "microphone.py"), *arguments),
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        yield Talking(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def check_played(folder: Path) -> None:
    """Check that the loudspeaker played the answer and nothing else, to where Ctrl-C made it fade."""
    played = (folder / "played").read_bytes().strip(b"\0")
    assert len(played) > len(ANSWER) / 2
    assert ANSWER.lstrip(b"\0").startswith(played[:-FADE])


class TestMicrophone:
    async def test_open(self, tmp_path: Path) -> None:
        async with running_gateway(hearing) as gateway, talking(gateway, tmp_path) as talk:
            await talk.until("Speak.")
            await talk.until(f"model: {GREETING}")
            assert talk.lines == ["Speak.", "user: hello there", f"model: {GREETING}"]
            assert await talk.interrupt() == (130, "")
        check_played(tmp_path)

    async def test_push_to_talk(self, tmp_path: Path) -> None:
        async with (
            running_gateway(hearing) as gateway,
            talking(gateway, tmp_path, "--push-to-talk", "--loudspeaker", "built-in") as talk,
        ):
            await talk.until("Press Enter, speak, and press Enter again.")
            talk.press_enter()
            await asyncio.sleep(0.3)
            talk.press_enter()
            await talk.until(f"model: {GREETING}")
            assert await talk.interrupt() == (130, "")
            heard = gateway.upstream.conversations[0]
            assert heard.setup.realtime_input_config.automatic_activity_detection.disabled
        check_played(tmp_path)

    async def test_devices_and_what_is_none(self, tmp_path: Path) -> None:
        run, library = Runner(NOWHERE, "a token"), str(LIBRARY)
        listed, unknown, none, nobody = await asyncio.gather(
            run("microphone.py", "--devices", PYTHONPATH=library),
            run("microphone.py", "--microphone", "no such", PYTHONPATH=library),
            run("microphone.py", PYTHONPATH=library, TEST_SOUND="no device"),
            run("microphone.py", PYTHONPATH=library),
        )
        assert listed.out.splitlines() == [
            *("microphone 0: Built-in microphone", "microphone 2: Headset microphone"),
            *("loudspeaker 1: Built-in loudspeaker", "loudspeaker 3: Living room loudspeaker"),
        ]
        failure = "No microphone and loudspeaker can be opened: "
        assert unknown[:2] == none[:2] == nobody[:2] == (1, "")
        assert unknown.err == f"{failure}No input device matching 'no such'.\n"
        assert none.err == f"{failure}Error querying device -1.\n"
        assert nobody.err == f"Nothing listens at {NOWHERE}; is the gateway running?\n"


async def test_synchronous(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    spoken = write_wav(tmp_path / "spoken.wav", SPOKEN)
    model = Model()
    configured = commands.load_all(commands_file(tmp_path, "http://127.0.0.1:1/order"))
    async with running_gateway(model, configured=configured) as gateway:
        run, denied = Runner(gateway.url, gateway.token()), Runner(gateway.url, "no token")
        done, refused, missing, nobody = await asyncio.gather(
            run("synchronous.py", spoken, "switch the light in the kitchen"),
            denied("synchronous.py", spoken),
            run("synchronous.py", tmp_path / "none.wav"),
            Runner(NOWHERE, "a token")("synchronous.py", spoken),
        )
    sys.modules.pop("python_tool", None)
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == [
        "Connected as alice.",
        *("user: hello there", f"model: {GREETING}"),
        "The model calls light with {'room': 'kitchen'}.",
        'model: {"output": "The light in the kitchen is on."}',
    ]
    assert [heard.pcm for heard in model.heard] == [SPOKEN]
    assert refused[:2] == missing[:2] == nobody[:2] == (1, "")
    assert "token" in refused.err
    assert "none.wav" in missing.err
    assert nobody.err == f"Nothing listens at {NOWHERE}; is the gateway running?\n"
