"""The parts of the suite, each of which gives rows of the table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from chaos.base import rotation
from chaos.faults import Storm
from chaos.memory import memory
from chaos.plan import FULL, SHORT, Plan, speaking
from chaos.takeover import kill, rolling, stale
from chaos.verdict import Row, audio_rows, listen, message_row, sums
from chaos.world import World

__all__ = ["ALL", "FULL", "SHORT"]

Scene = Callable[[World, Plan, dict[str, Any]], Coroutine[Any, Any, list[Row]]]


async def storm(world: World, plan: Plan, more: dict[str, Any]) -> list[Row]:
    """Strike everything at random, while everybody speaks."""
    blowing = Storm(world, plan.seed, lambda line: print(line, flush=True), plan.only)
    async with speaking(world, range(plan.sessions), seed=plan.seed) as clients:
        await asyncio.sleep(2)
        await blowing.blow(plan.duration_s, plan.faults)
        for proxy in ("clients", "model-a", "model-b", "store-a", "store-b"):
            blowing.order(proxy, do="weather")
            blowing.order(proxy, do="heal")
        await asyncio.sleep(3)
    diaries = [client.diary for client in clients]
    audio = await asyncio.to_thread(listen, world.heard, [(c.diary, c.track) for c in clients])
    more |= {"faults": blowing.struck, "diaries": diaries, "audio": audio.found}
    rows = [*audio_rows(audio, len(blowing.struck)), message_row(diaries)]
    unacknowledged = sum(diary.unacknowledged_ends for diary in diaries)
    if unacknowledged:
        rows[0].notes.append(f"{unacknowledged} streams whose end was not acknowledged within 3 s")
    slowest = sorted(resumed.took_s for diary in diaries for resumed in diary.resumed)
    if slowest:
        rows[2].notes.append(
            f"resumed within {slowest[len(slowest) // 2] * 1000:.0f} ms (median), "
            f"{slowest[-1] * 1000:.0f} ms at worst"
        )
    for name in ("closes", "errors", "responses"):
        rows[2].notes.append(f"{name}: {sums([getattr(diary, name) for diary in diaries])}")
    refused = sum(len(diary.refused_handshakes) for diary in diaries)
    rows[2].notes.append(f"{refused} handshakes were refused")
    return rows


ALL: Final[dict[str, Scene]] = {
    "memory": memory,
    "storm": storm,
    "rotation": rotation,
    "kill": kill,
    "stale": stale,
    "rolling": rolling,
}
