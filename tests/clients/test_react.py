"""The hook for React: the README's component, in a real Chromium before a real gateway."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Final

import pytest
from playwright.async_api import expect

from browser.conftest import GRANTED
from clients.audio_dist import CLIENTS, PACKAGE, built
from clients.audio_page import OpenPage, launch, open_page, site
from clients.test_readme import BLOCK, Quiet, run
from fake_gemini import ANSWER, Conversation
from gateway.running import running_gateway

__all__ = ["launch", "open_page", "site"]

pytestmark = [pytest.mark.node, pytest.mark.browser]

ENTRY: Final = """
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { Talk } from "./talk.tsx";

const given = new URLSearchParams(location.hash.slice(1));
const gateway = given.get("gateway"); // where it is of another origin
if (gateway) {
  const Inner = WebSocket;
  globalThis.WebSocket = class extends Inner {
    constructor(_: string, protocols: string[]) {
      super(gateway, protocols);
    }
  };
}
const token = given.get("token") ?? "";
const root = createRoot(document.getElementById("root")!);
root.render(<StrictMode><Talk token={token} /></StrictMode>);
(globalThis as any).leave = () => root.unmount();
"""


async def eager(conversation: Conversation) -> None:
    """Answer as soon as half a second was heard."""
    await conversation.begin()
    while len(conversation.heard) < 16_000:
        await conversation.receive()
    await conversation.hear("hello there")
    await conversation.say("General greeting.", ANSWER)
    await conversation.end_turn()
    await conversation.until_gone()


EAGER: Final = """
import { useEffect } from "react";
import { useCall } from "@antiphon/client/react";

export function Talk({ token }: { token: string }) {
  const { state, error, start, stop } = useCall({ url: "/ws", token });
  useEffect(() => {
    void start();
    return () => void stop();
  }, [start, stop]);
  return <p>{error ? error.message : state}</p>;
}
"""


async def test_the_component_of_the_readme(tmp_path: Path, open_page: OpenPage) -> None:
    """It talks, shows what is said and what is in the way, and hangs up when it goes."""
    (code,) = [
        code for _, kind, _, code in BLOCK.findall((PACKAGE / "README.md").read_text()) if kind == "tsx"
    ]
    with built_page(tmp_path, code) as url:
        async with running_gateway(eager, origins=frozenset({url.rstrip("/")})) as gateway:
            await talks(open_page, url, gateway.url, gateway.token(ttl_s=300))
            await is_told(open_page, url, gateway.url, gateway.token(ttl_s=300))
            await gateway.deserted()


async def test_a_component_that_calls_by_itself(tmp_path: Path, open_page: OpenPage) -> None:
    """React's strict mode has it begin, end and begin again at once."""
    with built_page(tmp_path, EAGER, "development") as url:
        async with running_gateway(eager, origins=frozenset({url.rstrip("/")})) as gateway:
            hash_ = f"#token={gateway.token(ttl_s=300)}&gateway={gateway.url}"
            page = await open_page(url=url + hash_, expected_complaints=("not allowed to start",))
            await expect(page.locator("p")).to_have_text("connected")
            await page.evaluate("window.leave()")
            await gateway.deserted()


@contextmanager
def built_page(folder: Path, component: str, mode: str = "production") -> Iterator[str]:
    """Build a page with the component in React's strict mode, and serve it."""
    built()
    (folder / "node_modules").symlink_to(CLIENTS / "node_modules")
    (folder / "talk.tsx").write_text(component)
    (folder / "main.tsx").write_text(ENTRY)
    (folder / "index.html").write_text(
        '<!doctype html><link rel="icon" href="data:,"><title>Talking</title><div id="root"></div>'
        '<script type="module" src="/main.tsx"></script>'
    )
    vite = ("node", "node_modules/vite/bin/vite.js", "build", "--logLevel", "warn", "--mode", mode)
    run(folder, "env", f"NODE_ENV={mode}", *vite)
    handler: Callable[..., Quiet] = partial(Quiet, directory=str(folder / "dist"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def elsewhere(gateway: str) -> str:
    """Return a script that has the page's gateway at another origin."""
    return f"""() => {{
      const Inner = WebSocket;
      window.WebSocket = class extends Inner {{
        constructor(_, protocols) {{ super({gateway!r}, protocols); }}
      }};
    }}"""


async def talks(open_page: OpenPage, url: str, gateway: str, token: str) -> None:
    page = await open_page(url=f"{url}#token={token}")
    await page.evaluate(elsewhere(gateway))
    await page.get_by_role("button", name="Talk").click()
    await expect(page.get_by_role("button", name="Stop")).to_be_visible()
    level = "Number(getComputedStyle(document.querySelector('#root > div')).getPropertyValue('--input'))"
    await page.wait_for_function(f"{level} > 0")
    rows = [re.compile("user: hello there"), re.compile("model: General greeting.")]
    await expect(page.get_by_role("listitem")).to_have_text(rows)
    await page.get_by_role("button", name="Stop").click()
    await expect(page.get_by_role("button", name="Talk")).to_be_visible()
    await page.get_by_role("button", name="Talk").click()
    await expect(page.get_by_role("button", name="Stop")).to_be_visible()
    await page.evaluate("window.leave()")


async def is_told(open_page: OpenPage, url: str, gateway: str, token: str) -> None:
    page = await open_page(url=f"{url}#token={token}", flags=(GRANTED[0], "--deny-permission-prompts"))
    await page.evaluate(elsewhere(gateway))
    await page.get_by_role("button", name="Talk").click()
    await expect(page.get_by_role("alert")).to_contain_text("The microphone is blocked")
    await expect(page.get_by_role("button", name="Talk")).to_be_visible()
