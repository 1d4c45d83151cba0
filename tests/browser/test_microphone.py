"""What is in the way of the microphone is named, with what to do about it; typing goes on."""

from __future__ import annotations

import pytest
from playwright.async_api import expect

from browser.conftest import GRANTED, OpenConsole, link_to
from browser.console import Console, listening
from browser.models import talkative
from gateway.running import running_gateway

REFUSES = """navigator.mediaDevices.getUserMedia = async () => {
  throw new DOMException("%s", "%s");
};"""


async def refused(console: Console, title: str, words: str) -> None:
    """Press the button, be told that, and go on by typing."""
    await console.press("Talk")
    await expect(console.alert.get_by_role("heading")).to_have_text(title)
    await expect(console.alert).to_contain_text(words)
    await expect(console.page.get_by_role("button", name="Talk", exact=True)).to_be_visible()
    await console.write("still here")
    await expect(console.answers.locator(".words")).to_have_text("You said still here.")


async def test_denied(open_console: OpenConsole) -> None:
    flags = (GRANTED[0], "--deny-permission-prompts")
    async with running_gateway(talkative) as gateway, open_console(gateway, flags=flags) as console:
        await refused(console, "The microphone is blocked", "Allow it beside the address")


async def test_missing(open_console: OpenConsole) -> None:
    async with (
        running_gateway(talkative) as gateway,
        open_console(gateway, flags=(), permissions=["microphone"]) as console,
    ):
        await refused(console, "No microphone was found", "Connect one")


@pytest.mark.parametrize(
    ("error", "title", "words"),
    [
        (("Permission dismissed", "NotAllowedError"), "The microphone was not allowed", "closed without an"),
        (("Could not start", "NotReadableError"), "The microphone cannot be opened", "Another program may"),
    ],
)
async def test_dismissed_or_in_use(
    open_console: OpenConsole, error: tuple[str, str], title: str, words: str
) -> None:
    """No flag of Chromium brings these about: the page gets the error that it raises."""
    async with (
        running_gateway(talkative) as gateway,
        open_console(gateway, init_script=REFUSES % error) as console,
    ):
        await refused(console, title, words)


async def test_an_insecure_address(open_console: OpenConsole) -> None:
    flags = (*GRANTED, "--host-resolver-rules=MAP gateway.test 127.0.0.1")
    async with running_gateway(talkative) as gateway:
        link = link_to(gateway).replace("127.0.0.1", "gateway.test")
        async with open_console(
            link, flags=flags, expected_complaints=("Cross-Origin-Opener-Policy", "AudioWorklet")
        ) as console:
            await refused(console, "The browser gives this address no microphone", "only over https")


@pytest.mark.parametrize(
    "lacks", ["delete window.AudioContext;", "delete BaseAudioContext.prototype.audioWorklet;"]
)
async def test_an_old_browser(open_console: OpenConsole, lacks: str) -> None:
    async with running_gateway(talkative) as gateway, open_console(gateway, init_script=lacks) as console:
        await refused(console, "This browser cannot take part in a conversation", "You can still type")


async def test_one_that_goes_away_in_a_call(open_console: OpenConsole) -> None:
    keeps = """const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wanted) => (window.microphone = await ask(wanted));"""
    async with running_gateway(talkative) as gateway, open_console(gateway, init_script=keeps) as console:
        await listening(gateway, console)
        await console.page.evaluate(
            """() => {
              navigator.mediaDevices.getUserMedia = async () => {
                throw new DOMException("none", "NotFoundError");
              };
              window.microphone.getTracks()[0].dispatchEvent(new Event("ended"));
            }"""
        )
        await expect(console.alert).to_contain_text("The microphone was disconnected")
        await expect(console.answers.locator(".words")).to_have_text("So I did.")  # what was said is answered
        await console.write("still here")
        await expect(console.answers.nth(1).locator(".words")).to_have_text("You said still here.")


async def test_sound_that_stands_still(open_console: OpenConsole) -> None:
    """As in a browser that finds no loudspeaker."""
    stands = """window.AudioContext = class extends AudioContext {
      constructor(...options) { super(...options); this.suspend(); }
      async resume() {}
    };"""
    async with running_gateway(talkative) as gateway, open_console(gateway, init_script=stands) as console:
        await console.press("Talk")
        await expect(console.alert).to_contain_text("Nothing comes from the microphone")


async def test_another_one_can_be_chosen(open_console: OpenConsole) -> None:
    async with running_gateway(talkative) as gateway, open_console(gateway) as console:
        await listening(gateway, console)
        await console.show("Setup")
        chosen = console.page.get_by_role("combobox", name="Microphone")
        await expect(chosen.locator("option")).to_contain_text(["The system’s choice", "Fake"])
        label = await chosen.locator("option").nth(1).inner_text()
        await console.choose("Microphone", label)
        await console.is_in("Listening")
        await console.page.get_by_label("Echo cancellation").uncheck()
        await console.is_in("Listening")
        await console.press("Stop")
        await expect(console.answers).to_have_count(1)
