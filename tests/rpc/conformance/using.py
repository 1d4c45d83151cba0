"""What the tests of both clients do with them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from antiphon.errors import GatewayError
from antiphon.gemini import calls as form
from antiphon.gemini.grpcio_calls import GrpcioCalls
from antiphon.gemini.native_calls import NativeCalls
from antiphon.gemini.upstream import ClientName, Upstream
from antiphon.rpc import RpcError

WITHIN_S: Final = 20.0
"""Whatever is waited for has happened by then, or never does."""
STILL_S: Final = 0.25
"""What has not moved for so long stands still."""


class Call:
    """A call, as the tests use it: the one place that knows the form that both clients have."""

    def __init__(self, call: form.Call) -> None:
        self._call = call
        self.connected = call.connected
        self.read = call.read
        self.listen = call.listen

    async def write(self, message: bytes) -> None:
        """Send a message; returns when there is room for another."""
        if not self._call.write(message):
            await self._call.drain()

    async def ping(self) -> None:
        """Return when the other end has answered; raises what it is told instead."""
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def answered(error: GatewayError | None) -> None:
            if told.done():
                return
            if error:
                told.set_exception(error)
            else:
                told.set_result(None)

        self._call.ask(answered)
        await told


class Calls:
    """The connections to a server, as the tests use them."""

    def __init__(self, calls: form.Calls) -> None:
        self._calls = calls
        self.watch = calls.watch
        self.reached = calls.reached

    @property
    def ready(self) -> bool:
        return self._calls.ready

    @property
    def connections(self) -> int:
        return self._calls.connections

    @asynccontextmanager
    async def call(self) -> AsyncIterator[Call]:
        async with self._calls.call() as call:
            yield Call(call)


@asynccontextmanager
async def calling(
    client: ClientName, target: str, told: str | None = None, **options: Any
) -> AsyncIterator[Calls]:
    """Hold the connections to a server whose calls are told this by their key; see `servers`."""
    upstream = Upstream(target, client=client, **{"tls": False, "api_key": told, **options})
    calls: form.Calls = NativeCalls(upstream) if client == "native" else GrpcioCalls(upstream)
    try:
        yield Calls(calls)
    finally:
        async with asyncio.timeout(WITHIN_S):
            await calls.aclose()


@asynccontextmanager
async def watching(calls: Calls) -> AsyncIterator[None]:
    """Watch the server meanwhile."""
    task = asyncio.create_task(calls.watch())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task.exception()


@asynccontextmanager
async def connected(calls: Calls) -> AsyncIterator[Call]:
    """Make a call, which is on its connection."""
    async with calls.call() as call:
        async with asyncio.timeout(WITHIN_S):
            await call.connected()
        yield call


async def end_of(call: Call) -> RpcError:
    """Read until the call ends; return what with."""
    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(RpcError) as ended:
            while True:
                await call.read()
    return ended.value


async def outcome(doing: Awaitable[object]) -> RpcError:
    """Return what the call has ended with when this is done."""
    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(RpcError) as ended:
            await doing
    return ended.value


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(WITHIN_S):
        while not condition():
            await asyncio.sleep(0.005)


async def until_that(condition: Callable[[], Coroutine[Any, Any, bool]]) -> None:
    """As `until`, of what another process has to be asked."""
    async with asyncio.timeout(WITHIN_S):
        while not await condition():
            await asyncio.sleep(0.005)


async def at_rest(number: Callable[[], Awaitable[int]]) -> int:
    """Return a number once it has begun to grow and stands still."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(WITHIN_S):
        last, since = 0, loop.time()
        while not last or loop.time() - since < STILL_S:
            await asyncio.sleep(0.02)
            now = await number()
            if now != last:
                last, since = now, loop.time()
    return last
