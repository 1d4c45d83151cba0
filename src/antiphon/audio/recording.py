"""A sound file, to be spoken to a gateway."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
from av.container import InputContainer
from msgspec import Struct

from antiphon.audio.encoding import FlacEncoder, OpusEncoder
from antiphon.messages import StreamFormat


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

    def chunks(self, format: StreamFormat) -> Iterator[tuple[int, bytes]]:  # noqa: A002 (the protocol's word)
        """Yield tenths of a second, as a number of samples and the bytes to send."""
        half = self.rate_hz // 20
        encoder: FlacEncoder | OpusEncoder | None = None
        if format == "FLAC":
            encoder = FlacEncoder(self.rate_hz, half)
        elif format != "LINEAR16":
            encoder = OpusEncoder(self.rate_hz)
        for place in range(0, len(self.pcm), half * 4):
            part = self.pcm[place : place + half * 4]
            data = encoder.encode(part) if encoder else part
            if encoder and place + len(part) == len(self.pcm):
                data += encoder.finish()
            yield len(part) // 2, data


def _resampled(container: InputContainer, resampler: av.AudioResampler) -> Iterator[av.AudioFrame]:
    for frame in container.decode(audio=0):
        yield from resampler.resample(frame)
    yield from resampler.resample(None)
