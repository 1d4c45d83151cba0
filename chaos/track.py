"""Audio in which every sample knows its place: what is lost, doubled or out of order shows to the sample.

A track is noise that follows from its number: eight samples in a row are found in it at one place only.
Phrases, loud enough to be taken for speech, take turns with pauses that are too quiet for it.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.int16]

RATE_HZ: Final = 16_000
BLOCK: Final = 1600
"""Samples of a chunk, 100 ms; a block is all loud or all quiet."""
LOUD: Final = 6000
QUIET: Final = 250

_WINDOW: Final = 8
_FACTOR: Final = 0x9E3779B97F4A7C15
_SCAN: Final = RATE_HZ
"""How far around the last place the end of a stream is looked for, which is too short to be unique."""


class Run(NamedTuple):
    """Samples in the order of the track: `length` from `start` on; a `start` of -1 is what is not of it."""

    start: int
    length: int

    @property
    def end(self) -> int:
        return self.start + self.length


class Track:
    """The audio of one speaker, made as far as it is needed."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._blocks: list[Samples] = []
        self._phrases = np.random.default_rng([number, 1])
        self._levels: list[int] = []
        self._keys: tuple[npt.NDArray[np.uint64], npt.NDArray[np.intp]] | None = None
        self._whole: Samples = np.empty(0, np.int16)

    def pcm(self, start: int, length: int) -> bytes:
        """Return little-endian PCM16."""
        return self.samples(start + length)[start:].astype("<i2").tobytes()

    def samples(self, end: int) -> Samples:
        """Return the track up to a place."""
        if len(self._whole) < end:
            while len(self._blocks) * BLOCK < end + 10 * RATE_HZ:
                self._add_block()
            self._whole = np.concatenate(self._blocks)
            self._keys = None
        return self._whole[:end]

    def find(self, heard: Samples) -> int | None:
        """Return where the first samples of what was heard are in the track as far as it is made."""
        if len(heard) < _WINDOW:
            return None
        if self._keys is None:
            keys = _keys_of(self._whole)
            order = np.argsort(keys)
            self._keys = keys[order], order
        keys, order = self._keys
        key = _keys_of(heard[:_WINDOW])[0]
        place = int(np.searchsorted(keys, key))
        if place < len(keys) and keys[place] == key:
            return int(order[place])
        return None

    def runs(self, heard: Samples) -> list[Run]:
        """Return what was heard as runs of the track, in the order in which it was heard."""
        found: list[Run] = []
        at, foreign = 0, 0
        while at < len(heard):
            place = self.find(heard[at:])
            if place is None and len(heard) - at < _WINDOW and found:
                place = self._near(heard[at:], found[-1].end)
            if place is None:
                at, foreign = at + 1, foreign + 1
                continue
            if foreign:
                found.append(Run(-1, foreign))
                foreign = 0
            length = _common(heard[at:], self._whole[place:])
            found.append(Run(place, length))
            at += length
        return [*found, Run(-1, foreign)] if foreign else found

    def _near(self, tail: Samples, around: int) -> int | None:
        begin = max(0, around - _SCAN)
        windows = np.lib.stride_tricks.sliding_window_view(self._whole[begin : around + _SCAN], len(tail))
        places = np.flatnonzero((windows == tail).all(axis=1)) + begin
        return int(places[np.argmin(abs(places - around))]) if len(places) else None

    def _add_block(self) -> None:
        number = len(self._blocks)
        while len(self._levels) <= number:
            phrase, pause = self._phrases.integers(8, 26), self._phrases.integers(6, 28)
            self._levels += [LOUD] * int(phrase) + [QUIET] * int(pause)
        level = self._levels[number]
        noise = np.random.default_rng([self.number, 2, number])
        self._blocks.append(noise.integers(-level, level, BLOCK, np.int16, endpoint=True))


def decode(pcm: bytes) -> Samples:
    """Return the samples of PCM16; half a sample at the end is left out."""
    return np.frombuffer(pcm[: len(pcm) // 2 * 2], "<i2").astype(np.int16)


def is_loud(pcm: bytes) -> bool:
    """Whether a block, or a part of one, is of a phrase."""
    samples = decode(pcm)
    return bool(len(samples)) and int(np.abs(samples.astype(np.int32)).max()) > QUIET


def _keys_of(samples: Samples) -> npt.NDArray[np.uint64]:
    values = samples.astype(np.uint16).astype(np.uint64)
    count = len(values) - _WINDOW + 1
    keys: Any = np.zeros(max(0, count), np.uint64)
    for offset in range(_WINDOW):
        keys = keys * np.uint64(_FACTOR) + (values[offset : offset + count] + np.uint64(1))
    result: npt.NDArray[np.uint64] = keys
    return result


def _common(left: Samples, right: Samples) -> int:
    """Return how many samples two beginnings have in common."""
    length = min(len(left), len(right))
    differing = np.flatnonzero(left[:length] != right[:length])
    return int(differing[0]) if len(differing) else length
