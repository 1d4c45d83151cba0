"""Tokens: out of sight, never stored for long, asked for in words, and renewed in a call."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from antiphon.clock import epoch_clock
from antiphon.session import Limits
from browser.conftest import OpenConsole, link_to
from browser.console import Console, listening
from browser.models import attentive, talkative
from gateway.running import running_gateway


async def use(console: Console, text: str) -> None:
    await console.page.get_by_label("Token", exact=True).fill(text)
    await console.press("Use it")


async def test_it_leaves_the_address_bar_and_survives_a_reload_and_no_more(open_console: OpenConsole) -> None:
    async with running_gateway(talkative) as gateway, open_console(gateway, query="?talk=toggle") as console:
        page = console.page
        await expect(page).to_have_url(f"http://127.0.0.1:{gateway.port}/?talk=toggle")
        await console.choose("Shows", "60 s")  # which is kept
        token = await page.evaluate("sessionStorage.getItem('antiphon.token')")
        assert token.count(".") == 2
        assert token not in await page.evaluate("JSON.stringify({ ...localStorage })")
        assert await page.evaluate("localStorage.length") == 1
        await page.reload()
        await console.write("hello")
        await expect(console.answers).to_have_count(1)
        another = await page.context.new_page()
        await another.goto(page.url)
        await expect(another.get_by_role("heading", name="A token is needed")).to_be_visible()


async def test_without_one_the_page_asks_and_takes_a_link(open_console: OpenConsole) -> None:
    async with running_gateway(attentive) as gateway, open_console(gateway, token="") as console:
        await expect(console.notice("token")).to_contain_text("antiphon serve")
        await expect(console.alert).to_have_count(0)
        await console.press("Talk")
        await expect(console.page.get_by_label("Token", exact=True)).to_be_focused()
        assert gateway.connections == []
        await use(console, f" {link_to(gateway)}\n")
        await expect(console.notice("token")).to_have_count(0)
        await listening(gateway, console)
        await expect(console.page.locator(".link")).to_contain_text("token 4:")


@pytest.mark.parametrize(("ttl_s", "says"), [(0.001, "expired"), (None, "no signed JWT")])
async def test_a_refused_token_can_be_replaced(
    open_console: OpenConsole, ttl_s: float | None, says: str
) -> None:
    async with running_gateway(talkative) as gateway:
        token = "no.good.token" if ttl_s is None else gateway.token(ttl_s=ttl_s)
        async with open_console(gateway, token=token, flags=()) as console:
            await console.write("hello")
            await expect(console.alert).to_contain_text("Another token is needed")
            await expect(console.alert).to_contain_text(says)
            await expect(console.alert).to_contain_text("antiphon serve")
            await console.is_in("Not connected")
            assert await console.page.evaluate("sessionStorage.getItem('antiphon.token')") == ""
            await use(console, gateway.token())
            await console.is_in("Connected")
            await expect(console.alert).to_have_count(0)
            await console.write("hello again")
            await expect(console.answers.last.locator(".words")).to_have_text("You said hello again.")


async def test_one_that_is_about_to_expire_is_renewed_in_the_call(open_console: OpenConsole) -> None:
    ahead_s = 0
    clock = epoch_clock()
    limits = Limits(heartbeat_s=1, idle_timeout_s=3600)
    async with (
        running_gateway(talkative, limits=limits, clock=lambda: clock() + ahead_s) as gateway,
        open_console(gateway, flags=()) as console,
    ):
        await console.write("hello")
        await expect(console.answers).to_have_count(1)
        ahead_s = 280
        await console.write("is it late?")
        await expect(console.notice("token")).to_contain_text("about to expire")
        await use(console, gateway.token(ttl_s=3600))
        await expect(console.notice("token")).to_have_count(0)
        await expect(console.page.locator(".link")).to_contain_text("token 59:")
        assert len(gateway.connections) == 1


async def test_a_link_that_is_followed_in_the_same_tab(open_console: OpenConsole) -> None:
    async with (
        running_gateway(talkative) as gateway,
        open_console(gateway, token="a.bad.one", flags=()) as console,
    ):
        await console.write("hello")
        await expect(console.alert).to_contain_text("Another token is needed")
        await console.page.goto(link_to(gateway))
        await console.is_in("Connected")
        await expect(console.page).to_have_url(f"http://127.0.0.1:{gateway.port}/")
