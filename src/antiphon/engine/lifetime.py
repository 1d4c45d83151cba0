"""How long a connection lasts, and when its end is announced."""

from __future__ import annotations

from typing import Final

from antiphon.engine import wire
from antiphon.engine.effects import Effect, End, Send

GO_AWAY_NOTICE_S: Final = 60.0


class Lifetime:
    """One connection's, from `now`, of `max_s` seconds unless the server stops sooner."""

    def __init__(self, now: float, max_s: float) -> None:
        self._end_at = now + max_s
        self._go_away_at = self._end_at - min(GO_AWAY_NOTICE_S, max_s / 2)
        self._reason = "The connection has reached its longest duration."

    @property
    def due_at(self) -> float:
        """When there is next something to be done."""
        return min(self._go_away_at, self._end_at)

    def drain(self, time_left_s: float, now: float) -> None:
        """Note that the server stops in `time_left_s`; that is to be announced at once."""
        if now + time_left_s < self._end_at:
            self._end_at, self._reason = now + time_left_s, "The server is stopping."
        self._go_away_at = now

    def expire(self, now: float) -> list[Effect]:
        """Return what is due: the announcement, the end."""
        effects: list[Effect] = []
        if now >= self._go_away_at:
            self._go_away_at = float("inf")
            effects.append(Send(wire.go_away(max(0.0, self._end_at - now))))
        if now >= self._end_at:
            effects.append(End("ABORTED", self._reason))
        return effects
