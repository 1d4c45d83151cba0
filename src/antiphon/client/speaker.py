"""How much of each response has been played, and when the gateway is to be told."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

from msgspec import Struct

MARK_S: Final = 1.0

_SLACK_MS: Final = 1.0
"""Durations are rounded, and their sums are."""

_MAX_RESPONSES: Final = 16
"""Responses that wait to be played. There is one, or two; of more the oldest is told of no more."""


class Mark(NamedTuple):
    """What a playback_mark says."""

    response_id: str
    played_ms: float


class Speaker:
    """Count what a loudspeaker of the application's is given, and make marks of how far it has come.

    For `Client.playback_mark`, where the application plays answers itself and has promised marks (with
    `features=["playback_mark"]`): `begin` at a ResponseStarted, `add` for an AudioResponse, `flush` at an
    AudioFlush, `marks` some times a second. `Client.talk` does all that.

    `position_ms` is always how much the loudspeaker has played of all it ever was given; what it dropped was
    not played. Times are seconds on any one clock.
    """

    def __init__(self) -> None:
        self._responses: deque[_Response] = deque(maxlen=_MAX_RESPONSES)
        self._given_ms = 0.0

    @property
    def given_ms(self) -> float:
        """Where the loudspeaker will be when it has played all."""
        return self._given_ms

    def begin(self, response_id: str) -> None:
        """Begin a response; what is added from now on is of it."""
        self._responses.append(_Response(response_id, self._given_ms, self._given_ms))

    def add(self, duration_ms: float) -> None:
        """Note audio that the loudspeaker was given."""
        self._given_ms += duration_ms
        if self._responses:
            self._responses[-1].end_ms = self._given_ms

    def marks(self, position_ms: float, now: float) -> list[Mark]:
        """Return what is to be told: of what is played, once a second and when all has been that came."""
        marks = []
        for response in self._responses:
            played_ms = response.played_ms(position_ms)
            caught_up = position_ms >= response.end_ms - _SLACK_MS
            due = caught_up or now >= response.told_at + MARK_S
            told_less = position_ms >= response.end_ms and played_ms > response.told_ms
            if told_less or (due and played_ms > response.told_ms + _SLACK_MS):
                response.told_ms, response.told_at = played_ms, now
                marks.append(Mark(response.id, played_ms))
        while len(self._responses) > 1 and position_ms >= self._responses[0].end_ms - _SLACK_MS:
            self._responses.popleft()
        return marks

    def flush(self, response_id: str, position_ms: float) -> Mark | None:
        """Note that the loudspeaker dropped what it had; return how much was played of the response."""
        self._given_ms = position_ms
        found = next((response for response in self._responses if response.id == response_id), None)
        self._responses.clear()
        return Mark(found.id, found.played_ms(position_ms)) if found else None


class _Response(Struct):
    """A response, by the positions where it begins and, so far, ends."""

    id: str
    begin_ms: float
    end_ms: float
    told_ms: float = 0.0
    told_at: float = float("-inf")

    def played_ms(self, position_ms: float) -> float:
        return round(max(0.0, min(position_ms, self.end_ms) - self.begin_ms), 3)
