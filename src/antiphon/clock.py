"""The one clock: seconds since the epoch that never go back, so that they time things and date them alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

TIMER_SLACK_S: Final = 0.002
"""uvloop counts whole milliseconds. A timer that fires early would fire again and again until it is due."""

Clock = Callable[[], float]


def epoch_clock() -> Clock:
    """Return a clock that starts at the system's time and runs on monotonically."""
    offset = time.time() - time.monotonic()
    return lambda: time.monotonic() + offset
