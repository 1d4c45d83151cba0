"""When each session's chunks are due. Pure.

A session speaks once an interval, at an offset of its own. Offsets are multiples of the golden ratio: evenly
spread however many sessions there are, so that one can be added without moving the others.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator
from typing import Final, Generic, Protocol, TypeVar

_GOLDEN: Final = (5**0.5 - 1) / 2


class Ordered(Protocol):
    """What can be put onto the wheel: `offset_s` says where."""

    @property
    def offset_s(self) -> float: ...


T = TypeVar("T", bound=Ordered)


def offset_s(number: int, interval_s: float) -> float:
    """Return when within the interval the session of this number speaks."""
    return (number * _GOLDEN) % 1.0 * interval_s


class Wheel(Generic[T]):
    """Goes around once an interval; what is on it is due once each turn.

    `begin_s` is the moment of the first turn. A moment is passed in, never asked for.
    """

    def __init__(self, interval_s: float, begin_s: float) -> None:
        self._interval_s = interval_s
        self._turn_s = begin_s
        """When the turn that goes on has begun."""
        self._entries: list[T] = []
        self._next = 0
        self._passed_s = float("-inf")
        """The offset within this turn up to which all has been told of."""

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[T]:
        return iter(self._entries)

    def add(self, entry: T, now_s: float) -> None:
        """Let an entry be due from now on."""
        if not self._entries:
            self.skip(now_s)  # it has not been turned while there was nothing on it
        self._passed_s = max(self._passed_s, now_s - self._turn_s)
        insort(self._entries, entry, key=lambda each: each.offset_s)
        self._find_next()

    def remove(self, entry: T) -> None:
        """Let an entry be due no more."""
        self._entries.remove(entry)
        self._find_next()

    def due(self, now_s: float) -> Iterator[tuple[T, float]]:
        """Yield each entry that has become due up to now, with the moment it was due at, in order.

        To be exhausted before entries are added or removed.
        """
        while self._entries:
            if self._next == len(self._entries):
                if self._turn_s + self._interval_s > now_s:
                    return
                self._next = 0
                self._turn_s += self._interval_s
                self._passed_s = float("-inf")
            entry = self._entries[self._next]
            at_s = self._turn_s + entry.offset_s
            if at_s > now_s:
                return
            self._next += 1
            self._passed_s = entry.offset_s
            yield entry, at_s

    def wait_s(self, now_s: float) -> float:
        """Return the time until something may be due."""
        if not self._entries or self._next == len(self._entries):
            return max(0.0, self._turn_s + self._interval_s - now_s)
        return max(0.0, self._turn_s + self._entries[self._next].offset_s - now_s)

    def skip(self, now_s: float) -> None:
        """Let what was due before now never have been: the wheel stood still."""
        turns = max(0, int((now_s - self._turn_s) // self._interval_s))
        self._turn_s += turns * self._interval_s
        self._passed_s = now_s - self._turn_s
        self._find_next()

    def _find_next(self) -> None:
        self._next = bisect_right(self._entries, self._passed_s, key=lambda each: each.offset_s)
