"""The whole of it: a person's voice, Chromium, the gateway, the embedded engine, and its voice back."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from playwright.async_api import expect

from browser.conftest import OpenPage, TakePicture
from browser.hands import press, type_command
from browser.sound import Samples, played, tapped

pytestmark = [pytest.mark.browser, pytest.mark.speech, pytest.mark.asyncio(loop_scope="session")]


@pytest_asyncio.fixture(loop_scope="session")
async def link() -> AsyncIterator[str]:
    """Serve as a new user would, and return the link that is printed."""
    ours = ("ANTIPHON_", "GEMINI_")
    environment = {
        name: value
        for name, value in os.environ.items()
        if name == "ANTIPHON_MODELS_DIR" or not name.startswith(ours)
    }
    command = (sys.executable, "-m", "antiphon", "serve", "--port", "0")
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, env=environment)
    assert process.stdout
    try:
        printed = ""
        async with asyncio.timeout(60):
            while not (found := re.search(r"http://\S+#token=\S+", printed)):
                line = await process.stdout.readline()
                assert line, f"antiphon serve ended after saying: {printed}"
                printed += line.decode()
        yield found[0]
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()
    assert process.returncode == 0


async def test_speech_is_recognised_and_answered_aloud(
    link: str, open_page: OpenPage, picture: TakePicture, speech: Path
) -> None:
    page = await open_page(
        link.replace("#", "?raw=1#"), microphone=speech, tap=True, viewport={"width": 960, "height": 680}
    )
    await expect(page.get_by_text("embedded engine")).to_be_visible()
    log = page.get_by_role("log")

    await type_command(page, "Next one, please.")
    await expect(log.locator(".tag")).to_have_text("Command: next", timeout=20_000)
    await played(page)
    await expect(log.locator(".answer")).to_have_count(1)

    await press(page, "Talk")
    await expect(log).to_have_text(re.compile("go forward", re.I), timeout=20_000)
    await expect(page.locator("#answer .timing")).to_contain_text("answer after", timeout=20_000)
    assert "go" in (await page.evaluate("partials.join(' ')")).lower()
    await asyncio.sleep(1)
    await picture(page, "page")
    await played(page, 2)
    await press(page, "Stop")
    await expect(log.locator(".answer")).to_have_count(2)

    samples, rate_hz = await tapped(page)
    assert seconds_of_sound(samples, rate_hz) > 2


def seconds_of_sound(samples: Samples, rate_hz: int) -> float:
    """Return for how long, in steps of 50 ms, there is more than -40 dB of root mean square."""
    size = rate_hz // 20
    blocks = samples[: len(samples) // size * size].reshape(-1, size)
    return float(np.count_nonzero(np.sqrt(np.mean(blocks**2, axis=1)) > 0.01)) / 20
