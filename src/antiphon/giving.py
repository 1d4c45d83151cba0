"""What goes to the model: given in the very call that brings it, where nothing has to be waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from antiphon.arrivals import Arrivals
from antiphon.clock import TIMER_SLACK_S, Clock
from antiphon.errors import GatewayError
from antiphon.live import LiveStream
from antiphon.session.machine import Session


class Giver:
    """Gives a stream what its session has for the model.

    Nothing is given of a session that another node may have taken over: `certain` tells, where there are
    others, and `ascertain` finds out. `gave` is called when something was given other than within `give()`.
    """

    def __init__(
        self,
        stream: LiveStream,
        session: Session,
        arrivals: Arrivals,
        clock: Clock,
        *,
        certain: Callable[[], bool] | None,
        ascertain: Callable[[], Awaitable[None]],
        gave: Callable[[], None],
    ) -> None:
        self.gave_all = asyncio.Event()
        """Set while nothing is left to be given that could be."""
        self.gave_all.set()
        self._stream = stream
        self._session = session
        self._arrivals = arrivals
        self._clock = clock
        self._certain = certain
        self._ascertain = ascertain
        self._gave = gave
        self._stuck = asyncio.Event()
        self._is_stuck = False
        self._timer: asyncio.TimerHandle | None = None

    def give(self, now: float) -> None:
        """Give what there is, up to what has to wait; `run()` goes on with that."""
        if self._is_stuck:
            return
        session = self._session
        try:
            while session.behind:
                if self._certain and not self._certain():
                    break
                item = session.next_input(now)
                if item is None:
                    self._wake_at(session.gathers_until, now)
                    if self._arrivals.settles_at < float("inf"):
                        self._arrivals.settle()
                    return
                if not self._stream.write(item):
                    break
                self._arrivals.wrote(session.given)
            else:
                if self._arrivals.settles_at <= now:
                    self._arrivals.settle()
                return
        except GatewayError:
            return  # the conversation is over, which whoever listens to it is told
        self.gave_all.clear()
        self._is_stuck = True
        self._stuck.set()

    def close(self) -> None:
        """Give nothing more."""
        if self._timer:
            self._timer.cancel()

    def _wake_at(self, at: float, now: float) -> None:
        """Give what is gathered when its time has come; what then still waits does so for something else."""
        if self._timer is None and now < at < float("inf"):
            self._timer = asyncio.get_running_loop().call_later(at - now + TIMER_SLACK_S, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self.give(self._clock())
        self._gave()

    async def run(self) -> None:
        """Wait where `give()` cannot, until cancelled.

        Raises:
            GatewayError: the conversation is over.
        """
        while True:
            await self._stuck.wait()
            await self._stream.drain()
            self._arrivals.wrote(self._session.given)
            await self._ascertain()
            self._is_stuck = False
            self._stuck.clear()
            self.give(self._clock())
            if not self._is_stuck:
                self.gave_all.set()
            self._gave()
