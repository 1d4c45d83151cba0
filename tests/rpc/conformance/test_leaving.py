"""Whoever leaves in the middle leaves nothing behind: no task here, no call at the server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from antiphon.gemini.upstream import ClientName
from rpc.conformance.conftest import Serve
from rpc.conformance.network import network
from rpc.conformance.servers import Server
from rpc.conformance.using import WITHIN_S, Call, calling, connected, until, until_that


@asynccontextmanager
async def no_task_more() -> AsyncIterator[None]:
    before = ours()
    yield
    await until(lambda: ours() <= before)


def ours() -> set[asyncio.Task[object]]:
    """Return all tasks but those of a grpcio server, which takes a new one for each call."""
    return {task for task in asyncio.all_tasks() if not is_servers(task.get_coro())}


def is_servers(coroutine: object) -> bool:
    code = getattr(coroutine, "cr_code", None)
    return bool(code and code.co_filename.endswith("aio/server.pyx.pxi"))


async def open_calls(server: Server) -> int:
    return (await server.stats()).open


async def deserted(server: Server) -> None:
    async def nobody() -> bool:
        return await open_calls(server) == 0

    await until_that(nobody)


async def test_the_server_sees_who_leaves(client: ClientName, serve: Serve) -> None:
    async with serve() as server, calling(client, server.target, "echo") as calls:
        async with connected(calls) as call, connected(calls) as other:
            for one in (call, other):
                await one.write(b"hello")
                assert await one.read() == b"hello"
            async with connected(calls) as third:
                await third.write(b"hello")
                assert await third.read() == b"hello"
                assert await open_calls(server) == 3

            async def left() -> bool:
                stats = await server.stats()
                return (stats.open, stats.cancelled) == (2, 1)

            await until_that(left)
            await other.write(b"still here")
            assert await other.read() == b"still here"
        await deserted(server)
        assert (await server.stats()).cancelled == 3


@pytest.mark.parametrize(
    ("what", "told"),
    [("read", "sink"), ("read", "flood 1000 50000"), ("write", "hold"), ("write", "sink"), ("ping", "hold")],
)
async def test_a_task_that_is_cancelled(client: ClientName, serve: Serve, what: str, told: str) -> None:
    async def on_and_on(call: Call) -> None:
        while True:
            match what:
                case "read":
                    await call.read()
                case "write":
                    await call.write(bytes(30_000))
                case _:
                    await call.ping()

    async def one() -> None:
        async with connected(calls) as call:
            await call.write(b"hello")
            begun.set()
            await on_and_on(call)

    async with serve() as server, calling(client, server.target, told) as calls:
        async with connected(calls) as call:
            await call.ping()  # grpcio begins tasks of its own with the first
        await deserted(server)
        async with no_task_more():
            for delay in (0, 0, 0, 0.01, 0.05):
                begun = asyncio.Event()
                task = asyncio.create_task(one())
                await begun.wait()
                await asyncio.sleep(delay)  # wherever it is by then
                task.cancel()
                async with asyncio.timeout(WITHIN_S):
                    await asyncio.wait([task])
                assert task.cancelled() or what == "read", task
        await deserted(server)
        assert calls.connections == 1


async def test_a_task_that_is_cancelled_while_it_connects(client: ClientName, serve: Serve) -> None:
    async def one(message: bytes) -> None:
        async with connected(calls) as call:
            await call.write(message)
            await call.read()

    async with serve() as server, network(server.target) as net:
        async with calling(client, net.here, "echo", wait_for_ready=True) as calls:
            for turn in range(6):
                net.freeze()
                task = asyncio.create_task(one(b""))
                for _ in range(turn):
                    await asyncio.sleep(0)
                task.cancel()
                async with asyncio.timeout(WITHIN_S):
                    await asyncio.wait([task])
                assert task.cancelled()
                net.thaw()
            task = asyncio.create_task(one(b"hello"))
            async with asyncio.timeout(WITHIN_S):
                await task
            del task  # grpcio keeps a connection for as long as a call that was on it is held
            await deserted(server)
        async with asyncio.timeout(WITHIN_S):
            await net.over()


async def test_a_call_that_is_made_and_never_used(client: ClientName, serve: Serve) -> None:
    async with serve() as server, calling(client, server.target, "echo") as calls:
        async with calls.call():
            pass
        async with connected(calls):
            pass
        await deserted(server)


async def test_a_storm_of_calls_that_are_cancelled(client: ClientName, serve: Serve) -> None:
    """As a gateway does whose clients come and go: the connection stays, and so does its room."""
    async with serve() as server, calling(client, server.target, "echo") as calls:

        async def one(number: int) -> None:
            async with connected(calls) as call:
                await call.write(bytes(number * 100))
                if number % 3:
                    await call.read()

        async with asyncio.timeout(3 * WITHIN_S):
            for _ in range(10):
                async with asyncio.TaskGroup() as tasks:
                    for number in range(50):
                        tasks.create_task(one(number))
        await deserted(server)
        assert calls.connections == 1
        async with connected(calls) as call:
            await call.write(b"hello")
            assert await call.read() == b"hello"
