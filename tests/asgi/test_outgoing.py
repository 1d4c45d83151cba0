"""What waits for a server of ASGI that takes no more: in order, told of, and never left over."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from antiphon.asgi.outgoing import Outgoing
from antiphon.front import UNSENT_BYTES
from gateway.running import faultless


class Server:
    """Takes events while it is open; `error` is raised in place of that."""

    def __init__(self) -> None:
        self.taken: list[Any] = []
        self.told: list[bool] = []
        self.open = asyncio.Event()
        self.open.set()
        self.error: Exception | None = None
        self.lost = 0
        self.outgoing = Outgoing(self.send, writable=self.told.append, lost=self.lose)

    async def send(self, event: Any) -> None:
        while not self.open.is_set():
            await self.open.wait()
        if self.error:
            raise self.error
        self.taken.append(event["n"])

    def lose(self) -> None:
        self.lost += 1

    def put(self, number: int, size: int = 1000) -> None:
        self.outgoing.put({"n": number}, size)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.taken) < count or self.outgoing.unsent_bytes:
                await asyncio.sleep(0)


async def test_what_need_not_wait_is_sent_at_once() -> None:
    server, before = Server(), asyncio.all_tasks()
    for number in range(3):
        server.put(number)
    assert (server.taken, server.outgoing.unsent_bytes) == ([0, 1, 2], 0)
    assert asyncio.all_tasks() == before


async def test_it_is_sent_at_once_outside_of_any_task() -> None:
    server = Server()
    asyncio.get_running_loop().call_soon(server.put, 0)
    await asyncio.sleep(0)
    assert server.taken == [0]


async def test_what_has_to_wait_stays_in_order() -> None:
    server, before = Server(), asyncio.all_tasks()
    server.open.clear()
    for number in range(5):
        server.put(number)
    assert (server.taken, server.outgoing.unsent_bytes) == ([], 5000)
    assert len(asyncio.all_tasks() - before) == 1
    server.open.set()
    server.put(5)
    await server.until(6)
    server.put(6)
    assert server.taken == [0, 1, 2, 3, 4, 5, 6]
    assert asyncio.all_tasks() == before


async def test_a_server_that_fills_again_and_again() -> None:
    server = Server()
    for number in range(50):
        server.open.clear()
        server.put(2 * number)
        server.put(2 * number + 1)
        server.open.set()
        await asyncio.sleep(0)
    await server.until(100)
    assert server.taken == list(range(100))


async def test_it_is_told_when_much_waits_and_when_little() -> None:
    server = Server()
    server.open.clear()
    server.put(0, UNSENT_BYTES)
    assert server.told == []
    server.put(1, 1)
    server.put(2, UNSENT_BYTES)
    assert server.told == [False]
    server.open.set()
    await server.until(3)
    assert server.told == [False, True]


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("error", [OSError("gone"), RuntimeError("after sending 'websocket.close'")])
async def test_a_client_that_is_gone_is_told_once(waits: bool, error: Exception) -> None:
    server = Server()
    if waits:
        server.open.clear()
    server.error = error
    server.put(0)
    server.put(1)
    server.open.set()
    async with asyncio.timeout(5):
        while not server.lost:
            await asyncio.sleep(0)
    server.put(2)
    assert (server.taken, server.lost, server.outgoing.unsent_bytes) == ([], 1, 0)


async def test_what_is_given_up_leaves_no_task() -> None:
    server, before = Server(), asyncio.all_tasks()
    server.open.clear()
    with faultless():
        server.put(0)
        server.put(1)
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await server.outgoing.aclose()
        assert asyncio.all_tasks() == before
        server.put(2)
    assert server.taken == []


async def test_a_fault_of_the_server_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    server.open.clear()
    server.error = ValueError("what is this?")
    server.put(0)
    server.open.set()
    async with asyncio.timeout(5):
        while not server.lost:
            await asyncio.sleep(0)
    assert "fault of the server" in caplog.text
