"""What the page is given to hear and to play, and what can be measured of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

TONE_HZ: Final = 440
LEVEL: Final = 0.4
FADE_S: Final = 0.005
PIECE_MS: Final = 100


def tone(seconds: float, rate_hz: int = 24_000) -> bytes:
    """Return a sine as PCM16."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    return (LEVEL * 32767 * np.sin(2 * np.pi * TONE_HZ * time)).astype("<i2").tobytes()


def pieces(pcm: bytes, rate_hz: int = 24_000) -> Iterable[bytes]:
    """Cut an answer as the gateway does."""
    size = rate_hz * PIECE_MS // 1000 * 2
    return (pcm[start : start + size] for start in range(0, len(pcm), size))


def runs(samples: Samples, rate_hz: int) -> list[Samples]:
    """Return the stretches of sound between silences of more than 2 ms."""
    loud = np.flatnonzero(np.abs(samples) > 1e-5)
    if not loud.size:
        return []
    borders = np.flatnonzero(np.diff(loud) > 0.002 * rate_hz)
    starts = [loud[0], *loud[borders + 1]]
    ends = [*loud[borders], loud[-1]]
    return [samples[start : end + 1] for start, end in zip(starts, ends, strict=True)]


def impurity(samples: Samples, rate_hz: int) -> float:
    """Return the most by which a sample is off from what the sine through its neighbours demands."""
    turn = 2 * np.cos(2 * np.pi * TONE_HZ / rate_hz)
    return float(np.max(np.abs(samples[2:] - turn * samples[1:-1] + samples[:-2])))


def without_ramps(samples: Samples, rate_hz: int) -> Samples:
    ramp = round(FADE_S * rate_hz) + 1
    return samples[ramp:-ramp]
