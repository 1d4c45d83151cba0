"""What the tests of the stores share: one server for all, and both kinds of store over it.

Every test is run on both event loops: what becomes of a connection that is thrown away is theirs to do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import uvloop

from antiphon.memory_store import MemoryStore
from antiphon.store import SessionStore
from antiphon.valkey_store import ValkeyStore
from valkey_server import ValkeyServer

PATIENT_S = 5.0
"""The timeout of stores that are not tested for it: on a busy machine, 250 ms may pass."""


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def shared_server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


class World:
    """Stores over one set of data, and the time that they see."""

    def __init__(self, server: ValkeyServer | None) -> None:
        self.server = server
        self.now = 1_000.0
        self._stores: list[SessionStore] = []
        self._memory: MemoryStore | None = None

    def store(self, record_ttl_s: float = 165.0, member_ttl_s: float = 15.0) -> SessionStore:
        """Return a store: in memory always the same one, as the nodes of one process share it."""
        if self.server:
            self._stores.append(
                ValkeyStore(
                    self.server.url, record_ttl_s, member_ttl_s=member_ttl_s, timeout_s=PATIENT_S, young_s=0
                )
            )
        elif not self._memory:
            self._memory = MemoryStore(record_ttl_s, member_ttl_s)
            self._stores.append(self._memory)
        return self._stores[-1]

    async def pass_time(self, seconds: float) -> None:
        if self.server:
            await asyncio.sleep(seconds)
        else:
            self.now += seconds

    async def subscribed(self, node: str) -> None:
        """Wait until the news of a node are listened to."""
        if not self.server:
            await asyncio.sleep(0)
            return
        with self.server.client() as client:
            while not client.pubsub_numsub(f"antiphon:evicted:{node}")[0][1]:
                await asyncio.sleep(0.005)

    def dump(self) -> Any:
        """Return everything that is stored, except for how long."""
        if self.server:
            return self.server.dump()
        assert self._memory
        return [
            {key: value for key, (_, value) in kept._values.items()}
            for kept in (self._memory._records, self._memory._fences)
        ]

    async def aclose(self) -> None:
        for store in self._stores:
            await store.aclose()


@pytest.fixture(params=["memory", "valkey"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    server = None
    if request.param == "valkey":
        server = request.getfixturevalue("shared_server")
        with server.client() as client:
            client.flushall()
    world = World(server)
    yield world
    await world.aclose()
