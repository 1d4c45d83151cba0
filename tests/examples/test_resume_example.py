"""resume.py, run as a process against a running gateway: two connections are lost, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from audio_samples import tone, write_wav
from fake_gemini import ANSWER
from gateway.running import running_gateway

from .model import GREETING, Model
from .running import NOWHERE, Runner

SPOKEN: Final = tone(16_000, 16_000)
"""A second."""


async def test_nothing_is_lost_but_the_connection(tmp_path: Path) -> None:
    spoken = write_wav(tmp_path / "spoken.wav", SPOKEN)
    model = Model()
    async with running_gateway(model) as gateway:
        status, out, err = await Runner(gateway.url, gateway.token())("resume.py", spoken)
    assert (status, err) == (0, "")
    said = out.splitlines()
    assert said.count("The connection is lost.") == 2
    resumed = [
        line for line in said if re.fullmatch(r"It is resumed; \d+ messages had not come, and do now\.", line)
    ]
    assert len(resumed) == 2
    assert said.index("The connection is lost.") < said.index("user: hello there"), "in mid-sentence"
    assert [line for line in said if line.startswith(("user: ", "model: "))] == [
        "user: hello there",
        f"model: {GREETING}",
    ]
    assert f"The answer is over: {len(ANSWER) / 48_000:.2f} s of sound came." in said
    assert said[-2:] == [
        "Spoken: 1.00 s. Heard by the model: 1.00 s.",
        "2 connections were lost, and with them nothing was.",
    ]
    assert [heard.pcm for heard in model.heard] == [SPOKEN]


async def test_nobody_is_there(tmp_path: Path) -> None:
    spoken = write_wav(tmp_path / "spoken.wav", SPOKEN)
    status, out, err = await Runner(NOWHERE, "a token")("resume.py", spoken)
    assert (status, out) == (1, "")
    assert err == f"Nothing listens at {NOWHERE}; is the gateway running?\n"
