"""A sound file, to be spoken to a gateway."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from msgspec import Struct

from antiphon.messages import AudioFormat


class RecordingError(Exception):
    """Why a file cannot be used, as a sentence."""


class Recording(Struct, frozen=True):
    """The sound of a file: mono PCM16."""

    path: Path
    pcm: bytes
    rate_hz: int

    @classmethod
    def read(cls, path: Path) -> Recording:
        """Decode a file, mixed to mono; at its own rate where that can be sent, else at 16 kHz.

        Raises:
            RecordingError: it cannot be read, or there is no sound in it.
        """
        try:
            # Opened here, since a name could be an address to the library.
            with path.open("rb") as file, av.open(file, "r") as container:
                if not container.streams.audio:
                    raise RecordingError(f"There is no sound in {path}.")
                own_hz = container.streams.audio[0].codec_context.sample_rate
                rate_hz = own_hz if 8000 <= own_hz <= 48_000 else 16_000
                frames = _resampled(container, av.AudioResampler("s16", "mono", rate_hz))
                pcm = b"".join(bytes(frame.planes[0])[: frame.samples * 2] for frame in frames)
        except av.FFmpegError:
            raise RecordingError(f"{path} is not audio that can be read; a WAV or FLAC file is.") from None
        except OSError as error:
            raise RecordingError(f"{path} cannot be read: {error.strerror}.") from None
        if not pcm:
            raise RecordingError(f"There is no sound in {path}.")
        return cls(path, pcm, rate_hz)

    @property
    def duration_s(self) -> float:
        return len(self.pcm) / 2 / self.rate_hz

    def chunks(self, format: AudioFormat) -> Iterator[tuple[int, bytes]]:  # noqa: A002 (the protocol's word)
        """Yield tenths of a second, as a number of samples and the bytes to send."""
        size = self.rate_hz // 20 * 2
        samples = np.frombuffer(self.pcm, "<i2")
        encoder = _FlacEncoder(self.rate_hz, block_size=size // 2) if format == "FLAC" else None
        for place in range(0, len(samples), size):
            part = samples[place : place + size]
            last = place + size >= len(samples)
            yield len(part), encoder.encode(part, last=last) if encoder else bytes(part.data)


def _resampled(container: InputContainer, resampler: av.AudioResampler) -> Iterator[av.AudioFrame]:
    for frame in container.decode(audio=0):
        yield from resampler.resample(frame)
    yield from resampler.resample(None)


class _FlacEncoder:
    """Encode as the sound comes: whole frames for every chunk of a whole number of blocks."""

    def __init__(self, rate_hz: int, block_size: int) -> None:
        self._block_size = block_size
        self._context = av.CodecContext.create("flac", "w")
        self._context.format = "s16"
        self._context.layout = "mono"
        self._context.sample_rate = rate_hz
        self._context.time_base = Fraction(1, rate_hz)
        self._context.options = {"frame_size": str(block_size)}
        self._context.open()
        self._head = b"fLaC\x80\x00\x00\x22" + (self._context.extradata or b"")[:34]

    def encode(self, samples: np.ndarray[tuple[int], np.dtype[np.int16]], *, last: bool) -> bytes:
        packets = []
        for place in range(0, len(samples), self._block_size):
            block = samples[place : place + self._block_size].reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(block, "s16", "mono")
            frame.sample_rate = self._context.sample_rate
            packets += self._context.encode(frame)
        if last:
            packets += self._context.encode(None)
        data = self._head + b"".join(bytes(packet) for packet in packets)
        self._head = b""
        return data
