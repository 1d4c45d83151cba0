"""Whether anybody speaks, as far as loudness tells: good enough to find a moment when nobody does."""

from __future__ import annotations

from operator import mul
from typing import Final

import numpy as np

LOUD_RMS: Final = 330.0
"""One per cent of full scale, -40 dBFS: speech at arm's length is louder, a quiet room is not."""


_OCTAVES: Final = bytes(min((min(high, 255 - high)).bit_length(), 4) for high in range(256))
"""By the high byte of a sample: 0 below 256 either side of zero, 1 below 512, and so on; 4 from 2,048 on."""
_LEAST: Final = tuple((0 if octave == 0 else 128 << octave) ** 2 for octave in range(5))
_MOST_QUIET: Final = (256**2, 512**2)


def is_loud(pcm: bytes) -> bool:
    """Whether PCM16 is as loud as speech; every eighth sample is looked at."""
    octaves = pcm[1::16].translate(_OCTAVES)
    edge = LOUD_RMS**2 * len(octaves)
    if 0 < edge <= octaves.count(4) * _LEAST[4]:  # as of most speech
        return True
    if octaves.count(0) == len(octaves):  # as of most silence
        return False
    counts = [octaves.count(octave) for octave in range(5)]
    if octaves and sum(map(mul, counts, _LEAST)) >= edge:
        return True
    if sum(counts[:2]) == len(octaves) and sum(map(mul, counts, _MOST_QUIET)) < edge:
        return False
    samples = np.frombuffer(pcm, "<i2")[::8].astype(np.float32)
    return bool(len(samples)) and float(np.dot(samples, samples)) >= LOUD_RMS**2 * len(samples)
