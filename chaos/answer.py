"""Answers whose samples are numbered: a client sees whether it was played all of one, and in order.

The first four samples of an answer tell its id and its length; each of the rest follows from id and place.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

RATE_HZ: Final = 24_000
_HEAD: Final = 4


def make(answer_id: int, length: int) -> bytes:
    """Return the PCM16 of an answer of `length` samples."""
    head = np.array(
        [answer_id & 0xFFFF, answer_id >> 16 & 0xFFFF, length & 0xFFFF, length >> 16 & 0xFFFF], np.uint16
    )
    return np.concatenate([head, _body(answer_id, length)[_HEAD:]]).astype("<u2").tobytes()


def fault(pcm: bytes, *, whole: bool) -> str | None:
    """Return what is wrong with a part of an answer from its first sample on; `whole`: it is all of it."""
    if len(pcm) % 2:
        return "half a sample"
    samples = np.frombuffer(pcm, "<u2")
    if len(samples) < _HEAD:
        return "nothing of it" if whole else None
    answer_id, length = int(samples[0]) | int(samples[1]) << 16, int(samples[2]) | int(samples[3]) << 16
    if len(samples) > length or length > RATE_HZ * 60:
        return f"{len(samples)} samples of {length}"
    body = _body(answer_id, length)[_HEAD : len(samples)]
    differing = np.flatnonzero(samples[_HEAD:] != body)
    if len(differing):
        place = int(differing[0]) + _HEAD
        return f"at {place} of {length} samples {_whence(samples[place:], answer_id, length)}"
    if whole and len(samples) < length:
        return f"{len(samples)} of {length} samples"
    return None


def _whence(samples: npt.NDArray[np.uint16], answer_id: int, length: int) -> str:
    """Return where in the answer it is that comes, or that it is of another one."""
    if len(samples) < _HEAD:
        return "come others"
    body = _body(answer_id, length)
    windows = np.lib.stride_tricks.sliding_window_view(body, _HEAD)
    places = np.flatnonzero((windows == samples[:_HEAD]).all(axis=1))
    if len(places):
        return f"come those from {int(places[0])} on"
    return f"comes something else, {len(samples)} samples that begin with {samples[:_HEAD].tolist()}"


def _body(answer_id: int, length: int) -> npt.NDArray[np.uint16]:
    places = np.arange(length, dtype=np.uint64)
    mixed = (places + np.uint64(answer_id)) * np.uint64(0x9E3779B97F4A7C15)
    return (mixed >> np.uint64(40)).astype(np.uint16)
