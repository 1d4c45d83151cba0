"""When a node may believe that its sessions are still its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from antiphon.journal import STALE_S, Journal
from antiphon.memory_store import MemoryStore
from antiphon.session import Session
from antiphon.store import Change, StoreAway, Verdict
from unit.test_session_resume import listening


class Store(MemoryStore):
    """A store that answers as it stood when it was asked, but when it is let, and with what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.verdict = Verdict.SAVED
        self.away = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def save(self, changes: Sequence[Change], node: str, now: float) -> list[Verdict]:
        self.asked += 1
        verdict = self.verdict
        if self.away:
            raise StoreAway("it was told to be")
        await self.answers.wait()
        return [verdict for _ in changes]

    async def ping(self) -> None:
        if self.away:
            raise StoreAway("it was told to be")


class Runner:
    """What runs a session, as the journal sees it."""

    def __init__(self) -> None:
        self.session: Session = listening()
        self.fence = 1
        self.told: list[str] = []

    def mark(self) -> Callable[[], None]:
        return lambda: self.told.append("saved")

    def unsaved(self) -> None:
        self.told.append("unsaved")

    def evicted(self) -> None:
        self.told.append("evicted")


class Node:
    """A node with one session, whose clock is ours."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.store = Store()
        self.journal = Journal(self.store, "a", lambda: self.now)
        self.runner = Runner()

    async def asked(self, times: int) -> None:
        async with asyncio.timeout(5):
            while self.store.asked < times:
                await asyncio.sleep(0)

    async def certain(self) -> None:
        await self.journal.fresh(self.runner)
        self.runner.told.append("certain")

    async def soon(self) -> None:
        for _ in range(50):
            await asyncio.sleep(0)


@asynccontextmanager
async def node() -> AsyncIterator[Node]:
    made = Node()
    made.journal.add(made.runner)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(made.journal.run())
        yield made
        running.cancel()


async def test_what_was_saved_lately_is_certain() -> None:
    async with node() as a:
        a.journal.changed(a.runner)
        await a.journal.flush()
        a.now += STALE_S
        await asyncio.wait_for(a.journal.fresh(a.runner), 1)
        assert (a.runner.told, a.store.asked) == (["saved"], 1)


async def test_after_a_while_the_store_is_asked_again() -> None:
    async with node() as a:
        a.journal.changed(a.runner)
        await a.journal.flush()
        a.now += STALE_S + 0.1
        a.store.verdict = Verdict.FENCED
        await asyncio.wait_for(a.certain(), 1)
        assert (a.runner.told, a.store.asked) == (["saved", "evicted", "certain"], 2)


async def test_an_answer_says_how_things_stood_when_it_was_asked_for() -> None:
    """A node that was stopped while the store answered has not heard of what became of its session since."""
    async with node() as a:
        a.store.answers.clear()
        a.journal.changed(a.runner)
        await a.asked(1)
        a.now += 10  # it is stopped, and the session taken over
        a.store.verdict = Verdict.FENCED
        a.store.answers.set()
        await asyncio.wait_for(a.certain(), 1)
        assert a.runner.told == ["saved", "evicted", "certain"]


async def test_without_the_store_nobody_waits() -> None:
    async with node() as a:
        a.store.away = True
        assert a.journal.changed(a.runner), "nobody knows yet"
        await a.soon()
        assert a.runner.told == ["unsaved"]
        assert not a.journal.changed(a.runner)
        a.now += 100
        await asyncio.wait_for(a.journal.fresh(a.runner), 1)


async def test_a_session_that_is_over_is_waited_for_no_more() -> None:
    async with node() as a:
        a.store.answers.clear()
        certain = asyncio.create_task(a.journal.fresh(a.runner))
        await a.asked(1)
        a.journal.remove(a.runner)
        await asyncio.wait_for(certain, 1)
        a.store.answers.set()
        await a.journal.flush()
        assert a.runner.told == []
