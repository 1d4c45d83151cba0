"""TCP proxies that can be told to spoil what goes through them, in a process of their own.

    python -m chaos.proxy NAME=LISTEN:TARGET...

What is lost on the way is lost as on a real network: a connection stalls, in one direction or both, and then
goes on, is closed in the middle of a message, or is reset. Nothing in between is ever left out.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import sys
from typing import Any, Final

from chaos import control

HOST: Final = "127.0.0.1"
READ_BYTES: Final = 64 * 1024
QUEUED: Final = 16
"""Pieces that were read and not yet written; beyond it nothing is read, which the sender notices."""

Direction = str
DIRECTIONS: Final = ("up", "down")


class Weather:
    """How a proxy, or one connection of it, is at the moment."""

    def __init__(self, order: dict[str, Any] | None = None) -> None:
        order = order or {}
        self.latency_s: float = order.get("latency_s", 0.0)
        self.jitter_s: float = order.get("jitter_s", 0.0)
        self.bytes_a_second: float = order.get("bytes_a_second", 0.0)


class Pipe:
    """One direction of a connection."""

    def __init__(self, link: Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.left: int | None = None
        self._link = link
        self._reader = reader
        self._writer = writer
        self._queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(QUEUED)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read())
            tasks.create_task(self._write())

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            data = await self._reader.read(READ_BYTES)
            weather = self._link.weather
            delay_s = weather.latency_s + random.uniform(0, weather.jitter_s)  # noqa: S311 (no secret)
            await self._queue.put((loop.time() + delay_s, data))
            if not data:
                return

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_at, data = await self._queue.get()
            await asyncio.sleep(due_at - loop.time())
            await self.open.wait()
            if not data:
                self._writer.write_eof()
                return
            if self.left is not None:
                data = data[: self.left]
                self.left -= len(data)
            speed = self._link.weather.bytes_a_second
            self._writer.write(data)
            await self._writer.drain()
            if self.left == 0:
                self._link.cut()
            if speed:
                await asyncio.sleep(len(data) / speed)


class Link:
    """One connection through a proxy."""

    def __init__(self, weather: Weather) -> None:
        self.weather = weather
        self.pipes: dict[Direction, Pipe] = {}
        self._writers: list[asyncio.StreamWriter] = []
        self._task = asyncio.current_task()

    async def run(
        self, client: tuple[asyncio.StreamReader, asyncio.StreamWriter], target: tuple[str, int]
    ) -> None:
        self._writers = [client[1]]
        try:
            server = await asyncio.open_connection(*target)
            self._writers.append(server[1])
            for reader, writer, name in ((client[0], server[1], "up"), (server[0], client[1], "down")):
                writer.transport.set_write_buffer_limits(READ_BYTES)
                self.pipes[name] = Pipe(self, reader, writer)
            async with asyncio.TaskGroup() as tasks:
                for pipe in self.pipes.values():
                    tasks.create_task(pipe.run())
        except* OSError:
            self.reset()  # one side has done so
        finally:
            for writer in self._writers:
                writer.close()

    def stall(self, directions: tuple[Direction, ...] = DIRECTIONS) -> None:
        """Let nothing through; the connection stays open."""
        for name in directions:
            if name in self.pipes:
                self.pipes[name].open.clear()

    def heal(self) -> None:
        for pipe in self.pipes.values():
            pipe.open.set()

    def cut_after(self, size: int, directions: tuple[Direction, ...] = DIRECTIONS) -> None:
        """Close the connection when so much more has passed."""
        for name in directions:
            if name in self.pipes:
                self.pipes[name].left = size

    def cut(self) -> None:
        """Close the connection to both sides."""
        if self._task:
            self._task.cancel()

    def reset(self) -> None:
        """End the connection by a reset to both sides."""
        for writer in self._writers:
            raw = writer.get_extra_info("socket")
            if raw is not None and not writer.transport.is_closing():
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        self.cut()


class Proxy:
    """Listens, and passes on."""

    def __init__(self, target: tuple[str, int]) -> None:
        self.weather = Weather()
        self.links: list[Link] = []
        self.port = 0
        self._target = target
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, port: int = 0) -> int:
        self._server = await asyncio.start_server(self._accept, HOST, port)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self.port

    async def stop(self) -> None:
        if self._server:
            self._server.close()
        for link in list(self.links):
            link.cut()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(self.weather)
        self.links.append(link)
        try:
            await link.run((reader, writer), self._target)
        except asyncio.CancelledError:
            pass  # it was cut
        finally:
            self.links.remove(link)

    def obey(self, order: dict[str, Any]) -> None:
        """Do what the suite asks for, to one connection (`link`, by its place) or to all."""
        chosen = list(self.links)
        if (place := order.get("link")) is not None:
            chosen = [chosen[place % len(chosen)]] if chosen else []
        directions = tuple(order.get("directions", DIRECTIONS))
        match order["do"]:
            case "weather" if "link" in order:
                for link in chosen:
                    link.weather = Weather(order)
            case "weather":
                self.weather = Weather(order)
                for link in chosen:
                    link.weather = self.weather
            case "stall":
                for link in chosen:
                    link.stall(directions)
                if ends := order.get("then"):
                    loop = asyncio.get_running_loop()
                    for link in chosen:
                        loop.call_later(order["for_s"], getattr(link, ends))
            case "heal" | "cut" | "reset" as what:
                for link in chosen:
                    getattr(link, what)()
            case "cut_after":
                for link in chosen:
                    link.cut_after(order["bytes"], directions)


async def main() -> None:
    proxies: dict[str, Proxy] = {}
    for argument in sys.argv[1:]:
        name, _, ports = argument.partition("=")
        listen, _, target = ports.partition(":")
        proxies[name] = Proxy((HOST, int(target)))
        await proxies[name].start(int(listen))
    control.say(ready=True)
    async for order in control.orders():
        proxies[order["proxy"]].obey(order)


if __name__ == "__main__":
    asyncio.run(main())
