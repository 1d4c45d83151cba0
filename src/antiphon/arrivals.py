"""What has arrived at the model's machine, and whether that is there: asked again and again.

A question is answered after what was written before it has been read. Questions overlap where the way is
long: what is on its way unconfirmed is then what travels, and no more than a third of a second besides.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple, Protocol

from antiphon.clock import TIMER_SLACK_S, Clock
from antiphon.errors import ErrorCode, GatewayError
from antiphon.live import Answered
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
SETTLE_LATE_S: Final = 0.25
"""What has settled is told so much later where nobody `settle()`s it before: while somebody speaks, whoever
gives to the model does, which costs less than a timer for each question.
"""
PING_IDLE_S: Final = 8.0
"""A model that is sent nothing is asked so often whether it is there."""
PING_TIMEOUT_S: Final = 6.0
"""Streams say sooner that there is no answer. Should one not, it is noticed up to `PING_IDLE_S` later."""


class Asked(Protocol):
    """A `live.LiveStream`, as far as it is asked here."""

    def ask(self, answered: Answered) -> None: ...


class _Settling(NamedTuple):
    """What has reached the model's machine, and when it is taken to have reached the model."""

    at: float
    number: int
    trip_s: float


class Arrivals:
    """Asks after what a session has sent over a stream. Made where an event loop runs, and closed in the end.

    `arrived` is called with the number up to which it has, and how many seconds it took to learn that.
    """

    def __init__(
        self, stream: Asked, session: Session, clock: Clock, arrived: Callable[[int, float], None]
    ) -> None:
        self._stream = stream
        self._session = session
        self._clock = clock
        self._arrived = arrived
        self._loop = asyncio.get_running_loop()
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self._written = session.given
        self._is_due = False
        """Whether something was written that is to be asked after."""
        self._timer: asyncio.TimerHandle | None = None
        """When to ask next, or to see whether there is reason to."""
        self._pause_until = self._loop.time()
        self._open: dict[int, float] = {}
        """Questions that wait for their answers, each with the end of its time."""
        self.settles_at = float("inf")
        """When `settle()` has something to tell."""
        self._settling: deque[_Settling] = deque()
        """Answers of the last third of a second: of no more questions than may wait, and were asked since."""
        self._settler: asyncio.TimerHandle | None = None
        self._settler_at = float("inf")
        self._count = 0
        self._trip_s = 0.0
        self._idle = self._loop.call_later(PING_IDLE_S, self._look)

    def wrote(self, number: int) -> None:
        """Note that the stream has taken what was given up to this number.

        Not before it has: a question that overtakes an item says nothing of it.
        """
        if self._written == number:
            return
        self._written = number
        if not self._is_due:
            self._is_due = True
            self._ask_at(max(self._loop.time() + PING_GATHERS_S, self._pause_until))

    def settle(self) -> None:
        """Tell of what has settled by now; of the rest in time, should nobody call this again."""
        settling, now = self._settling, self._clock()
        while settling and settling[0].at <= now and not self._lost.done():
            settled = settling.popleft()
            self.settles_at = settling[0].at if settling else float("inf")
            self._arrived(settled.number, settled.trip_s)
        if settling and not self._lost.done():
            self._settle_by(settling[0].at + SETTLE_LATE_S * (not self._session.behind))

    async def lost(self) -> None:
        """Wait for a question that is not answered, which raises.

        Raises:
            GatewayError: UPSTREAM_LOST, there is no answer.
        """
        await self._lost

    def close(self) -> None:
        """Ask no more, and tell of no more answers."""
        self._lost.cancel()
        self._idle.cancel()
        self._settling.clear()  # else it would be told of another connection, which may not have it
        self.settles_at = float("inf")
        for timer in (self._timer, self._settler):
            if timer:
                timer.cancel()

    def _ask_at(self, at: float) -> None:
        if self._timer is None:
            self._timer = self._loop.call_at(at, self._ask)

    def _look(self) -> None:
        """Ask where nothing was asked for long, and see that no answer is overdue."""
        if self._lost.done():
            return
        now = self._loop.time()
        if self._open and now >= min(self._open.values()):
            self._lost.set_exception(GatewayError(ErrorCode.UPSTREAM_LOST))
            return
        if now >= self._pause_until + PING_IDLE_S and self._timer is None:
            self._ask()
        wake_at = min([self._pause_until + PING_IDLE_S, *self._open.values()])
        self._idle = self._loop.call_at(max(wake_at, now + 0.01), self._look)

    def _ask(self) -> None:
        self._timer = None
        if self._lost.done() or len(self._open) >= MAX_PINGS:
            return  # the next answer makes room for it
        self._is_due = False
        self._count += 1
        now = self._loop.time()
        self._open[self._count] = now + PING_TIMEOUT_S
        pause_s = PING_LEAST_S if self._session.behind else max(PING_LEAST_S, PING_AFTER_S - self._trip_s)
        self._pause_until = now + pause_s
        self._stream.ask(partial(self._answered, self._count, self._written, self._clock()))

    def _answered(self, question: int, number: int, asked_at: float, error: GatewayError | None) -> None:
        if self._open.pop(question, None) is None or self._lost.done():
            return
        if error:
            self._lost.set_exception(error)
            return
        now = self._clock()
        self._trip_s = now - asked_at
        self._settling.append(_Settling(now + SETTLE_S, number, self._trip_s))
        self.settles_at = self._settling[0].at
        self._settle_by(self.settles_at + SETTLE_LATE_S * (not self._session.behind))
        if self._is_due:
            self._ask_at(max(self._loop.time(), self._pause_until))

    def _settle_by(self, at: float) -> None:
        """See to it that `settle()` is called at a time, or before."""
        if self._settler_at <= at:
            return
        if self._settler:
            self._settler.cancel()
        self._settler_at = at
        self._settler = self._loop.call_later(max(0.0, at - self._clock()) + TIMER_SLACK_S, self._settle_late)

    def _settle_late(self) -> None:
        self._settler, self._settler_at = None, float("inf")
        self.settle()
