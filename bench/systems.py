"""What is measured: each a process (or several) between the load and the upstreams, on a core of its own."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

import psutil
from msgspec import Struct

from antiphon.auth import mint

HERE: Final = Path(__file__).parent
START_S: Final = 60.0

MANY: Final = "1000000"


class Cores(Struct, frozen=True):
    """Which processors whom: the last one is for what is measured, the others for load and upstreams."""

    ours: frozenset[int]
    theirs: frozenset[int]

    @classmethod
    def of_this_machine(cls) -> Cores:
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) == 1:
            return cls(frozenset(cores), frozenset(cores))
        return cls(frozenset(cores[:-1]), frozenset(cores[-1:]))


class Running(Struct, frozen=True):
    """A system that runs: where it is reached, with which token, and its processes."""

    url: str
    token: str
    process: psutil.Process

    def tree(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def cpu_s(self) -> float:
        """Return what all its processes have used."""
        times = [process.cpu_times() for process in self.tree()]
        return sum(each.user + each.system for each in times)

    def memory_bytes(self) -> int:
        """Return what all its processes hold, what they share with others by halves (PSS)."""
        return sum(process.memory_full_info().pss for process in self.tree())


class Ports(Struct, frozen=True):
    """Where the upstreams are."""

    grpc: int
    websocket: int


class LeftOut(Exception):  # noqa: N818 (reads as what happens)
    """Why a system cannot be measured here; a sentence."""


class Options(Struct, frozen=True):
    """How systems are run."""

    cores: Cores
    ports: Ports
    baseline_python: str = sys.executable
    certificate: Path | None = None
    """A PEM file of certificate and key: Antiphon serves TLS."""


@asynccontextmanager
async def process(
    command: Sequence[str | Path], cores: frozenset[int], environ: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a process on these processors, its output piped; it is ended at the end."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)  # which a process has from whoever starts it, all its threads too
    try:
        running = await asyncio.create_subprocess_exec(
            *map(str, command), stdin=PIPE, stdout=PIPE, env=environ if environ is None else dict(environ)
        )
    finally:
        os.sched_setaffinity(0, own)
    try:
        yield running
    finally:
        if running.returncode is None:
            running.terminate()
            try:
                async with asyncio.timeout(10):
                    await running.wait()
            except TimeoutError:
                running.kill()
                await running.wait()


async def line_of(running: asyncio.subprocess.Process, pattern: str, what: str) -> re.Match[str]:
    """Return the first line of its output that matches.

    Raises:
        LeftOut: it ended before, or took too long.
    """
    assert running.stdout
    try:
        async with asyncio.timeout(START_S):
            while line := (await running.stdout.readline()).decode():
                if found := re.search(pattern, line):
                    return found
    except TimeoutError:
        raise LeftOut(f"{what} did not start within {START_S:g} seconds.") from None
    raise LeftOut(f"{what} ended before it was ready.")


@asynccontextmanager
async def upstreams(cores: Cores, answer: str, chunk_bytes: int) -> AsyncIterator[Ports]:
    """Run the upstreams of `bench.upstreams`."""
    command = [sys.executable, "-m", "bench.upstreams", "--answer", answer, "--chunk-bytes", str(chunk_bytes)]
    async with process(command, cores.ours, _with_path()) as running:
        found = await line_of(running, r"(\d+) (\d+)", "The upstream")
        yield Ports(int(found[1]), int(found[2]))


@asynccontextmanager
async def antiphon(options: Options) -> AsyncIterator[Running]:
    """Run `antiphon serve`, as it is shipped; settings of the environment hold."""
    secret = secrets.token_urlsafe(32)
    environ = {
        "ANTIPHON_MAX_SESSIONS": MANY,
        "ANTIPHON_MAX_CONNECTIONS_PER_USER": MANY,
        "ANTIPHON_LOG_LEVEL": "warning",
        **_with_path(),
        "ANTIPHON_JWT_SECRET": secret,
        "ANTIPHON_UPSTREAM": f"grpc://127.0.0.1:{options.ports.grpc}",
        "ANTIPHON_PORT": "0",
    }
    if options.certificate:
        environ |= {
            "ANTIPHON_TLS_CERT": str(options.certificate),
            "ANTIPHON_TLS_KEY": str(options.certificate),
        }
    command = [sys.executable, "-m", "antiphon", "serve"]
    async with process(command, options.cores.theirs, environ) as running:
        found = await line_of(running, r"(https?)://([\w.\[\]:]*:\d+)", "antiphon serve")
        await line_of(running, "Ready", "antiphon serve")
        scheme = "wss" if found[1] == "https" else "ws"
        token = mint(secret, "bench", 24 * 3600, time.time())
        yield Running(f"{scheme}://{found[2]}/ws", token, psutil.Process(running.pid))


@asynccontextmanager
async def fastapi(options: Options) -> AsyncIterator[Running]:
    """Run the bridge of FastAPI and grpc.aio."""
    await _needs(options.baseline_python, "fastapi", "uvicorn", "uvloop", "httptools", "websockets", "grpc")
    command = [
        options.baseline_python,
        HERE / "baselines" / "fastapi_bridge.py",
        f"127.0.0.1:{options.ports.grpc}",
    ]
    async with _bridge(command, options, "The FastAPI bridge") as running:
        yield running


@asynccontextmanager
async def _bridge(command: Sequence[str | Path], options: Options, what: str) -> AsyncIterator[Running]:
    async with process(command, options.cores.theirs) as running:
        found = await line_of(running, r"^(\d+)$", what)
        url = f"ws://127.0.0.1:{found[1]}/ws"
        await _until_listening(int(found[1]), what)
        yield Running(url, "none", psutil.Process(running.pid))


async def _until_listening(port: int, what: str) -> None:
    try:
        async with asyncio.timeout(START_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.1)
                else:
                    writer.close()
                    return
    except TimeoutError:
        raise LeftOut(f"{what} did not listen within {START_S:g} seconds.") from None


async def _needs(python: str, *modules: str) -> None:
    code = f"import {', '.join(modules)}"
    running = await asyncio.create_subprocess_exec(python, "-c", code, stdout=DEVNULL, stderr=DEVNULL)
    if await running.wait():
        raise LeftOut(
            f"{python} lacks one of {', '.join(modules)}: pip install --group bench, "
            "or name another Python in BENCH_PYTHON."
        )


def _with_path() -> dict[str, str]:
    """The environment, with which processes of ours find the modules that this one has found."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


SYSTEMS: Final = {"antiphon": antiphon, "fastapi": fastapi}


def start(name: str, options: Options) -> AbstractAsyncContextManager[Running]:
    """Run a system by its name."""
    return SYSTEMS[name](options)
