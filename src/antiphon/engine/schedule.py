"""What is recognised next: finals before partials, and partials only as far as the machine has time for them.

No I/O, no clock and no thread in here: `now` is any steady clock in seconds, `recognizer` does the work.

A final is whatever somebody waits for. Finals go by the moment at which he begins to wait, so none is
overtaken for ever. A partial never goes before one, and stops where it is in the way of one; a conversation
has one waiting at most, whose audio is taken when it begins, so it is never stale. All partials together have
a share of the machine's time: how often they come follows from how long they take and how many want one.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Final

from msgspec import Struct

PARTIALS_SHARE: Final = 0.4
"""Of the time of all workers. What is left is for finals, and for the work that shares the cores."""
BURST_S: Final = 1.0
RESERVE_S: Final = 0.5
"""So much of that share, for each worker, may be saved up, and so much of it is left to what is due."""
DELAY_HALVES_S: Final = 4.0
DELAY_WEIGHT: Final = 0.2
"""How much one final counts in the measure of how long they wait, and how fast that is forgotten."""


class Work(Struct, frozen=True, eq=False):
    """One thing to be recognised, itself its only equal; `owner` is whose partial it is, None for a final."""

    due: float
    owner: Hashable | None = None

    @property
    def is_final(self) -> bool:
        return self.owner is None


class Schedule:
    """What waits and what runs, on `workers` workers."""

    def __init__(self, workers: int, partials_share: float = PARTIALS_SHARE) -> None:
        self._workers = workers
        self._share = partials_share * workers
        self._most_saved_s = BURST_S * workers
        self._reserve_s = RESERVE_S * workers
        self._saved_s = self._most_saved_s
        self._saved_at = 0.0
        self._finals: list[Work] = []
        self._partials: dict[Hashable, Work] = {}
        self._running: dict[Work, float] = {}
        self._giving_way: set[Work] = set()
        self._delay_s = 0.0
        self._delay_at = 0.0

    def final(self, due: float) -> Work:
        """Add a final; somebody waits for it from `due` on."""
        work = Work(due)
        self._finals.append(work)
        return work

    def partial(self, owner: Hashable, due: float) -> tuple[Work, Work | None]:
        """Add a partial; return it, and the one of the same owner whose place it takes, if one waits."""
        before = self._partials.get(owner)
        # Who asks again keeps his place, or those who ask most often would never have a turn.
        work = Work(min(due, before.due) if before else due, owner)
        self._partials[owner] = work
        return work, before

    def begin(self, now: float) -> Work | None:
        """Return what a worker is to begin now; None where nothing may, or no worker is free."""
        self._save(now)
        if len(self._running) >= self._workers:
            return None
        work = self._next(now)
        if work:
            self._running[work] = now
        return work

    def _next(self, now: float) -> Work | None:
        if self._finals:
            work = min(self._finals, key=_due)
            self._finals.remove(work)
            self._note_delay(max(0.0, now - work.due), now)
            return work
        if not self._partials:
            return None
        work = min(self._partials.values(), key=_due)
        if self._saved_s <= (self._reserve_s if work.due > now else 0):
            return None
        del self._partials[work.owner]
        return work

    def end(self, work: Work, now: float) -> None:
        """Note that a worker is done with what it began."""
        took_s = now - self._running.pop(work)
        self._giving_way.discard(work)
        if not work.is_final:
            self._saved_s -= took_s

    def withdraw(self, work: Work) -> bool:
        """Take back what has not begun; return whether that was so."""
        if work.is_final and work in self._finals:
            self._finals.remove(work)
            return True
        if not work.is_final and self._partials.get(work.owner) is work:
            del self._partials[work.owner]
            return True
        return False

    def give_way(self) -> list[Work]:
        """Return the partials that are to stop now, one for each final that waits; each is told of once."""
        running = [work for work in self._running if not work.is_final and work not in self._giving_way]
        # The ones that began last lose the least.
        stopping = running[::-1][: max(0, len(self._finals) - len(self._giving_way))]
        self._giving_way.update(stopping)
        return stopping

    def wake_at(self) -> float:
        """Return when a partial that waits for its share may begin; infinity where it waits for a worker."""
        if not self._partials or len(self._running) >= self._workers:
            return float("inf")
        due = min(work.due for work in self._partials.values())
        return min(max(due, self._saves_at(0)), self._saves_at(self._reserve_s)) + 0.001

    def _saves_at(self, saved_s: float) -> float:
        return self._saved_at + max(0.0, saved_s - self._saved_s) / self._share

    def delay_s(self, now: float) -> float:
        """Return how long finals wait for a worker: the last ones on average, or one that waits now."""
        waiting_s = max((now - work.due for work in self._finals), default=0.0)
        return max(self._mean_delay_s(now), waiting_s)

    def _note_delay(self, delay_s: float, now: float) -> None:
        mean_s = self._mean_delay_s(now)
        self._delay_s, self._delay_at = mean_s + DELAY_WEIGHT * (delay_s - mean_s), now

    def _mean_delay_s(self, now: float) -> float:
        forgotten = math.exp2((self._delay_at - now) / DELAY_HALVES_S)
        return self._delay_s * forgotten

    def _save(self, now: float) -> None:
        self._saved_s = min(self._most_saved_s, self._saved_s + (now - self._saved_at) * self._share)
        self._saved_at = now


def _due(work: Work) -> float:
    return work.due
