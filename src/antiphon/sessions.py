"""The sessions of this node, those whose client is away too; and those of other nodes, by the store."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import msgspec

from antiphon.errors import ErrorCode, GatewayError
from antiphon.session.machine import Session
from antiphon.store import NotResumable, Record, SessionStore, StoreAway

_log = logging.getLogger(__name__)


class Holder(Protocol):
    """What runs a session."""

    session: Session
    fence: int

    def abandon(self) -> None:
        """Leave the session as it is."""

    def evicted(self) -> None:
        """End the session here: it goes on elsewhere."""


H = TypeVar("H", bound=Holder)


def new_token() -> str:
    """Return a resume token that nobody can guess."""
    return secrets.token_urlsafe(24)


class Sessions(Generic[H]):
    """Finds the session that a client wants to resume, wherever it was.

    At most `max_waiting` sessions, and so many of a user, wait for their clients; beyond it the longest
    waiting one is given up.
    """

    def __init__(
        self, max_waiting: int = 1000, max_waiting_per_user: int = 5, elsewhere: Elsewhere[H] | None = None
    ) -> None:
        self._by_id: dict[str, H] = {}
        self._max_waiting = max_waiting
        self._max_waiting_per_user = max_waiting_per_user
        self._elsewhere = elsewhere

    def __len__(self) -> int:
        return len(self._by_id)

    @property
    def all(self) -> tuple[H, ...]:
        return tuple(self._by_id.values())

    def add(self, session_id: str, holder: H) -> None:
        """Note a session that begins here, or goes on here."""
        self._by_id[session_id] = holder

    def remove(self, session_id: str, holder: H) -> None:
        """Note that a session is over here."""
        if self._by_id.get(session_id) is holder:
            del self._by_id[session_id]

    def abandon(self) -> None:
        """Leave all sessions as they are."""
        for holder in self.all:
            holder.abandon()

    def waits(self, holder: H) -> None:
        """Note that a session waits for its client from now on."""
        waiting = [other for other in self._by_id.values() if not other.session.attached]
        of_user = [other for other in waiting if other.session.user_id == holder.session.user_id]
        if len(of_user) > self._max_waiting_per_user:
            waiting = of_user
        elif len(waiting) <= self._max_waiting:
            return
        min(waiting, key=lambda other: other.session.detached_at).abandon()

    async def find(self, session_id: str, user_id: str, resume_digest: str) -> H:
        """Return what runs the session that may be resumed with this; one of another node is taken over.

        Raises:
            GatewayError: SESSION_RESUME_REFUSED, or SESSION_RESUME_UNAVAILABLE while the store is away.
        """
        here = self._by_id.get(session_id)
        if here and here.session.admits(user_id, resume_digest):
            return here
        if self._elsewhere is None:
            raise GatewayError(ErrorCode.SESSION_RESUME_REFUSED)
        record = await self._elsewhere.claim(session_id, user_id, resume_digest)
        if stale := self._by_id.get(session_id):
            stale.evicted()
        return self._elsewhere.revive(record, resume_digest)

    async def watch(self) -> None:
        """End here the sessions that are taken over elsewhere, until cancelled."""
        while self._elsewhere:
            session_id, fence = await self._elsewhere.evicted()
            here = self._by_id.get(session_id)
            if here and here.fence < fence:
                here.evicted()


class Elsewhere(Generic[H]):
    """The sessions that other nodes have saved. `revive` goes on with one, as this `node`.

    `settled` says whether the store can be believed: an owner that is alive may not have saved what it knows.
    """

    def __init__(
        self,
        store: SessionStore,
        node: str,
        clock: Callable[[], float],
        revive: Callable[[Record, str], H],
        settled: Callable[[], bool],
    ) -> None:
        self._settled = settled
        self._store = store
        self._node = node
        self._clock = clock
        self._revive = revive

    async def claim(self, session_id: str, user_id: str, resume_digest: str) -> Record:
        """Take a session over.

        Raises:
            GatewayError: SESSION_RESUME_REFUSED, or SESSION_RESUME_UNAVAILABLE while the store is away.
        """
        unavailable = GatewayError(ErrorCode.SESSION_RESUME_UNAVAILABLE, retryAfterMs=1000)
        if not self._settled():
            raise unavailable
        try:
            return await self._store.claim(session_id, user_id, resume_digest, self._node, self._clock())
        except NotResumable:
            raise GatewayError(ErrorCode.SESSION_RESUME_REFUSED) from None
        except StoreAway:
            raise unavailable from None

    def revive(self, record: Record, spent: str) -> H:
        """Go on with a session, whose client has shown the token of digest `spent`.

        Raises:
            GatewayError: SESSION_RESUME_REFUSED, its record cannot be read.
        """
        try:
            return self._revive(record, spent)
        except msgspec.DecodeError as error:
            # Another version of the gateway has written it, as in an upgrade.
            _log.error("The record of a session cannot be read: %s", error)
            raise GatewayError(ErrorCode.SESSION_RESUME_REFUSED) from None

    async def evicted(self) -> tuple[str, int]:
        """Wait for the next session of this node's that another one has taken over, and its fencing token."""
        return await self._store.evicted(self._node)
