"""The console on every screen, light and dark: all of it can be seen, and axe-core finds nothing."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import Page, ViewportSize, expect

from antiphon import messages
from browser.conftest import OpenConsole
from browser.console import Console, listening, model_of, until, until_heard_by
from browser.models import answer, attentive, call, cut_off
from browser.sound import tone
from gateway.running import Gateway, running_gateway

AXE = Path(__file__).parents[2] / "clients/node_modules/axe-core/axe.min.js"

SIZES = {
    "phone": ViewportSize(width=360, height=640),
    "phone on its side": ViewportSize(width=640, height=360),
    "tablet": ViewportSize(width=768, height=1024),
    "desktop": ViewportSize(width=1440, height=900),
}
THEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


@cache
def axe() -> str:
    return AXE.read_text()


async def violations(page: Page) -> list[tuple[str, list[str]]]:
    """Return which rules of axe-core are broken, and where."""
    await page.evaluate(f"if (!window.axe) {{ {axe()} }}")
    found = await page.evaluate("axe.run({ resultTypes: ['violations'] })")
    return [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found["violations"]]


async def too_wide(page: Page) -> list[str]:
    """Return what is wider than the screen, though nothing scrolls there sideways, and what is cut off."""
    names: list[str] = await page.evaluate(
        """() => [...document.querySelectorAll("body *")]
          .filter((element) => element.checkVisibility())
          .filter((element) => !element.closest(".unseen, pre, .scroll-x, svg, .log-line"))
          .filter((element) => {
            const { left, right, width } = element.getBoundingClientRect();
            return width && (left < -0.5 || right > innerWidth + 0.5);
          })
          .map((element) => `${element.tagName} ${element.className} ${element.id}`)"""
    )
    if await page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        names.append("the page")
    return names


async def tabs(console: Console) -> AsyncIterator[str]:
    """Show each tab in turn."""
    for name in await console.page.get_by_role("tab").all_inner_texts():
        await console.show(name.strip())
        await expect(console.page.get_by_role("tabpanel", name=name.strip())).to_be_visible()
        yield name.strip()


@asynccontextmanager
async def busy(open_console: OpenConsole, **context: Any) -> AsyncIterator[tuple[Gateway, Console]]:
    """A console that shows some of everything."""
    async with (
        running_gateway(attentive) as gateway,
        open_console(gateway, query="?commands=on", **context) as console,
    ):
        await console.write("next " + "and next " * 20 + "w" * 60)
        model = await model_of(gateway)
        await call(model, "next", {"how": "far " * 40, "why": "x" * 80})
        await console.page.get_by_role("button", name="Send result").click()
        await answer(model, "Here is the next one, which is very " + "v" * 60 + " long.")
        await expect(console.answers).to_have_count(1)
        await console.is_in("Connected")
        await console.write("count")
        await until(lambda: len(model.texts) == 2, "the second turn")
        await model.say("One, two,", tone(1))
        await model.say(" three, four and five.", tone(9))
        await console.is_in("Answering")
        await cut_off(model)
        await expect(console.answers.nth(1)).to_contain_text("cut after")
        await console.write("previous")
        await until(lambda: len(model.texts) == 3, "the third turn")
        await call(model, "previous", {"steps": 1}, call_id="c2")
        await expect(console.page.get_by_role("region", name="Tool call previous")).to_be_visible()
        (connection,) = gateway.connections
        odd = messages.Error(timestamp=0, code="SERVER", message="Something is odd.")
        connection.send(messages.encode(odd))
        await console.answers.first.get_by_role("button", name="mark this turn").click()
        yield gateway, console


@pytest.mark.parametrize("size", SIZES)
async def test_every_tab_fits_and_is_accessible(open_console: OpenConsole, size: str) -> None:
    touch = size.startswith("phone")
    async with busy(open_console, viewport=SIZES[size], has_touch=touch, is_mobile=touch) as (_, console):
        faults = {}
        page = console.page
        for theme in THEMES:
            await page.emulate_media(color_scheme=theme)
            await expect(page.locator("html")).to_have_attribute("data-theme", theme)
            async for tab in tabs(console):
                if tab == "Messages":
                    await console.lines.first.click()
                faults[theme, tab] = (await too_wide(page), await violations(page))
                if tab == "Messages":
                    await page.locator(".log-detail").get_by_role("button", name="Close").click()
            await console.press("Keyboard shortcuts and help")
            await expect(page.get_by_role("dialog")).to_be_visible()
            faults[theme, "help"] = (await too_wide(page), await violations(page))
            await page.keyboard.press("Escape")
            await expect(page.get_by_role("dialog")).to_have_count(0)
        found = {place: fault for place, fault in faults.items() if fault != ([], [])}
        assert found == {}, json.dumps({str(place): fault for place, fault in found.items()}, indent=1)


@pytest.mark.parametrize("size", ["phone", "desktop"])
async def test_trouble_fits_and_is_accessible(open_console: OpenConsole, size: str) -> None:
    flags = ("--use-fake-device-for-media-stream", "--deny-permission-prompts")
    async with (
        running_gateway(attentive) as gateway,
        open_console(gateway, token="", flags=flags, viewport=SIZES[size]) as console,
    ):
        page = console.page
        for theme in THEMES:
            await page.emulate_media(color_scheme=theme)
            await expect(page.locator("html")).to_have_attribute("data-theme", theme)
            assert (await too_wide(page), await violations(page)) == ([], [])
        await page.get_by_label("Token", exact=True).fill("no.good.token")
        await console.press("Use it")
        await console.press("Talk")
        await expect(console.alert).to_have_count(2)
        for theme in THEMES:
            await page.emulate_media(color_scheme=theme)
            await expect(page.locator("html")).to_have_attribute("data-theme", theme)
            assert (await too_wide(page), await violations(page)) == ([], [])


async def test_less_motion_where_it_is_asked_for(open_console: OpenConsole) -> None:
    watch = """() => {
      window.levels = new Set();
      new MutationObserver(() => window.levels.add(talk.style.getPropertyValue("--level"))).observe(talk, {
        attributes: true, attributeFilter: ["style"],
      });
    }"""
    for motion, moves in (("no-preference", True), ("reduce", False)):
        async with (
            running_gateway(attentive) as gateway,
            open_console(gateway, reduced_motion=motion) as console,
        ):
            await console.page.evaluate(watch)
            model = await listening(gateway, console)
            await until_heard_by(model, 2)
            levels = set(await console.page.evaluate("[...window.levels]"))
            assert bool(levels - {"", "0.000"}) is moves
            durations = await console.page.evaluate(
                "[...document.querySelectorAll('*')].flatMap((e) => [null, '::before'].map((p) => "
                "getComputedStyle(e, p)).flatMap((s) => [s.transitionDuration, s.animationName]))"
            )
            assert bool(set(durations) - {"0s", "none"}) is moves
