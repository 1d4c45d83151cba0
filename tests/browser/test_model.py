"""A model that is not to be had: that is said in words, and what was said is answered once it is back."""

from __future__ import annotations

import asyncio

import grpc
from playwright.async_api import expect

from browser.conftest import OpenConsole, TakePicture
from browser.console import model_of, until
from browser.models import talkative
from fake_gemini import Conversation, Script
from gateway.running import running_gateway


def failing(code: grpc.StatusCode) -> Script:
    async def script(conversation: Conversation) -> None:
        await conversation.fail(code)

    return script


async def test_one_that_cannot_be_reached(open_console: OpenConsole, picture: TakePicture) -> None:
    async with (
        running_gateway(failing(grpc.StatusCode.UNAVAILABLE)) as gateway,
        open_console(gateway, flags=()) as console,
    ):
        await console.write("hello")
        notice = console.notice("model")
        await expect(notice).to_contain_text("The model is not available")
        await expect(notice).to_contain_text("cannot be reached")
        await console.is_in("Waiting for the model…")
        tried = len(gateway.upstream.conversations)
        await until(lambda: len(gateway.upstream.conversations) > tried, "it is tried again")
        await expect(notice).to_be_visible()
        await picture(console, "console-no-model")

        gateway.upstream.script = talkative
        await expect(console.answers.locator(".words")).to_have_text("You said hello.")
        await expect(notice).to_have_count(0)
        await console.is_in("Connected")


async def test_one_that_goes_in_the_middle_and_stays_away(open_console: OpenConsole) -> None:
    """A short absence is not worth a word; this one is longer."""
    leaves = asyncio.Event()

    async def until_it_leaves(conversation: Conversation) -> None:
        await conversation.begin()
        await leaves.wait()
        await conversation.fail(grpc.StatusCode.UNAVAILABLE)

    async with running_gateway(until_it_leaves) as gateway, open_console(gateway) as console:
        await console.press("Talk")
        await console.is_in("Listening")
        await model_of(gateway)
        gateway.upstream.script = failing(grpc.StatusCode.UNAVAILABLE)
        leaves.set()
        await expect(console.notice("model")).to_contain_text("The gateway tries to reach it again.")
        await console.is_in("Waiting for the model…")
        gateway.upstream.script = talkative
        await expect(console.notice("model")).to_have_count(0)
        await console.is_in("Listening")
        await console.write("are you back?")
        await expect(console.answers.last.locator(".words")).to_have_text("You said are you back?.")


async def test_one_that_the_gateway_may_not_use(open_console: OpenConsole) -> None:
    """Nothing helps here but its operator: no attempt follows by itself."""
    async with (
        running_gateway(failing(grpc.StatusCode.PERMISSION_DENIED)) as gateway,
        open_console(gateway, flags=()) as console,
    ):
        await console.write("hello")
        await expect(console.alert).to_contain_text("The model is not available")
        await expect(console.alert).to_contain_text("tell its operator")
        await console.is_in("Not connected")
        gateway.upstream.script = talkative
        await console.press("Try again")
        await console.write("hello")
        await expect(console.answers.locator(".words")).to_have_text("You said hello.")
        await expect(console.alert).to_have_count(0)


async def test_one_whose_quota_is_used_up(open_console: OpenConsole) -> None:
    async with (
        running_gateway(failing(grpc.StatusCode.RESOURCE_EXHAUSTED)) as gateway,
        open_console(gateway, flags=()) as console,
    ):
        await console.write("hello")
        await expect(console.notice("model")).to_contain_text("quota is used up")
        await console.is_in("Reconnecting…")
        gateway.upstream.script = talkative
        await console.page.evaluate("window.dispatchEvent(new Event('online'))")
        await expect(console.answers.locator(".words")).to_have_text("You said hello.")
        await expect(console.notice("model")).to_have_count(0)
