"""A real Chromium with a fake microphone, and a gateway for the page to talk to."""

from __future__ import annotations

import os
import shutil
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright

from browser.scripted_gateway import Gateway, scripted_gateway

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

TAP_SCRIPT = """
const worklet = `registerProcessor("tap", class extends AudioWorkletProcessor {
  process([[samples]]) {
    if (samples) this.port.postMessage([currentFrame, samples.slice()]);
    return true;
  }
})`;
const url = URL.createObjectURL(new Blob([worklet], { type: "text/javascript" }));
const connect = AudioNode.prototype.connect;
window.tapped = [];
AudioNode.prototype.connect = function (target, ...rest) {
  if (target instanceof AudioDestinationNode && this instanceof AnalyserNode) {
    window.tapping = this.context.audioWorklet.addModule(url).then(() => {
      const tap = new AudioWorkletNode(this.context, "tap");
      tap.port.onmessage = ({ data }) => window.tapped.push(data);
      connect.call(this, tap);
      connect.call(tap, target);
      return this.context.sampleRate;
    });
  }
  return connect.call(this, target, ...rest);
};
"""
"""Stores what goes to the loudspeaker, each block with the frame it begins at, in `window.tapped`."""

RECORD_SCRIPT = """
window.states = [];
window.partials = [];
document.addEventListener("DOMContentLoaded", () => {
  const record = (list, entry) => entry && entry !== list.at(-1) && list.push(entry);
  const state = document.getElementById("state");
  new MutationObserver(() => record(states, state.dataset.state)).observe(state, { attributes: true });
  const partial = document.querySelector("#partial .words");
  new MutationObserver(() => record(partials, partial.textContent)).observe(partial, { childList: true });
});
"""
"""Stores every state that the page shows in `window.states`, and every partial in `window.partials`."""


def chromium_path() -> str:
    """Return where Chromium is, or say plainly that it is missing."""
    for name in (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"):
        if name and (path := shutil.which(name)):
            return path
    raise FileNotFoundError(
        "The browser tests need Chromium: install it (Debian: apt-get install chromium) "
        "or name its program in $CHROMIUM."
    )


TakePicture = Callable[[Page, str], Awaitable[None]]


class OpenPage(Protocol):
    """Open the page in a browser context of its own.

    `microphone` is a WAV file that the fake microphone plays once; it takes a browser of its own. With
    `tap`, what goes to the loudspeaker is stored; the tap is a worklet made from a blob, so the page's
    policy is then off. `context` goes to Playwright's `new_context`.
    """

    def __call__(
        self,
        url: str,
        *,
        microphone: Path | None = None,
        flags: tuple[str, ...] = GRANTED,
        tap: bool = False,
        init_script: str = "",
        expected_complaints: tuple[str, ...] = (),
        **context: Any,
    ) -> Awaitable[Page]: ...


@pytest_asyncio.fixture(loop_scope="session")
async def gateway() -> AsyncIterator[Gateway]:
    async with scripted_gateway() as gateway:
        yield gateway


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def launch() -> AsyncIterator[Callable[[tuple[str, ...]], Awaitable[Browser]]]:
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


@pytest_asyncio.fixture(loop_scope="session")
async def open_page(
    launch: Callable[[tuple[str, ...]], Awaitable[Browser]],
) -> AsyncIterator[OpenPage]:
    """Return a function that opens the page. The page may not complain on its console meanwhile."""
    complaints: list[str] = []
    expected: list[str] = []
    async with AsyncExitStack() as stack:

        async def open_page(
            url: str,
            *,
            microphone: Path | None = None,
            flags: tuple[str, ...] = GRANTED,
            tap: bool = False,
            init_script: str = "",
            expected_complaints: tuple[str, ...] = (),
            **context: Any,
        ) -> Page:
            if microphone:
                flags = (*flags, f"--use-file-for-fake-audio-capture={microphone}%noloop")
            browser = await launch(flags)
            window = await browser.new_context(bypass_csp=tap, **context)
            stack.push_async_callback(browser.close if microphone else window.close)
            page = await window.new_page()
            expected.extend(expected_complaints)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on(
                "console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None
            )
            await page.add_init_script(RECORD_SCRIPT + init_script + (TAP_SCRIPT if tap else ""))
            await page.goto(url)
            return page

        yield open_page
    assert [text for text in complaints if not any(part in text for part in expected)] == []


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
    """Return a function that takes a picture of the page, if $PICTURES names a folder for it."""
    folder = os.environ.get("PICTURES")

    async def take(page: Page, name: str) -> None:
        if folder:
            await page.screenshot(path=Path(folder) / f"{name}.png")

    return take
