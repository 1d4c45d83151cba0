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
from typing import Any, Final

from msgspec.structs import replace

from antiphon import live
from antiphon.errors import ErrorCode, GatewayError
from antiphon.live import Connect, LiveEvent, LiveInput, LiveStream, Setup, Upstream

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

    async def send(self, item: LiveInput) -> None:
        await self._stream.send(item)

    async def ping(self) -> None:
        await self._stream.ping()

    async def __aiter__(self) -> AsyncIterator[LiveEvent]:
        async for event in self._stream:
            yield self._marked(event)

    def _marked(self, event: LiveEvent) -> LiveEvent:
        if isinstance(event, live.HandleChanged) and event.handle is not None:
            return live.HandleChanged(f"{self.upstream}:{event.handle}")
        return event


class _Returning(_Marked):
    """A stream of the engine's, which is to be left when the model is there again."""

    def __init__(self, stream: LiveStream, recovered: asyncio.Event) -> None:
        super().__init__(stream, "fallback")
        self._recovered = recovered

    async def __aiter__(self) -> AsyncIterator[LiveEvent]:
        events = aiter(self._stream)
        recovered = asyncio.ensure_future(self._recovered.wait())
        upcoming = asyncio.ensure_future(anext(events))
        waiting: set[asyncio.Future[Any]] = {recovered, upcoming}
        try:
            while True:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                if recovered in waiting and recovered.done():
                    waiting.discard(recovered)
                    yield live.GoingAway(RETURN_S, "recovered")
                if upcoming.done():
                    waiting.discard(upcoming)
                    yield self._marked(upcoming.result())
                    upcoming = asyncio.ensure_future(anext(events))
                    waiting.add(upcoming)
        finally:
            for task in (recovered, upcoming):
                task.cancel()
            await asyncio.wait([recovered, upcoming])
            if not upcoming.cancelled():
                upcoming.exception()
