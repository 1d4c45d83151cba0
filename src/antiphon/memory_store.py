"""The store of a gateway that is one process: nothing outlives it, and nothing can be away."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from contextlib import suppress
from typing import Final, Generic, TypeVar

from msgspec import Struct

from antiphon.store import (
    FENCE_TTL_S,
    MEMBER_TTL_S,
    RECORD_TTL_S,
    Change,
    Log,
    NotResumable,
    Record,
    StoreAway,
    Verdict,
)

MAX_NEWS: Final = 1000
"""Evictions that a node has not taken note of; further ones are lost to it."""

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")
Entries = tuple[int, tuple[bytes, ...]]


class _Kept(Struct, frozen=True):
    """A record, who has it, and what it is claimed with."""

    record: Record
    node: str
    resume_digests: tuple[str, ...]


class _Expiring(Generic[Key, Value]):
    """Values that are forgotten so long after they were set last."""

    def __init__(self, ttl_s: float) -> None:
        self._ttl_s = ttl_s
        self._values: OrderedDict[Key, tuple[float, Value]] = OrderedDict()

    def set(self, key: Key, value: Value, now: float) -> None:
        self._values[key] = (now + self._ttl_s, value)
        # All live equally long, so that those at the front are the first to go.
        self._values.move_to_end(key)

    def get(self, key: Key) -> Value | None:
        kept = self._values.get(key)
        return kept[1] if kept else None

    def discard(self, key: Key) -> None:
        self._values.pop(key, None)

    def forget(self, now: float) -> None:
        """Forget what has expired."""
        while self._values and (oldest := next(iter(self._values.items())))[1][0] <= now:
            del self._values[oldest[0]]

    def __contains__(self, key: Key) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)


class MemoryStore:
    """A `SessionStore` in memory; several nodes of one process may share it.

    What has expired is forgotten at the next call that says what time it is.
    """

    def __init__(self, record_ttl_s: float = RECORD_TTL_S, member_ttl_s: float = MEMBER_TTL_S) -> None:
        self._records: _Expiring[str, _Kept] = _Expiring(record_ttl_s)
        self._fences: _Expiring[str, int] = _Expiring(max(FENCE_TTL_S, record_ttl_s))
        self._member_ttl_s = member_ttl_s
        self._members: dict[str, _Expiring[str, None]] = {}
        self._news: dict[str, asyncio.Queue[tuple[str, int] | None]] = {}
        self._now = 0.0
        self._closed = False

    async def save(self, changes: Sequence[Change], node: str, now: float) -> list[Verdict]:
        """Write a node's changes; see `SessionStore`."""
        self._pass_time(now)
        return [self._save(change, node) for change in changes]

    async def claim(self, session_id: str, user_id: str, digest: str, node: str, now: float) -> Record:
        """Take a session over for a node; see `SessionStore`."""
        self._pass_time(now)
        kept = self._records.get(session_id)
        if kept is None or kept.record.user_id != user_id or digest not in kept.resume_digests:
            raise NotResumable
        fence = (self._fences.get(session_id) or 0) + 1
        saved = kept.record
        record = Record(session_id, user_id, fence, saved.state, saved.logs)
        self._fences.set(session_id, fence, self._now)
        self._records.set(session_id, _Kept(record, node, (digest,)), self._now)
        if news := self._news.get(kept.node):
            with suppress(asyncio.QueueFull):
                news.put_nowait((session_id, fence))
        return record

    async def delete(self, session_id: str, fence: int) -> None:
        """Forget a session that is over; see `SessionStore`."""
        self._check_open()
        if (self._fences.get(session_id) or 0) <= fence:
            self._records.discard(session_id)
            self._fences.set(session_id, fence + 1, self._now)

    async def admit(self, user_id: str, member: str, limit: int, now: float) -> bool:
        """Count a member of a user's in; see `SessionStore`."""
        self._pass_time(now)
        members = self._members_of(user_id)
        if member in members or len(members) < limit:
            members.set(member, None, self._now)
            return True
        return False

    async def leave(self, user_id: str, member: str) -> None:
        """Count a member of a user's out."""
        self._check_open()
        if members := self._members.get(user_id):
            members.discard(member)
            if not members:
                del self._members[user_id]

    async def refresh(self, members: Sequence[tuple[str, str]], now: float) -> None:
        """Keep members counted in; see `SessionStore`."""
        self._pass_time(now)
        for user_id, member in members:
            self._members_of(user_id).set(member, None, self._now)

    async def evicted(self, node: str) -> tuple[str, int]:
        """Wait for the next session that was taken from this node; see `SessionStore`."""
        self._check_open()
        news = self._news.setdefault(node, asyncio.Queue(MAX_NEWS))
        told = await news.get()
        if told is None:
            self._wake(news)  # whoever else waits
            raise _closed()
        return told

    async def ping(self) -> None:
        """Return: it is always there."""
        self._check_open()

    async def aclose(self) -> None:
        """Wake whoever waits."""
        self._closed = True
        for news in self._news.values():
            self._wake(news)

    @staticmethod
    def _wake(news: asyncio.Queue[tuple[str, int] | None]) -> None:
        with suppress(asyncio.QueueFull):  # then nobody waits
            news.put_nowait(None)

    def _save(self, change: Change, node: str) -> Verdict:
        if (self._fences.get(change.session_id) or 0) > change.fence:
            return Verdict.FENCED
        kept = self._records.get(change.session_id)
        # What was saved under another token went on from what the change does not know.
        known = kept.record.logs if kept and kept.record.fence == change.fence else (None, None, None)
        first, second, third = (_gone_on(before, log) for before, log in zip(known, change.logs, strict=True))
        if first is None or second is None or third is None:
            return Verdict.INCOMPLETE
        record = Record(change.session_id, change.user_id, change.fence, change.state, (first, second, third))
        self._fences.set(change.session_id, change.fence, self._now)
        self._records.set(change.session_id, _Kept(record, node, change.resume_digests), self._now)
        return Verdict.SAVED

    def _members_of(self, user_id: str) -> _Expiring[str, None]:
        return self._members.setdefault(user_id, _Expiring(self._member_ttl_s))

    def _pass_time(self, now: float) -> None:
        self._check_open()
        self._now = max(self._now, now)
        self._records.forget(self._now)
        self._fences.forget(self._now)
        for user_id, members in [*self._members.items()]:
            members.forget(self._now)
            if not members:
                del self._members[user_id]

    def _check_open(self) -> None:
        if self._closed:
            raise _closed()


def _gone_on(before: Entries | None, log: Log) -> Entries | None:
    """Return the log as it is after a change, None if the change does not go on from it."""
    if log.whole:
        return log.first, log.added
    if before is None:
        return None
    if len(log.added) == log.length:  # of what was saved before, nothing stays
        return log.first, log.added
    first, entries = before
    stay_until = log.first + log.length - len(log.added)
    if not first <= log.first <= stay_until <= first + len(entries):
        return None
    return log.first, (*entries[log.first - first : stay_until - first], *log.added)


def _closed() -> StoreAway:
    return StoreAway("The store is closed.")
