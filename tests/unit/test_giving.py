"""What is given to the model, and when it is tried again."""

from __future__ import annotations

import asyncio
import time

from antiphon import live
from antiphon.arrivals import Arrivals
from antiphon.giving import Giver
from antiphon.live import Answered, Full, Room, Take
from antiphon.session import Limits
from unit.test_session import chunk, talking


class Taking:
    """A model's connection that takes everything, and answers no question."""

    upstream: live.Upstream = "primary"

    def __init__(self) -> None:
        self.taken: list[live.LiveInput] = []

    def write(self, item: live.LiveInput) -> bool:
        self.taken.append(item)
        return True

    async def drain(self) -> None:
        raise AssertionError("there is room")

    async def listen(self, take: Take, full: Full, room: Room) -> None:
        raise AssertionError("nobody listens")

    def ask(self, answered: Answered) -> None:
        pass


async def nothing() -> None:
    raise AssertionError("there is nothing to find out")


async def test_gathered_audio_goes_in_time_and_what_has_to_wait_longer_is_not_tried_again_and_again() -> None:
    stream, session = Taking(), talking(Limits(gather_s=0.02))
    arrivals = Arrivals(stream, session, time.time, lambda *_: None)
    tries = 0

    def gave() -> None:
        nonlocal tries
        tries += 1

    giver = Giver(stream, session, arrivals, time.time, certain=None, ascertain=nothing, gave=gave)
    session.receive(chunk(1, bytes(640)), time.time())
    giver.give(time.time())
    assert stream.taken == []
    async with asyncio.timeout(5):
        while not stream.taken:
            await asyncio.sleep(0.005)
    assert tries == 1
    # So much is on its way now that nothing more may be given.
    for sequence, size in enumerate([*[3200] * 6, 2400, 640], 2):
        session.receive(chunk(sequence, bytes(size)), time.time())
        giver.give(time.time())
    before = len(stream.taken)
    await asyncio.sleep(0.15)
    assert len(stream.taken) == before
    assert session.behind
    assert tries <= 3
    giver.close()
    arrivals.close()
