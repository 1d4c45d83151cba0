"""The console as its user sees it: by roles and names, and by what is done to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.async_api import CDPSession, Locator, Page, expect

from fake_gemini import Conversation
from gateway.running import Gateway

PATIENCE_S = 30
"""How long anything may take on a machine that is busy."""

expect.set_options(timeout=1000 * PATIENCE_S)


class Console:
    """An open console."""

    def __init__(self, page: Page) -> None:
        page.set_default_timeout(1000 * PATIENCE_S)
        self.page = page
        self.state = page.locator("#state")
        self.log = page.get_by_role("log")
        self.partial = page.locator(".partial")
        self.users = self.log.locator(".turn.user")
        self.answers = self.log.locator(".turn.model")
        self.alert = page.get_by_role("alert")
        self.talk = page.locator("#talk")
        self.words = page.get_by_label("Type instead of speaking")
        happened = page.get_by_role("region", name="What happened to the connection")
        self.marks = happened.get_by_role("listitem")
        """Everything that happened to the connection and the answers, the latest first."""
        self.lines = page.get_by_role("listbox", name="Messages").get_by_role("option")
        """The messages that are shown in their tab."""
        self._touching: CDPSession | None = None

    # ---- what is done

    async def press(self, name: str) -> None:
        await self.page.get_by_role("button", name=name, exact=True).click()

    async def write(self, text: str) -> None:
        """Type instead of speaking."""
        await self.words.fill(text)
        await self.words.press("Enter")

    async def show(self, tab: str) -> None:
        await self.page.get_by_role("tab", name=tab).click()

    async def choose(self, label: str, option: str) -> None:
        await self.page.get_by_role("combobox", name=label).select_option(label=option)

    async def drop(self, path: Path, kind: str = "") -> None:
        """Drop a file onto the page."""
        data = await self.page.evaluate_handle(
            """([name, type, bytes]) => {
              const data = new DataTransfer();
              data.items.add(new File([new Uint8Array(bytes)], name, { type }));
              return data;
            }""",
            [path.name, kind, list(path.read_bytes())],
        )
        await self.page.dispatch_event("main", "dragover", {"dataTransfer": data})
        await expect(self.page.locator(".drop")).to_be_visible()
        await self.page.dispatch_event("main", "drop", {"dataTransfer": data})

    async def touch(self, kind: str, *points: dict[str, float]) -> None:
        """Put fingers on the screen, or take them off; what Playwright has is a tap only."""
        self._touching = self._touching or await self.page.context.new_cdp_session(self.page)
        await self._touching.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": list(points)})

    async def download(self, name: str) -> str:
        """Press the button of that name, and return the text of the file that is saved."""
        async with self.page.expect_download() as saving:
            await self.press(name)
        return (await (await saving.value).path()).read_text()

    # ---- what is seen

    async def is_in(self, state: str) -> None:
        await expect(self.state).to_have_text(state)

    def notice(self, about: str) -> Locator:
        """What is said about the "token", the "microphone", the "connection", ..."""
        return self.page.locator(f'.notice[data-about="{about}"]')

    def row(self, turn: int) -> Locator:
        """The row of the waterfall."""
        return self.page.get_by_role("row").filter(has=self.page.get_by_role("button", name=f"t{turn},"))


async def until(condition: Callable[[], Any], what: str) -> None:
    """Wait until something comes to be; AssertionError with `what` where it does not."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise AssertionError(f"In {PATIENCE_S} s it never came to this: {what}") from None


async def model_of(gateway: Gateway, conversation: int = 0) -> Conversation:
    """Return a conversation of the model, once it has begun; the first one does so with the first turn."""
    begun = gateway.upstream.conversations
    what = f"conversation {conversation} of the model begins"
    await until(lambda: len(begun) > conversation and begun[conversation].setup, what)
    return begun[conversation]


async def until_heard_by(model: Conversation, seconds: float) -> None:
    """Wait until the model has heard so much, 16 kHz."""
    await until(lambda: len(model.heard) >= 32_000 * seconds, f"the model hears {seconds} s")


async def listening(gateway: Gateway, console: Console) -> Conversation:
    """Open the microphone, and return the model's side once something of it is heard there."""
    await console.press("Talk")
    model = await model_of(gateway)
    await until_heard_by(model, 0.1)
    return model
