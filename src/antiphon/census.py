"""How many connections a user has, on all nodes together."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from antiphon.admission import RETRY_AFTER_MS
from antiphon.clock import Clock
from antiphon.errors import ErrorCode, GatewayError
from antiphon.store import SessionStore, StoreAway

REFRESH_S: Final = 5.0
"""Those of this node are told of so often: a node that is not heard of counts no more after a while."""


class Census:
    """Counts users in and out of the store. While that is away, this node's own count is all there is."""

    def __init__(self, store: SessionStore, limit: int, clock: Clock) -> None:
        self._store = store
        self._limit = limit
        self._clock = clock
        self._here: dict[tuple[str, str], None] = {}
        self._gone: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    async def admit(self, user_id: str, session_id: str) -> None:
        """Count a session's connection in; one of the same session that is counted already is no other.

        Raises:
            GatewayError: QUOTA_CONNECTIONS, with `retryAfterMs`.
        """
        admitted = True
        with suppress(StoreAway):
            admitted = await self._store.admit(user_id, session_id, self._limit, self._clock())
        if not admitted:
            raise GatewayError(ErrorCode.QUOTA_CONNECTIONS, retryAfterMs=RETRY_AFTER_MS)
        self._here[user_id, session_id] = None

    def leave(self, user_id: str, session_id: str) -> None:
        """Count it out, soon."""
        if self._here.pop((user_id, session_id), 0) is None:
            self._gone.put_nowait((user_id, session_id))

    async def run(self) -> None:
        """Tell the store who leaves and who is still here, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._count_out())
            tasks.create_task(self._refresh())

    async def _count_out(self) -> None:
        while True:
            user_id, session_id = await self._gone.get()
            if (user_id, session_id) in self._here:
                continue  # it has come back
            with suppress(StoreAway):  # it counts no more after a while, by itself
                await self._store.leave(user_id, session_id)

    async def _refresh(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_S)
            if self._here:
                with suppress(StoreAway):
                    await self._store.refresh(tuple(self._here), self._clock())
