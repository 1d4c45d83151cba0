"""A server, and the connections to it: made when they are wanted, again when they are lost."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from antiphon.rpc.call import Call
from antiphon.rpc.connection import Connection, Terms
from antiphon.rpc.grpc import Metadata
from antiphon.rpc.status import RpcError, Status

CONNECT_S: Final = 5.0
"""How long an attempt to connect may take, until the server has said what it allows."""
BACKOFF_S: Final = 0.1
MAX_BACKOFF_S: Final = 2.0
STEADY_S: Final = 1.0
"""A connection that is lost sooner after it was made counts as one that could not be."""


class Channel:
    """The connections to one server.

    A connection is given at most `streams` calls, and no more than the server allows less a few to `spare`,
    for calls that have to be on it; when they have no room, another is made. Those beside the first are
    closed with their last call, as are those that the server closes (GOAWAY), whose calls go on to their end.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        streams: int = 100,
        spare: int = 0,
        keepalive_s: float | None = None,
        max_message_bytes: int = 4 * 1024 * 1024,
        agent: str = "antiphon",
    ) -> None:
        self._host, self._port = host, port
        self._tls = tls
        self._streams = streams
        self._spare = spare
        self._keepalive_s = keepalive_s
        self._terms = Terms(f"{host}:{port}", tls is not None, agent, max_message_bytes)
        self._connections: list[Connection] = []
        self._connecting: asyncio.Task[None] | None = None
        self._changed: set[asyncio.Future[None]] = set()
        self._waiting = 0
        """How many want room for a call."""
        self._failures = 0
        self._last_failure = RpcError(Status.UNAVAILABLE)
        self._is_closed = False

    @property
    def ready(self) -> bool:
        """Whether there is a connection that takes calls, or only has no room for more."""
        return any(connection.is_open and not connection.goes_away for connection in self._connections)

    @property
    def size(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    @asynccontextmanager
    async def call(
        self,
        method: str,
        metadata: Metadata = (),
        *,
        timeout_s: float | None = None,
        wait_for_ready: bool = False,
    ) -> AsyncIterator[Call]:
        """Make a call on whatever connection; see `Connection.call()` and `room()`."""
        connection = await self.room(wait_for_ready=wait_for_ready)
        with connection.call(method, metadata, timeout_s) as call:
            yield call

    async def room(self, *, wait_for_ready: bool = False) -> Connection:
        """Return a connection with room for a call, which is to be made at once.

        Raises:
            RpcError: UNAVAILABLE, there is none; with `wait_for_ready` one is waited for.
        """
        self._waiting += 1
        try:
            return await self._room(wait_for_ready=wait_for_ready)
        finally:
            self._waiting -= 1
            if not self._waiting and len(self._connections) > 1:
                # A connection that was made for this call, and came too late for it, is of no use.
                asyncio.get_running_loop().call_soon(self._tell)

    async def _room(self, *, wait_for_ready: bool) -> Connection:
        failures = self._failures
        while True:
            if self._is_closed:
                raise RpcError(Status.UNAVAILABLE, "The channel is closed.")
            for connection in self._connections:
                room = connection.room - self._spare
                if connection.calls < self._streams and (
                    room > 0 or (connection.room and not connection.calls)
                ):
                    return connection
            if not wait_for_ready and self._failures > failures:
                raise self._last_failure
            # A server that allows no call at all is not asked by more and more connections.
            if not any(not connection.calls and connection.is_open for connection in self._live()):
                self._connect()
            await self._change()

    async def keep(self, told: Callable[[bool], None]) -> None:
        """Keep a connection up, and tell whether there is one whenever that changes; until cancelled."""
        was: bool | None = None
        while True:
            if was is not self.ready:
                was = self.ready
                told(was)
            if not was:
                self._connect()
            await self._change()

    async def aclose(self) -> None:
        """Close every connection; calls that are under way are lost."""
        self._is_closed = True
        if self._connecting:
            self._connecting.cancel()
            await asyncio.wait([self._connecting])
        for connection in list(self._connections):
            connection.close()
            await connection.closed()

    # ---- connections

    def _live(self) -> list[Connection]:
        return [connection for connection in self._connections if not connection.goes_away]

    def _connect(self) -> None:
        """Begin to make a connection, if none is being made."""
        if self._connecting is None and not self._is_closed:
            self._connecting = asyncio.get_running_loop().create_task(self._attempt())
            self._connecting.add_done_callback(self._attempted)

    async def _attempt(self) -> None:
        if self._failures:
            pause_s = min(MAX_BACKOFF_S, BACKOFF_S * 1.6 ** min(self._failures - 1, 10))
            await asyncio.sleep(pause_s * random.uniform(0.8, 1.2))  # noqa: S311 (no secret)
        connection = Connection(self._terms, self._tell, self._keepalive_s)
        try:
            async with asyncio.timeout(CONNECT_S):
                await self._dial(connection)
                while not connection.is_open:
                    if connection.lost is not None:
                        raise ConnectionError(connection.lost)
                    await self._change()
        except (OSError, TimeoutError) as error:
            self._failed(str(error) or "it did not answer in time")
        else:
            self._connections.append(connection)
        finally:
            if connection not in self._connections:
                connection.close()

    def _failed(self, reason: str) -> None:
        self._failures += 1
        self._last_failure = RpcError(Status.UNAVAILABLE, f"{self._host}:{self._port}: {reason}")

    async def _dial(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_connection(
                lambda: connection,
                self._host,
                self._port,
                ssl=self._tls,
                server_hostname=self._host if self._tls else None,
            )
        except asyncio.CancelledError:
            connection.abandon()
            raise
        if self._tls:
            tls = transport.get_extra_info("ssl_object")
            if tls.selected_alpn_protocol() != "h2":
                raise ConnectionError("the server does not speak HTTP/2")

    def _attempted(self, task: asyncio.Task[None]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.result()
        self._tell()

    def _tell(self) -> None:
        """Look at the connections again, as one of them has changed."""
        for connection in list(self._connections):
            if connection not in self._connections:
                continue
            if connection.lost is not None:
                self._connections.remove(connection)
                # One that was good is made again at once; one that is lost again and again is not.
                if asyncio.get_running_loop().time() - connection.opened_at >= STEADY_S:
                    self._failures = 0
                else:
                    self._failed(connection.lost)
            elif not connection.calls and (connection.goes_away or self._is_spare(connection)):
                connection.close()
        for waiter in self._changed:
            if not waiter.done():
                waiter.set_result(None)

    def _is_spare(self, connection: Connection) -> bool:
        return not self._waiting and connection is not self._live()[0]

    async def _change(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._changed.add(waiter)
        try:
            await waiter
        finally:
            self._changed.discard(waiter)
