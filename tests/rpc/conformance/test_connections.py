"""Servers that go away, are killed, come back, or are not there."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from antiphon.gemini.upstream import ClientName
from antiphon.rpc import RpcError, Status
from rpc.conformance.conftest import Serve
from rpc.conformance.network import network
from rpc.conformance.servers import Server
from rpc.conformance.using import (
    WITHIN_S,
    Call,
    Calls,
    calling,
    connected,
    end_of,
    outcome,
    until,
    until_that,
    watching,
)

NOWHERE = "127.0.0.1:1"


async def says(call: Call, message: bytes) -> None:
    async with asyncio.timeout(WITHIN_S):
        await call.write(message)
        assert await call.read() == message


async def test_a_server_that_goes_away_lets_its_calls_end_and_new_ones_go_to_the_next(
    client: ClientName, serve: Serve
) -> None:
    async with (
        serve() as old,
        serve() as new,
        network(old.target) as net,
        calling(client, net.here, "echo", wait_for_ready=True) as calls,
        watching(calls),
    ):
        async with connected(calls) as first, connected(calls) as second:
            await says(first, b"one")
            await says(second, b"one")
            net.target = new.target
            await old.leave()
            await says(first, b"two")
            async with connected(calls) as third:
                await says(third, b"one")
                assert ((await old.stats()).open, (await new.stats()).open) == (2, 1)
                await says(first, b"three")
                await first.write(b"bye")
                assert (await end_of(first)).status is Status.OK
                await says(second, bytes(200_000))
                await second.write(b"bye")
                assert (await end_of(second)).status is Status.OK
                async with asyncio.timeout(WITHIN_S):
                    await old.left()
                await says(third, b"two")
        await until(lambda: calls.ready)
        await until(lambda: calls.connections == 1)


async def test_calls_while_a_server_goes_away(client: ClientName, serve: Serve) -> None:
    """One that is made at the very moment ends well or is refused, and never hangs."""
    stopped = False

    async def over_and_over() -> list[Status]:
        ends: list[Status] = []
        while not stopped or ends[-1] is not Status.OK:
            async with calls.call() as call:
                ended = await outcome(one(call))
                ends.append(ended.status)
        return ends

    async def one(call: Call) -> None:
        await call.connected()
        await call.write(b"hello")
        assert await call.read() == b"hello"
        await call.write(b"bye")
        await call.read()

    async with (
        serve() as old,
        serve() as new,
        network(old.target) as net,
        calling(client, net.here, "echo", wait_for_ready=True) as calls,
    ):
        callers = [asyncio.create_task(over_and_over()) for _ in range(5)]
        await until_that(lambda: received(old, 100))
        net.target = new.target
        await old.leave()
        async with asyncio.timeout(WITHIN_S):
            await old.left()
        await until_that(lambda: received(new, 100))
        stopped = True
        async with asyncio.timeout(WITHIN_S):
            ends = [status for ended in await asyncio.gather(*callers) for status in ended]
        # A server of grpcio's says CANCELLED to a call that it has got and not begun.
        assert set(ends) <= {Status.OK, Status.UNAVAILABLE, Status.CANCELLED}
        assert len(ends) - ends.count(Status.OK) <= 5


async def received(server: Server, least: int) -> bool:
    return (await server.stats()).received >= least


async def test_a_connection_that_is_cut(client: ClientName, serve: Serve) -> None:
    async with (
        serve() as server,
        network(server.target) as net,
        calling(client, net.here, "echo", wait_for_ready=True) as calls,
    ):
        for _ in range(3):
            async with AsyncExitStack() as stack:
                one, two = [await connected_anew(client, calls, stack) for _ in range(2)]
                net.reset()
                assert (await end_of(one)).status is Status.UNAVAILABLE
                assert (await outcome(two.read())).status is Status.UNAVAILABLE
                assert (await outcome(two.write(b"more"))).status is Status.UNAVAILABLE
        async with AsyncExitStack() as stack:
            await connected_anew(client, calls, stack)
        assert calls.connections == 1


async def connected_anew(client: ClientName, calls: Calls, stack: AsyncExitStack) -> Call:
    """Make a call that is answered. grpcio may begin one on a connection that is broken already."""
    while True:
        try:
            call = await stack.enter_async_context(connected(calls))
            await says(call, b"hello")
        except RpcError as error:
            if client == "native" or error.status is not Status.UNAVAILABLE:
                raise
        else:
            return call


async def test_a_connection_that_is_cut_while_much_is_written(client: ClientName, serve: Serve) -> None:
    async def write_on(call: Call) -> None:
        while True:
            await call.write(bytes(100_000))

    async with (
        serve() as server,
        network(server.target) as net,
        calling(client, net.here, "hold", wait_for_ready=True) as calls,
        connected(calls) as call,
    ):
        writing = asyncio.create_task(outcome(write_on(call)))
        await until_that(lambda: is_open(server))
        net.reset()
        assert (await writing).status is Status.UNAVAILABLE


async def is_open(server: Server) -> bool:
    return bool((await server.stats()).open)


async def test_a_server_that_is_killed_and_comes_back(client: ClientName, serve: Serve) -> None:
    async with (
        serve() as first,
        network(first.target) as net,
        calling(client, net.here, "echo") as calls,
        watching(calls),
    ):
        await asyncio.wait_for(calls.reached.wait(), WITHIN_S)
        await until(lambda: calls.ready)
        async with connected(calls) as call:
            await says(call, b"hello")
            net.down()
            assert (await end_of(call)).status is Status.UNAVAILABLE
        await until(lambda: not calls.ready)
        async with calls.call() as call:
            assert (await outcome(call.connected())).status is Status.UNAVAILABLE
        async with serve() as second:
            net.target = second.target
            await net.up()
            await until(lambda: calls.ready)
            async with connected(calls) as call:
                await says(call, b"hello again")
            assert calls.connections == 1


async def test_a_server_that_kills_its_calls(client: ClientName, serve: Serve) -> None:
    """It stops at once, with calls under way: they end, with whatever it says."""
    async with serve() as server, calling(client, server.target, "echo") as calls:
        async with connected(calls) as call:
            await says(call, b"hello")
            await server.kill()
            assert (await end_of(call)).status in {Status.UNAVAILABLE, Status.CANCELLED}
        async with (
            serve(port=server.port),
            calling(client, server.target, "echo", wait_for_ready=True) as anew,
            connected(anew) as call,
        ):
            await says(call, b"hello")


async def test_nobody_there(client: ClientName) -> None:
    async with calling(client, NOWHERE, "echo") as calls:
        for _ in range(3):
            async with calls.call() as call:
                ended = await outcome(call.connected())
                assert ended.status is Status.UNAVAILABLE
                assert "127.0.0.1" in ended.details
        assert not calls.ready
        assert not calls.reached.is_set()


async def test_nobody_there_yet(client: ClientName, serve: Serve) -> None:
    async with serve() as server, network(server.target) as net:
        net.down()
        async with calling(client, net.here, "echo", wait_for_ready=True) as calls, calls.call() as call:
            waiting = asyncio.create_task(call.connected())
            done, _ = await asyncio.wait([waiting], timeout=0.5)
            assert not done
            await net.up()
            async with asyncio.timeout(WITHIN_S):
                await waiting
            await says(call, b"hello")


async def test_whether_it_is_there_is_told(client: ClientName, serve: Serve) -> None:
    async with serve() as server, network(server.target) as net:
        net.down()
        async with calling(client, net.here, "echo") as calls, watching(calls):
            assert (calls.ready, calls.reached.is_set()) == (False, False)
            for _ in range(2):
                await net.up()
                async with asyncio.timeout(WITHIN_S):
                    await calls.reached.wait()
                await until(lambda: calls.ready)
                net.down()
                await until(lambda: not calls.ready)
                assert calls.reached.is_set(), "once, at least"
            await net.up()
            await until(lambda: calls.ready)
            assert (await server.stats()).open == 0, "nothing was asked for it"


async def test_a_watch_that_nobody_keeps_leaves_the_calls_alone(client: ClientName, serve: Serve) -> None:
    async with serve() as server, calling(client, server.target, "echo") as calls:
        async with watching(calls):
            await until(lambda: calls.ready)
            async with connected(calls) as call:
                await says(call, b"hello")
        async with connected(calls) as call:
            await says(call, b"hello")


async def test_they_shrink_to_one_when_they_are_idle(client: ClientName, serve: Serve) -> None:
    async with serve() as server, calling(client, server.target, "echo", streams_a_channel=2) as calls:
        everyone = asyncio.Barrier(9)

        async def one(stays: asyncio.Event) -> None:
            async with connected(calls) as call:
                await says(call, b"hello")
                await everyone.wait()
                await stays.wait()

        now, later = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for stays in (now, now, now, now, now, now, later, later):
                tasks.create_task(one(stays))
            await everyone.wait()
            assert calls.connections == 4
            now.set()
            await until(lambda: calls.connections <= 3)  # the first, and two at most where somebody stays
            later.set()
        await until(lambda: calls.connections == 1)
        async with connected(calls) as call:
            await says(call, b"hello")
        assert calls.connections == 1


async def one_call(calls: Calls) -> None:
    """grpcio keeps a connection for as long as a call that was on it is held, even after `aclose()`."""
    async with connected(calls) as call:
        await says(call, b"hello")


async def no_call_yet(calls: Calls) -> None:
    async with calls.call() as call:
        waiting = asyncio.create_task(call.connected())
        done, _ = await asyncio.wait([waiting], timeout=0.2)
        assert not done
        waiting.cancel()
        await asyncio.wait([waiting])


@pytest.mark.parametrize("moment", ["before", "meanwhile", "after"])
async def test_closing_ends_what_there_is(client: ClientName, serve: Serve, moment: str) -> None:
    async with serve() as server, network(server.target) as net:
        async with calling(client, net.here, "echo", wait_for_ready=True) as calls:
            match moment:
                case "before":
                    pass
                case "meanwhile":
                    net.freeze()
                    await no_call_yet(calls)
                case "after":
                    await one_call(calls)
        await until_that(lambda: no_call(server))
        net.thaw()
        async with asyncio.timeout(WITHIN_S):
            await net.over()


async def no_call(server: Server) -> bool:
    return (await server.stats()).open == 0
