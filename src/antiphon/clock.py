"""The one clock: seconds since the epoch that never go back, so that they time things and date them alike."""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]


def epoch_clock() -> Clock:
    """Return a clock that starts at the system's time and runs on monotonically."""
    offset = time.time() - time.monotonic()
    return lambda: time.monotonic() + offset
