"""Messages arrive as they were, in their order, on as many calls as are wanted."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from antiphon.gemini.upstream import MAX_MESSAGE_BYTES, ClientName
from antiphon.rpc import RpcError, Status
from rpc.conformance.conftest import Serve
from rpc.conformance.servers import Server
from rpc.conformance.using import WITHIN_S, Call, calling, connected, end_of, until, until_that

FRAME, WINDOW, PREFIX = 16_384, 65_535, 5
SIZES = [
    *(0, 1, 5, 1000),
    *(FRAME + by for by in (-PREFIX - 1, -PREFIX, -PREFIX + 1, -1, 0, 1)),
    *(2 * FRAME - PREFIX, 2 * FRAME),
    *(WINDOW + by for by in (-PREFIX - 1, -PREFIX, -PREFIX + 1, -1, 0, 1, 2)),
    *(4 * 65_536 - PREFIX, 4 * 65_536, 1_000_000),
]


def patterned(size: int) -> bytes:
    """Return bytes in which nothing can be swapped, left out or doubled without being seen."""
    return hashlib.shake_128(size.to_bytes(4, "big")).digest(size)


async def no_call(server: Server) -> bool:
    return (await server.stats()).open == 0


async def sent(call: Call, *messages: bytes) -> None:
    for message in messages:
        await call.write(message)


@asynccontextmanager
async def echoing(client: ClientName, serve: Serve) -> AsyncIterator[Call]:
    async with (
        serve() as server,
        calling(client, server.target, "echo") as calls,
        connected(calls) as call,
        asyncio.timeout(WITHIN_S),
    ):
        yield call


async def test_every_size_goes_there_and_back(client: ClientName, serve: Serve) -> None:
    async with serve() as server, calling(client, server.target, "echo") as calls, connected(calls) as call:
        async with asyncio.timeout(WITHIN_S):
            for size in SIZES:
                message = patterned(size)
                await call.write(message)
                assert await call.read() == message
        await call.write(b"bye")
        assert (await end_of(call)).status is Status.OK


async def test_every_size_one_after_the_other(client: ClientName, serve: Serve) -> None:
    """Nobody waits for an answer before the next message, so that they share frames and windows."""
    messages = [patterned(size) for size in SIZES]
    async with serve() as server, calling(client, server.target, "echo") as calls, connected(calls) as call:
        async with asyncio.timeout(WITHIN_S), asyncio.TaskGroup() as tasks:
            tasks.create_task(sent(call, *messages, b"bye"))
            for message in messages:
                assert await call.read() == message
        assert (await end_of(call)).status is Status.OK


async def test_the_longest_message_that_is_taken(client: ClientName, serve: Serve) -> None:
    longest = bytes(MAX_MESSAGE_BYTES)
    async with echoing(client, serve) as call, asyncio.TaskGroup() as tasks:
        tasks.create_task(sent(call, longest, b"more"))
        assert await call.read() == longest
        assert await call.read() == b"more"


async def test_a_message_that_is_too_long_for_us(client: ClientName, serve: Serve) -> None:
    async with serve() as server, calling(client, server.target, f"flood 3 {MAX_MESSAGE_BYTES + 1}") as calls:
        async with connected(calls) as call:
            assert (await end_of(call)).status is Status.RESOURCE_EXHAUSTED
            await until_that(lambda: no_call(server))
        async with connected(calls) as call:
            assert (await end_of(call)).status is Status.RESOURCE_EXHAUSTED, "the connection is of use"


async def test_a_message_that_is_too_long_for_the_server(client: ClientName, serve: Serve) -> None:
    async with echoing(client, serve) as call:
        writing = asyncio.create_task(call.write(bytes(MAX_MESSAGE_BYTES + 1)))
        assert (await end_of(call)).status is Status.RESOURCE_EXHAUSTED
        await asyncio.wait([writing])
        # It may have been on its way before the server looked at it.
        assert writing.exception() is None or isinstance(writing.exception(), RpcError)


COUNT = 5000


async def test_thousands_of_small_messages_come_in_order(client: ClientName, serve: Serve) -> None:
    async with (
        serve() as server,
        calling(client, server.target, f"flood {COUNT} 7") as calls,
        connected(calls) as call,
        asyncio.timeout(WITHIN_S),
    ):
        numbers = [int.from_bytes((await call.read())[:4], "big") for _ in range(COUNT)]
        assert numbers == list(range(COUNT))
        assert (await end_of(call)).status is Status.OK


async def test_thousands_of_small_messages_go_in_order(client: ClientName, serve: Serve) -> None:
    messages = [number.to_bytes(4, "big") for number in range(COUNT)]
    async with echoing(client, serve) as call, asyncio.TaskGroup() as tasks:
        tasks.create_task(sent(call, *messages))
        assert [await call.read() for _ in messages] == messages


async def test_what_a_call_says_of_itself_arrives(client: ClientName, serve: Serve) -> None:
    async with (
        serve() as server,
        calling(client, server.target, "metadata") as calls,
        connected(calls) as call,
    ):
        metadata = json.loads(await call.read())
        assert metadata["x-goog-api-key"] == "metadata"
        assert metadata["user-agent"].startswith("antiphon")
        assert (await end_of(call)).status is Status.OK


@pytest.mark.parametrize(("count", "streams"), [(250, 100), (60, 7)])
async def test_more_calls_than_one_connection_takes(
    client: ClientName, serve: Serve, count: int, streams: int
) -> None:
    """grpcio has to be told how many the server allows, at most; native finds out."""
    told = {"streams_a_channel": min(80, streams)} if client == "grpcio" else {}
    everyone = asyncio.Barrier(count)
    connections: set[int] = set()

    async def one(number: int) -> None:
        async with connected(calls) as call:
            for at in range(4):
                message = number.to_bytes(4, "big") + patterned(at * 5000)
                await call.write(message)
                assert await call.read() == message
                await everyone.wait()  # all of them are open at once
                connections.add(calls.connections)

    async with serve(streams=streams) as server, calling(client, server.target, "echo", **told) as calls:
        async with asyncio.timeout(3 * WITHIN_S), asyncio.TaskGroup() as tasks:
            for number in range(count):
                tasks.create_task(one(number))
        room = min(
            80, streams - 1 if client == "native" else streams
        )  # native spares one for the health check
        assert max(connections) == -(-count // room)
        await until(lambda: calls.connections == 1)
        await until_that(lambda: no_call(server))
