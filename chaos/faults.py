"""Faults at random times, from a seed; each is logged with its time, and what it does is undone again."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from chaos.world import NODES, Node, World

STATUSES: Final = (
    "UNAVAILABLE",
    "ABORTED",
    "INTERNAL",
    "DEADLINE_EXCEEDED",
    "CANCELLED",
    "RESOURCE_EXHAUSTED",
)


class Struck(NamedTuple):
    """A fault: when, what, and to what."""

    at: float
    kind: str
    target: str
    details: str


class Kind(NamedTuple):
    """A kind of fault, and how often it strikes in relation to others."""

    weight: int
    strike: Callable[[Storm], Awaitable[None]]


class Storm:
    """Strikes a world, `count` times within a duration."""

    def __init__(
        self, world: World, seed: int, log: Callable[[str], None], only: tuple[str, ...] = ()
    ) -> None:
        self.world = world
        self.struck: list[Struck] = []
        self.dice = random.Random(seed)  # noqa: S311 (chance, no secret)
        self._log = log
        self._began = time.time()
        self._busy: set[str] = set()
        self._undoing: set[asyncio.Task[None]] = set()
        self._kinds = {name: kind for name, kind in KINDS.items() if not only or name in only}

    async def blow(self, duration_s: float, count: int) -> None:
        """Strike, and return when everything is as it was."""
        self._began = time.time()
        loop = asyncio.get_running_loop()
        begin = loop.time()
        times = sorted(self.dice.uniform(0, duration_s) for _ in range(count))
        names = list(self._kinds)
        weights = [kind.weight for kind in self._kinds.values()]
        for at in times:
            await asyncio.sleep(begin + at - loop.time())
            name = self.dice.choices(names, weights)[0]
            await self._kinds[name].strike(self)
        while self._undoing:
            await asyncio.wait(self._undoing)
        for task in self._undoing:
            task.result()

    def note(self, kind: str, target: str, **details: Any) -> None:
        shown = " ".join(f"{name}={value}" for name, value in details.items())
        now = time.time()
        self.struck.append(Struck(now, kind, target, shown))
        self._log(f"{now - self._began:8.3f} s ({now:.3f})  {kind} {target} {shown}")

    def take(self, target: str) -> bool:
        """Take hold of a process, if none of the faults has it."""
        if target in self._busy:
            return False
        self._busy.add(target)
        return True

    def later(self, delay_s: float, undo: Callable[[], Awaitable[None]], target: str) -> None:
        """Undo a fault after a while, and let go of the process."""

        async def run() -> None:
            await asyncio.sleep(delay_s)
            try:
                await undo()
            finally:
                self._busy.discard(target)

        task = asyncio.get_running_loop().create_task(run())
        self._undoing.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._undoing.discard(task)

    # ---- networks

    def order(self, proxy: str, **order: Any) -> None:
        self.world.proxies.order(proxy=proxy, **order)

    def some_proxy(self) -> tuple[str, dict[str, Any]]:
        """Choose a network, and one of its connections or all."""
        name = self.dice.choice(
            ["clients"] * 4 + [f"model-{n}" for n in NODES] + [f"store-{n}" for n in NODES]
        )
        everywhere = self.dice.random() < 0.15 if name == "clients" else True
        return name, {} if everywhere else {"link": self.dice.randrange(1000)}


async def reset(storm: Storm) -> None:
    name, which = storm.some_proxy()
    storm.order(name, do="reset", **which)
    storm.note("reset", name, **which)


async def cut(storm: Storm) -> None:
    name, which = storm.some_proxy()
    size = storm.dice.choice([0, 1, 7, 100, 3000, 20_000])
    directions = storm.dice.choice([["up"], ["down"], ["up", "down"]])
    storm.order(name, do="cut_after", bytes=size, directions=directions, **which)
    storm.note("cut", name, bytes=size, directions="+".join(directions), **which)


async def stall(storm: Storm) -> None:
    name, which = storm.some_proxy()
    directions = storm.dice.choice([["up"], ["down"], ["up", "down"]])
    for_s = round(storm.dice.choice([0.1, 0.5, 2.0, 5.0]) * storm.dice.uniform(0.5, 1.5), 2)
    then = storm.dice.choice(["heal", "cut", "reset"])
    storm.order(name, do="stall", directions=directions, for_s=for_s, then=then, **which)
    storm.note("stall", name, directions="+".join(directions), for_s=for_s, then=then, **which)


async def weather(storm: Storm) -> None:
    name, _ = storm.some_proxy()
    if not storm.take(f"weather of {name}"):
        return await reset(storm)
    for_s = round(storm.dice.uniform(1, 4), 2)
    is_slow = storm.dice.random() < 0.3
    if is_slow:
        order: dict[str, float] = {
            "bytes_a_second": storm.dice.choice([20_000, 60_000]) * (1 if name == "clients" else 10)
        }
    else:
        order = {
            "latency_s": round(storm.dice.uniform(0.01, 0.3), 3),
            "jitter_s": round(storm.dice.uniform(0, 0.1), 3),
        }

    async def clear() -> None:
        storm.order(name, do="weather")

    storm.order(name, do="weather", **order)
    storm.note("slow" if is_slow else "latency", name, for_s=for_s, **order)
    storm.later(for_s, clear, f"weather of {name}")
    return None


# ---- processes


def _some_node(storm: Storm) -> Node | None:
    """Return a node that nothing has happened to, unless that is the last one."""
    free = [node for node in storm.world.nodes.values() if f"node {node.name}" not in storm._busy]
    return storm.dice.choice(free) if len(free) == len(storm.world.nodes) else None


async def kill_node(storm: Storm) -> None:
    node = _some_node(storm)
    if node is None or not storm.take(f"node {node.name}"):
        return await reset(storm)
    down_s = round(storm.dice.uniform(0.2, 2.0), 2)
    storm.note("SIGKILL", f"node {node.name}", down_s=down_s)
    await node.kill()
    storm.later(down_s, node.start, f"node {node.name}")
    return None


async def stop_node(storm: Storm) -> None:
    node = _some_node(storm)
    if node is None or not storm.take(f"node {node.name}"):
        return await reset(storm)
    for_s = round(storm.dice.choice([0.2, 1.0, 3.0, 7.0]) * storm.dice.uniform(0.7, 1.3), 2)
    storm.note("SIGSTOP", f"node {node.name}", for_s=for_s)
    node.signal(signal.SIGSTOP)

    async def go_on() -> None:
        node.signal(signal.SIGCONT)

    storm.later(for_s, go_on, f"node {node.name}")
    return None


async def restart_node(storm: Storm) -> None:
    node = _some_node(storm)
    if node is None or not storm.take(f"node {node.name}"):
        return await reset(storm)
    storm.note("SIGTERM", f"node {node.name}")
    node.signal(signal.SIGTERM)

    async def again() -> None:
        await node.ended()
        await node.start()

    storm.later(0, again, f"node {node.name}")
    return None


async def kill_model(storm: Storm) -> None:
    if not storm.take("model"):
        return await reset(storm)
    down_s = round(storm.dice.uniform(0.0, 1.5), 2)
    storm.note("SIGKILL", "model", down_s=down_s)
    await storm.world.upstream.kill()
    storm.later(down_s, storm.world.start_upstream, "model")
    return None


async def stop_model(storm: Storm) -> None:
    if not storm.take("model"):
        return await reset(storm)
    for_s = round(storm.dice.choice([0.2, 1.0, 4.0, 8.0]) * storm.dice.uniform(0.7, 1.3), 2)
    storm.note("SIGSTOP", "model", for_s=for_s)
    storm.world.upstream.signal(signal.SIGSTOP)

    async def go_on() -> None:
        storm.world.upstream.signal(signal.SIGCONT)

    storm.later(for_s, go_on, "model")
    return None


async def kill_store(storm: Storm) -> None:
    if not storm.take("store"):
        return await reset(storm)
    down_s = round(storm.dice.uniform(0.0, 1.5), 2)
    storm.note("SIGKILL", "store", down_s=down_s)
    storm.world.store.kill()

    async def start() -> None:
        storm.world.store.start()

    storm.later(down_s, start, "store")
    return None


async def stop_store(storm: Storm) -> None:
    if not storm.take("store"):
        return await reset(storm)
    for_s = round(storm.dice.choice([0.1, 0.5, 3.0]) * storm.dice.uniform(0.7, 1.3), 2)
    storm.note("SIGSTOP", "store", for_s=for_s)
    storm.world.store.pause()

    async def go_on() -> None:
        storm.world.store.resume()

    storm.later(for_s, go_on, "store")
    return None


# ---- the model


async def go_away(storm: Storm) -> None:
    left_s = round(storm.dice.choice([0.0, 0.5, 3.0, 8.0]), 2)
    everybody = storm.dice.random() < 0.2
    storm.world.upstream.order(do="go_away", left_s=left_s, all=everybody)
    storm.note("GoAway", "model", left_s=left_s, all=everybody)


async def end_stream(storm: Storm) -> None:
    status = storm.dice.choice(STATUSES)
    everybody = storm.dice.random() < 0.1
    storm.world.upstream.order(do="reset", status=status, all=everybody)
    storm.note("status", "model", status=status, all=everybody)


async def mute(storm: Storm) -> None:
    storm.world.upstream.order(do="mute")
    storm.note("mute", "model")


async def forget(storm: Storm) -> None:
    storm.world.upstream.order(do="forget")
    storm.note("forgets handles", "model")


KINDS: Final[dict[str, Kind]] = {
    "reset": Kind(14, reset),
    "cut": Kind(14, cut),
    "stall": Kind(14, stall),
    "weather": Kind(8, weather),
    "kill_node": Kind(4, kill_node),
    "stop_node": Kind(5, stop_node),
    "restart_node": Kind(2, restart_node),
    "kill_model": Kind(3, kill_model),
    "stop_model": Kind(3, stop_model),
    "kill_store": Kind(3, kill_store),
    "stop_store": Kind(4, stop_store),
    "go_away": Kind(5, go_away),
    "status": Kind(6, end_stream),
    "mute": Kind(3, mute),
    "forget": Kind(2, forget),
}
