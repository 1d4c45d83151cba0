"""What has arrived at the model's machine, and whether that is there: asked again and again.

A question is answered after what was written before it has been read. Questions overlap where the way is
long: what is on its way unconfirmed is then what travels, and no more than a third of a second besides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from antiphon.clock import Clock
from antiphon.errors import ErrorCode, GatewayError
from antiphon.session.machine import Session

PING_AFTER_S: Final = 0.35
"""A question is followed by the next so much later, or earlier by what an answer takes."""
PING_LEAST_S: Final = 0.1
"""But no earlier than this; so where something waits to be given to the model."""
PING_GATHERS_S: Final = 0.005
"""More may be sent before the question is."""
MAX_PINGS: Final = 16
"""Questions that wait for their answers."""
SETTLE_S: Final = 0.1
"""What has reached the model's machine is taken to have reached the model so much later."""
PING_IDLE_S: Final = 8.0
"""A model that is sent nothing is asked so often whether it is there."""
PING_TIMEOUT_S: Final = 6.0


class Pinged(Protocol):
    """A `live.LiveStream`, as far as it is asked here."""

    async def ping(self) -> None: ...


class Arrivals:
    """Asks after what a session has sent over a stream.

    `arrived` is called with the number up to which it has, and how many seconds it took to learn that.
    """

    def __init__(
        self, stream: Pinged, session: Session, clock: Clock, arrived: Callable[[int, float], None]
    ) -> None:
        self._stream = stream
        self._session = session
        self._clock = clock
        self._arrived = arrived
        self._written = self._asked = session.given
        self._sent = asyncio.Event()
        self._room = asyncio.Semaphore(MAX_PINGS)
        self._trip_s = 0.0

    def wrote(self, number: int) -> None:
        """Note that the stream has taken what was given up to this number.

        Not before it has: a question that overtakes an item says nothing of it.
        """
        self._written = number
        self._sent.set()

    async def run(self) -> None:
        """Ask, until cancelled.

        Raises:
            GatewayError: UPSTREAM_LOST, when there is no answer in `PING_TIMEOUT_S`.
        """
        async with asyncio.TaskGroup() as questions:
            while True:
                await self._until_sent()
                await self._room.acquire()
                self._asked = self._written
                questions.create_task(self._ask(self._asked))
                await asyncio.sleep(
                    PING_LEAST_S if self._session.behind else max(PING_LEAST_S, PING_AFTER_S - self._trip_s)
                )

    async def _until_sent(self) -> None:
        """Wait for something that was not asked after, or for so long that it is time to ask anyway."""
        if self._asked == self._written:
            self._sent.clear()
            try:
                async with asyncio.timeout(PING_IDLE_S):
                    await self._sent.wait()
            except TimeoutError:
                return
            await asyncio.sleep(PING_GATHERS_S)

    async def _ask(self, number: int) -> None:
        asked_at = self._clock()
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                await self._stream.ping()
        except TimeoutError:
            raise GatewayError(ErrorCode.UPSTREAM_LOST) from None
        finally:
            self._room.release()
        self._trip_s = trip_s = self._clock() - asked_at
        await asyncio.sleep(SETTLE_S)
        self._arrived(number, trip_s)
