"""What the TypeScript client's README says is so: its code compiles and runs, its size is as it says."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
from asyncio.subprocess import PIPE
from collections.abc import Callable
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Final

import pytest
from playwright.async_api import expect

from browser.conftest import speech
from clients.audio_dist import CLIENTS, PACKAGE, built
from clients.audio_page import OpenPage, launch, open_page, site
from gateway.running import Gateway, running_gateway

__all__ = ["launch", "open_page", "site", "speech"]

pytestmark = [pytest.mark.node]

README: Final = PACKAGE / "README.md"
MOST_BYTES: Final = 12 * 1024
BLOCK: Final = re.compile(r"^( *)```(tsx?)(?: file=(\S+))?\n(.*?)^ *```$", re.M | re.S)

CONFIG: Final = {
    "extends": str(CLIENTS / "tsconfig.base.json"),
    "compilerOptions": {
        "noEmit": True,
        "jsx": "react-jsx",
        "types": ["node"],
        "noUnusedLocals": False,
    },
    "include": ["*.ts", "*.tsx"],
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return a folder with the README's code, each block a module, and what it imports installed."""
    built()
    (tmp_path / "node_modules").symlink_to(CLIENTS / "node_modules")
    for number, (indent, kind, name, code) in enumerate(BLOCK.findall(README.read_text())):
        lines = [line.removeprefix(indent) for line in code.splitlines(keepends=True)]
        (tmp_path / (name or f"block{number}.{kind}")).write_text("".join(lines))
    (tmp_path / "package.json").write_text('{"type": "module", "private": true}')
    (tmp_path / "tsconfig.json").write_text(json.dumps(CONFIG))
    return tmp_path


def run(folder: Path, *command: str) -> str:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_its_code_compiles(project: Path) -> None:
    assert len(list(project.glob("*.ts*"))) >= 10
    run(project, "node", "node_modules/typescript/bin/tsc")
    (project / "wrong.ts").write_text('import { connect } from "@antiphon/client"; connect({ url: 1 });\n')
    with pytest.raises(AssertionError, match=r"wrong\.ts"):
        run(project, "node", "node_modules/typescript/bin/tsc")


async def test_its_program_for_node_runs(gateway: Gateway, project: Path) -> None:
    program = project / "node.mjs"
    program.write_text((project / "node.ts").read_text().replace('"]!', '"]'))  # all that is TypeScript in it
    environment = os.environ | {"ANTIPHON_URL": gateway.url, "ANTIPHON_TOKEN": gateway.token()}
    process = await asyncio.create_subprocess_exec("node", program, stdout=PIPE, env=environment)
    async with asyncio.timeout(30):
        printed, _ = await process.communicate()
    assert process.returncode == 0
    assert "General greeting." in printed.decode()
    assert "samples at 24000 Hz" in printed.decode()


@pytest.mark.browser
async def test_its_page_talks(project: Path, open_page: OpenPage, speech: Path) -> None:
    """As the README says: built by Vite, opened with a token, pressed and spoken to."""
    (project / "src").mkdir()
    (project / "main.ts").rename(project / "src/main.ts")
    (project / "index.html").write_text(
        '<!doctype html><link rel="icon" href="data:,"><title>Talking</title>'
        '<body><script type="module" src="/src/main.ts"></script></body>'
    )
    run(project, "node", "node_modules/vite/bin/vite.js", "build", "--logLevel", "warn")
    assert not list((project / "dist/assets").glob("*external*")), "what is for Node only is in the page"
    handler: Callable[..., SimpleHTTPRequestHandler] = partial(Quiet, directory=str(project / "dist"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}/"
            async with running_gateway(origins=frozenset({url.rstrip("/")})) as gateway:
                page = await open_page(microphone=speech, url=f"{url}#token={gateway.token(ttl_s=300)}")
                # In development Vite's proxy has page and gateway at one origin; here the address is turned.
                await page.evaluate(
                    """(url) => {
                      const Inner = WebSocket;
                      window.WebSocket = class extends Inner {
                        constructor(_, protocols) { super(url, protocols); }
                      };
                    }""",
                    gateway.url,
                )
                await page.get_by_role("button", name="Talk").click()
                await expect(page.get_by_role("button", name="Stop")).to_be_visible()
                async with asyncio.timeout(20):
                    while not gateway.upstream.conversations or not gateway.upstream.conversations[0].heard:
                        await asyncio.sleep(0.05)
                await page.get_by_role("button", name="Stop").click()
                await expect(page.get_by_role("button")).to_have_count(0)
        finally:
            server.shutdown()
            thread.join()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the library's name)
        """Say nothing."""


def test_its_size() -> None:
    built()
    sizes = json.loads(run(PACKAGE, "node", "size.mjs"))
    assert sizes["at once"] <= MOST_BYTES
    said = re.search(r"loads ([\d.]+) KB", README.read_text())
    assert said
    assert float(said[1]) == pytest.approx(sizes["at once"] / 1000, abs=0.06)
