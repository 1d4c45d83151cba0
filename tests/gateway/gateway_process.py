"""A gateway in a process of its own, so that what it holds can be told from what a test holds.

    python gateway_process.py HOST:PORT

prints its port; for each line on standard input it tells what it holds, as JSON; it stops at the end of
the input. Tokens are signed with `SECRET`.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import json
import sys

import psutil

from antiphon import event_loop
from antiphon.admission import Admission
from antiphon.auth import AuthConfig, TokenVerifier
from antiphon.clock import epoch_clock
from antiphon.gemini.client import Gemini, Upstream
from antiphon.gemini.upstream import ClientName
from antiphon.host import Host, Shared
from antiphon.live import Setup
from antiphon.plain import About
from antiphon.server import Server
from antiphon.session import Limits
from antiphon.tools import commands
from antiphon.tools.toolbox import Toolbox

SECRET = "a secret of these test processes, long enough for HS256"


async def main(target: str, client: ClientName) -> None:
    clock = epoch_clock()
    verifier = TokenVerifier(AuthConfig(secret=SECRET))
    admission = Admission(1000, 1000)
    gemini = Gemini(Upstream(target, tls=False, client=client))

    setup = Setup("en-US", "", commands.load())
    limits = Limits(audio_speed=float("inf"))
    host = Host(Shared(setup, limits, {}, verifier.verify, admission, gemini.connect, Toolbox({}), clock))
    server = Server(
        host.bridge, ready=lambda: gemini.ready, about=About("a fake"), end_sessions=host.sessions.abandon
    )
    async with asyncio.TaskGroup() as tasks:
        watch = tasks.create_task(gemini.watch())
        print(await server.start("127.0.0.1", 0), flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(held(server, admission, gemini)), flush=True)
        await server.stop()
        watch.cancel()
    await gemini.aclose()


def held(server: Server, admission: Admission, gemini: Gemini) -> dict[str, int]:
    """Return what this process holds, once garbage is collected and free memory given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    process = psutil.Process()
    return {
        "rss_bytes": process.memory_info().rss,
        "cpu_ms": round(sum(process.cpu_times()[:2]) * 1000),
        "files": process.num_fds(),
        "tasks": len(asyncio.all_tasks()),
        "sockets": server.connections,
        "sessions": admission.sessions,
        "upstream_connections": gemini.connections,
    }


if __name__ == "__main__":
    event_loop.run(main(sys.argv[1], "grpcio" if sys.argv[2:] == ["grpcio"] else "native"))
