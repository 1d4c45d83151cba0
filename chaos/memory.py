"""Clients that stop reading, and what they cost the node in memory."""

from __future__ import annotations

import asyncio
import json
import random
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from chaos.control import Helper
from chaos.plan import Plan
from chaos.verdict import Row
from chaos.world import Node, World

CLIENTS: Final = 200
RAMP_S: Final = 4.0
WARM_S: Final = 120.0
"""By then everything is full that can be."""
STAYS_S: Final = 17.0
"""A client that was closed for not reading comes back about then, resumes, and does not read again."""
GROWTH: Final = 0.10


class Deaf:
    """A client that asks for long answers, reads a little, and then nothing."""

    def __init__(self, number: int, url: str, world: World, *, goes_on: bool) -> None:
        self.resumed = self.began = 0
        self._number = number
        self._url = url
        self._world = world
        self._session = self._token = ""
        self._received = 0
        self._goes_on = goes_on
        """Whether it asks for more each time it comes back, until the node takes no more of the model."""

    async def run(self) -> None:
        while True:
            with suppress(OSError, TimeoutError, ConnectionClosed, InvalidHandshake):
                async with connect(
                    self._url,
                    subprotocols=[Subprotocol("antiphon.v1")],
                    compression=None,
                    proxy=None,
                    max_queue=1,
                    ping_interval=None,
                    close_timeout=0.1,
                ) as socket:
                    await self._enter(socket)
                    await asyncio.sleep(STAYS_S * random.uniform(0.8, 1.2))  # noqa: S311 (chance)
                    socket.transport.abort()
            await asyncio.sleep(0.2)

    async def _enter(self, socket: ClientConnection) -> None:
        token = self._world.token(f"deaf{self._number}")
        if self._session:
            fields = {"sessionId": self._session, "resumeToken": self._token, "received": self._received}
            await _send(socket, "resume", token=token, **fields)
            message = json.loads(await socket.recv())
            if message["type"] == "resumed":
                self._token = message["resumeToken"]
                self.resumed += 1
                if self._goes_on:
                    await _send(socket, "command", command="on")
                return
            self._session, self._received = "", 0
        await _send(socket, "auth", token=token)
        while (message := json.loads(await socket.recv()))["type"] != "session_info":
            self._received += 1
            self._session = message["sessionId"]
        self._received += 1
        self._token = message["resumeToken"]
        self.began += 1
        await _send(socket, "client_hello", playbackBufferMs=30_000)
        await _send(socket, "command", command="talk")


async def memory(world: World, plan: Plan, more: dict[str, Any]) -> list[Row]:
    """Watch a node of its own under 200 such clients."""
    with tempfile.TemporaryDirectory(prefix="chaos-memory-") as folder:
        model_port, node_port = world.spare_ports
        model = Helper("chaos.upstream", str(model_port), folder, str(plan.seed))
        node = world.node("memory", node_port, model_port)
        node.log = Path(folder, "log")
        await model.start()
        model.order(do="answer", s=min(30.0, plan.memory_s / 2))
        tasks: list[asyncio.Task[None]] = []
        try:
            await node.start()
            clients = [
                Deaf(number, node.url, world, goes_on=plan.memory_s > WARM_S) for number in range(CLIENTS)
            ]
            for client in clients:
                tasks.append(asyncio.create_task(client.run()))
                await asyncio.sleep(RAMP_S / CLIENTS)
            await _full(node, min(WARM_S, plan.memory_s))
            sizes = []
            until_s = time.monotonic() + plan.memory_s
            while time.monotonic() < until_s:
                sizes.append(node.memory_bytes)
                await asyncio.sleep(1)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await node.kill()
            await model.kill()
    more["memory"] = sizes
    part = max(1, len(sizes) // 4)
    first, last = max(sizes[:part]), max(sizes[-part:])
    growth = last / first - 1
    return [
        Row(
            f"memory with {CLIENTS} clients that stop reading, {plan.memory_s:.0f} s",
            "flat within 10%",
            f"{growth:+.1%}: {first / 2**20:.0f} MiB in the first quarter, {last / 2**20:.0f} in the last; "
            f"{sum(c.began for c in clients)} sessions, {sum(c.resumed for c in clients)} resumes",
            abs(growth) <= GROWTH or last < first,
        )
    ]


async def _full(node: Node, within_s: float) -> None:
    """Wait until the node grows no more for a while, or the time is over."""
    give_up_at = time.monotonic() + within_s
    before = 0
    while node.memory_bytes > before * (1 + GROWTH / 10) and time.monotonic() < give_up_at:
        before = node.memory_bytes
        await asyncio.sleep(8)


async def _send(socket: ClientConnection, kind: str, **fields: Any) -> None:
    await socket.send(json.dumps({"type": kind, "timestamp": int(time.time() * 1000), **fields}))
