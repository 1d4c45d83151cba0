"""Where the records of sessions are kept, so that any node can go on with any session.

A record is what a session needs to go on elsewhere: a small `state`, which is replaced whole, and three logs,
which grow at one end and shrink at the other. Whoever saves shows the fencing token that it was given when it
took the session; a higher one was given since, nothing is written. So a node that was stopped, and taken for
dead, does no harm when it goes on.

Every call returns or raises within `TIMEOUT_S`, whatever became of the server.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final, Protocol

from msgspec import Struct

TIMEOUT_S: Final = 0.25
"""The longest that a call may take."""
RECORD_TTL_S: Final = 165.0
"""How long a record lives after its last change."""
FENCE_TTL_S: Final = 3600.0
"""How long a session's highest fencing token is known after its last change, even without the record."""
MEMBER_TTL_S: Final = 15.0
"""How long a user's session counts after its node was last heard of."""


class StoreAway(Exception):  # noqa: N818 (it reads as what happened)
    """The store cannot be reached, or did not answer in time; what was asked may have been done or not."""


class StoreMisconfigured(StoreAway):
    """The store cannot be used as it is configured, and waiting does not help; the text is a sentence."""


class NotResumable(Exception):  # noqa: N818
    """There is no such session, it is another user's, or the resume token is not, or no longer, good."""


class Verdict(Enum):
    """What became of a change."""

    SAVED = 0
    FENCED = 1
    """Another node has taken the session since, or it was deleted; nothing was written."""
    INCOMPLETE = 2
    """What is stored is not what the change goes on from (the server lost it); nothing was written.

    It is to be saved whole.
    """


class Log(Struct, frozen=True):
    """What became of a log since it was saved last: entries `first` to `first + length` are in it now.

    `added` are its newest ones, the last entry of them being the log's last. Those that were added before
    may be among them: so a save of which nobody knows whether it was done is made good by the next. With
    `whole` they are all of it, and whatever was saved before is replaced.
    """

    first: int
    length: int
    added: tuple[bytes, ...] = ()
    whole: bool = False


class Change(Struct, frozen=True):
    """What is saved of a session, all of it or nothing.

    `resume_digests` are the digests of the resume tokens that are good for it now, one or two, each a word
    without spaces.
    """

    session_id: str
    user_id: str
    fence: int
    resume_digests: tuple[str, ...]
    state: bytes
    logs: tuple[Log, Log, Log]


class Record(Struct, frozen=True):
    """A session as it was saved last, and the fencing token of whoever has taken it with this.

    `logs` are pairs of the number of the first entry and the entries.
    """

    session_id: str
    user_id: str
    fence: int
    state: bytes
    logs: tuple[tuple[int, tuple[bytes, ...]], tuple[int, tuple[bytes, ...]], tuple[int, tuple[bytes, ...]]]


class SessionStore(Protocol):
    """Keeps records, and counts of users. Every method may raise `StoreAway`, and does within `TIMEOUT_S`.

    `now` is the caller's clock, seconds since the epoch. A store that has a clock of its own goes by that.
    """

    async def save(self, changes: Sequence[Change], node: str, now: float) -> list[Verdict]:
        """Write a node's changes, each atomically; return what became of each.

        A session that is not known is created with its change, whose logs are then whole. A record lives for
        the store's time to live from its last change on.

        The saves of a session under one fencing token are made by one store, one after the other.
        """

    async def claim(self, session_id: str, user_id: str, digest: str, node: str, now: float) -> Record:
        """Take a session over for a node: return its record, with a fencing token higher than any before.

        The digest stays good until whoever has claimed with it saves, since the answer may be lost: of
        several claims the last one can save. The record's other digest, if there is one, is good no longer.
        The node that saved the session last is told (see `evicted`), also when it is the same.

        Raises:
            NotResumable: unknown, expired, another user's, or the digest is not one of the record's.
        """

    async def delete(self, session_id: str, fence: int) -> None:
        """Forget a session that is over; what is still saved under that token is fenced from then on.

        One that has a higher token is left alone.
        """

    async def admit(self, user_id: str, member: str, limit: int, now: float) -> bool:
        """Count a member (a session) of a user's in; return False where `limit` are in already.

        One that is in already stays in, and is no other. A member is counted out by itself when it has not
        been `refresh`ed for `MEMBER_TTL_S`.
        """

    async def leave(self, user_id: str, member: str) -> None:
        """Count a member of a user's out."""

    async def refresh(self, members: Sequence[tuple[str, str]], now: float) -> None:
        """Keep members (user, member) counted in; one that is not, is from now on, whatever the limit."""

    async def evicted(self, node: str) -> tuple[str, int]:
        """Wait for the next session that was taken from this node: its id, and the new fencing token.

        This alone waits as long as it takes; only a store that is closed is away. What comes before the
        first call, or while the server is away, may be lost; whoever saves finds out in any case.
        """

    async def ping(self) -> None:
        """Return when the store answers and can be written to.

        Raises:
            StoreMisconfigured: it will not, as it is configured.
        """

    async def aclose(self) -> None:
        """Close every connection; calls that still wait for one raise `StoreAway`."""
