"""Gemini Live over gRPC: `BidiGenerateContent`, for Google, the embedded engine and anything like them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from antiphon.errors import ErrorCode, GatewayError
from antiphon.gemini.calls import Calls
from antiphon.gemini.grpc_stream import GrpcStream
from antiphon.gemini.stream import ModelStream
from antiphon.gemini.upstream import Opening, Upstream


class GrpcTransport:
    """A client of one upstream over gRPC, by whichever client of gRPC the settings name."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._profile = upstream.voice.profile
        self._calls = _calls(upstream)

    @property
    def ready(self) -> bool:
        return self._calls.ready

    @property
    def reached(self) -> asyncio.Event:
        return self._calls.reached

    @property
    def connections(self) -> int:
        return self._calls.connections

    async def watch(self) -> None:
        """Keep a connection up and `ready` true to it; runs until cancelled."""
        await self._calls.watch()

    async def aclose(self) -> None:
        await self._calls.aclose()

    @asynccontextmanager
    async def conversation(self, opening: Opening) -> AsyncIterator[ModelStream]:
        async with self._calls.call() as call:
            stream = GrpcStream(call, self._profile)
            try:
                async with asyncio.timeout(self._upstream.setup_timeout_s):
                    await stream.open(opening)
            except TimeoutError as error:
                call.distrust()
                raise GatewayError(ErrorCode.UPSTREAM_TIMEOUT) from error
            yield stream


def _calls(upstream: Upstream) -> Calls:
    # Of the two, only the one that is used is loaded.
    if upstream.client == "native":
        from antiphon.gemini.native_calls import NativeCalls

        return NativeCalls(upstream)
    from antiphon.gemini.grpcio_calls import GrpcioCalls

    return GrpcioCalls(upstream)
