"""One measurement of one running system each."""

from __future__ import annotations

import time

from msgspec import Struct

from antiphon.load import Generator, Measurement, Target, Voice
from bench.systems import Running

SETTLE_S = 2.0


class CpuCost(Struct, frozen=True):
    """What a chunk costs, in microseconds of a processor: the system's and the generator's own."""

    system_us: float
    generator_us: float
    measured: Measurement


async def cpu_cost(
    running: Running, target: Target, voice: Voice, sessions: int, seconds: float
) -> CpuCost:
    """Return what a chunk costs at so many sessions."""
    async with Generator(target, voice) as load:
        await load.resize(sessions)
        await load.measure(SETTLE_S)
        before_s, begin_s = running.cpu_s(), time.perf_counter()
        measured = await load.measure(seconds)
        # The load goes on while its last answers are waited for, and so does the cost.
        after_s, end_s = running.cpu_s(), time.perf_counter()
        chunks = measured.answered * (end_s - begin_s) / seconds
    return CpuCost(
        (after_s - before_s) / max(1, chunks) * 1e6,
        measured.cpu_s / max(1, measured.answered) * 1e6,
        measured,
    )
