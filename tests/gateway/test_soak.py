"""Sessions that come and go by the thousand leave nothing behind in the gateway's process."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from antiphon.auth import mint
from fake_gemini import Conversation, FakeGemini, fake_gemini
from gateway.gateway_process import SECRET
from gateway.raw_socket import CLOSE, TEXT, RawSocket, frame, raw_socket
from gateway.talker import chunk, message
from grpc_client import CLIENT

WARM_UP = 500
SESSIONS = 2000
AT_ONCE = 20
MAX_GROWTH_BYTES = 5 * 1024 * 1024
START = {"sampleRate": 16000, "format": "LINEAR16", "language": "en-US"}


class GatewayProcess:
    """A running `gateway_process.py`."""

    def __init__(self, process: Process, port: int) -> None:
        self.port = port
        self._process = process

    async def held(self, tasks: int = 2**31) -> dict[str, int]:
        """Return what it holds when everyone has left; no more than so many tasks, if it is given time."""
        for _ in range(200):
            found = await self._ask()
            if not found["sockets"] and found["upstream_connections"] <= 1 and found["tasks"] <= tasks:
                break
            await asyncio.sleep(0.1)
        assert not found["sockets"]
        assert found["upstream_connections"] <= 1
        return found

    async def _ask(self) -> dict[str, int]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(b"?\n")
        found: dict[str, int] = json.loads(await self._process.stdout.readline())
        return found


@asynccontextmanager
async def gateway_process(upstream: FakeGemini) -> AsyncIterator[GatewayProcess]:
    """Run a gateway in a process of its own; it must end well and say nothing."""
    script = Path(__file__).with_name("gateway_process.py")
    options = ("-W", "default")
    process = await asyncio.create_subprocess_exec(
        sys.executable, *options, script, upstream.target, CLIENT, stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    try:
        assert process.stdout
        port = int(await process.stdout.readline())
        yield GatewayProcess(process, port)
        async with asyncio.timeout(20):
            _, said = await process.communicate(b"")
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
    assert process.returncode == 0
    assert not [line for line in said.decode().splitlines() if "chttp2_transport" not in line]


async def brief(conversation: Conversation) -> None:
    await conversation.begin()
    await conversation.until_audio_end()
    await conversation.hear("hello")
    await conversation.say("Hello.", bytes(4800))
    await conversation.end_turn()
    await conversation.until_gone()


def closes(raw: RawSocket) -> None:
    raw.send(frame(CLOSE))


LEAVING = (closes, RawSocket.half_close, RawSocket.reset)


async def session(port: int, number: int) -> None:
    """Connect, authenticate, speak 200 ms, hear an answer begin, and leave in one of three ways."""
    pcm = bytes([number % 256]) * 3200
    async with raw_socket(port) as raw:
        await raw.upgrade()
        token = mint(SECRET, f"user {number % 50}", 60, time.time())
        raw.send(frame(TEXT, message("auth", token=token).encode()))
        assert (await raw.message())["type"] == "auth_success"
        said = [
            message("audio_stream_start", config=START),
            chunk(0, pcm),
            chunk(1, pcm),
            message("audio_stream_end", duration=200),
        ]
        raw.send(b"".join(frame(TEXT, text.encode()) for text in said))
        while (await raw.message())["type"] != "audio_response":
            pass
        LEAVING[number % 3](raw)


async def sessions(port: int, count: int) -> None:
    waiting = iter(range(count))

    async def worker() -> None:
        for number in waiting:
            await session(port, number)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(AT_ONCE):
            tasks.create_task(worker())


@pytest.mark.slow
async def test_thousands_of_sessions_leave_nothing() -> None:
    async with fake_gemini(brief) as upstream, gateway_process(upstream) as gateway:
        await sessions(gateway.port, WARM_UP)
        await upstream.idle()
        before = await gateway.held()
        await sessions(gateway.port, SESSIONS)
        await upstream.idle()
        after = await gateway.held(before["tasks"])
        assert len(upstream.conversations) == WARM_UP + SESSIONS
    assert after["tasks"] <= before["tasks"]  # a question to the model may have been under way
    assert after["files"] == before["files"]
    assert after["sessions"] == before["sessions"] == 0
    growth = after["rss_bytes"] - before["rss_bytes"]
    print(f"{SESSIONS} sessions: {growth / 1024:+.0f} KiB, {after['cpu_ms'] - before['cpu_ms']} ms of CPU")
    assert growth < MAX_GROWTH_BYTES
