"""Two nodes, HAProxy before them, a model and a store behind them, and a proxy wherever two of them meet.

    clients -> proxy "clients" -> HAProxy -> node a, b -> proxy "model-a", "model-b" -> the model
                                             node a, b -> proxy "store-a", "store-b" -> Valkey

All of it listens on loopback only, and is ended by its process id, whatever happens.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import socket
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import psutil

from antiphon.auth import mint
from chaos.control import Helper, until
from valkey_server import ValkeyServer

HOST: Final = "127.0.0.1"
PORTS: Final = range(12_000, 20_000)
"""Below those of outgoing connections, one of which could take the port of something that is down."""
NODES: Final = ("a", "b")
HAPROXY_CONFIG: Final = Path(__file__).parents[1] / "deploy" / "haproxy.cfg"
START_S: Final = 20.0


class Node:
    """One `antiphon serve`, which can be ended and started again on its port."""

    def __init__(self, name: str, port: int, settings: dict[str, str], folder: Path) -> None:
        self.name = name
        self.port = port
        self.log = folder / f"node-{name}.log"
        self._settings = settings
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """Where clients reach it that do not go by HAProxy."""
        return f"ws://{HOST}:{self.port}/ws"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def memory_bytes(self) -> int:
        assert self._process
        return int(psutil.Process(self._process.pid).memory_info().rss)

    async def start(self) -> None:
        """Start it, and return when it is ready."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ANTIPHON_")}
        environment.pop("GEMINI_API_KEY", None)
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "antiphon", "serve"),
                env={**environment, **self._settings},
                stdin=DEVNULL,
                stdout=log,
                stderr=STDOUT,
            )
        await self.ready()

    async def ready(self) -> None:
        give_up_at = time.monotonic() + START_S
        while not await self._is_ready():
            if not self.running or time.monotonic() > give_up_at:
                raise RuntimeError(f"Node {self.name} did not start; see {self.log}")
            await asyncio.sleep(0.05)

    async def _is_ready(self) -> bool:
        try:
            async with asyncio.timeout(1):
                reader, writer = await asyncio.open_connection(HOST, self.port)
                writer.write(b"GET /readyz HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")
                status = await reader.readline()
                writer.close()
        except (OSError, TimeoutError):
            return False
        return b" 200 " in status

    def signal(self, number: signal.Signals) -> None:
        if self._process and self.running:
            self._process.send_signal(number)

    async def kill(self) -> None:
        """End it at once."""
        self.signal(signal.SIGKILL)
        await self.ended()

    async def ended(self) -> None:
        if self._process:
            await self._process.wait()


class World:
    """All of it, running."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.heard = folder / "heard"
        self.heard.mkdir()
        self.nodes: dict[str, Node] = {}
        self.store = ValkeyServer()
        self.ports = _free_ports(11)
        model, edge, front, *rest = self.ports
        node_ports, model_ports, store_ports, self.spare_ports = rest[:2], rest[2:4], rest[4:6], rest[6:8]
        self.model_port = model
        self.upstream = Helper("chaos.upstream", str(model), str(self.heard), str(seed))
        self.url = f"ws://{HOST}:{edge}/ws"
        self.direct_url = f"ws://{HOST}:{front}/ws"
        """HAProxy without the faulty network before it."""
        self.secret = secrets.token_urlsafe(32)
        self._front_port = front
        self._haproxy: Process | None = None
        self._proxy_arguments = [f"clients={edge}:{front}"]
        for name, port, to_model, to_store in zip(NODES, node_ports, model_ports, store_ports, strict=True):
            self._proxy_arguments += [
                f"model-{name}={to_model}:{model}",
                f"store-{name}={to_store}:{self.store.port}",
            ]
            self.nodes[name] = self.node(name, port, to_model, f"valkey://{HOST}:{to_store}")
        self.proxies = Helper("chaos.proxy", *self._proxy_arguments)

    def node(self, name: str, port: int, model_port: int, store_url: str = "") -> Node:
        """Return a node that is to be started."""
        settings = {
            "ANTIPHON_JWT_SECRET": self.secret,
            "ANTIPHON_UPSTREAM": f"grpc://{HOST}:{model_port}",
            "ANTIPHON_UPSTREAM_TRANSPORT": "grpc",
            "ANTIPHON_HOST": HOST,
            "ANTIPHON_PORT": str(port),
            "ANTIPHON_INSTRUCTION": name,  # by which the model knows whom it hears
            "ANTIPHON_MAX_CONNECTIONS_PER_USER": "1000",
            "ANTIPHON_DRAIN_S": "4",
            "ANTIPHON_MUTE_TIMEOUT_S": "4",
            "ANTIPHON_CONNECTION_AGE_S": "60",
        }
        if store_url:
            settings["ANTIPHON_VALKEY_URL"] = store_url
        return Node(name, port, settings, self.folder)

    def token(self, user: str) -> str:
        return mint(self.secret, user, 7200, time.time())

    async def start_upstream(self) -> None:
        await self.upstream.start()

    async def start_haproxy(self) -> None:
        """Start it with the configuration that is deployed."""
        a, b = (f"{HOST}:{node.port}" for node in self.nodes.values())
        addresses = {
            "ANTIPHON_BIND": f"{HOST}:{self._front_port}",
            "ANTIPHON_NODE_A": a,
            "ANTIPHON_NODE_B": b,
        }
        with (self.folder / "haproxy.log").open("ab") as log:
            self._haproxy = await asyncio.create_subprocess_exec(
                *("haproxy", "-db", "-f", str(HAPROXY_CONFIG)),
                env={**os.environ, **addresses},
                stdin=DEVNULL,
                stdout=log,
                stderr=STDOUT,
            )
        if not await until(lambda: _listens(self._front_port), START_S):
            raise RuntimeError(f"HAProxy did not start; see {self.folder / 'haproxy.log'}")

    async def stop(self) -> None:
        """End everything."""
        for node in self.nodes.values():
            await node.kill()
        if self._haproxy and self._haproxy.returncode is None:
            self._haproxy.kill()
            await self._haproxy.wait()
        await self.upstream.kill()
        await self.proxies.kill()
        self.store.close()


@asynccontextmanager
async def running_world(seed: int, keep: Path | None = None) -> AsyncIterator[World]:
    """Start all of it; what was heard and logged is kept in the folder `keep`, if one is named."""
    async with AsyncExitStack() as stack:
        folder = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-")))
        world = World(folder, seed)
        stack.push_async_callback(world.stop)
        world.store.start()
        await world.proxies.start()
        await world.start_upstream()
        async with asyncio.TaskGroup() as tasks:
            for node in world.nodes.values():
                tasks.create_task(node.start())
        await world.start_haproxy()
        await asyncio.sleep(0.7)  # until both nodes were asked twice
        yield world


def _free_ports(count: int) -> list[int]:
    found: list[int] = []
    for port in random.sample(PORTS, 400):
        if len(found) == count:
            break
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            found.append(port)
    return found


def _listens(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), timeout=0.2):
            return True
    except OSError:
        return False
