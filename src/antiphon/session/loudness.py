"""Whether anybody speaks, as far as loudness tells: good enough to find a moment when nobody does."""

from __future__ import annotations

from typing import Final

import numpy as np

LOUD_RMS: Final = 330.0
"""One per cent of full scale, -40 dBFS: speech at arm's length is louder, a quiet room is not."""


def is_loud(pcm: bytes) -> bool:
    """Whether PCM16 is as loud as speech; every eighth sample is looked at."""
    samples = np.frombuffer(pcm, "<i2")[::8].astype(np.float32)
    return bool(len(samples)) and float(np.dot(samples, samples)) >= LOUD_RMS**2 * len(samples)
