"""The pre-flight check: what a call needs is tried, and what is not there is named."""

from __future__ import annotations

from playwright.async_api import expect

from browser.conftest import GRANTED, OpenConsole
from browser.models import attentive
from gateway.running import running_gateway


async def test_all_is_well(open_console: OpenConsole) -> None:
    async with running_gateway(attentive) as gateway, open_console(gateway) as console:
        await console.show("Setup")
        await console.press("Check")
        checks = console.page.locator(".checks li")
        await console.page.get_by_role("group", name="Did you hear the tone?").get_by_text("Yes").click()
        await expect(console.page.get_by_role("button", name="Check again")).to_be_enabled()
        sure = ("Secure address", "Browser", "Gateway", "Session", "Microphone")
        await expect(checks).to_contain_text(
            [
                *(f"Good{name}: " for name in sure),
                "Level: ",
                "GoodLoudspeaker: You heard the tone.",
                "Echo: ",
            ]
        )
        await expect(checks.nth(3)).to_contain_text("The token is good, for alice.")
        await expect(checks.nth(5)).to_contain_text("dB at its loudest")


async def test_what_is_missing_is_named(open_console: OpenConsole) -> None:
    flags = (GRANTED[0], "--deny-permission-prompts")
    async with running_gateway(attentive) as gateway, open_console(gateway, token="", flags=flags) as console:
        await console.show("Setup")
        await console.press("Check")
        heard = console.page.get_by_role("group", name="Did you hear the tone?")
        await heard.get_by_role("button", name="No", exact=True).click()
        checks = console.page.locator(".checks li")
        await expect(checks).to_contain_text(
            [
                *("Secure address", "Browser", "Gateway"),
                "Left outSession: There is no token",
                "TroubleMicrophone: The microphone is blocked",
                "Left outLevel",
                "TroubleLoudspeaker: You did not hear the tone",
                "Left outEcho",
            ]
        )
