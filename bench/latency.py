"""What the gateway adds to a message's way there and back, before a model that answers at once.

    python -m bench.latency [--sessions N] [--seconds S]

An echoing upstream answers every piece of audio with a transcription that carries its number. Sessions send
100 ms of audio ten times a second, by turns straight to that upstream and through `antiphon serve`, which has
a process of its own; the load and the upstream share another. What is added is the difference.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import psutil

from antiphon import event_loop
from antiphon.auth import mint
from antiphon.client import connect
from antiphon.gemini.client import Gemini, Upstream
from antiphon.gemini.codec import ServerMessage
from antiphon.live import Audio, Heard, Setup
from antiphon.messages import RecognitionResult
from antiphon.transcription import Hypothesis, encode
from bench import machine
from bench.upstream import serving

CHUNK_S: Final = 0.1
PCM: Final = bytes(3200)
TURN_S: Final = 5.0
WARM_UP: Final = 10
"""Chunks of each session that are not counted."""

Session = Callable[[float], Awaitable[list[float]]]
"""Speaks from a moment of the loop's clock on; returns the seconds until each chunk was answered."""


async def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20.0)
    args = parser.parse_args()
    turns = max(1, round(args.seconds / TURN_S))
    chunks = WARM_UP + round(TURN_S / CHUNK_S)
    direct: list[float] = []
    through: list[float] = []

    async with echo_server() as target, gateway(target) as (url, token, process):
        gemini = Gemini(Upstream(target, tls=False))
        cpu_s = -busy_s(process)
        for _ in range(turns):
            direct += await measured(args.sessions, lambda begin: speak_directly(gemini, begin, chunks))
            through += await measured(args.sessions, lambda begin: speak(url, token, begin, chunks))
        cpu_s += busy_s(process)
        await gemini.aclose()

    cpu = cpu_s / (turns * chunks * CHUNK_S)
    print(f"{machine.describe()}; load when done {os.getloadavg()[0]:.1f}\n")
    print(f"{args.sessions} sessions, {len(through)} chunks; the gateway used {cpu:.0%} of a core\n")
    print("| ms | p50 | p95 | p99 | max |")
    print("| --- | --- | --- | --- | --- |")
    rows = {"upstream alone": quantiles_ms(direct), "through the gateway": quantiles_ms(through)}
    added = [a - b for a, b in zip(rows["through the gateway"], rows["upstream alone"], strict=True)]
    for name, values in {**rows, "added (at most 10.0 at p99)": added}.items():
        print(f"| {name} | {' | '.join(f'{value:.1f}' for value in values)} |")
    return 0 if added[2] <= 10 else 1


def busy_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def quantiles_ms(waits: Sequence[float]) -> list[float]:
    ordered = sorted(waits)
    return [ordered[round(share * (len(ordered) - 1))] * 1000 for share in (0.5, 0.95, 0.99, 1.0)]


async def measured(sessions: int, session: Session) -> list[float]:
    """Run sessions side by side, their chunks spread evenly over time."""
    begin = asyncio.get_running_loop().time() + 1
    async with asyncio.TaskGroup() as tasks:
        running = [
            tasks.create_task(_collected(session(begin + CHUNK_S * number / sessions)))
            for number in range(sessions)
        ]
    return [wait for task in running for wait in task.result()[WARM_UP:]]


async def _collected(waits: Awaitable[list[float]]) -> list[float]:
    return await waits


async def paced(begin: float, chunks: int, sent_at: list[float]) -> AsyncIterator[None]:
    """Yield when each chunk is due, and note when that was."""
    loop = asyncio.get_running_loop()
    for number in range(chunks):
        await asyncio.sleep(max(0.0, begin + number * CHUNK_S - loop.time()))
        sent_at.append(time.perf_counter())
        yield


async def speak_directly(gemini: Gemini, begin: float, chunks: int) -> list[float]:
    sent_at: list[float] = []
    async with gemini.connect(Setup("en-US")) as stream:

        async def listen() -> list[float]:
            waits: list[float] = []
            async for event in stream:
                if isinstance(event, Heard):
                    waits.append(time.perf_counter() - sent_at[int(event.whole or 0)])
                if len(waits) == chunks:
                    break
            return waits

        listening = asyncio.create_task(listen())
        async for _ in paced(begin, chunks, sent_at):
            await stream.send(Audio(PCM))
        return await listening


async def speak(url: str, token: str, begin: float, chunks: int) -> list[float]:
    sent_at: list[float] = []
    async with connect(url, token) as client:

        async def listen() -> list[float]:
            waits: list[float] = []
            async for message in client:
                if isinstance(message, RecognitionResult):
                    waits.append(time.perf_counter() - sent_at[int(message.transcript)])
                if len(waits) == chunks:
                    break
            return waits

        listening = asyncio.create_task(listen())
        await client.start(rate_hz=16_000)
        async for _ in paced(begin, chunks, sent_at):
            await client.send_audio(PCM)
        return await listening


@asynccontextmanager
async def echo_server() -> AsyncIterator[str]:
    """Answer every piece of audio with its number."""

    async def echo(requests: AsyncIterator[Any], context: Any) -> None:
        number = 0
        async for request in requests:
            answer = ServerMessage()
            if request.HasField("setup"):
                answer.setup_complete.SetInParent()
            elif request.realtime_input.HasField("audio"):
                heard = answer.server_content.input_transcription
                heard.MergeFromString(encode(Hypothesis(str(number), 0.5, final=False)))
                number += 1
            await context.write(answer)

    async with serving(echo) as target:
        yield target


@asynccontextmanager
async def gateway(target: str) -> AsyncIterator[tuple[str, str, psutil.Process]]:
    """Run `antiphon serve` before an upstream; yield its URL, a token for it, and its process."""
    secret = secrets.token_urlsafe(32)
    settings = {
        "ANTIPHON_JWT_SECRET": secret,
        "ANTIPHON_UPSTREAM": f"grpc://{target}",
        "ANTIPHON_PORT": "0",
        "ANTIPHON_MAX_CONNECTIONS_PER_USER": "1000",
        "ANTIPHON_LOG_LEVEL": "warning",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "antiphon", "serve", env={**os.environ, **settings}, stdout=PIPE
    )
    try:
        assert process.stdout
        url = ""
        while line := (await process.stdout.readline()).decode():
            url = next((word for word in line.split() if word.startswith("http")), url)
            if line.startswith("Ready"):
                break
        token = mint(secret, "bench", 3600, time.time())
        yield url.rstrip("/").replace("http", "ws", 1) + "/ws", token, psutil.Process(process.pid)
    finally:
        process.terminate()
        await process.communicate()


if __name__ == "__main__":
    sys.exit(event_loop.run(main()))
