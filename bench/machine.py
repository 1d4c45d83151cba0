"""What a measurement was made on, for the line above its table."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime


def describe() -> str:
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {len(os.sched_getaffinity(0))} cores ({platform.machine()}), "
        f"{memory_gib:.0f} GiB, Python {platform.python_version()}"
    )
