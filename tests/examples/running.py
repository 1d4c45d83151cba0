"""The examples as their users run them: each a process of its own."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

EXAMPLES = Path(__file__).parents[2] / "examples"
NOWHERE = "ws://127.0.0.1:1/ws"


class Run(NamedTuple):
    """What became of a process."""

    status: int
    out: str
    err: str


class Runner:
    """Runs examples against one gateway."""

    def __init__(self, url: str, token: str) -> None:
        self._environ = {**os.environ, "ANTIPHON_URL": url, "ANTIPHON_TOKEN": token}
        self._environ.pop("GEMINI_API_KEY", None)

    async def __call__(self, name: str, *arguments: str | Path, **variables: str) -> Run:
        """Run an example to its end."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, EXAMPLES / name, *arguments),
            env={**self._environ, **variables},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(60):
                out, err = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return Run(process.returncode, out.decode(), err.decode())


@asynccontextmanager
async def http_tool(secret: str) -> AsyncIterator[tuple[str, list[str]]]:
    """Run http_tool.py on a free port; yield its URL, and a list that has its further lines in the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, EXAMPLES / "http_tool.py", "--port", "0"),
        env={**os.environ, "ANTIPHON_TOOL_SECRET": secret},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout
        async with asyncio.timeout(30):
            found = re.search(r"http://\S+", (await process.stdout.readline()).decode())
        assert found
        printed: list[str] = []
        yield found[0], printed
    finally:
        process.terminate()
        await process.wait()
    printed += (await process.stdout.read()).decode().splitlines()


def commands_file(folder: Path, url: str) -> Path:
    """Return the examples' file of commands, its HTTP endpoint being at `url`."""
    path = folder / "commands.toml"
    source = (EXAMPLES / "commands.toml").read_text()
    assert "http://127.0.0.1:8090/order" in source
    path.write_text(source.replace("http://127.0.0.1:8090/order", url))
    return path
