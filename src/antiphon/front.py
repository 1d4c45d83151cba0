"""What a front does for all its connections: admits them, drains them and stops. How they come is not its
business: `server` has sockets of its own, `asgi` those of another server.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Final, Protocol

import msgspec

from antiphon import page, plain
from antiphon.admission import RETRY_AFTER_MS
from antiphon.bridge import Bridge, Connection
from antiphon.errors import ErrorCode, GatewayError
from antiphon.plain import About, Answer

STOP_TIMEOUT_S: Final = 10.0
DRAIN_NOTICE_S: Final = 1.0
"""A balancer takes so long to see that a node drains; no connection is closed before."""
DRAIN_SPREAD: Final = 0.6
"""The part of the rest of the time in which connections are closed, at moments drawn by chance."""
UNSENT_BYTES: Final = 32 * 1024
"""What may wait in the socket, and again in the system, before answers are held back: half a second of one.

What waits there cannot be dropped when the user speaks over it.
"""

_log = logging.getLogger(__name__)


class MakeBridge(Protocol):
    """Make the bridge of a connection; `extended` says that its client speaks `antiphon.v1`."""

    def __call__(self, connection: Connection, *, extended: bool) -> Bridge: ...


class Client(Connection, Protocol):
    """A connection, as the front sees it."""

    is_websocket: bool

    def announce_drain(self, time_left_s: float, notice_s: float, spread_s: float) -> None: ...

    def drain(self) -> None: ...

    def abort(self) -> None: ...


class Front:
    """Answers plain requests, and runs a bridge for each WebSocket.

    `ready` says whether the upstream can take a conversation; `/readyz` is 503 while it says no, and
    while the front drains. `max_connections` bounds the WebSockets, unauthenticated ones included. The page
    is the one that was built into the package.
    """

    def __init__(
        self,
        make_bridge: MakeBridge,
        *,
        ready: Callable[[], bool],
        about: About,
        origins: frozenset[str] = frozenset(),
        max_connections: int = 2000,
        end_sessions: Callable[[], None] = lambda: None,
    ) -> None:
        self.draining = False
        self._drain_by = 0.0
        self._make_bridge = make_bridge
        self._ready = ready
        self._page = page.load(page.FOLDER)
        self._about = msgspec.json.encode(about)
        self._origins = origins
        self._max_connections = max_connections
        self._end_sessions = end_sessions
        self._sockets = 0
        self._clients: set[Client] = set()
        self._bridges: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    @property
    def connections(self) -> int:
        """How many sockets are open, of any kind."""
        return len(self._clients)

    @property
    def drain_left_s(self) -> float:
        """How long the connections that are open still have."""
        return max(0.0, self._drain_by - time.monotonic())

    async def drain(self, duration_s: float) -> None:
        """Take no new client from now on, and let those who are here go, within the time.

        `/readyz` says so, clients are told at once, and their connections are closed at moments drawn by
        chance, so that they do not all come back together. Returns when nobody is here, or the time is over.
        """
        self.draining = True
        self._drain_by = time.monotonic() + duration_s
        notice_s = min(DRAIN_NOTICE_S, duration_s / 4)
        for client in list(self._clients):
            client.announce_drain(duration_s, notice_s, (duration_s - notice_s) * DRAIN_SPREAD)
        try:
            async with asyncio.timeout(duration_s):
                while self._clients:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            pass

    async def stop(self) -> None:
        """Tell every client, close every connection, end every session, and wait until all is gone."""
        self.draining = True
        for client in list(self._clients):
            client.drain()
        self._end_sessions()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._deserted()
        except TimeoutError:
            _log.warning("Cutting %d connections that did not close in time", len(self._clients))
            for client in self._clients:
                client.abort()
            for task in self._bridges:
                task.cancel()
            await self._deserted()

    async def _deserted(self) -> None:
        while self._clients or self._bridges:
            self._changed.clear()
            await self._changed.wait()

    # ---- for the clients

    def answer(self, method: str, path: str, accept_encoding: str | None) -> Answer:
        """Return the answer to a plain request; `accept_encoding` is what the client says that it takes."""
        return plain.answer(
            method,
            path,
            accept_encoding,
            page=self._page,
            about=self._about,
            stopping=self.draining,
            ready=path == "/readyz" and self._ready(),
        )

    def refusal(self, origin: str | None, host: str | None, *, forwarded: bool) -> Answer | None:
        """Return the answer to a handshake that may not be, or None; `forwarded`: it came by a balancer."""
        if self.draining and forwarded:
            # A balancer can try another node; a client that is here itself is told in its own language.
            return plain.refusal(HTTPStatus.SERVICE_UNAVAILABLE, ErrorCode.SERVER_STOPPING)
        if not plain.origin_allowed(origin, host, self._origins):
            return plain.refusal(HTTPStatus.FORBIDDEN, ErrorCode.AUTH_ORIGIN_REFUSED)
        return None

    def joined(self, client: Client) -> None:
        self._clients.add(client)

    def left(self, client: Client) -> None:
        self._clients.discard(client)
        self._sockets -= client.is_websocket
        self._changed.set()

    def bridge(self, client: Client, *, extended: bool) -> Bridge:
        """Return the running bridge for an open WebSocket.

        Raises:
            GatewayError: SERVER_STOPPING, SERVER_AT_CAPACITY.
        """
        if self.draining:
            raise GatewayError(ErrorCode.SERVER_STOPPING)
        if self._sockets >= self._max_connections:
            raise GatewayError(ErrorCode.SERVER_AT_CAPACITY, retryAfterMs=RETRY_AFTER_MS)
        self._sockets += 1
        bridge = self._make_bridge(client, extended=extended)
        task = asyncio.get_running_loop().create_task(bridge.run())
        self._bridges.add(task)
        task.add_done_callback(self._ended)
        return bridge

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._bridges.discard(task)
        self._changed.set()
        if not task.cancelled() and (error := task.exception()):
            _log.error("A session ended by a fault of the gateway", exc_info=error)
