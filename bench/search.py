"""Find the most sessions that pass: up by a factor until one fails, then between the two. Pure."""

from __future__ import annotations

from typing import Final

STEP: Final = 1.3
EXACT: Final = 1.04
"""The search is over when the least that failed is at most this many times the most that passed."""
TRIES: Final = 2
"""A number fails when it has failed so often: a machine hiccups now and then."""


class Search:
    """Says what to try next. `start` is near what is expected."""

    def __init__(self, start: int, least: int = 4, most: int = 20_000) -> None:
        self.passed = 0
        """The most that passed."""
        self.failed: int | None = None
        """The least that failed for good."""
        self._next = max(least, min(start, most))
        self._least = least
        self._most = most
        self._failures = 0
        self._over = False

    @property
    def next(self) -> int | None:
        """How many sessions to try; None when the answer is known."""
        return None if self._over else self._next

    def report(self, passed: bool) -> None:
        """Take note of how the number went that was `next`."""
        if passed:
            self.passed = max(self.passed, self._next)
        else:
            self._failures += 1
            if self._failures < TRIES and self.failed is None and self.passed:
                return  # on the way up: once more, before all above is given up
            if self._failures < TRIES and self.failed is not None:
                return
            self.failed = min(self._next, self.failed or self._next)
        self._failures = 0
        self._go_on()

    def stop(self) -> None:
        """Give up: the number that was `next` cannot be judged, and none above it."""
        self._over = True

    def _go_on(self) -> None:
        if self.failed is None:
            self._over = self._next >= self._most
            self._next = min(self._most, max(self._next + 1, round(self._next * STEP)))
        elif not self.passed:
            self._over = self._next <= self._least
            self._next = max(self._least, round(self._next / STEP))
        else:
            middle = round((self.passed * self.failed) ** 0.5)
            self._over = self.failed <= self.passed * EXACT or not self.passed < middle < self.failed
            self._next = middle
