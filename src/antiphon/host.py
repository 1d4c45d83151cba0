"""Begins the sessions of a node, and goes on with those of other nodes; what all of them share."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from msgspec import Struct

from antiphon import bridge as bridges
from antiphon.admission import Admission
from antiphon.bridge import Authenticate, Bridge, Connection, Siblings, Toolbox
from antiphon.census import Census
from antiphon.clock import Clock
from antiphon.journal import Journal
from antiphon.live import Connect, Setup
from antiphon.session import Limits, Session
from antiphon.sessions import Elsewhere, Sessions
from antiphon.store import Record, SessionStore
from antiphon.tools.call import Tool


class Shared(Struct, frozen=True):
    """What all sessions of a node use. With a `store`, other nodes can go on with them.

    Of one worker of several: its `siblings`, the `census` of all of them, and what the ids of its sessions
    begin with. The store, where there is one, has a census of its own.
    """

    setup: Setup
    limits: Limits
    tools: Mapping[str, Tool]
    authenticate: Authenticate
    admission: Admission
    connect: Connect
    toolbox: Toolbox
    clock: Clock
    store: SessionStore | None = None
    max_connections_per_user: int = 5
    max_waiting: int = 1000
    siblings: Siblings | None = None
    census: bridges.Census | None = None
    prefix: str = ""


class Host:
    """The sessions of a node. `running()` has to be entered for those of other nodes."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._node = secrets.token_hex(8)
        self._tasks: set[asyncio.Task[None]] = set()
        self.journal: Journal | None = None
        self._census: Census | None = None
        elsewhere: Elsewhere[Bridge] | None = None
        if shared.store:
            self.journal = journal = Journal(shared.store, self._node, shared.clock)
            self._census = Census(shared.store, shared.max_connections_per_user, shared.clock)
            elsewhere = Elsewhere(
                shared.store, self._node, shared.clock, self._revive, lambda: journal.settled
            )
        self.sessions: Sessions[Bridge] = Sessions(
            shared.max_waiting, shared.max_connections_per_user, elsewhere
        )

    def bridge(self, connection: Connection, *, extended: bool) -> Bridge:
        """Return the bridge of a new connection, which is to be run."""
        session = self._session(self._shared.prefix + secrets.token_urlsafe(18), extended=extended)
        return self._bridge(session, connection)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Save sessions, and watch for those that other nodes take over; on leaving all sessions are left."""
        async with asyncio.TaskGroup() as tasks:
            running = []
            if self.journal and self._census:
                running = [
                    tasks.create_task(self.journal.run()),
                    tasks.create_task(self._census.run()),
                    tasks.create_task(self.sessions.watch()),
                ]
            try:
                yield
            finally:
                await self._leave()
                for task in running:
                    task.cancel()

    async def flush(self) -> None:
        """Return when all that has changed is saved, as far as it can be."""
        if self.journal:
            await self.journal.flush()

    async def _leave(self) -> None:
        self.sessions.abandon()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _session(self, session_id: str, *, extended: bool) -> Session:
        shared = self._shared
        return Session(
            session_id, shared.setup, shared.limits, shared.clock(), extended=extended, tools=shared.tools
        )

    def _bridge(self, session: Session, connection: Connection | None, fence: int = 1) -> Bridge:
        shared = self._shared
        return Bridge(
            session,
            connection,
            authenticate=shared.authenticate,
            admission=shared.admission,
            connect=shared.connect,
            toolbox=shared.toolbox,
            clock=shared.clock,
            sessions=self.sessions,
            journal=self.journal,
            census=self._census or shared.census,
            siblings=shared.siblings,
            fence=fence,
        )

    def _revive(self, record: Record, spent: str) -> Bridge:
        """Go on with the session of a record; it waits for its client, who may show its token again."""
        session = self._session(record.session_id, extended=True)
        logs = [entries for _, entries in record.logs]
        session.restore(record.state, logs, spent, self._shared.clock())
        bridge = self._bridge(session, None, record.fence)
        bridge.begin()
        task = asyncio.get_running_loop().create_task(bridge.run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return bridge
