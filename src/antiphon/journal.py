"""Saves the sessions of a node, so that another one can go on with them: many at a time, save after save.

A session that has changed is saved, and what its client is to be told of that is told when it has been. So
whatever a client knows is known to the next node, too. While the store is away nothing waits for it: clients
are told at once, and nothing is acknowledged to them. When it is back, every session is saved whole.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Protocol

from antiphon.clock import Clock
from antiphon.session.machine import Session
from antiphon.store import Change, Log, SessionStore, StoreAway, Verdict

MAX_BATCH: Final = 256
REFRESH_S: Final = 20.0
"""A session is saved at least so often: what is not is forgotten by the store."""
IDLE_S: Final = 1.0
"""The store is asked at least so often whether it is there."""
AWAY_PAUSE_S: Final = 0.5
SETTLE_S: Final = 1.5
"""So long after the store is back every node has found that out and has saved its sessions again."""
STALE_S: Final = 2.0
"""A node that has not heard from the store for so long may have been taken for dead."""

_log = logging.getLogger(__name__)


class Saved(Protocol):
    """What runs a session that is saved."""

    session: Session
    fence: int

    def mark(self) -> Callable[[], None]:
        """Return what is to be called when the session is saved as it is now: it tells what waits."""

    def unsaved(self) -> None:
        """Tell what waits although it could not be saved."""

    def evicted(self) -> None:
        """End the session here: it goes on elsewhere."""


class Journal:
    """Saves what has changed, as long as `run()` runs."""

    def __init__(self, store: SessionStore, node: str, clock: Clock) -> None:
        self.away = False
        """Whether the store cannot be reached."""
        self._store = store
        self._node = node
        self._clock = clock
        self._back_at = float("-inf")
        self._heard_at = self._asked_at = float("-inf")
        self._ledgers: dict[Saved, _Ledger] = {}
        self._changed: dict[Saved, None] = {}
        self._wanted = asyncio.Event()
        self._heard = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    # ---- from the sessions

    def add(self, saved: Saved) -> None:
        """Keep a session saved from now on."""
        self._ledgers[saved] = _Ledger()

    def remove(self, saved: Saved) -> None:
        """Save a session no more."""
        self._ledgers.pop(saved, None)
        self._changed.pop(saved, None)
        self._heard.set()

    def changed(self, saved: Saved) -> bool:
        """Note that a session has changed; return whether what is to be told has to wait for the save."""
        self._changed[saved] = None
        if self.away:
            return False
        self._idle.clear()
        self._wanted.set()
        return True

    @property
    def settled(self) -> bool:
        """Whether the store can be believed: what is in it is as it was when it went away, for a while."""
        return not self.away and self._clock() - self._back_at >= SETTLE_S

    def is_fresh(self, saved: Saved) -> bool:
        """Whether `fresh()` would return at once."""
        return self.away or self._clock() - self._heard_at <= STALE_S or saved not in self._ledgers

    async def fresh(self, saved: Saved) -> None:
        """Return once it is certain that a session is still this node's, or the store is away.

        A node that was stopped for a while may find that it is not.
        """
        while not self.is_fresh(saved):
            self._heard.clear()
            self.changed(saved)
            await self._heard.wait()

    async def forget(self, session_id: str, fence: int) -> None:
        """Let the store forget a session that is over; one that is away forgets it by itself."""
        with suppress(StoreAway):
            await self._store.delete(session_id, fence)

    async def flush(self) -> None:
        """Return when all that has changed is saved, or the store is away."""
        await self._idle.wait()

    # ---- saving

    async def run(self) -> None:
        """Save what changes, until cancelled."""
        while True:
            try:
                await self._save_changes()
            except StoreAway as error:
                if self._clock() - self._asked_at > STALE_S:
                    continue  # it is we who were stopped; the answer has been here for long
                self._lose(error)
                await self._until_back()

    async def _save_changes(self) -> None:
        while True:
            while self._changed:
                batch = list(self._changed)[:MAX_BATCH]
                for saved in batch:
                    del self._changed[saved]
                await self._save(batch)
            self._idle.set()
            self._wanted.clear()
            try:
                async with asyncio.timeout(IDLE_S):
                    await self._wanted.wait()
            except TimeoutError:
                await self._keep_alive()

    async def _save(self, batch: Sequence[Saved]) -> None:
        ledgers = [self._ledgers[saved] for saved in batch]
        changes = [ledger.change(saved) for saved, ledger in zip(batch, ledgers, strict=True)]
        tellings = [saved.mark() for saved in batch]
        self._asked_at = self._clock()
        try:
            verdicts = await self._store.save(changes, self._node, self._asked_at)
        except StoreAway:
            self._changed = dict.fromkeys([saved for saved in batch if saved in self._ledgers])
            raise
        self._answered()
        for saved, ledger, verdict, tell in zip(batch, ledgers, verdicts, tellings, strict=True):
            if self._ledgers.get(saved) is not ledger:
                continue  # it is over meanwhile
            match verdict:
                case Verdict.SAVED:
                    ledger.saved(self._heard_at)
                    tell()
                case Verdict.INCOMPLETE:
                    # What has become of one may have become of all.
                    ledger.reset()
                    self._changed |= dict.fromkeys(self._ledgers)
                case Verdict.FENCED:
                    saved.evicted()

    async def _keep_alive(self) -> None:
        """Have saved what has not been for a while; see at least that the store is there."""
        now = self._clock()
        due = [saved for saved, ledger in self._ledgers.items() if now - ledger.saved_at >= REFRESH_S]
        # One at least: a store that has lost all of them is found out by it.
        due += list(self._ledgers)[:1]
        self._changed |= dict.fromkeys(due)
        if not due:
            self._asked_at = now
            await self._store.ping()
            self._answered()

    def _answered(self) -> None:
        """Note that the store has answered: so things stood when it was asked, however long ago that is."""
        self._heard_at = self._asked_at
        self._heard.set()

    def _lose(self, error: StoreAway) -> None:
        _log.warning("The session store is away; sessions go on, but on this node only (%s)", error)
        self.away = True
        self._idle.set()
        self._heard.set()
        for saved, ledger in list(self._ledgers.items()):
            ledger.reset()
            saved.unsaved()

    async def _until_back(self) -> None:
        while True:
            await asyncio.sleep(AWAY_PAUSE_S)
            try:
                await self._store.ping()
            except StoreAway:
                continue
            _log.warning("The session store is back; all sessions are saved again")
            self.away = False
            self._back_at = self._clock()
            self._changed = dict.fromkeys(self._ledgers)
            return


class _Ledger:
    """How far the logs of a session are saved."""

    def __init__(self) -> None:
        self.saved_at = float("-inf")
        self._ends: tuple[int, ...] | None = None
        self._pending: tuple[int, ...] = ()

    def change(self, saved: Saved) -> Change:
        """Return what is to be saved."""
        session = saved.session
        if session.rewritten:
            self._ends = None
        parts = session.logs
        begins = self._ends or tuple(part.first for part in parts)
        uplink, outbox, answer = (
            Log(
                part.first,
                part.end - part.first,
                tuple(part.entries(max(begin, part.first))),
                whole=self._ends is None,
            )
            for part, begin in zip(parts, begins, strict=True)
        )
        self._pending = tuple(part.end for part in parts)
        return Change(
            session_id=session.id,
            user_id=session.user_id,
            fence=saved.fence,
            resume_digests=session.digests,
            state=session.dump(),
            logs=(uplink, outbox, answer),
        )

    def saved(self, now: float) -> None:
        """Note that it is."""
        self._ends, self.saved_at = self._pending, now

    def reset(self) -> None:
        """Have all of it saved the next time."""
        self._ends = None
