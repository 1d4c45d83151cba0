"""What all sessions say: frames that are built once and sent by each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import numpy as np

from antiphon import frames as binary
from antiphon import messages
from antiphon.audio.encoding import FlacEncoder
from antiphon.load.frames import BINARY, TEXT, masked
from antiphon.messages import AudioChunk, AudioFormat

RATE_HZ: Final = 16_000
_NOISE_S: Final = 3.0
_MOST_FRAMES: Final = 4096
"""Frames that are kept; at 4.3 KB each 18 MB."""


class Voice:
    """Chunks of a recording that is said over and over, as frames, by their number from 0 on.

    `pcm` is mono PCM16 at `rate_hz`. FLAC is one stream that never ends, the same in every session, so chunks
    are encoded once, in order.
    """

    def __init__(
        self,
        pcm: bytes,
        *,
        rate_hz: int = RATE_HZ,
        chunk_ms: int = 100,
        audio_format: AudioFormat = "LINEAR16",
        as_binary: bool = False,
    ) -> None:
        self.rate_hz = rate_hz
        self.chunk_s = chunk_ms / 1000
        self.audio_format: AudioFormat = audio_format
        self.as_binary = as_binary
        samples = rate_hz * chunk_ms // 1000
        self._pieces = pieces(pcm, samples * 2)
        self._encoder = FlacEncoder(rate_hz, samples) if audio_format == "FLAC" else None
        self._encoded: list[bytes] = []
        self._frames: dict[int, bytes] = {}

    @property
    def count(self) -> int:
        """How many chunks the recording has."""
        return len(self._pieces)

    def chunk(self, number: int) -> bytes:
        """Return the frame of a chunk; `number` is its sequence."""
        if frame := self._frames.get(number):
            return frame
        if len(self._frames) >= _MOST_FRAMES:
            self._frames.clear()
        frame = self._frames[number] = self._build(number)
        return frame

    def audio(self, number: int) -> bytes:
        """Return a chunk's audio as it travels, before base64."""
        if self._encoder is None:
            return self._pieces[number % len(self._pieces)]
        while len(self._encoded) <= number:
            self._encoded.append(self._encoder.encode(self._pieces[len(self._encoded) % len(self._pieces)]))
        return self._encoded[number]

    def _build(self, number: int) -> bytes:
        audio, now_ms = self.audio(number), messages.milliseconds(time.time())
        if self.as_binary:
            return masked(BINARY, binary.pack(binary.Frame(binary.AUDIO_CHUNK, number, now_ms, audio)))
        return masked(TEXT, messages.encode(AudioChunk(timestamp=now_ms, data=audio, sequence=number)))


def pieces(pcm: bytes, size: int) -> Sequence[bytes]:
    """Cut audio into pieces of one size, the last one filled up with what it begins with."""
    if not pcm:
        raise ValueError("there is no audio")
    whole = pcm + (pcm * (size // len(pcm) + 1))[: -len(pcm) % size]
    return [whole[at : at + size] for at in range(0, len(whole), size)]


def noise(seconds: float = _NOISE_S, seed: int = 1) -> bytes:
    """Return noise in the shape of speech at 16 kHz: a falling spectrum, four syllables a second."""
    random = np.random.default_rng(seed)
    count = int(seconds * RATE_HZ)
    spectrum = np.fft.rfft(random.standard_normal(count))
    hertz = np.fft.rfftfreq(count, 1 / RATE_HZ)
    shaped = np.fft.irfft(spectrum / (1 + (hertz / 500) ** 2), count)
    syllables = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * np.arange(count) / RATE_HZ)
    loud = shaped / np.abs(shaped).max() * syllables * 12_000
    return bytes(loud.astype("<i2").tobytes())
