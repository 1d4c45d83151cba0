"""The keyboard alone is enough; and a screen reader is told what changes."""

from __future__ import annotations

from playwright.async_api import Locator, expect

from browser.conftest import OpenConsole
from browser.console import Console, model_of, until, until_heard_by
from browser.models import answer, attentive, call, talkative
from gateway.running import running_gateway

MOST_STOPS = 60


async def tab_to(console: Console, target: Locator) -> None:
    """Press Tab until that has the focus."""
    for _ in range(MOST_STOPS):
        await console.page.keyboard.press("Tab")
        if await target.evaluate("(element) => element === document.activeElement"):
            shown = await target.evaluate("(element) => getComputedStyle(element).outlineStyle")
            assert shown == "solid", "it is seen where the focus is"
            return
    raise AssertionError(f"Tab does not come to {target}")


async def test_a_call_by_keys_alone(open_console: OpenConsole) -> None:
    async with (
        running_gateway(attentive) as gateway,
        open_console(gateway, query="?commands=on") as console,
    ):
        page = console.page
        keys = page.keyboard
        await tab_to(console, console.talk)
        await keys.press("Space")
        await console.is_in("Listening")
        await expect(page.get_by_role("status")).to_have_text("Listening.")
        await expect(page.get_by_role("button", name="Stop", exact=True)).to_be_focused()
        await keys.press("Space")
        await console.is_in("Connected")

        await tab_to(console, console.words)
        await keys.type("next, m and t?")
        await keys.press("Enter")
        await expect(console.users.locator(".words")).to_have_text("next, m and t?")
        model = await model_of(gateway)
        await until(lambda: model.texts, "the model is asked")
        await call(model, "next")
        card = page.get_by_role("region", name="Tool call next")
        await expect(card).to_be_visible()
        await tab_to(console, card.get_by_label("Result, as JSON"))
        await keys.press("Control+a")
        await keys.type("[1, 2]")
        await tab_to(console, card.get_by_role("button", name="Send result"))
        await keys.press("Enter")
        await until(lambda: model.results, "the result")
        assert list(model.results[0].response["output"]) == [1, 2]
        await answer(model, "All done.")
        await expect(console.answers).to_have_count(1)

        tab = page.get_by_role("tab")
        await tab_to(console, tab.first)
        for name in ("Messages", "Faults", "Setup", "Latency"):
            await keys.press("ArrowRight")
            await expect(page.get_by_role("tab", name=name)).to_be_focused()
            await expect(page.get_by_role("tabpanel", name=name)).to_be_visible()
        await keys.press("End")
        await expect(page.get_by_role("tabpanel", name="Setup")).to_be_visible()
        await keys.press("Home")
        await tab_to(console, console.row(1).get_by_role("button"))
        await keys.press("Enter")
        await expect(console.answers).to_have_attribute("data-lit", "true")


async def test_single_keys(open_console: OpenConsole) -> None:
    async with running_gateway(attentive) as gateway, open_console(gateway) as console:
        page, keys = console.page, console.page.keyboard
        await keys.press("t")
        await until_heard_by(await model_of(gateway), 0.1)
        await keys.press("m")
        await console.is_in("Muted")
        await keys.press("m")
        await console.is_in("Listening")
        await keys.press("t")
        await console.is_in("Connected")
        for number, name in enumerate(("Latency", "Messages", "Faults", "Setup"), 1):
            await keys.press(str(number))
            await expect(page.get_by_role("tabpanel", name=name)).to_be_visible()
        await keys.press("/")
        await expect(console.words).to_be_focused()
        await keys.type("t/m 2?")
        await expect(console.words).to_have_value("t/m 2?")
        await keys.press("Tab")
        await keys.press("?")
        await expect(page.get_by_role("dialog", name="Help")).to_be_visible()
        await expect(page.get_by_role("button", name="Close")).to_be_focused()
        await keys.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)

        await page.get_by_label("Single-key shortcuts").uncheck()
        await page.locator(".transcript").press("2")
        await page.get_by_role("tab", name="Setup").press("m")
        await expect(page.get_by_role("tabpanel", name="Setup")).to_be_visible()
        await expect(page.get_by_role("button", name="Mute", exact=True)).to_be_visible()


async def test_the_messages_and_the_panes_by_keys(open_console: OpenConsole) -> None:
    async with running_gateway(attentive) as gateway, open_console(gateway, flags=()) as console:
        page, keys = console.page, console.page.keyboard
        await console.write("hello")
        await answer(await model_of(gateway), "Hello.")
        await expect(console.answers).to_have_count(1)
        await console.show("Messages")
        await expect(console.lines.first).to_be_visible()
        await page.get_by_role("listbox", name="Messages").focus()
        await keys.press("Home")
        await expect(page.get_by_role("region", name="Message auth")).to_be_visible()
        await keys.press("ArrowDown")
        await expect(page.get_by_role("region", name="Message auth_success")).to_be_visible()
        await keys.press("Escape")
        await expect(page.get_by_role("region", name="Message")).to_have_count(0)

        bar = page.get_by_role("separator")
        before = await page.locator(".conversation").evaluate("(pane) => pane.clientWidth")
        await bar.press("ArrowRight")
        await expect(bar).to_have_attribute("aria-valuenow", "47")
        assert await page.locator(".conversation").evaluate("(pane) => pane.clientWidth") > before


async def test_the_turn_with_the_focus_stays_in_sight(open_console: OpenConsole) -> None:
    async with running_gateway(talkative) as gateway, open_console(gateway, flags=()) as console:
        for count in range(1, 9):
            await console.write(f"Turn {count}")
            await expect(console.answers).to_have_count(count)
        await console.is_in("Connected")
        first = console.users.first.get_by_role("button", name="mark this turn")
        await expect(first).not_to_be_in_viewport()
        await first.focus()
        await expect(console.users.first).to_have_attribute("data-lit", "true")
        await expect(first).to_be_in_viewport()
        drawn = "new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)))"
        await console.page.evaluate(drawn)
        await expect(first).to_be_in_viewport()
        await first.evaluate("(element) => element.blur()")
        await console.page.locator(".transcript").press("End")
        await console.write("The last")
        await expect(console.answers.last.locator(".timing")).to_be_in_viewport()
