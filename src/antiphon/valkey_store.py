"""The store that several nodes share: a Valkey server, or Redis.

Everything that must be done in one step is a script on the server; a call is one round trip, whatever the
number of sessions in it, and never tried again. The keys of a session have its id in braces, by which a
cluster keeps them together.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from antiphon.store import (
    FENCE_TTL_S,
    MEMBER_TTL_S,
    RECORD_TTL_S,
    TIMEOUT_S,
    Change,
    NotResumable,
    Record,
    StoreAway,
    StoreMisconfigured,
    Verdict,
)
from antiphon.valkey_scripts import ADMIT, CLAIM, CLOCK, DELETE, LEAVE, PROBE, REFRESH, SAVE, Argument, Call

if TYPE_CHECKING:
    from antiphon.valkey_client import Subscription

FIRST_BACKOFF_S: Final = 0.1
MAX_BACKOFF_S: Final = 2.0

_PREFIX: Final = "antiphon:"
_CHANNEL: Final = f"{_PREFIX}evicted:"
YOUNG_S: Final = 5
"""A server that was started so short a time ago may have lost what the nodes are about to save again."""

_NO_EXTRA: Final = (
    "The store is spoken to by valkey, which is not installed: `pip install 'antiphon[valkey]'`."
)

_log = logging.getLogger(__name__)


class ValkeyStore:
    """A `SessionStore` on a server; see `valkey_client.parse_url` for the URL.

    Raises:
        StoreMisconfigured: the URL cannot be used, or the optional extra is not installed.
    """

    def __init__(
        self,
        url: str,
        record_ttl_s: float = RECORD_TTL_S,
        *,
        member_ttl_s: float = MEMBER_TTL_S,
        timeout_s: float = TIMEOUT_S,
        young_s: int = YOUNG_S,
    ) -> None:
        try:
            from antiphon import valkey_client
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "valkey":
                raise
            raise StoreMisconfigured(_NO_EXTRA) from error
        self._server = valkey_client.parse_url(url)
        self._client = valkey_client.Client(self._server)
        self._record_ttl_ms = round(record_ttl_s * 1000)
        self._fence_ttl_ms = max(round(FENCE_TTL_S * 1000), self._record_ttl_ms)
        self._member_ttl_ms = round(member_ttl_s * 1000)
        self._timeout_s = timeout_s
        self._young_s = young_s
        self._news: defaultdict[str, _News] = defaultdict(_News)

    def __repr__(self) -> str:
        return f"ValkeyStore({self._server})"

    async def save(self, changes: Sequence[Change], node: str, now: float) -> list[Verdict]:
        """Write a node's changes, each atomically; see `SessionStore`."""
        if not changes:
            return []
        # Of two saves of this machine, in whatever process, the later has the higher one.
        sequence = time.monotonic_ns() // 1000
        calls = [self._saving(change, node, sequence) for change in changes]
        return [Verdict(value) for value in await self._client.run(calls, self._until())]

    async def claim(self, session_id: str, user_id: str, digest: str, node: str, now: float) -> Record:
        """Take a session over for a node; see `SessionStore`.

        It takes two round trips, the first for the server's time. With one, a server that is stopped would
        keep the claim and do it when it goes on: for a caller who has long gone, and whose client has come
        again with the same digest and been let in.
        """
        until = self._until()
        [server_ms] = await self._client.run([CLOCK()], until)
        left_ms = (until - asyncio.get_running_loop().time()) * 1000
        call = CLAIM(
            _session_keys(session_id),
            *(server_ms + round(left_ms), user_id, digest, node, self._record_ttl_ms, self._fence_ttl_ms),
            *(_CHANNEL, session_id, self._young_s),
        )
        [found] = await self._client.run([call], until)
        if found is None:
            raise NotResumable
        if found == b"late":
            raise StoreAway(f"The store at {self._server} did not answer in time.")
        if found == b"young":
            raise StoreAway(
                f"The store at {self._server} was started a moment ago, and is still being filled."
            )
        fence, state, *logs = found
        first, second, third = zip(logs[::2], map(tuple, logs[1::2]), strict=True)
        return Record(session_id, user_id, fence, state, (first, second, third))

    async def delete(self, session_id: str, fence: int) -> None:
        """Forget a session that is over; see `SessionStore`."""
        call = DELETE(_session_keys(session_id), fence, self._fence_ttl_ms)
        await self._client.run([call], self._until())

    async def admit(self, user_id: str, member: str, limit: int, now: float) -> bool:
        """Count a member of a user's in; see `SessionStore`."""
        call = ADMIT((_members_key(user_id),), member, limit, self._member_ttl_ms)
        [admitted] = await self._client.run([call], self._until())
        return bool(admitted)

    async def leave(self, user_id: str, member: str) -> None:
        """Count a member of a user's out."""
        await self._client.run([LEAVE((_members_key(user_id),), member)], self._until())

    async def refresh(self, members: Sequence[tuple[str, str]], now: float) -> None:
        """Keep members counted in; see `SessionStore`."""
        by_user: defaultdict[str, list[str]] = defaultdict(list)
        for user_id, member in members:
            by_user[user_id].append(member)
        if by_user:
            calls = [
                REFRESH((_members_key(user_id),), self._member_ttl_ms, *of_user)
                for user_id, of_user in by_user.items()
            ]
            await self._client.run(calls, self._until())

    async def evicted(self, node: str) -> tuple[str, int]:
        """Wait for the next session that was taken from this node; see `SessionStore`.

        Between the calls the news wait in the connection; a node that never takes them is disconnected by
        the server.
        """
        news = self._news[node]
        backoff_s = FIRST_BACKOFF_S
        async with news.lock:
            while True:
                try:
                    if news.subscription is None:
                        news.subscription = await self._client.subscribe(_CHANNEL + node, self._until())
                    text = await news.subscription.next()
                except StoreAway as error:
                    await news.drop()
                    if self._client.closed:
                        raise
                    if backoff_s == FIRST_BACKOFF_S:
                        _log.warning("What other nodes take over is not heard of: %s", error)
                    await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311 (no secret)
                    backoff_s = min(backoff_s * 2, MAX_BACKOFF_S)
                    continue
                fence, _, session_id = text.decode(errors="replace").partition(" ")
                if fence.isdecimal():  # others may publish there, too
                    return session_id, int(fence)

    async def ping(self) -> None:
        """Return when the store answers and can be written to; see `SessionStore`."""
        await self._client.run([PROBE((f"{_PREFIX}probe",), f"{_PREFIX}probe")], self._until())

    async def aclose(self) -> None:
        """Close every connection; whoever waits for one raises `StoreAway`."""
        await self._client.aclose()
        for news in self._news.values():
            if not news.lock.locked():
                await news.drop()

    def _until(self) -> float:
        return asyncio.get_running_loop().time() + self._timeout_s

    def _saving(self, change: Change, node: str, sequence: int) -> Call:
        logs: list[Argument] = []
        for log in change.logs:
            logs += [log.first, log.length, int(log.whole), len(log.added)]
        return SAVE(
            _session_keys(change.session_id),
            *(change.fence, sequence, change.user_id, node, " ".join(change.resume_digests), change.state),
            *(self._record_ttl_ms, self._fence_ttl_ms, *logs),
            *(entry for log in change.logs for entry in log.added),
        )


class _News:
    """A node's subscription, while there is one; one at a time waits for it."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.subscription: Subscription | None = None

    async def drop(self) -> None:
        if self.subscription:
            await self.subscription.aclose()
            self.subscription = None


def _session_keys(session_id: str) -> tuple[str, ...]:
    return tuple(f"{_PREFIX}{{{session_id}}}:{part}" for part in ("record", "fence", "log1", "log2", "log3"))


def _members_key(user_id: str) -> str:
    return f"{_PREFIX}{{{user_id}}}:members"
