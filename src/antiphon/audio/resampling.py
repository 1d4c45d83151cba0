"""Mono PCM16 from one rate to another, piece by piece."""

from __future__ import annotations

from math import gcd
from typing import Any, Final

import numpy as np
import soxr
from msgspec import Struct

_LEAD_S: Final = 0.25
"""How much audio another resampler is given first: several times what the filter looks at."""


class ResamplerState(Struct, frozen=True):
    """Where a resampler stands: its last input, which began at sample `begin`, and how much it has given."""

    lead: bytes
    begin: int
    given: int


class Resampler:
    """Resample with soxr, quality LQ: at least 111 dB SNR; 20 ms of 48 kHz held back, 61 of 8 kHz.

    n samples give round(n * to_hz / from_hz) once flushed, the same for every cutting; at equal rates the
    bytes pass uncopied. In float32 and rounded here: soxr's own int16 is dithered, and so differs with the
    cutting.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self.from_hz = from_hz
        self._to_hz = to_hz
        self._soxr: Any = None
        self._lead = bytearray()
        self._begin = self._given = self._skip = 0
        if from_hz != to_hz:
            self._soxr = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="LQ")

    def feed(self, pcm: bytes) -> bytes:
        if self._soxr is None:
            return pcm
        self._lead += pcm
        self._trim()
        return self._run(pcm)

    def flush(self) -> bytes:
        """Return what is held back. Nothing may be fed after it."""
        return b"" if self._soxr is None else self._run(b"", last=True)

    def snapshot(self) -> ResamplerState:
        """Return what another resampler of the same rates needs to go on from here, to the sample."""
        return ResamplerState(bytes(self._lead), self._begin, self._given + self._skip)

    def restore(self, state: ResamplerState) -> bytes:
        """Go on from where another resampler was; return what it had held back and this one does not."""
        if self._soxr is None:
            return b""
        self._lead = bytearray(state.lead)
        self._begin = state.begin
        before = state.begin * self._to_hz // self.from_hz
        self._given, self._skip = before, state.given - before
        return self._run(state.lead)

    def _trim(self) -> None:
        """Keep the end of the input, from a sample on at which one of the output lies as well."""
        surplus = len(self._lead) // 2 - int(_LEAD_S * self.from_hz)
        step = self.from_hz // gcd(self.from_hz, self._to_hz)
        if surplus >= self.from_hz // 4:
            samples = surplus // step * step
            del self._lead[: 2 * samples]
            self._begin += samples

    def _run(self, pcm: bytes, *, last: bool = False) -> bytes:
        samples = np.frombuffer(pcm, "<i2").astype(np.float32)
        resampled = np.rint(self._soxr.resample_chunk(samples, last=last))
        found = bytes(np.clip(resampled, -0x8000, 0x7FFF).astype("<i2").data)
        self._given += len(found) // 2
        if self._skip:
            skipped = min(self._skip, len(found) // 2)
            self._skip -= skipped
            found = found[2 * skipped :]
        return found
