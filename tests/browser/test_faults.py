"""The fault buttons: what they break is survived, and shown."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import expect

from antiphon.session import Limits
from browser.conftest import OpenConsole
from browser.console import Console, listening
from browser.models import talkative
from gateway.running import Gateway, running_gateway

LIMITS = Limits(provocations=True, heartbeat_s=0.5, park_s=60)


@asynccontextmanager
async def talked(
    open_console: OpenConsole, limits: Limits = LIMITS
) -> AsyncIterator[tuple[Gateway, Console]]:
    """A console in a call, its faults in sight; at the end it still works, and has lost nothing."""
    async with running_gateway(talkative, limits=limits) as gateway, open_console(gateway) as console:
        await console.show("Faults")
        await expect(console.page.get_by_role("button", name="Drop the socket")).to_be_disabled()
        await listening(gateway, console)
        yield gateway, console
        await console.is_in("Listening")
        await console.press("Stop")
        await expect(console.answers.last).to_contain_text("So I did.")
        await console.write("still here?")
        await expect(console.answers.last.locator(".words")).to_have_text("You said still here?.")
        await expect(console.alert).to_have_count(0)


async def test_a_dropped_socket_is_resumed(open_console: OpenConsole) -> None:
    async with talked(open_console) as (gateway, console):
        await console.press("Drop the socket")
        await expect(console.marks.first).to_contain_text(re.compile("Resumed after .* nothing lost"))
        await expect(console.marks.nth(1)).to_contain_text("connection was lost")
        assert len(gateway.connections) == 2
        assert len(gateway.upstream.conversations) == 1


async def test_a_half_open_socket_is_found_out(open_console: OpenConsole) -> None:
    async with talked(open_console) as (gateway, console):
        await console.press("Half-open")
        await expect(console.page.get_by_text("Nothing comes through.", exact=True)).to_be_visible()
        await expect(console.page.get_by_text("Nothing comes through.", exact=True)).to_have_count(0)
        await expect(console.marks.first).to_contain_text(re.compile("Resumed after .* nothing lost"))
        assert len(gateway.connections) == 2


async def test_jitter_is_put_up_with(open_console: OpenConsole) -> None:
    async with talked(open_console) as (gateway, console):
        await console.press("300 ms of jitter")
        await expect(console.page.get_by_text("Messages are held up.")).to_be_visible()
        await console.write("slowly")
        await expect(console.answers.locator(".words")).to_have_text("You said slowly.")
        await console.press("End the jitter")
        await expect(console.page.get_by_text("Messages are held up.")).to_have_count(0)
        assert len(gateway.connections) == 1


async def test_an_expired_token_and_a_rotation(open_console: OpenConsole) -> None:
    async with talked(open_console) as (gateway, console):
        await console.press("Expire the token")
        await expect(console.marks.first).to_contain_text(re.compile("Resumed after .* nothing lost"))
        await expect(console.marks.nth(1)).to_contain_text("token has expired")
        await console.press("Force a rotation")
        await expect(console.marks.nth(1)).to_contain_text("renews its connection to the model")
        await expect(console.marks.first).to_contain_text(re.compile("hears again after .* no speech lost"))
        assert len(gateway.upstream.conversations) == 2


async def test_a_gateway_that_offers_no_faults_of_its_own(open_console: OpenConsole) -> None:
    async with talked(open_console, Limits()) as (_, console):
        await expect(console.page.get_by_role("button", name="Force a rotation")).to_be_disabled()
        await expect(console.page.get_by_text("This gateway does not offer it")).to_have_count(2)


async def test_suspended_audio_is_told_of_and_resumed(open_console: OpenConsole) -> None:
    async with talked(open_console) as (_, console):
        await console.press("Suspend audio")
        await expect(console.notice("sound")).to_contain_text("Nothing can be heard")
        await console.press("Turn the sound on")
        await expect(console.notice("sound")).to_have_count(0)
