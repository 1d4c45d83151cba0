"""Messages that are handed over as they come."""

from __future__ import annotations

import asyncio

import pytest

from antiphon.gemini.upstream import ClientName
from antiphon.rpc import Status
from rpc.conformance.conftest import Serve
from rpc.conformance.using import WITHIN_S, calling, connected, outcome

MANY = 300


async def test_they_come_in_order_and_wait_where_there_is_no_room(client: ClientName, serve: Serve) -> None:
    taken: list[int] = []
    waits = 0

    def take(message: bytes) -> bool:
        taken.append(int.from_bytes(message[:4], "big"))
        return len(taken) % 7 > 0

    async def room() -> None:
        nonlocal waits
        before = len(taken)
        await asyncio.sleep(0.001)
        assert len(taken) == before, "something was handed over although there was no room"
        waits += 1

    async with serve() as server, calling(client, server.target) as calls, connected(calls) as call:
        await call.write(b"flood %d 5000" % MANY)
        error = await outcome(call.listen(take, room))
    assert error.status is Status.OK
    assert taken == list(range(MANY))
    assert waits == MANY // 7


async def test_what_goes_wrong_in_taking_one_ends_no_other_call(client: ClientName, serve: Serve) -> None:
    def take(message: bytes) -> bool:
        raise ZeroDivisionError(message)

    async def room() -> None:
        raise AssertionError("nobody is to be waited for")

    async with (
        serve() as server,
        calling(client, server.target, "echo") as calls,
        connected(calls) as one,
        connected(calls) as two,
    ):
        await one.write(b"hello")
        await two.write(b"hello")
        async with asyncio.timeout(WITHIN_S):
            with pytest.raises(ZeroDivisionError):
                await one.listen(take, room)
        await two.write(b"again")
        assert [await two.read(), await two.read()] == [b"hello", b"again"]
