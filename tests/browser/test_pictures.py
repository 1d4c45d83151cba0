"""The pictures of the README and the documentation, from real calls with the embedded engine.

They are taken where $PICTURES names a folder for them.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import ViewportSize, expect

from browser.conftest import OpenConsole, TakePicture
from browser.console import Console
from commands.running import serving

pytestmark = [
    pytest.mark.speech,
    pytest.mark.skipif(not os.environ.get("PICTURES"), reason="no folder for pictures is named"),
]

PHONE = ViewportSize(width=360, height=640)
HIGH = ViewportSize(width=1280, height=960)


@asynccontextmanager
async def spoken(
    open_console: OpenConsole, home: Path, speech: Path, **context: Any
) -> AsyncIterator[Console]:
    """A console in a call with the embedded engine, which has answered what was spoken."""
    async with serving(home) as gateway:
        await gateway.until_line("#token=")
        link = gateway.link.replace("#", "?commands=on#")
        async with open_console(link, microphone=speech, **context) as console:
            await console.press("Talk")
            await expect(console.answers).to_contain_text("answer after")
            await console.is_in("Listening")
            yield console


async def asked(console: Console, text: str, *, whole: bool = True) -> None:
    """Type, and wait until the answer is heard: the whole of it, or its first sample."""
    count = await console.users.count()
    await console.write(text)
    await expect(console.users).to_have_count(count + 1)
    await console.is_in("Answering")
    if whole:
        await console.is_in("Listening")


async def test_a_conversation(
    open_console: OpenConsole, picture: TakePicture, speech: Path, tmp_path: Path
) -> None:
    async with spoken(open_console, tmp_path, speech) as console:
        page = console.page
        await asked(console, "What can you do?", whole=False)
        await expect(console.page.locator(".partial")).to_contain_text("slower")
        await console.press("Interrupt")
        await expect(console.answers.nth(1)).to_contain_text("cut after")
        await console.write("Next one, please.")
        await page.get_by_role("button", name="Send result").click()
        await expect(console.users.nth(2).locator(".tag")).to_have_text("Command: next")
        await console.is_in("Answering")
        await expect(console.row(3)).to_be_visible()
        await picture(console, "page")

        await console.is_in("Listening")
        for words in (
            "How are you?",
            "Hello!",
            "What time is it?",
            "What day is it?",
            "Who are you?",
            "And me?",
        ):
            await asked(console, words)
        await console.answers.nth(5).get_by_role("button", name="mark this turn").click()
        await page.mouse.move(2, 300)
        await picture(console, "console-latency")
        await page.keyboard.press("Escape")

        await page.set_viewport_size(HIGH)
        await console.show("Faults")
        await console.press("Drop the socket")
        await expect(console.marks.filter(has_text="Resumed")).to_have_count(1)
        await console.press("Force a rotation")
        await expect(console.marks.filter(has_text=re.compile("hears again"))).to_have_count(1)
        await asked(console, "Are you still there?", whole=False)
        await console.press("300 ms of jitter")
        await picture(console, "console-faults")


async def test_a_tool_call_in_the_dark(
    open_console: OpenConsole, picture: TakePicture, speech: Path, tmp_path: Path
) -> None:
    async with spoken(open_console, tmp_path, speech, color_scheme="dark", viewport=HIGH) as console:
        await console.write("Slow down, please.")
        await expect(console.page.get_by_role("region", name="Tool call slower")).to_be_visible()
        await console.show("Messages")
        await console.lines.filter(has_text="tool_call").last.click()
        await picture(console, "console-dark")
        await console.page.get_by_role("button", name="Send result").click()
        await expect(console.answers).to_have_count(2)


async def test_a_phone(open_console: OpenConsole, picture: TakePicture, speech: Path, tmp_path: Path) -> None:
    async with spoken(
        open_console, tmp_path, speech, viewport=PHONE, has_touch=True, device_scale_factor=2
    ) as console:
        await asked(console, "What time is it?", whole=False)
        await expect(console.page.locator(".partial")).to_contain_text("It's")
        await picture(console, "console-phone")
