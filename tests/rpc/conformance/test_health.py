"""Whether the other end of a connection is there."""

from __future__ import annotations

import asyncio

import pytest

from antiphon.errors import ErrorCode, GatewayError
from antiphon.gemini import probe
from antiphon.gemini.upstream import ClientName
from rpc.conformance.conftest import Serve
from rpc.conformance.network import network
from rpc.conformance.using import WITHIN_S, calling, connected, end_of, until


@pytest.mark.parametrize("health", [True, False], ids=["SERVING", "UNIMPLEMENTED"])
async def test_it_is_there(client: ClientName, serve: Serve, health: bool) -> None:
    async with (
        serve(health=health) as server,
        calling(client, server.target, "echo") as calls,
        connected(calls) as one,
        connected(calls) as two,
    ):
        async with asyncio.timeout(WITHIN_S):
            for _ in range(5):
                async with asyncio.TaskGroup() as tasks:
                    for call in (one, two, one):
                        tasks.create_task(call.ping())
            await one.write(b"hello")
            assert await one.read() == b"hello"
        assert calls.connections == 1


async def test_what_was_written_before_has_arrived(client: ClientName, serve: Serve) -> None:
    async with serve() as server, calling(client, server.target, "sink") as calls, connected(calls) as call:
        sent = 0
        for _ in range(20):
            await call.write(bytes(10_000))
            sent += 10_000
        async with asyncio.timeout(WITHIN_S):
            await call.ping()

        # The connection has been read to there; the call may take its messages a moment later.
        async with asyncio.timeout(WITHIN_S):
            while (await server.stats()).received < sent:
                await asyncio.sleep(0.005)


@pytest.mark.parametrize("health", [True, False], ids=["SERVING", "UNIMPLEMENTED"])
async def test_it_stops_answering(
    client: ClientName, serve: Serve, health: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "TIMEOUT_S", 0.4)
    async with (
        serve(health=health) as server,
        network(server.target) as net,
        calling(client, net.here, "echo") as calls,
        connected(calls) as call,
    ):
        await call.ping()
        net.freeze()
        async with asyncio.timeout(WITHIN_S):
            with pytest.raises(GatewayError) as lost:
                await call.ping()
        assert lost.value.code is ErrorCode.UPSTREAM_LOST
        net.thaw()
        async with asyncio.timeout(WITHIN_S):
            await call.ping()


async def test_it_is_cut_while_it_is_asked(client: ClientName, serve: Serve) -> None:
    async with (
        serve() as server,
        network(server.target) as net,
        calling(client, net.here, "echo") as calls,
        connected(calls) as call,
    ):
        await call.ping()
        net.freeze()
        asking = asyncio.create_task(call.ping())
        await until(lambda: net.held > 0)
        net.down()
        async with asyncio.timeout(WITHIN_S):
            with pytest.raises(GatewayError) as lost:
                await asking
        assert lost.value.code is ErrorCode.UPSTREAM_LOST
        await end_of(call)


async def test_a_server_that_never_answered_is_not_taken_for_dead(
    client: ClientName, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(probe, "UNANSWERED_S", 0.05)
    async with (
        serve() as server,
        network(server.target) as net,
        calling(client, net.here, "echo") as calls,
        connected(calls) as call,
    ):
        await call.write(b"hello")
        assert await call.read() == b"hello"
        net.freeze()
        async with asyncio.timeout(WITHIN_S):
            await call.ping()
            await call.ping()
        net.thaw()


async def test_a_server_with_no_room_for_the_question(
    client: ClientName, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows by what it says that it is there."""
    monkeypatch.setattr(probe, "TIMEOUT_S", 0.4)
    async with (
        serve(streams=1) as server,
        calling(client, server.target, "echo", streams_a_channel=1) as calls,
        connected(calls) as call,
        asyncio.timeout(WITHIN_S),
    ):
        asking = asyncio.create_task(call.ping())
        while not asking.done():
            await call.write(b"hello")
            assert await call.read() == b"hello"
            await asyncio.sleep(0.02)
        await asking
