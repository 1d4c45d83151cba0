"""Questions after what has arrived: how many, when, and what their answers say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from antiphon import arrivals
from antiphon.arrivals import Arrivals
from antiphon.errors import ErrorCode, GatewayError
from antiphon.live import Answered
from antiphon.session import Session
from unit.test_session import chunk, talking

pytestmark = pytest.mark.interpreted


class Answering:
    """A model's connection over a way that takes `trip_s` to and fro."""

    def __init__(self, trip_s: float = 0.0) -> None:
        self.trip_s = trip_s
        self.asked = self.open = self.most = 0

    def ask(self, answered: Answered) -> None:
        self.asked += 1
        self.open += 1
        self.most = max(self.most, self.open)
        asyncio.get_running_loop().call_later(self.trip_s, self._answer, answered)

    def _answer(self, answered: Answered) -> None:
        self.open -= 1
        answered(None)


class Asking:
    """Somebody who speaks, and the questions after it."""

    def __init__(self, trip_s: float) -> None:
        self.stream = Answering(trip_s)
        self.session: Session = talking()
        self.told = 0
        self.arrivals = Arrivals(self.stream, self.session, time.time, self._tell)
        self.sequence = 0

    def _tell(self, number: int, trip_s: float) -> None:
        self.session.arrived(number, time.time(), trip_s)
        self.told += 1

    async def speak(self, chunks: int, every_s: float) -> None:
        for _ in range(chunks):
            self.session.receive(chunk(self.sequence), time.time())
            self.sequence += 1
            while self.session.next_input(time.time()):
                self.arrivals.wrote(self.session.given)
            await asyncio.sleep(every_s)

    async def until_all_arrived(self) -> None:
        async with asyncio.timeout(10):
            while self.session.in_flight:
                await asyncio.sleep(0.01)


@contextmanager
def asking(trip_s: float) -> Iterator[Asking]:
    one = Asking(trip_s)
    task = asyncio.get_running_loop().create_task(one.arrivals.lost())
    try:
        yield one
    finally:
        assert not task.done()
        one.arrivals.close()


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "SETTLE_S", 0.01)
    monkeypatch.setattr(arrivals, "SETTLE_LATE_S", 0.02)
    monkeypatch.setattr(arrivals, "PING_AFTER_S", 0.05)
    monkeypatch.setattr(arrivals, "PING_LEAST_S", 0.02)


async def test_what_was_written_arrives_and_is_asked_after_no_more() -> None:
    with asking(0.0) as one:
        await one.speak(3, 0.0)
        assert one.session.in_flight
        await one.until_all_arrived()
        asked, told = one.stream.asked, one.told
        await asyncio.sleep(0.2)
        assert (one.stream.asked, one.told) == (asked, told)
        assert 1 <= asked <= 3


@pytest.mark.parametrize(("trip_s", "overlap"), [(0.0, False), (0.3, True)])
async def test_questions_overlap_where_the_way_is_long(trip_s: float, overlap: bool) -> None:
    with asking(trip_s) as one:
        await one.speak(20, 0.02)
        assert (one.stream.most > 1) is overlap
        await one.until_all_arrived()


async def test_no_more_than_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "PING_LEAST_S", 0.0)
    monkeypatch.setattr(arrivals, "PING_AFTER_S", 0.0)
    monkeypatch.setattr(arrivals, "MAX_PINGS", 3)
    monkeypatch.setattr(arrivals, "PING_GATHERS_S", 0.0)
    with asking(0.2) as one:
        await one.speak(30, 0.01)
        assert one.stream.most == 3


async def test_a_model_that_is_sent_nothing_is_asked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "PING_IDLE_S", 0.05)
    with asking(0.0) as one:
        async with asyncio.timeout(5):
            while one.stream.asked < 3:
                await asyncio.sleep(0.01)


async def test_one_that_does_not_answer_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "PING_TIMEOUT_S", 0.1)
    monkeypatch.setattr(arrivals, "PING_IDLE_S", 0.05)
    one = Asking(10.0)
    await one.speak(1, 0.0)
    with pytest.raises(GatewayError) as raised:
        async with asyncio.timeout(5):
            await one.arrivals.lost()
    assert raised.value.code is ErrorCode.UPSTREAM_LOST
    one.arrivals.close()


async def test_nothing_is_told_once_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even of more answers than are kept track of: another connection may be open by then."""
    monkeypatch.setattr(arrivals, "MAX_PINGS", 1)
    one = Asking(0.0)
    await one.speak(1, 0.0)
    for _ in range(3):
        one.arrivals._open[99] = float("inf")
        one.arrivals._answered(99, 1, time.time(), None)
    one.arrivals.close()
    await asyncio.sleep(0.05)
    assert one.told == 0
