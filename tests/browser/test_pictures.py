"""The pictures of the README and the documentation, from a conversation as it is: for them, $PICTURES names a folder."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest
from playwright.async_api import ViewportSize, expect

from antiphon.session import Limits
from browser.conftest import OpenConsole, TakePicture
from browser.console import Console, listening, model_of, until, until_heard_by
from browser.models import call
from browser.tap import until_heard
from fake_gemini import Conversation
from gateway.running import running_gateway
from recordings import recording

pytestmark = pytest.mark.skipif(not os.environ.get("PICTURES"), reason="no folder for pictures is named")

PHONE = ViewportSize(width=360, height=640)


class Person:
    """A model with a voice, which thinks for a while before it speaks."""

    async def __call__(self, conversation: Conversation) -> None:
        await conversation.begin()
        await conversation.until_gone()

    async def say(self, model: Conversation, text: str, voice: str, think_s: float, *, whole: bool = True) -> None:
        """Say a sentence by a recording, at the pace of speech."""
        await asyncio.sleep(think_s)
        pcm = recording(voice).pcm
        words = text.split(" ")
        share = len(pcm) // len(words) // 2 * 2
        for place, word in enumerate(words):
            piece = pcm[place * share : (place + 1) * share]
            await model.say(f"{' ' * bool(place)}{word}", piece, "audio/pcm;rate=16000")
            await asyncio.sleep(0.01)
        if whole:
            await model.send(server_content={"generation_complete": True})
            await model.send(server_content={"turn_complete": True})


async def typed(console: Console, model: Conversation, text: str) -> None:
    count = len(model.texts)
    await console.write(text)
    await until(lambda: len(model.texts) > count, "it is at the model")


async def test_a_conversation(open_console: OpenConsole, picture: TakePicture, speech: Path) -> None:
    person = Person()
    async with (
        running_gateway(person, limits=Limits(provocations=True)) as gateway,
        open_console(gateway, query="?commands=on&buffer=5000", microphone=speech, tap=True) as console,
    ):
        page = console.page
        model = await listening(gateway, console)
        for words, after_s in (("Go", 0.8), (" forward", 1.2), (" ten meters.", 1.9)):
            await until_heard_by(model, after_s)
            await model.hear(words)
        await until_heard_by(model, 2.6)
        await person.say(model, "Ten meters it is. Say when to stop.", "ps_goforward", 0.25)
        await expect(console.answers).to_have_count(1)
        await console.is_in("Listening")

        await typed(console, model, "How much is left?")
        text = "Two hundred meters along the river, then left over the bridge and up to the old mill."
        await person.say(model, text, "ps_0870", 0.4, whole=False)
        await until_heard(page, 3.2)
        await console.press("Interrupt")
        await model.send(server_content={"interrupted": True})
        await model.send(server_content={"turn_complete": True})
        await expect(console.answers.nth(1)).to_contain_text("dropped")

        await typed(console, model, "Next one, please.")
        await call(model, "next")
        await page.get_by_role("button", name="Send result").click()
        await until(lambda: model.results, "the result")
        await person.say(model, "Here is the next one.", "ps_0880", 0.15)
        await expect(console.users.nth(2).locator(".tag")).to_have_text("Command: next")
        await expect(console.row(3)).to_be_visible()
        await picture(console, "page")

        for count, think_s in enumerate((0.21, 0.34, 0.18, 0.62, 0.27, 0.3, 0.24, 0.2, 0.45, 0.26), 4):
            await console.is_in("Listening")
            await typed(console, model, f"And number {count}?")
            await person.say(model, f"That is {count}.", "ps_goforward", think_s)
            await expect(console.row(count)).to_be_visible()
            if count > 5:
                await console.press("Interrupt")
                await model.send(server_content={"interrupted": True})
                await model.send(server_content={"turn_complete": True})
        await console.is_in("Listening")
        await console.answers.nth(8).get_by_role("button", name="mark this turn").click()
        await picture(console, "console-latency")
        await page.keyboard.press("Escape")

        await console.show("Faults")
        await console.press("Drop the socket")
        await expect(console.marks.filter(has_text="Resumed")).to_have_count(1)
        await console.press("Force a rotation")
        await expect(console.marks.filter(has_text=re.compile("hears again"))).to_have_count(1)
        await console.press("300 ms of jitter")
        await console.press("Half-open")
        await expect(page.get_by_text("Nothing comes through.", exact=True)).to_be_visible()
        await picture(console, "console-faults")


@pytest.mark.parametrize("name", ["console-dark", "console-phone"])
async def test_a_tool_call(open_console: OpenConsole, picture: TakePicture, speech: Path, name: str) -> None:
    person = Person()
    phone = name.endswith("phone")
    context = {"viewport": PHONE, "has_touch": True, "device_scale_factor": 2} if phone else {"color_scheme": "dark"}
    async with (
        running_gateway(person) as gateway,
        open_console(gateway, query="?commands=on", microphone=speech, **context) as console,
    ):
        model = await listening(gateway, console)
        await until_heard_by(model, 2.4)
        await model.hear("Go forward ten meters.")
        await person.say(model, "Ten meters it is.", "ps_goforward", 0.2)
        await expect(console.answers).to_contain_text("answer after")
        await console.is_in("Listening")
        if not phone:
            await call(model, "next", {"unit": "meters", "distance": 10})
            await expect(console.page.get_by_role("region", name="Tool call next")).to_be_visible()
            await console.show("Messages")
            await console.lines.filter(has_text="tool_call").first.click()
        await picture(console, name)
