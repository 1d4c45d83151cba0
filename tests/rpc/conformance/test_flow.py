"""Nobody takes more than the other side reads."""

from __future__ import annotations

import asyncio

from antiphon.gemini.upstream import ClientName
from antiphon.rpc import Status
from rpc.conformance.conftest import Serve
from rpc.conformance.using import WITHIN_S, Call, at_rest, calling, connected, end_of, until_that

MESSAGE = bytes(50_000)
BOUND_BYTES = 12 * 1024 * 1024
"""More than any of them keeps for a call: grpcio widens its window to 8 MB where the line is fast."""
MANY = 1000


class Writer:
    """Writes on and on, and counts."""

    def __init__(self, call: Call) -> None:
        self.written = 0
        self._call = call

    async def run(self) -> None:
        while self.written < MANY:
            await self._call.write(MESSAGE)
            self.written += 1

    async def count(self) -> int:
        return self.written


async def test_a_server_that_does_not_read_holds_the_writer(client: ClientName, serve: Serve) -> None:
    async with serve() as server, calling(client, server.target, "hold") as calls, connected(calls) as call:
        writer = Writer(call)
        writing = asyncio.create_task(writer.run())
        held = await at_rest(writer.count)
        assert held * len(MESSAGE) < BOUND_BYTES
        assert not writing.done()
        await server.release()
        async with asyncio.timeout(WITHIN_S):
            for _ in range(MANY):
                assert len(await call.read()) == len(MESSAGE)
            await writing


async def test_a_call_that_is_held_does_not_hold_another(client: ClientName, serve: Serve) -> None:
    async with (
        serve() as server,
        calling(client, server.target) as calls,
        connected(calls) as held,
        connected(calls) as other,
    ):
        assert calls.connections == 1
        await held.write(b"flood 1000 50000")

        async def sent() -> int:
            return (await server.stats()).sent

        await at_rest(sent)
        await other.write(b"echo")
        async with asyncio.timeout(WITHIN_S):
            for number in range(100):
                await other.write(bytes([number]) * 10_000)
                assert await other.read() == bytes([number]) * 10_000


async def test_a_client_that_does_not_read_holds_the_server(client: ClientName, serve: Serve) -> None:
    async with (
        serve() as server,
        calling(client, server.target, f"flood {MANY} {len(MESSAGE)}") as calls,
        connected(calls) as call,
    ):

        async def sent() -> int:
            return (await server.stats()).sent

        assert await at_rest(sent) < BOUND_BYTES
        async with asyncio.timeout(WITHIN_S):
            for number in range(MANY):
                assert int.from_bytes((await call.read())[:4], "big") == number
        assert (await end_of(call)).status is Status.OK


async def test_a_client_that_does_not_read_and_leaves(client: ClientName, serve: Serve) -> None:
    """What nobody reads is dropped, and the connection's window is not lost with it."""
    async with serve() as server, calling(client, server.target) as calls:

        async def sent() -> int:
            return (await server.stats()).sent

        async def deserted() -> bool:
            return (await server.stats()).open == 0

        for _ in range(8):
            before = (await server.stats()).sent
            async with connected(calls) as call:
                await call.write(b"flood 300 50000")
                async with asyncio.timeout(WITHIN_S):
                    while await sent() == before:
                        await asyncio.sleep(0.005)
                    await call.read()
            await until_that(deserted)
        async with connected(calls) as call:
            await call.write(b"flood 300 50000")
            assert (await end_of(call)).status is Status.OK
        assert calls.connections == 1


async def test_a_server_that_reads_slowly_gets_everything(client: ClientName, serve: Serve) -> None:
    async with serve() as server, calling(client, server.target, "sink") as calls, connected(calls) as call:
        async with asyncio.timeout(WITHIN_S):
            for _ in range(200):
                await call.write(MESSAGE)

        async def all_came() -> bool:
            return (await server.stats()).received == 200 * len(MESSAGE)

        await until_that(all_came)
