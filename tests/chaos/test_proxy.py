"""The proxy of the chaos suite spoils connections as it is told, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from chaos.proxy import Proxy

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def echo() -> AsyncIterator[tuple[Proxy, Streams]]:
    """Connect to a server that echoes, through a proxy."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(4096):
                writer.write(data)
        except ConnectionResetError:
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    proxy = Proxy(server.sockets[0].getsockname())
    port = await proxy.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    try:
        yield proxy, (reader, writer)
    finally:
        writer.close()
        await proxy.stop()
        server.close()
        await asyncio.sleep(0.05)


async def nothing(reader: asyncio.StreamReader) -> bool:
    """Whether nothing comes for a while."""
    try:
        async with asyncio.timeout(0.2):
            await reader.readexactly(1)
    except TimeoutError:
        return True
    return False


async def test_a_stall_keeps_all_and_loses_nothing() -> None:
    async with echo() as (proxy, (reader, writer)):
        proxy.obey({"do": "stall"})
        writer.write(b"one two")
        assert await nothing(reader)
        proxy.obey({"do": "heal"})
        assert await reader.readexactly(7) == b"one two"


@pytest.mark.parametrize("direction", ["up", "down"])
async def test_a_stall_of_one_direction(direction: str) -> None:
    async with echo() as (proxy, (reader, writer)):
        proxy.obey({"do": "stall", "directions": [direction], "for_s": 0.4, "then": "heal", "link": 0})
        writer.write(b"late")
        assert await nothing(reader)
        assert await reader.readexactly(4) == b"late"


async def test_cut_after_some_bytes() -> None:
    async with echo() as (proxy, (reader, writer)):
        proxy.obey({"do": "cut_after", "bytes": 3, "directions": ["up"]})
        writer.write(b"abcdef")
        assert b"abc".startswith(await reader.read())  # the end comes after at most three


async def test_reset() -> None:
    async with echo() as (proxy, (reader, _)):
        proxy.obey({"do": "reset"})
        with pytest.raises(ConnectionResetError):
            await reader.read()


async def test_latency_and_speed() -> None:
    loop = asyncio.get_running_loop()
    async with echo() as (proxy, (reader, writer)):
        proxy.obey({"do": "weather", "latency_s": 0.1})
        began = loop.time()
        writer.write(b"x")
        await reader.readexactly(1)
        assert loop.time() - began >= 0.2
        proxy.obey({"do": "weather", "bytes_a_second": 10_000, "link": 0})
        began = loop.time()
        for _ in range(4):
            writer.write(b"y" * 1000)
            await reader.readexactly(1000)
        assert loop.time() - began >= 0.3


async def test_one_connection_of_several() -> None:
    async with echo() as (proxy, (reader, writer)):
        other_reader, other_writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        other_writer.write(b"a")
        await other_reader.readexactly(1)
        proxy.obey({"do": "cut", "link": 1})
        assert await other_reader.read() == b""
        writer.write(b"b")
        assert await reader.readexactly(1) == b"b"
        other_writer.close()
