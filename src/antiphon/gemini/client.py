"""Gemini Live, over whichever transport the settings name or the service offers."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from antiphon.errors import ErrorCode, GatewayError
from antiphon.gemini import codec, grpc_errors
from antiphon.gemini import websocket as gemini_socket
from antiphon.gemini import websocket_transport as gemini_websocket
from antiphon.gemini.calls import METHOD
from antiphon.gemini.grpc_transport import GrpcTransport
from antiphon.gemini.stream import ModelStream
from antiphon.gemini.upstream import GOOGLE, Opening, Transport, Upstream, Vertex, is_private
from antiphon.gemini.websocket_transport import WebSocketTransport
from antiphon.live import Setup

__all__ = ["GOOGLE", "METHOD", "Gemini", "Upstream", "Vertex", "explain", "is_private"]

GRPC_AGAIN_S: Final = 1800.0
"""How long gRPC is left alone after the service has said that it does not serve it."""

_RETRIED: Final = frozenset(
    {ErrorCode.UPSTREAM_LOST, ErrorCode.UPSTREAM_TIMEOUT, ErrorCode.UPSTREAM_INTERNAL}
)

_log = logging.getLogger(__name__)


class Gemini:
    """A client of one upstream; `connect` is a `live.Connect`.

    Raises:
        GatewayError: a login is needed and there is none, or google-genai and it is not installed.
    """

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._transport = _transport(upstream)

    @property
    def ready(self) -> bool:
        """Whether the upstream can be reached, as far as `watch` knows."""
        return self._transport.ready

    @property
    def reached(self) -> asyncio.Event:
        """Set once the upstream has been reached."""
        return self._transport.reached

    @property
    def connections(self) -> int:
        """How many connections to the upstream are held."""
        return self._transport.connections

    async def watch(self) -> None:
        """Keep `ready` true to the upstream; runs until cancelled."""
        await self._transport.watch()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._transport.aclose()

    @asynccontextmanager
    async def connect(self, setup: Setup) -> AsyncIterator[ModelStream]:
        """Open a conversation; entering returns when the model is ready.

        A connection that fails during set-up is tried again, with backoff and jitter.

        Raises:
            GatewayError: UPSTREAM_UNAVAILABLE after the last try, or at once what a status means
                that another try would not mend.
        """
        history = codec.history_message(setup.history) if setup.history else None
        opening = Opening(codec.setup_message(setup, self._upstream.voice), history)
        for tries_left in reversed(range(self._upstream.tries)):
            async with AsyncExitStack() as stack:
                try:
                    stream = await stack.enter_async_context(self._transport.conversation(opening))
                except GatewayError as error:
                    if error.code not in _RETRIED:
                        raise
                    if not tries_left:
                        raise GatewayError(ErrorCode.UPSTREAM_UNAVAILABLE) from error
                else:
                    yield stream
                    return
            tried = self._upstream.tries - tries_left
            await asyncio.sleep(self._upstream.backoff_s * 2**tried * random.uniform(0.5, 1.0))  # noqa: S311


class AutoTransport:
    """gRPC, or the WebSocket while the service does not offer gRPC."""

    def __init__(self, first: Transport, second: Transport) -> None:
        self.reached = asyncio.Event()
        self._first = first
        self._second = second
        self._first_again_at = float("-inf")

    @property
    def ready(self) -> bool:
        return self._first.ready or self._second.ready

    @property
    def connections(self) -> int:
        return self._first.connections + self._second.connections

    async def watch(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for transport in (self._first, self._second):
                tasks.create_task(transport.watch())
                tasks.create_task(self._note(transport))

    async def _note(self, transport: Transport) -> None:
        await transport.reached.wait()
        self.reached.set()

    async def aclose(self) -> None:
        await self._first.aclose()
        await self._second.aclose()

    @asynccontextmanager
    async def conversation(self, opening: Opening) -> AsyncIterator[ModelStream]:
        now = asyncio.get_running_loop().time()
        refused = False
        if now >= self._first_again_at:
            async with AsyncExitStack() as stack:
                try:
                    stream = await stack.enter_async_context(self._first.conversation(opening))
                except GatewayError as error:
                    if error.code is not ErrorCode.UPSTREAM_UNSUPPORTED:
                        raise
                    refused = True
                else:
                    yield stream
                    return
        async with self._second.conversation(opening) as stream:
            if refused:  # and not the model alone, which the other transport would not know either
                if self._first_again_at < 0:
                    _log.warning("The upstream does not serve gRPC; its WebSocket is used instead")
                self._first_again_at = now + GRPC_AGAIN_S
            yield stream


def explain(error: GatewayError) -> str:
    """Return what an operator should know and a client should not: the status behind an error."""
    cause: BaseException | None = error
    while cause is not None:
        described = grpc_errors.describe(cause) or gemini_socket.describe(cause)
        if described:
            return described
        cause = cause.__cause__
    return error.message


def _transport(upstream: Upstream) -> Transport:
    match upstream.transport:
        case "websocket":
            return WebSocketTransport(upstream)
        case "auto" if not upstream.genai or gemini_websocket.is_installed():
            return AutoTransport(GrpcTransport(upstream), WebSocketTransport(upstream))
        case _:
            return GrpcTransport(upstream)
