"""What a user does to the page."""

from __future__ import annotations

from playwright.async_api import Page

from browser.scripted_gateway import Gateway, Session


async def type_command(page: Page, text: str) -> None:
    await page.get_by_label("Type instead of speaking").fill(text)
    await press(page, "Send")


async def press(page: Page, name: str) -> None:
    await page.get_by_role("button", name=name, exact=True).click()


async def listening(gateway: Gateway, page: Page) -> Session:
    """Press the button, and return the session once speech comes in."""
    await press(page, "Talk")
    stream = await gateway.stream()
    await gateway.chunks(stream, 1)
    return gateway.sessions[-1]
