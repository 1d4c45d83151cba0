"""docs/howto/python-client.md: every program in it is run, and the page names what there is."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import wave
from asyncio.subprocess import PIPE
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest

from antiphon import client as client_package
from antiphon.audio.recording import Recording
from antiphon.tools import commands
from audio_samples import tone, write_wav
from commands.running import serving
from fake_gemini import ANSWER
from gateway.running import running_gateway
from recordings import SPEECH

from .model import GREETING, Model
from .running import EXAMPLES, Run, commands_file
from .test_voice_examples import LIBRARY, check_played, hearing

PAGE: Final = (Path(__file__).parents[2] / "docs/howto/python-client.md").read_text()
PROGRAMS: Final = dict(re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
ADDRESS: Final = "ws://127.0.0.1:8080/ws"
BY_MICROPHONE: Final = ("microphone.py", "push_to_talk.py")
COMMAND: Final = """[[command]]
name = "light"
description = "Switch the light in a room on or off."
phrases = ["switch the light in the {room}"]
parameters.room = { type = "string", required = true }
tool = { by = "client" }
"""


async def run(
    name: str,
    url: str,
    token: str,
    folder: Path,
    *arguments: str | Path,
    keys: str = "",
    until: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> Run:
    """Run a program of the page to its end, or until it has said something; then Ctrl-C is pressed."""
    assert PROGRAMS[name].count(ADDRESS) == 1
    program = folder / name
    program.write_text(PROGRAMS[name].replace(ADDRESS, url))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, program, *arguments),
        cwd=folder,
        env={**os.environ, "ANTIPHON_TOKEN": token, **(variables or {})},
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    assert process.stdin
    assert process.stdout
    said = b""
    try:
        async with asyncio.timeout(60):
            process.stdin.write(keys.encode())
            while until is not None and until not in said.decode():
                line = await process.stdout.readline()
                assert line, (said, await process.communicate())
                said += line
            if until is not None:
                process.send_signal(signal.SIGINT)
            out, err = await process.communicate()
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    assert process.returncode is not None
    return Run(process.returncode, (said + out).decode(), err.decode())


def sound(folder: Path, heard: Path) -> Mapping[str, str]:
    """Return the variables of a machine that hears a file."""
    return {
        "PYTHONPATH": str(LIBRARY),
        "TEST_SOUND_HEARD": str(heard),
        "TEST_SOUND_PLAYED": str(folder / "played"),
    }


async def test_the_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(EXAMPLES)
    spoken = write_wav(tmp_path / "spoken.wav", tone(16_000, 8000))
    configured = commands.load_all(commands_file(tmp_path, "http://127.0.0.1:1/order"))
    async with running_gateway(Model(), configured=configured) as gateway:
        where = (gateway.url, gateway.token(), tmp_path)
        names = [name for name in PROGRAMS if name not in BY_MICROPHONE]
        runs = dict(
            zip(
                names,
                await asyncio.gather(
                    *(run(name, *where, *([spoken] if name == "speak.py" else [])) for name in names)
                ),
                strict=True,
            )
        )
        denied = await run("tokens.py", gateway.url, "no token", tmp_path)
    sys.modules.pop("python_tool", None)
    assert {one.err for one in runs.values()} == {""}
    assert {one.status for one in runs.values()} == {0}
    said = {name: one.out.splitlines() for name, one in runs.items()}
    assert said.pop("first.py") == [GREETING, GREETING], "so far, and at its end"
    assert said.pop("synchronous.py") == [GREETING, GREETING]
    assert said.pop("speak.py") == ["user: hello there", f"model: {GREETING}"]
    assert said.pop("tools.py") == ['{"output": "The light in the kitchen is on."}']
    assert said.pop("tokens.py") == ["A token is asked for.", "Connected as alice."]
    assert said.pop("lost.py") == ["The connection is lost.", "It is back. Nothing is missing."]
    assert said == {}, "each program has its test"
    with wave.open(str(tmp_path / "answer.wav"), "rb") as file:
        assert file.readframes(file.getnframes()) == ANSWER
    assert re.fullmatch(r"A token is asked for\.\nLog in again: .*token.*\n", denied.out)


async def test_the_programs_by_microphone(tmp_path: Path) -> None:
    heard = write_wav(tmp_path / "heard.wav", tone(16_000, 16_000))
    turn = ["user: hello there", f"model: {GREETING}"]
    async with running_gateway(hearing) as gateway:
        where = (gateway.url, gateway.token(), tmp_path)
        status, out, err = await run(
            "microphone.py", *where, until=f"model: {GREETING}", variables=sound(tmp_path, heard)
        )
        assert (status, err) == (0, "")
        assert out.splitlines() == [*turn, "Goodbye."]
        check_played(tmp_path)
        status, out, err = await run(
            "push_to_talk.py", *where, keys="\n" * 6, variables=sound(tmp_path, heard)
        )
    assert (status, err) == (0, "")
    assert out.splitlines() == ["Press Enter, speak, and press Enter again.", *turn] * 3


@pytest.mark.speech
@pytest.mark.slow
async def test_the_programs_with_the_engine(tmp_path: Path) -> None:
    speech = SPEECH / "ps_goforward.wav"
    known = tmp_path / "commands.toml"
    known.write_text(COMMAND)
    async with serving(tmp_path, "--commands", str(known)) as gateway:
        await gateway.until_line("#token=")
        where = (gateway.ws_url, gateway.token, tmp_path)
        for name in PROGRAMS:
            match name:
                case "push_to_talk.py":
                    continue  # It takes somebody who waits for what is said.
                case "microphone.py":
                    done = await run(name, *where, until="model: ", variables=sound(tmp_path, speech))
                case _:
                    done = await run(name, *where, *([speech] if name == "speak.py" else []))
            assert (done.status, done.err) == (0, ""), name
            assert done.out, name
            if name in ("speak.py", "microphone.py"):
                assert "user: go forward ten meters" in done.out.lower()
        assert Recording.read(tmp_path / "answer.wav").duration_s > 0.5


def test_every_program_is_found() -> None:
    assert len(PROGRAMS) == PAGE.count("```python") > 0


def test_every_error_is_in_the_table() -> None:
    table = PAGE[PAGE.index("## What can go wrong") :]
    errors = {
        name
        for name, kind in vars(client_package).items()
        if isinstance(kind, type) and issubclass(kind, client_package.ClientError)
    }
    named = {row.split("`")[1] for row in table.splitlines() if row.startswith("| `")}
    assert named == errors - {"ClientError"}
