"""How much of everything is done, and what its parts share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from msgspec import Struct

from chaos.client import Client
from chaos.world import World


class Plan(Struct, frozen=True):
    """What is to be done."""

    seed: int = 0
    duration_s: float = 660.0
    faults: int = 520
    sessions: int = 10
    times: int = 10
    """How often each of the single faults is made."""
    memory_s: float = 600.0
    only: tuple[str, ...] = ()
    scenes: tuple[str, ...] = ()


HEARD_S: Final = 3.0
"""How long the model may take to hear the last of what clients said that have left."""

FULL: Final = Plan()
SHORT: Final = Plan(duration_s=15.0, faults=26, sessions=6, times=2, memory_s=30.0)


@asynccontextmanager
async def speaking(
    world: World, numbers: Sequence[int], url: str = "", *, seed: int = 0, chunk_s: float = 0.1
) -> AsyncIterator[list[Client]]:
    """Have clients speak until the block is left, and then finish."""
    clients = [
        Client(number, url or world.url, world.token, seed=seed, chunk_s=chunk_s) for number in numbers
    ]
    async with asyncio.TaskGroup() as tasks:
        for client in clients:
            tasks.create_task(client.run())
        yield clients
        await asyncio.gather(*(client.finish() for client in clients))
    await asyncio.sleep(HEARD_S)
