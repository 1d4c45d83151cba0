"""What a client is told some time before it happens: that its connection will be closed for a limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from antiphon.extension import GoAwayReason

NOTICE_S: Final = 30.0
LEAST_SPAN_S: Final = 60.0
"""A limit that is shorter is not told of in advance."""


class Limit(NamedTuple):
    """When a limit is reached, and how long that takes from its beginning on, in seconds."""

    at: float
    span_s: float


class Notices:
    """Gives each notice once, for each time that a limit is to be reached at."""

    def __init__(self) -> None:
        self._given: dict[GoAwayReason, float] = {}

    def next_at(self, limits: Mapping[GoAwayReason, Limit]) -> float:
        """Return when the next notice is due; infinity when none is."""
        return min(
            (limit.at - NOTICE_S for reason, limit in limits.items() if self._is_open(reason, limit)),
            default=float("inf"),
        )

    def due(self, limits: Mapping[GoAwayReason, Limit], now: float) -> list[tuple[GoAwayReason, float]]:
        """Return the notices that are due, with the seconds left; they are given with that."""
        due = [
            (reason, limit.at - now)
            for reason, limit in limits.items()
            if self._is_open(reason, limit) and now >= limit.at - NOTICE_S
        ]
        for reason, _ in due:
            self._given[reason] = limits[reason].at
        return due

    def _is_open(self, reason: GoAwayReason, limit: Limit) -> bool:
        return limit.span_s >= LEAST_SPAN_S and self._given.get(reason) != limit.at
