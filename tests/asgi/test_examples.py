"""The examples as their users run them, each a process of uvicorn; and what they do when told to stop."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from antiphon.auth import mint
from asgi.mounting import SECRET
from fake_gemini import attentive, fake_gemini
from gateway.extended import extended
from gateway.talker import Talker, connected, talking

EXAMPLES = Path(__file__).parents[2] / "examples"
WAYS = pytest.mark.parametrize(
    ("app", "root"),
    [("antiphon.asgi:app", ""), ("mounted_fastapi:app", "/voice"), ("mounted_starlette:app", "/voice")],
)


class Process:
    """A process of uvicorn."""

    def __init__(self, process: asyncio.subprocess.Process, base: str, root: str) -> None:
        self.process = process
        self.base = base
        self.url = f"ws{base.removeprefix('http')}{root}/ws"

    def token(self, user: str = "alice", ttl_s: float = 60) -> str:
        return mint(SECRET, user, ttl_s, time.time())


@asynccontextmanager
async def uvicorn(app: str, root: str, drain_s: float = 20.0) -> AsyncIterator[Process]:
    async with fake_gemini(attentive) as model:
        environ = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "ANTIPHON_JWT_SECRET": SECRET,
            "ANTIPHON_UPSTREAM": f"grpc://{model.target}",
            "ANTIPHON_DRAIN_S": str(drain_s),
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "uvicorn", "--app-dir", EXAMPLES, "--port", "0", app),
            *("--ws-per-message-deflate", "false", "--ws-max-size", "131072", "--no-use-colors"),
            env=environ,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stderr
            async with asyncio.timeout(30):
                while not (
                    found := re.search(r"running on (\S+)", (await process.stderr.readline()).decode())
                ):
                    assert process.returncode is None
            yield Process(process, found[1], root)
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()


@WAYS
async def test_a_conversation_and_an_orderly_end(app: str, root: str) -> None:
    """At SIGTERM clients are told, have their time, and the process ends when they are gone."""
    async with uvicorn(app, root, drain_s=4.0) as served:
        async with talking(served) as talker:
            await talker.speak(bytes(6400))
            await talker.until("audio_response")
        async with extended(served) as talker, talking(served, "bob") as base:
            served.process.send_signal(signal.SIGTERM)
            away = await talker.receive("go_away")
            assert (away["timeLeftMs"], away["reason"]) == (4000, "drain")
            await talker.send("command", command="still there?")
            await talker.until("response_done")
            async with connected(served) as late:
                await late.closed("SERVER_STOPPING", 1013)
            assert (await talker.until("error"))[-1]["code"] == "SERVER_DRAINING"
            await base.closed("SERVER_DRAINING", 1001)
        async with asyncio.timeout(10):
            # uvicorn ends as by the signal.
            assert await served.process.wait() == -signal.SIGTERM


async def test_a_second_signal_is_uvicorns_at_once() -> None:
    async with uvicorn("antiphon.asgi:app", "", drain_s=60.0) as served, extended(served) as talker:
        served.process.send_signal(signal.SIGTERM)
        await talker.receive("go_away")
        served.process.send_signal(signal.SIGTERM)
        await talker.socket.wait_closed()
        assert talker.socket.close_code == 1012
        async with asyncio.timeout(10):
            assert await served.process.wait() == -signal.SIGTERM


async def test_the_token_of_the_fastapi_example_is_good() -> None:
    async with uvicorn("mounted_fastapi:app", "/voice") as served, httpx.AsyncClient() as client:
        token = (await client.get(f"{served.base}/token/alice")).json()
        async with connected(served) as talker:
            assert isinstance(talker, Talker)
            assert (await talker.auth(token))["userId"] == "alice"


async def test_a_start_that_fails_says_why() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "--port", "0", "antiphon.asgi:app"),
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")},
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        },
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        _, said = await process.communicate()
    assert process.returncode == 3
    assert b"needs a key for tokens: set ANTIPHON_JWT_SECRET" in said
