"""Counts what happens to the chunks of one window after the other. Pure: moments are passed in."""

from __future__ import annotations

from collections import Counter

from antiphon.load.histogram import Histogram
from antiphon.load.verdict import Measurement


class Tally:
    """What all sessions report to. Chunks count that were due within the window; errors that come in it."""

    def __init__(self) -> None:
        self.errors: Counter[str] = Counter()
        """Of all time."""
        self.texts = 0
        """Answers that were matched to no chunk."""
        self._begin_s = self._end_s = float("inf")
        self._window = Measurement(sessions=0)

    def open(self, sessions: int, begin_s: float, end_s: float) -> None:
        """Begin to count what is due from `begin_s` on and before `end_s`."""
        self._begin_s, self._end_s = begin_s, end_s
        self._window = Measurement(sessions=sessions, seconds=end_s - begin_s)

    def close(self) -> Measurement:
        """Return what was counted."""
        self._begin_s = self._end_s = float("inf")
        window, self._window = self._window, Measurement(sessions=0)
        return window

    @property
    def outstanding(self) -> int:
        """Chunks of the window that are not answered."""
        return self._window.due - self._window.answered

    def sent(self, due_s: float, now_s: float) -> None:
        """Note that a chunk is written."""
        if self._begin_s <= due_s < self._end_s:
            self._window.due += 1
            self._window.lateness.add(now_s - due_s)

    def answered(self, due_s: float, now_s: float) -> None:
        """Note that a chunk is answered."""
        if self._begin_s <= due_s < self._end_s:
            window = self._window
            window.answered += 1
            window.latency.add(now_s - due_s)
            second = int(due_s - self._begin_s)
            series = window.seconds_of.get(second)
            if series is None:
                series = window.seconds_of[second] = Histogram()
            series.add(now_s - due_s)

    def skipped(self, due_s: float) -> None:
        """Note that a later chunk is answered and this one is not."""
        if self._begin_s <= due_s < self._end_s:
            self._window.skipped += 1

    def blocked(self, due_s: float) -> None:
        """Note that a chunk was not written since the gateway does not read."""
        if self._begin_s <= due_s < self._end_s:
            self._window.errors["not read"] += 1

    def heard(self) -> None:
        """Note that something came that answers no chunk in particular."""
        self.texts += 1

    def error(self, code: str) -> None:
        """Note an error."""
        self.errors[code] += 1
        self._window.errors[code] += 1
