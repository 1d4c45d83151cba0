"""A real Chromium with a fake microphone, which opens the console as the gateway serves it."""

from __future__ import annotations

import asyncio
import os
import shutil
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
import uvloop
from playwright.async_api import Browser, Page, Request, async_playwright

from browser.console import Console
from browser.tap import TAP_SCRIPT
from gateway.running import Gateway

SPEECH = Path(__file__).parent.parent / "speech"
QUIET_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
GRANTED = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
"""A microphone that beeps, and a user who allows it."""

DESKTOP = {"width": 1280, "height": 800}


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.node)
            if pytest_asyncio.is_async_test(item):
                item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


def chromium_path() -> str:
    """Return where Chromium is, or say plainly that it is missing."""
    for name in (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"):
        if name and (path := shutil.which(name)):
            return path
    raise FileNotFoundError(
        "The browser tests need Chromium: install it (Debian: apt-get install chromium) "
        "or name its program in $CHROMIUM."
    )


Launch = Callable[[tuple[str, ...]], Awaitable[Browser]]
TakePicture = Callable[[Console, str], Awaitable[None]]


class OpenConsole(Protocol):
    """Open the console of a gateway, or of an address, in a browser context of its own.

    `microphone` is a WAV file that the fake microphone plays once; it takes a browser of its own. `port` is
    that of a relay before the gateway, `query` goes before the token. With `tap`, what goes to the
    loudspeaker is stored, and the page's policy is off. `context` goes to Playwright's `new_context`.
    """

    def __call__(
        self,
        gateway: Gateway | str,
        *,
        query: str = "",
        token: str | None = None,
        port: int | None = None,
        microphone: Path | None = None,
        flags: tuple[str, ...] = GRANTED,
        tap: bool = False,
        init_script: str = "",
        expected_complaints: tuple[str, ...] = (),
        **context: Any,
    ) -> AbstractAsyncContextManager[Console]: ...


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def launch() -> AsyncIterator[Launch]:
    """Return a function that starts Chromium with some flags, once for each set of them."""
    browsers: dict[tuple[str, ...], Browser] = {}
    async with async_playwright() as playwright:

        async def launch(flags: tuple[str, ...]) -> Browser:
            if flags not in browsers:
                browsers[flags] = await playwright.chromium.launch(
                    executable_path=chromium_path(), args=[*QUIET_FLAGS, *flags]
                )
            return browsers[flags]

        yield launch
        for browser in browsers.values():
            await browser.close()


@pytest.fixture
def open_console(launch: Launch) -> OpenConsole:
    """Return a function that opens the console, until the end of its `async with`.

    Meanwhile it may not complain (of an exception, or of its policy), nor ask another origin for anything.
    """

    @asynccontextmanager
    async def open_console(
        gateway: Gateway | str,
        *,
        query: str = "",
        token: str | None = None,
        port: int | None = None,
        microphone: Path | None = None,
        flags: tuple[str, ...] = GRANTED,
        tap: bool = False,
        init_script: str = "",
        expected_complaints: tuple[str, ...] = (),
        **context: Any,
    ) -> AsyncIterator[Console]:
        link = gateway if isinstance(gateway, str) else link_to(gateway, query, token, port)
        if microphone:
            flags = (*flags, f"--use-file-for-fake-audio-capture={microphone}%noloop")
        browser = await launch(flags)
        window = await browser.new_context(
            **{"viewport": DESKTOP, "locale": "en-US", "bypass_csp": tap, **context}
        )
        try:
            page = await window.new_page()
            complaints = listen_to(page, urlsplit(link).netloc)
            await page.add_init_script(init_script + (TAP_SCRIPT if tap else ""))
            await page.goto(link)
            yield Console(page)
        finally:
            await (browser if microphone else window).close()
        assert [text for text in complaints if not any(part in text for part in expected_complaints)] == []

    return open_console


def link_to(gateway: Gateway, query: str = "", token: str | None = None, port: int | None = None) -> str:
    """Return the link that opens the console; without a token where that is ""."""
    token = gateway.token(ttl_s=300) if token is None else token
    return f"http://127.0.0.1:{port or gateway.port}/{query}" + (f"#token={token}" if token else "")


def listen_to(page: Page, host: str) -> list[str]:
    """Return a list that takes in what the page complains of, and which strangers it asks for something."""
    complaints: list[str] = []

    def note_stranger(request: Request) -> None:
        address = urlsplit(request.url)
        if address.netloc != host and address.scheme not in ("data", "blob"):
            complaints.append(f"{request.url} was asked for")

    page.on("request", note_stranger)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None)
    return complaints


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """Return a WAV file of a person who says "go forward ten meters", with silence before and after."""
    path = tmp_path / "speech.wav"
    with wave.open(str(SPEECH / "ps_goforward.wav")) as source, wave.open(str(path), "wb") as target:
        target.setparams(source.getparams())
        silence = bytes(source.getframerate())  # half a second of it
        target.writeframes(silence + source.readframes(source.getnframes()) + 8 * silence)
    return path


@pytest.fixture
def picture() -> TakePicture:
    """Return a function that takes a picture of the console, if $PICTURES names a folder for it."""
    folder = os.environ.get("PICTURES")

    async def take(console: Console, name: str) -> None:
        if folder:
            await console.page.screenshot(path=Path(folder) / f"{name}.png")

    return take
