"""A process of the suite that is told what to do: one JSON object a line on its standard input."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from typing import Any


async def orders() -> AsyncIterator[dict[str, Any]]:
    """Yield what the other side asks for, until it is gone."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield json.loads(line)


def say(**fields: Any) -> None:
    """Tell the other side something."""
    print(json.dumps(fields), flush=True)


class Helper:
    """Such a process, seen from outside; it ends when its standard input does."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self.process: Process | None = None

    async def start(self) -> dict[str, Any]:
        """Start it, and return what it says first."""
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *self._arguments, stdin=PIPE, stdout=PIPE
        )
        assert self.process.stdout
        async with asyncio.timeout(30):
            line = await self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._arguments[0]} did not start")
        said: dict[str, Any] = json.loads(line)
        return said

    def order(self, **fields: Any) -> None:
        """Tell it to do something; one that is not there does nothing."""
        if self.process and self.process.stdin and self.process.returncode is None:
            self.process.stdin.write(json.dumps(fields).encode() + b"\n")

    async def ask(self, **fields: Any) -> dict[str, Any]:
        """Tell it to do something, and return what it says to it."""
        self.order(**fields)
        assert self.process
        assert self.process.stdout
        async with asyncio.timeout(10):
            said: dict[str, Any] = json.loads(await self.process.stdout.readline())
        return said

    def signal(self, number: int) -> None:
        if self.process and self.process.returncode is None:
            self.process.send_signal(number)

    async def kill(self) -> None:
        """End it at once."""
        if self.process and self.process.returncode is None:
            self.process.kill()
        if self.process:
            await self.process.wait()


async def until(met: Callable[[], bool], within_s: float = 10.0, every_s: float = 0.02) -> bool:
    """Wait for something that is watched from outside; return whether it came in time."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + within_s
    while not met():
        if loop.time() > give_up_at:
            return False
        await asyncio.sleep(every_s)
    return True
