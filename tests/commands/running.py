"""`antiphon serve` as its users run it: a process, started by its command, watched from outside."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psutil

START_TIMEOUT_S = 60
SERVE: Sequence[str | Path] = (sys.executable, "-m", "antiphon", "serve")


class Serving:
    """A running gateway: its process, its port, what it has printed."""

    def __init__(self, process: asyncio.subprocess.Process, environ: dict[str, str]) -> None:
        self.process = process
        self.environ = environ
        self.port = 0
        self.lines: list[str] = []

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def link(self) -> str:
        return next(line.strip() for line in self.lines if "#token=" in line)

    @property
    def token(self) -> str:
        return self.link.partition("#token=")[2]

    def engine(self) -> psutil.Process:
        """The embedded engine's process."""
        (child,) = psutil.Process(self.process.pid).children()
        return child

    async def get(self, path: str) -> tuple[int, str]:
        return await asyncio.to_thread(_get, f"http://127.0.0.1:{self.port}{path}")

    async def until_ready(self, status: int = 200) -> None:
        async with asyncio.timeout(START_TIMEOUT_S):
            while (await self.get("/readyz"))[0] != status:
                await asyncio.sleep(0.05)

    async def until_line(self, pattern: str) -> str:
        assert self.process.stdout
        async with asyncio.timeout(START_TIMEOUT_S):
            while line := (await self.process.stdout.readline()).decode():
                self.lines.append(line)
                if re.search(pattern, line):
                    return line
        raise AssertionError(f"it ended without saying {pattern!r}: {self.lines}")

    async def antiphon(self, *arguments: str) -> tuple[int, str, str]:
        """Run another command beside it."""
        return await antiphon(*arguments, environ=self.environ)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        async with asyncio.timeout(30):
            return await self.process.wait()


async def antiphon(*arguments: str, environ: dict[str, str]) -> tuple[int, str, str]:
    """Run a command to its end; return status, output and errors."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "antiphon", *arguments),
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(120):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def clean_environ(home: Path, **variables: str) -> dict[str, str]:
    """An environment without settings of the machine's own; the models stay where they are."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("ANTIPHON_") or name == "ANTIPHON_MODELS_DIR"
    }
    kept.pop("GEMINI_API_KEY", None)
    return {**kept, "XDG_RUNTIME_DIR": str(home), **variables}


@asynccontextmanager
async def serving(
    home: Path, *arguments: str, command: Sequence[str | Path] = SERVE, **variables: str
) -> AsyncIterator[Serving]:
    """Run `antiphon serve` on a free port until it says that it is ready; kill what is left at the end."""
    environ = clean_environ(home, **variables)
    process = await asyncio.create_subprocess_exec(
        *(*command, "--port", "0", *arguments),
        env=environ,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    running = Serving(process, environ)
    try:
        line = await running.until_line(r"Listening on")
        found = re.search(r":(\d+) ", line)
        assert found
        running.port = int(found[1])
        yield running
    finally:
        if process.returncode is None:
            await running.stop()


def _get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
