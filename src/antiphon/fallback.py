"""The model, or the embedded engine while the model cannot be reached.

A circuit breaker: when a conversation cannot be opened it opens, and from then on conversations are opened
with the engine at once. Meanwhile the model is tried now and then, for nobody; when that succeeds the breaker
closes, and conversations go back to it as soon as nobody speaks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from msgspec.structs import replace

from antiphon import live
from antiphon.errors import ErrorCode, GatewayError
from antiphon.live import (
    Answered,
    Connect,
    Full,
    LiveEvent,
    LiveInput,
    LiveStream,
    Room,
    Setup,
    Take,
    Upstream,
)

PROBE_AFTER_S: Final = (2.0, 4.0, 8.0, 15.0, 30.0)
"""How long after the last failure the model is tried again; the last again and again."""
RETURN_S: Final = 120.0
"""Conversations go back within this time, whoever speaks."""

_UNREACHABLE: Final = frozenset(
    {
        ErrorCode.UPSTREAM_UNAVAILABLE,
        ErrorCode.UPSTREAM_TIMEOUT,
        ErrorCode.UPSTREAM_LOST,
        ErrorCode.UPSTREAM_INTERNAL,
        ErrorCode.UPSTREAM_QUOTA,
        ErrorCode.UPSTREAM_BUSY,
    }
)

_log = logging.getLogger(__name__)


class Fallback:
    """Opens conversations with `primary`, or with `local` while that fails; `connect` is a `live.Connect`."""

    def __init__(self, primary: Connect, local: Connect, probe: Setup) -> None:
        self._primary = primary
        self._local = local
        self._probe = probe
        self._failed = asyncio.Event()
        self._recovered = asyncio.Event()
        self._recovered.set()

    @property
    def open(self) -> bool:
        """Whether the breaker is open: conversations go to the engine."""
        return self._failed.is_set()

    async def watch(self) -> None:
        """Try the model again while the breaker is open; runs until cancelled."""
        while True:
            await self._failed.wait()
            for tries in range(1_000_000):
                await asyncio.sleep(PROBE_AFTER_S[min(tries, len(PROBE_AFTER_S) - 1)])
                try:
                    async with self._primary(self._probe):
                        break
                except GatewayError as error:
                    _log.info("The model still cannot be reached: %s", error.code)
            _log.warning("The model can be reached again; conversations go back to it")
            self._failed.clear()
            self._recovered.set()

    @asynccontextmanager
    async def connect(self, setup: Setup) -> AsyncIterator[LiveStream]:
        """Open a conversation.

        Raises:
            GatewayError: UPSTREAM_UNSUPPORTED for a handle that the other of the two has given.
        """
        if not self.open:
            async with AsyncExitStack() as stack:
                try:
                    stream = await stack.enter_async_context(self._primary(_own(setup, "primary")))
                except GatewayError as error:
                    if error.code not in _UNREACHABLE:
                        raise
                    _log.warning("The model cannot be reached (%s); the engine stands in for it", error.code)
                    self._recovered.clear()
                    self._failed.set()
                else:
                    yield _Marked(stream, "primary")
                    return
        async with self._local(_own(setup, "fallback")) as stream:
            yield _Returning(stream, self._recovered)


def _own(setup: Setup, upstream: Upstream) -> Setup:
    """Return the set-up with the handle as its giver knows it."""
    if setup.handle is None:
        return setup
    giver, _, handle = setup.handle.partition(":")
    if giver != upstream:
        raise GatewayError(ErrorCode.UPSTREAM_UNSUPPORTED)
    return replace(setup, handle=handle)


class _Marked:
    """A stream whose handles say who has given them."""

    def __init__(self, stream: LiveStream, upstream: Upstream) -> None:
        self.upstream: Upstream = upstream
        self._stream = stream

    def write(self, item: LiveInput) -> bool:
        return self._stream.write(item)

    async def drain(self) -> None:
        await self._stream.drain()

    def ask(self, answered: Answered) -> None:
        self._stream.ask(answered)

    async def listen(self, take: Take, full: Full, room: Room) -> None:
        await self._stream.listen(lambda event: take(self._marked(event)), full, room)

    def _marked(self, event: LiveEvent) -> LiveEvent:
        if isinstance(event, live.HandleChanged) and event.handle is not None:
            return live.HandleChanged(f"{self.upstream}:{event.handle}")
        return event


class _Returning(_Marked):
    """A stream of the engine's, which is to be left when the model is there again."""

    def __init__(self, stream: LiveStream, recovered: asyncio.Event) -> None:
        super().__init__(stream, "fallback")
        self._recovered = recovered

    async def listen(self, take: Take, full: Full, room: Room) -> None:
        telling = asyncio.create_task(self._tell(take))
        try:
            await super().listen(take, full, room)
        finally:
            telling.cancel()
            await asyncio.wait([telling])
            if not telling.cancelled():
                telling.result()

    async def _tell(self, take: Take) -> None:
        await self._recovered.wait()
        take(live.GoingAway(RETURN_S, "recovered"))
