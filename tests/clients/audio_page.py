"""The built client in a real Chromium: served as the gateway serves its page, under the same policy."""

from __future__ import annotations

import base64
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright

from antiphon import plain
from browser.conftest import GRANTED, QUIET_FLAGS, chromium_path
from clients.audio_dist import built

Samples = npt.NDArray[np.float32]

HEADERS: Final = plain.Answer(HTTPStatus.OK, "text/plain", b"").headers

PAGE: Final = b"<!doctype html><link rel=icon href=data:,><title>A page</title><button>Click</button>"

RESUMING: Final = b"""
import { Sound } from "/audio/sound.js";

const sound = new Sound();
const resume = async (when) => console.info(`${when}: ${await sound.resume()}, ${sound.context.state}`);
document.querySelector("button").onclick = () => resume("after a click");
void resume("at first");
"""
"""Says on the console whether it can be heard."""

TAP: Final = b"""
registerProcessor("tap", class extends AudioWorkletProcessor {
  process([[samples]]) {
    if (samples) this.port.postMessage([currentFrame, samples.slice()]);
    return true;
  }
});
"""
"""Tells all that passes, each block with the frame it begins at."""

HELPERS: Final = b"""
export function toBase64(array) {
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

export function bytesOf(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

export const pcmOf = (text) => new Int16Array(bytesOf(text).buffer);

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export function joined(arrays) {
  const all = new arrays[0].constructor(arrays.reduce((sum, array) => sum + array.length, 0));
  arrays.reduce((at, array) => (all.set(array, at), at + array.length), 0);
  return all;
}

/** Stores what goes to the loudspeaker, and returns how to get it: [first frame, samples]. */
export async function tap(sound) {
  await sound.context.audioWorklet.addModule("/tap.js");
  const node = new AudioWorkletNode(sound.context, "tap");
  const blocks = [];
  node.port.onmessage = ({ data }) => blocks.push(data);
  sound.output.connect(node).connect(sound.context.destination);
  return async () => {
    const now = sound.context.currentTime * sound.context.sampleRate;
    while (blocks.at(-1)[0] + 128 < now) await sleep(10); // what is on its way
    const first = blocks[0][0];
    const samples = new Float32Array(blocks.at(-1)[0] - first + 128);
    for (const [frame, block] of blocks) samples.set(block, frame - first);
    return [first, samples];
  };
}
"""
"""What the tests' scripts import from "/helpers.js"."""

FILES: Final = {
    "/": ("text/html", PAGE),
    "/resuming": ("text/html", PAGE + b'<script type="module" src="/resuming.js"></script>'),
    "/resuming.js": ("text/javascript", RESUMING),
    "/tap.js": ("text/javascript", TAP),
    "/helpers.js": ("text/javascript", HELPERS),
}


class _Handler(SimpleHTTPRequestHandler):
    """Serves `FILES` and below them the built client."""

    def end_headers(self) -> None:
        for name, value in HEADERS.items():
            if name not in ("Content-Type", "Content-Length"):
                self.send_header(name, value)
        super().end_headers()

    def do_GET(self) -> None:  # (the library's name)
        if self.path not in FILES:
            super().do_GET()
            return
        content_type, body = FILES[self.path]
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the library's name)
        """Say nothing."""


@pytest.fixture(scope="session")
def site() -> Iterator[str]:
    """Return the address of a page of the strict policy that can import the built client."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(built()))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


class OpenPage(Protocol):
    """Open the page in a browser context of its own.

    `microphone` is a WAV file that the fake microphone plays once; it takes a browser of its own. `context`
    goes to Playwright's `new_context`.
    """

    def __call__(
        self,
        *,
        microphone: Path | None = None,
        flags: tuple[str, ...] = GRANTED,
        url: str = "",
        expected_complaints: tuple[str, ...] = (),
        **context: Any,
    ) -> Awaitable[Page]: ...


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
    site: str, launch: Callable[[tuple[str, ...]], Awaitable[Browser]]
) -> AsyncIterator[OpenPage]:
    """Return a function that opens the page. The page may not complain on its console meanwhile."""
    complaints: list[str] = []
    expected: list[str] = []
    async with AsyncExitStack() as stack:

        async def open_page(
            *,
            microphone: Path | None = None,
            flags: tuple[str, ...] = GRANTED,
            url: str = "",
            expected_complaints: tuple[str, ...] = (),
            **context: Any,
        ) -> Page:
            expected.extend(expected_complaints)
            if microphone:
                flags = (*flags, f"--use-file-for-fake-audio-capture={microphone}%noloop")
            browser = await launch(flags)
            window = await browser.new_context(**context)
            stack.push_async_callback(browser.close if microphone else window.close)
            page = await window.new_page()
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on(
                "console", lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None
            )
            await page.goto(url or site)
            return page

        yield open_page
    assert [text for text in complaints if not any(part in text for part in expected)] == []


def encoded(data: bytes | Samples | npt.NDArray[np.int16]) -> str:
    """Return bytes as a script takes them."""
    return base64.b64encode(data if isinstance(data, bytes) else data.tobytes()).decode()


def floats(text: str) -> Samples:
    return np.frombuffer(base64.b64decode(text), dtype="<f4")


def shorts(text: str) -> npt.NDArray[np.int16]:
    return np.frombuffer(base64.b64decode(text), dtype="<i2")
