"""What is measured of one running system, one thing after the other, by one generator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final

import psutil
from msgspec import Struct

from antiphon.load import Generator, Limits, LoadError, Measurement, judge
from bench.search import Search
from bench.systems import Running, used_s

SETTLE_S: Final = 2.0
MOST_UNJUDGED: Final = 3
"""So often in a row the generator may not keep up: a machine hiccups now and then."""
WARM_SESSIONS: Final = 20
"""So many come and go before memory is measured, so that what is made once counts for no session."""
OPEN_A_SECOND: Final = 250.0
"""Sessions that are opened in a second at most: opening them is not what is measured."""

Say = Callable[[str], None]


class Cost(Struct, frozen=True):
    """What a chunk costs, in microseconds of a processor: the system's, and what load and upstream cost."""

    system_us: float
    generator_us: float
    upstream_us: float
    measured: Measurement


class Memory(Struct, frozen=True):
    """What a session holds, in KB (1000 bytes) of anonymous memory: waiting, and speaking."""

    idle_kb: float
    load_kb: float | None
    """None where it cannot carry so many, so that what waits would be measured."""


class Rung(Struct, frozen=True):
    """What came of so many sessions."""

    sessions: int
    p99_ms: float
    passed: bool | None


class Capacity(Struct, frozen=True):
    """The most sessions that pass, and what was tried. Without `bounded` the generator was the limit."""

    sessions: int
    rungs: Sequence[Rung]
    bounded: bool


async def memory(load: Generator, running: Running, sessions: int) -> Memory:
    """Return what a session holds: what the last three quarters of them add. Leaves them speaking."""
    await load.resize(WARM_SESSIONS, a_second=OPEN_A_SECOND)
    await asyncio.sleep(SETTLE_S)
    await load.resize(0)
    few = max(1, sessions // 4)
    await load.resize(few, speaking=False, a_second=OPEN_A_SECOND)
    await asyncio.sleep(SETTLE_S)
    before = running.memory_bytes()
    await load.resize(sessions, speaking=False, a_second=OPEN_A_SECOND)
    await asyncio.sleep(SETTLE_S)
    idle = running.memory_bytes()
    await load.speak()
    await asyncio.sleep(SETTLE_S)
    measured = await load.measure(SETTLE_S)
    speaking = running.memory_bytes()
    idle_kb = (idle - before) / max(1, sessions - few) / 1000
    carried = measured.answered_share >= Limits().answered_share
    return Memory(idle_kb, idle_kb + (speaking - idle) / sessions / 1000 if carried else None)


async def cost(load: Generator, running: Running, sessions: int, seconds: float) -> Cost:
    """Return what a chunk costs at so many sessions."""
    await load.resize(sessions, a_second=OPEN_A_SECOND)
    await asyncio.sleep(SETTLE_S)
    upstream_s = used_s(running.upstream) if running.upstream else 0.0
    before_s, begin_s = running.cpu_s(), time.perf_counter()
    measured = await load.measure(seconds)
    # The load goes on while the last answers are waited for, and so does the cost.
    after_s, end_s = running.cpu_s(), time.perf_counter()
    upstream_s = used_s(running.upstream) - upstream_s if running.upstream else 0.0
    chunks = max(1.0, measured.answered * (end_s - begin_s) / seconds)
    return Cost(
        (after_s - before_s) / chunks * 1e6,
        measured.cpu_s / max(1, measured.answered) * 1e6,
        upstream_s / chunks * 1e6,
        measured,
    )


async def recover(load: Generator) -> None:
    """Let a system be rid of what has queued up: it would weigh on what is measured next."""
    await load.resize(0)
    await asyncio.sleep(SETTLE_S)


async def latency(load: Generator, sessions: int, seconds: float) -> Measurement:
    """Return what so many sessions see."""
    await load.resize(sessions, a_second=OPEN_A_SECOND)
    return await load.measure(seconds, settle_s=SETTLE_S)


async def capacity(load: Generator, start: int, seconds: float, limits: Limits, say: Say) -> Capacity:
    """Return how many sessions pass."""
    search = Search(start)
    rungs = []
    bounded = True
    unjudged = 0
    while (sessions := search.next) is not None:
        measured, why = await _try(load, sessions, seconds)
        verdict = judge(measured, limits) if measured else None
        passed = verdict.passed if verdict else False
        p99_ms = measured.latency.percentile(0.99) * 1000 if measured else float("nan")
        rungs.append(Rung(sessions, p99_ms, passed))
        say(f"{sessions} sessions: {verdict.why if verdict else why}")
        if passed is None:
            unjudged += 1
            if unjudged == MOST_UNJUDGED:
                bounded = False
                search.stop()
            continue
        unjudged = 0
        search.report(passed)
        if not passed:
            await recover(load)
    return Capacity(search.passed, rungs, bounded)


async def _try(load: Generator, sessions: int, seconds: float) -> tuple[Measurement | None, str]:
    # Opening sessions costs more than what they do then: what is left of it is not to count.
    opened = max(0, sessions - load.sessions)
    try:
        await load.resize(sessions, a_second=OPEN_A_SECOND)
    except LoadError as error:
        return None, str(error)
    return await load.measure(seconds, settle_s=SETTLE_S + opened / OPEN_A_SECOND), ""


class Watch:
    """Looks at how busy the processors of a system are with something else."""

    def __init__(self, running: Running, cores: frozenset[int]) -> None:
        self._running = running
        self._cores = cores
        self._begin = self._now()

    def foreign_share(self) -> float:
        """Return the share of the time since, 0 to 1, that went to others or was stolen by the host."""
        wall, busy, own = (b - a for a, b in zip(self._begin, self._now(), strict=True))
        return max(0.0, busy - own) / max(1e-9, wall)

    def _now(self) -> tuple[float, float, float]:
        busy = 0.0
        for number, times in enumerate(psutil.cpu_times(percpu=True)):
            if number in self._cores:
                # What guests use is within user.
                busy += sum(times[:8]) - times.idle - times.iowait
        return time.perf_counter() * len(self._cores), busy, self._running.cpu_s()
