"""Whether anybody speaks, as far as loudness tells: good enough to find a moment when nobody does."""

from __future__ import annotations

from typing import Final

import numpy as np

LOUD_RMS: Final = 330.0
"""One per cent of full scale, -40 dBFS: speech at arm's length is louder, a quiet room is not."""


_LEVELS: Final = bytes(2 if 4 <= high <= 251 else 1 if high not in (0, 255) else 0 for high in range(256))
"""Of the high byte of a sample: 2 from 1,024 on, 1 from 256 on, either side of zero."""


def is_loud(pcm: bytes) -> bool:
    """Whether PCM16 is as loud as speech; every eighth sample is looked at."""
    levels = pcm[1::16].translate(_LEVELS)
    if levels.count(2) * 5 > len(levels):
        return True  # a fifth at 1,024 alone makes an RMS of 458
    if not levels.strip(b"\0"):
        return False  # nothing reaches 256
    samples = np.frombuffer(pcm, "<i2")[::8].astype(np.float32)
    return float(np.dot(samples, samples)) >= LOUD_RMS**2 * len(samples)
