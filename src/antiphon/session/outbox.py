"""What was sent to the client and may not have come: numbered from 1, kept until it is known to have come.

Nobody acknowledges messages, but a pong shows that all that was sent before its ping has come. What a client
that has been away has missed is sent again. The box is bounded in bytes; when it is full the oldest goes, and
a client that would need it is told so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Any, ClassVar, Final, NamedTuple

from msgspec import Struct, msgpack

LIMIT_BYTES: Final = 4 * 1024 * 1024
"""More than a client may leave unread (1 MiB in the gateway, and what the systems on the way hold)."""
ASK_BYTES: Final = 64 * 1024
"""So much is sent before a ping is, to learn whether it has come."""

_MAX_PINGS: Final = 16


class Frame(Struct, frozen=True, gc=False):
    """A frame as it went out. A `passing` one, which is about a connection, is of no use on another."""

    data: bytes
    binary: bool = False
    passing: bool = False


class Missed(NamedTuple):
    """What a client has not had; `lossy` where some of that is gone."""

    frames: list[Frame]
    lossy: bool


class Outbox:
    """The frames of a session, whatever connection they went out on."""

    KEPT: ClassVar[dict[str, Any]] = {"count": int, "first": int, "_unsent": int}

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self.count = 0
        """How many were ever sent."""
        self.first = 1
        """The number of the first that is kept."""
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._limit_bytes = limit_bytes
        self._pings: deque[tuple[int, int]] = deque(maxlen=_MAX_PINGS)
        self._asked_bytes = 0
        self._changed = False
        self._holds = False
        self._unsent = 0
        """Frames at the end that no client has had: they were added when it was gone with its node."""

    @property
    def changed(self) -> bool:
        """Whether frames that were written down have other numbers now; asking is taking note."""
        changed, self._changed = self._changed, False
        return changed

    @property
    def end(self) -> int:
        """The number of the next frame; those from `first` on are kept."""
        return self.count + 1

    def entries(self, begin: int) -> list[bytes]:
        """Return the frames from a number on, as they are written down."""
        return [msgpack.encode(frame) for frame in islice(self._frames, max(0, begin - self.first), None)]

    def restore(self, entries: Iterable[bytes]) -> None:
        """Take what was written down, from `first` on."""
        self._frames = deque(msgpack.decode(entry, type=Frame) for entry in entries)
        self._bytes = sum(len(frame.data) for frame in self._frames)
        self._holds = True

    @property
    def wants_ping(self) -> bool:
        """Whether much was sent since the last ping, and that has been answered."""
        return self._asked_bytes >= ASK_BYTES and not self._pings

    def add(self, frame: Frame) -> None:
        """Note that a frame is sent."""
        self.count += 1
        self._unsent += self._holds
        self._frames.append(frame)
        self._bytes += len(frame.data)
        self._asked_bytes += len(frame.data)
        while self._bytes > self._limit_bytes:
            self._drop()

    def pinged(self, ping_id: int) -> None:
        """Note that the last frame was this ping."""
        self._pings.append((ping_id, self.count))
        self._asked_bytes = 0

    def ponged(self, ping_id: object) -> None:
        """Note that a ping was answered: what went out before it has come."""
        for asked, count in self._pings:
            if asked == ping_id:
                self._came(count)
                while self._pings and self._pings[0][1] <= count:
                    self._pings.popleft()
                return

    def missed(self, received: int) -> Missed:
        """Return what a client that has had so many has not.

        It may have had more than are known here, from a node that is gone and could not save them.
        """
        sent = self.count - self._unsent
        self._holds, self._unsent = False, 0
        lossy = received > sent or received + 1 < self.first
        self._came(min(received, sent))
        self._restart(received, [frame for frame in self._frames if not frame.passing])
        return Missed(list(self._frames), lossy)

    def _restart(self, count: int, frames: Iterable[Frame]) -> None:
        """Go on from a client that has had `count` messages; the frames are what follows."""
        before = (self.first, self.count)
        self._frames = deque(frames)
        self._bytes = sum(len(frame.data) for frame in self._frames)
        self._pings.clear()
        self._asked_bytes = 0
        self.first = count + 1
        self.count = count + len(self._frames)
        self._changed |= (self.first, self.count) != before

    def _came(self, count: int) -> None:
        while self._frames and self.first <= count:
            self._drop()

    def _drop(self) -> None:
        self._bytes -= len(self._frames.popleft().data)
        self.first += 1
