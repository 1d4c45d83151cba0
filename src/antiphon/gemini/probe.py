"""Whether the other end of a connection is there, and what was sent has arrived.

The health check of gRPC (`grpc.health.v1.Health/Check`) is asked over the connection that carries the
conversations. What comes in answer does not matter, and most servers say UNIMPLEMENTED: it shows that the
other end has read what was written to the connection before. HTTP/2's own PING would do, but servers end
connections whose clients ping more than once in five minutes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from antiphon.errors import ErrorCode, GatewayError
from antiphon.live import Answered
from antiphon.rpc import RpcError, Status

TIMEOUT_S: Final = 5.0
LEAST_S: Final = 0.06
"""A connection is asked at most so often, for all its conversations together. A question costs as much as two
chunks of audio.
"""
UNANSWERED_S: Final = 0.5
"""How long what is sent takes to arrive where the other end does not answer: an assumption."""

_GONE: Final = frozenset({Status.UNAVAILABLE, Status.DEADLINE_EXCEEDED, Status.CANCELLED})

Check = Callable[[float], Awaitable[object]]
"""Ask the other end how it is, for so many seconds at most. Raises `RpcError`."""


class Probe:
    """Asks for all conversations of a connection. Made where an event loop runs."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._asking: set[asyncio.Task[None]] = set()
        self._waiting: list[Answered] = []
        """Who waits for the next question to be asked."""
        self.heard = 0
        """Messages that came from the other end, so that it is there: counted by who gets them."""
        self._asked_at = float("-inf")
        self._answers: bool | None = None
        """Whether the other end ever has; None until that is known."""

    def distrust(self) -> None:
        """Note that questions may not get through, as to a server that has no room for another stream."""
        self._answers = False

    def trust(self) -> None:
        """Find out anew whether questions get through."""
        self._answers = None

    def ask(self, answered: Answered) -> None:
        """Call `answered` once the other end has answered what was asked after this call.

        With UPSTREAM_LOST, when it does not answer in `TIMEOUT_S` although it has before, and says nothing
        else either.
        """
        self._waiting.append(answered)
        if len(self._waiting) == 1:
            task = asyncio.get_running_loop().create_task(self._ask_soon())
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)

    async def aclose(self) -> None:
        """Ask no more; who waits for an answer is told nothing."""
        asking = list(self._asking)
        for task in asking:
            task.cancel()
        if asking:
            await asyncio.wait(asking)

    async def _ask_soon(self) -> None:
        """Wait for one's turn, then ask; who asks from then on waits for the next."""
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._asked_at + LEAST_S - loop.time())
        self._asked_at = loop.time()
        waiting, self._waiting = self._waiting, []
        error = await self._question()
        for answered in waiting:
            answered(error)

    async def _question(self) -> GatewayError | None:
        heard_before = self.heard
        if self._answers is False:
            await asyncio.sleep(UNANSWERED_S)
            return None
        try:
            await self._check(TIMEOUT_S)
        except RpcError as error:
            if error.status not in _GONE:
                self._answers = True
            elif error.status is Status.DEADLINE_EXCEEDED and self.heard > heard_before:
                self.distrust()  # it talks, but does not answer this: there may be no room for the question
            elif self._answers:
                lost = GatewayError(ErrorCode.UPSTREAM_LOST)
                lost.__cause__ = error
                return lost
            elif error.status is Status.DEADLINE_EXCEEDED:
                self.distrust()
        else:
            self._answers = True
        return None
