"""What a client of gRPC gives the transport: calls of one method on one server, in bytes.

Two clients have this form, `grpcio_calls` and `native_calls`; `--grpc-client` chooses. Whatever a call ends
with is an `RpcError` with gRPC's status, whichever client it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from antiphon.live import Answered

METHOD: Final = "/google.ai.generativelanguage.v1beta.GenerativeService/BidiGenerateContent"
HEALTH_METHOD: Final = "/grpc.health.v1.Health/Check"


class Call(Protocol):
    """One call. All of it raises `RpcError` with what the call has ended with, OK too."""

    async def connected(self) -> None:
        """Return once the call is on a connection."""

    def write(self, message: bytes) -> bool:
        """Send a message; return whether there is room for another. Where not, `drain()` comes next."""

    async def drain(self) -> None:
        """Return when there is room for another message."""

    async def read(self) -> bytes:
        """Return the next message."""

    async def listen(self, take: Callable[[bytes], bool], room: Callable[[], Awaitable[None]]) -> None:
        """Hand every message to `take` as it comes, until the call ends.

        Where `take` returns False nothing more is handed over until `room()` returns.
        """

    def ask(self, answered: Answered) -> None:
        """See `live.LiveStream.ask`."""

    def distrust(self) -> None:
        """Note that the server did not answer a set-up in time: it may allow fewer calls a connection."""


class Calls(Protocol):
    """The connections to one server, and the calls on them. Made where an event loop runs.

    Raises:
        GatewayError: UPSTREAM_UNAUTHORIZED, when a login is needed and the machine has none.
    """

    @property
    def ready(self) -> bool:
        """Whether the server can be reached, as far as `watch` knows."""

    @property
    def reached(self) -> asyncio.Event:
        """Set once the server has been reached."""

    @property
    def connections(self) -> int:
        """How many connections are held."""

    async def watch(self) -> None:
        """Keep a connection up and `ready` true to it; runs until cancelled."""

    async def aclose(self) -> None:
        """Close every connection."""

    def call(self) -> AbstractAsyncContextManager[Call]:
        """Make a call; leaving ends it, and nothing of it is left."""
