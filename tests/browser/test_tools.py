"""Tools that the model calls: answered by hand, failed, answered by a rule, taken back, and too late."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.async_api import Locator, expect

from antiphon.tools import commands
from antiphon.tools.commands import Commands
from browser.conftest import OpenConsole
from browser.console import Console, model_of, until
from browser.models import answer, attentive, call
from fake_gemini import Conversation
from gateway.running import running_gateway

KETTLE = """
[[command]]
name = "order"
description = "Order something."
tool = { by = "client", deadline_s = %s }
"""


def configured(tmp_path: Path, deadline_s: float = 60) -> Commands:
    path = tmp_path / "commands.toml"
    path.write_text(KETTLE % deadline_s)
    return commands.load_all(path)


def card(console: Console, name: str = "order") -> Locator:
    return console.page.get_by_role("region", name=f"Tool call {name}")


async def result(model: Conversation, count: int) -> dict[str, Any]:
    """Return what the model got for its call of that number."""
    await until(lambda: len(model.results) >= count, f"result {count} at the model")
    return dict(model.results[count - 1].response)


async def test_by_hand_failed_and_taken_back(open_console: OpenConsole, tmp_path: Path) -> None:
    tools = configured(tmp_path)
    async with (
        running_gateway(attentive, configured=tools) as gateway,
        open_console(gateway, flags=()) as console,
    ):
        await console.write("order tea")
        model = await model_of(gateway)
        await call(model, "order", {"item": "tea", "cups": 2})
        asked = card(console)
        await expect(asked).to_contain_text('"item": "tea"')
        await expect(asked.locator(".countdown")).to_contain_text("s left")
        await expect(console.words).to_be_focused()  # the card takes no focus away

        answered = asked.get_by_label("Result, as JSON")
        await answered.fill('{"cups": 2')
        await expect(asked).to_contain_text("This is no JSON")
        await expect(asked.get_by_role("button", name="Send result")).to_be_disabled()
        await answered.fill('{"cups": 2}')
        await expect(asked).to_contain_text("Valid JSON.")
        await asked.get_by_role("button", name="Send result").click()
        assert await result(model, 1) == {"cups": 2}
        await expect(asked).to_have_count(0)
        ended = console.log.locator(".card")
        await expect(ended).to_contain_text("order answered after")
        await answer(model, "Two cups of tea.")

        await console.write("order coffee")
        await call(model, "order", call_id="c2")
        await expect(card(console)).to_contain_text("Without arguments.")
        await card(console).get_by_label("Why order fails, as a sentence").fill("Sold out.")
        await card(console).get_by_role("button", name="Fail").click()
        assert await result(model, 2) == {"error": "Sold out."}
        await expect(ended.nth(1)).to_contain_text("order failed after")
        await answer(model, "There is none.")

        await console.write("order cake")
        await call(model, "order", {"item": "cake"}, call_id="c3")
        await expect(card(console)).to_be_visible()
        await model.send(tool_call_cancellation={"ids": ["c3"]})
        await expect(ended.nth(2)).to_contain_text("the model no longer wants it")
        assert len(model.results) == 2


async def test_by_a_rule_which_is_kept_until_it_is_taken_away(
    open_console: OpenConsole, tmp_path: Path
) -> None:
    tools = configured(tmp_path)
    async with (
        running_gateway(attentive, configured=tools) as gateway,
        open_console(gateway, flags=()) as console,
    ):
        await console.write("order tea")
        model = await model_of(gateway)
        await call(model, "order")
        await card(console).get_by_role("button", name='"done"').click()
        await card(console).get_by_label("Answer every “order” like this").check()
        await card(console).get_by_role("button", name="Send result").click()
        assert await result(model, 1) == {"output": "done"}
        await call(model, "order", call_id="c2")
        assert await result(model, 2) == {"output": "done"}
        await expect(console.log.locator(".card").nth(1)).to_contain_text("by itself")
        await expect(card(console)).to_have_count(0)
        await console.show("Setup")
        await console.press("Ask again for order")
        await call(model, "order", call_id="c3")
        await expect(card(console)).to_be_visible()


async def test_an_answer_that_comes_too_late(open_console: OpenConsole, tmp_path: Path) -> None:
    tools = configured(tmp_path, 0.2)
    async with (
        running_gateway(attentive, configured=tools) as gateway,
        open_console(gateway, flags=()) as console,
    ):
        await console.write("order tea")
        model = await model_of(gateway)
        await call(model, "order")
        await expect(console.log.locator(".card")).to_contain_text("too late")
        assert "did not answer in time" in (await result(model, 1))["error"]


async def test_every_command_can_be_answered_here(open_console: OpenConsole) -> None:
    async with running_gateway(attentive) as gateway, open_console(gateway, flags=()) as console:
        await console.show("Setup")
        await console.page.get_by_label("Answer every command here").check()
        await console.write("next")
        model = await model_of(gateway)
        await call(model, "next")
        answered = card(console, "next").get_by_label("Result, as JSON")
        await answered.fill("[1, null]")
        await answered.press("Control+Enter")
        assert list((await result(model, 1))["output"]) == [1, None]
        await expect(console.users.locator(".tag")).to_contain_text("next")
