"""Push to talk: only what is said while the button is down is heard, whatever holds it down."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from playwright.async_api import expect

from browser.conftest import OpenConsole
from browser.console import Console, model_of, until, until_heard_by
from browser.models import talkative
from gateway.running import running_gateway

Gesture = Callable[[Console], Awaitable[None]]


async def mouse_down(console: Console) -> None:
    await console.talk.hover()
    await console.page.mouse.down()


async def mouse_up(console: Console) -> None:
    await console.page.mouse.move(5, 5)  # it slips off the button, and is still held
    await expect(console.page.get_by_role("button", name="Stop", exact=True)).to_be_visible()
    await console.page.mouse.up()


async def finger_down(console: Console) -> None:
    box = await console.talk.bounding_box()
    assert box
    point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    await console.touch("touchStart", point)


async def finger_up(console: Console) -> None:
    await console.touch("touchEnd")


async def space_down(console: Console) -> None:
    await console.page.locator(".transcript").focus()
    await console.page.keyboard.down(" ")


async def space_up(console: Console) -> None:
    await console.page.keyboard.down(" ")  # it repeats
    await console.page.keyboard.up(" ")


async def press_twice(console: Console) -> None:
    """As who cannot hold a button does."""
    await console.talk.press("Enter")


@pytest.mark.parametrize(
    ("down", "up"),
    [(mouse_down, mouse_up), (finger_down, finger_up), (space_down, space_up), (press_twice, press_twice)],
)
async def test_what_is_said_while_it_is_held(open_console: OpenConsole, down: Gesture, up: Gesture) -> None:
    async with (
        running_gateway(talkative) as gateway,
        open_console(gateway, query="?talk=hold", has_touch=True) as console,
    ):
        await expect(console.page.get_by_text("Hold the button and speak.")).to_be_visible()
        for turn in (1, 2):
            await down(console)
            model = await model_of(gateway)
            before = len(model.heard)
            await until(lambda: len(model.heard) > before + 16_000, "half a second of it is heard")  # noqa: B023
            await console.is_in("Listening")
            await up(console)
            await expect(console.answers).to_have_count(turn)
            await expect(console.page.get_by_role("button", name="Talk", exact=True)).to_be_visible()
            await console.is_in("Ready to talk")
        heard = len(model.heard)
        await console.write("and typed")  # the model takes things in their order: audio would come before it
        await expect(console.answers).to_have_count(3)
        assert len(model.heard) == heard
        assert model.setup.realtime_input_config.automatic_activity_detection.disabled
        await expect(console.row(1).get_by_role("button")).to_have_accessible_name(
            "t1, push to talk: mark this turn"
        )


async def test_muted_nothing_is_heard(open_console: OpenConsole) -> None:
    async with running_gateway(talkative) as gateway, open_console(gateway) as console:
        await console.press("Talk")
        model = await model_of(gateway)
        await until_heard_by(model, 0.2)
        await console.press("Mute")
        await console.is_in("Muted")
        await console.write("is it quiet?")
        await expect(console.answers).to_have_count(1)
        heard = len(model.heard)
        await console.write("still?")
        await expect(console.answers).to_have_count(2)
        assert len(model.heard) == heard
        await console.press("Unmute")
        await until(lambda: len(model.heard) > heard, "it is heard again")
