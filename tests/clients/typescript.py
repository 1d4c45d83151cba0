"""The TypeScript client in Node, driven from a test."""

from __future__ import annotations

import asyncio
import base64
import json
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from clients.audio_dist import built

_DRIVER: Final = Path(__file__).parent / "driver.mjs"
_LIMIT: Final = 16 * 1024 * 1024
"""Of a line, in bytes: an event may carry audio."""


class Closed(Exception):  # noqa: N818 (reads as what happened)
    """What a method of the call rejected with."""

    def __init__(self, error: dict[str, Any]) -> None:
        self.error = error
        super().__init__(error.get("message"))


class TypeScriptCall:
    """A `Call` of the TypeScript client, its methods by their names, and its events so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.events: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self._process = process
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._changed = asyncio.Condition()
        self._taken = 0

    async def do(self, name: str, *args: Any) -> Any:
        """Call a method and return its result.

        Raises:
            Closed: it rejected.
        """
        return await self.begin(name, *args)

    def begin(self, name: str, *args: Any) -> asyncio.Future[Any]:
        number = len(self._answers)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"id": number, "name": name, "args": args}).encode() + b"\n")
        return answer

    async def send_audio(self, pcm: bytes, rate_hz: int = 16_000) -> None:
        await self.do("sendAudio", base64.b64encode(pcm).decode(), rate_hz)

    async def until(self, kind: str, timeout_s: float = 20, **fields: Any) -> dict[str, Any]:
        """Return the next event of that kind with those fields, skipping others."""

        def fits(event: dict[str, Any]) -> bool:
            return event["type"] == kind and all(event.get(name) == value for name, value in fields.items())

        async with self._changed:
            try:
                async with asyncio.timeout(timeout_s):
                    while True:
                        for place in range(self._taken, len(self.events)):
                            if fits(self.events[place]):
                                self._taken = place + 1
                                return self.events[place]
                        await self._changed.wait()
            except TimeoutError:
                shown = [{**event, "pcm": "..."} if "pcm" in event else event for event in self.events[-30:]]
                raise AssertionError(f"No {kind} with {fields} came; the last events: {shown}") from None

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]

    @property
    def audio(self) -> bytes:
        """All that came of answers."""
        return b"".join(base64.b64decode(event["pcm"]) for event in self.of("audio"))

    async def read(self) -> None:
        assert self._process.stdout
        while line := await self._process.stdout.readline():
            told = json.loads(line)
            if "event" in told:
                self.events.append(told["event"])
            elif "asked" in told:
                self.asked.append(told["asked"])
            elif "error" in told:
                self._answers[told["id"]].set_exception(Closed(told["error"]))
            else:
                self._answers[told["id"]].set_result(told["result"])
            async with self._changed:
                self._changed.notify_all()


@asynccontextmanager
async def typescript_call(url: str, token: str = "", **options: Any) -> AsyncIterator[TypeScriptCall]:
    """Make a call in a Node of its own; `tokens` are given one after the other in place of `token`."""
    entry = built() / "index.js"
    settings = {"url": url, "token": token, **options}
    command = ("node", str(_DRIVER), entry.as_uri(), json.dumps(settings))
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=_LIMIT)
    call = TypeScriptCall(process)
    reading = asyncio.create_task(call.read())
    try:
        yield call
    finally:
        assert process.stdin
        process.stdin.close()
        async with asyncio.timeout(10):
            status = await process.wait()
        await reading
        for answer in call._answers.values():
            if answer.done():
                answer.exception()  # it was looked at, or is of no interest
    assert status == 0
