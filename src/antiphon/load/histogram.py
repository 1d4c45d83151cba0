"""Durations, counted in buckets that are 1% apart: percentiles in bounded memory. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

LEAST_S: Final = 1e-6
"""What is shorter counts as this."""
MOST_S: Final = 1000.0
"""What is longer counts as this."""

_SCALE: Final = 100.0
_BUCKETS: Final = int(math.log(MOST_S / LEAST_S) * _SCALE) + 2


class Histogram:
    """Counts of durations in seconds. A percentile is at most 1% too high, and never above the longest."""

    __slots__ = ("_counts", "_sum_s", "count", "most_s")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self._sum_s = 0.0
        self.count = 0
        self.most_s = 0.0
        """The longest."""

    def add(self, seconds: float) -> None:
        """Count a duration."""
        self.count += 1
        self._sum_s += seconds
        if seconds > self.most_s:
            self.most_s = seconds
        if seconds <= LEAST_S:
            self._counts[0] += 1
        elif seconds >= MOST_S:
            self._counts[-1] += 1
        else:
            self._counts[int(math.log(seconds / LEAST_S) * _SCALE) + 1] += 1

    def merge(self, other: Histogram) -> None:
        """Count what another has counted."""
        self._counts = [a + b for a, b in zip(self._counts, other._counts, strict=True)]
        self._sum_s += other._sum_s
        self.count += other.count
        self.most_s = max(self.most_s, other.most_s)

    @property
    def mean_s(self) -> float:
        """The mean; 0 of nothing."""
        return self._sum_s / self.count if self.count else 0.0

    def percentile(self, share: float) -> float:
        """Return the duration in seconds that this share (0 to 1) is not longer than; 0 of nothing."""
        wanted = max(1, math.ceil(share * self.count))
        seen = accumulate(self._counts)
        index = next((index for index, count in enumerate(seen) if count >= wanted), 0)
        return min(_upper_s(index), self.most_s)

    def curve(self) -> Iterator[tuple[float, float]]:
        """Yield (share, seconds) for each bucket that holds something: the whole distribution."""
        seen = 0
        for index, count in enumerate(self._counts):
            if count:
                seen += count
                yield seen / self.count, min(_upper_s(index), self.most_s)


def _upper_s(index: int) -> float:
    return MOST_S if index == _BUCKETS - 1 else LEAST_S * math.exp(index / _SCALE)
