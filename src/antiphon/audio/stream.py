"""One run of a client's audio: chunks in sequence, to 16 kHz mono PCM16, the model's input.

Synchronous and pure. What goes wrong is returned beside the audio, never raised, since the audio goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Final, assert_never

from msgspec import Struct

from antiphon.audio.flac import Block, Damage, FlacDecoder, FlacState
from antiphon.audio.opus import RATE_HZ as OPUS_RATE_HZ
from antiphon.audio.opus import OpusDecoder, OpusState
from antiphon.audio.resampling import Resampler, ResamplerState
from antiphon.errors import ErrorCode, GatewayError
from antiphon.live import INPUT_RATE_HZ
from antiphon.messages import StreamFormat

MAX_CHUNK_S: Final = 120
"""FLAC holds 65,535 samples in 11 bytes. A chunk may hold this much, or 16 times its size if that is more."""

MAX_RATE_CHANGES: Final = 16
"""A stream may be made of several, each with its rate; a resampler takes 0.1 ms to make."""


class Decoded(Struct, frozen=True, gc=False):
    """16 kHz mono PCM16, little-endian, and what went wrong on the way to it, in order."""

    pcm: bytes
    errors: tuple[GatewayError, ...] = ()


class StreamState(Struct, frozen=True):
    """Where a stream stands, for another node to go on with it."""

    format: StreamFormat
    announced_hz: int
    from_hz: int
    sequence: int | None
    ended: bool
    rate_changes: int
    pcm_bytes: int
    linear16: bytes
    flac: FlacState | None
    opus: OpusState | None
    resampler: ResamplerState


class AudioStream:
    """Decode a stream's chunks, which may be cut anywhere, to 16 kHz.

    `format` and `rate_hz` are what the client announced; the rate is 8000 to 48000. No sample is lost or
    doubled, and the samples are the same for every chunking. LINEAR16 at 16 kHz passes byte for byte, FLAC at
    16 kHz and 16 bits bit for bit; other rates give round(n * 16000 / rate) samples once flushed. Opus has
    48 kHz, whatever was announced.
    """

    def __init__(self, format: StreamFormat, rate_hz: int) -> None:  # noqa: A002 (the protocol's word)
        self.duplicates = 0
        """Chunks dropped because their sequence had been seen or skipped."""
        self.gaps = 0
        self.ended = False
        """The stream is over: flushed, or ended by AUDIO_UNSUPPORTED. More chunks yield nothing."""
        self._format = format
        self._announced_hz = rate_hz
        self._regained: list[bytes | GatewayError] = []
        self._rate_changes = 0
        self._verbatim: _Linear16Decoder | None = None
        """The decoder, where what comes in whole is what goes out."""
        self._decoder: FlacDecoder | OpusDecoder | _Linear16Decoder
        match format:
            case "FLAC":
                self._decoder = FlacDecoder()
            case "LINEAR16":
                self._decoder = linear16 = _Linear16Decoder(rate_hz)
                self._verbatim = linear16 if rate_hz == INPUT_RATE_HZ else None
            case "audio/ogg;codecs=opus":
                self._decoder = OpusDecoder()
                rate_hz = OPUS_RATE_HZ
            case _:
                assert_never(format)
        self._resampler = Resampler(rate_hz, INPUT_RATE_HZ)
        self._sequence: int | None = None
        self._pcm_bytes = 0

    @property
    def received_ms(self) -> float:
        """How much audio has come out so far."""
        return self._pcm_bytes / (INPUT_RATE_HZ * 2 / 1000)

    def passes(self, sequence: int, data: bytes) -> bool:
        """Take the next chunk if it comes out as it goes in, and return whether it does; else `feed()` it."""
        if (
            self._verbatim is None
            or self.ended
            or (self._sequence is not None and sequence != self._sequence + 1)
            or len(data) % 2
            or self._regained
            or self._verbatim.half
        ):
            return False
        self._sequence = sequence
        self._pcm_bytes += len(data)
        return True

    def feed(self, sequence: int, data: bytes) -> Decoded:
        """Decode the next chunk.

        Errors: AUDIO_SEQUENCE_GAP (`expected`, `received`), AUDIO_CORRUPT once for a damaged region,
        AUDIO_RATE_MISMATCH once (`expected`, `received`), AUDIO_UNSUPPORTED, which ends the stream. All name
        in `sequence` the chunk that showed it. A chunk seen before is dropped and counted.
        """
        if self.passes(sequence, data):
            return Decoded(data)
        expected = sequence if self._sequence is None else self._sequence + 1
        if self.ended or sequence < expected:
            self.duplicates += sequence < expected
            return Decoded(b"")
        results, self._regained = self._regained, []
        if sequence > expected:
            self.gaps += 1
            results += self._convert(self._decoder.resync())
            results.append(
                GatewayError(
                    ErrorCode.AUDIO_SEQUENCE_GAP, sequence=sequence, expected=expected, received=sequence
                )
            )
        self._sequence = sequence
        if not self.ended:
            max_bytes = max(MAX_CHUNK_S * INPUT_RATE_HZ * 2, len(data) * 16)
            results += self._convert(self._decoder.feed(data), max_bytes)
        return self._decoded(results)

    def drain(self) -> Decoded:
        """Bring out what the resampler holds back; the stream goes on, resampled afresh.

        A part of a frame or of a page still waits for the rest of it.
        """
        results: list[bytes | GatewayError] = []
        if not self.ended:
            results.append(self._resampler.flush())
            self._resampler = Resampler(self._resampler.from_hz, INPUT_RATE_HZ)
        return self._decoded(results)

    def flush(self) -> Decoded:
        """Decode what is held back, to the last sample; the stream is over."""
        results, self._regained = self._regained, []
        if not self.ended:
            results += self._convert(self._decoder.flush())
            results.append(self._resampler.flush())
            self.ended = True
        return self._decoded(results)

    def snapshot(self) -> StreamState:
        """Return what another stream needs to go on from here."""
        decoder = self._decoder
        return StreamState(
            self._format,
            self._announced_hz,
            self._resampler.from_hz,
            self._sequence,
            self.ended,
            self._rate_changes,
            self._pcm_bytes,
            decoder.half if isinstance(decoder, _Linear16Decoder) else b"",
            decoder.snapshot() if isinstance(decoder, FlacDecoder) else None,
            decoder.snapshot() if isinstance(decoder, OpusDecoder) else None,
            self._resampler.snapshot(),
        )

    @classmethod
    def restored(cls, state: StreamState) -> AudioStream:
        """Return a stream that goes on where another was; what that held comes out with the next chunk."""
        stream = cls(state.format, state.announced_hz)
        stream._sequence, stream.ended = state.sequence, state.ended
        stream._rate_changes, stream._pcm_bytes = state.rate_changes, state.pcm_bytes
        stream._resampler = Resampler(state.from_hz, INPUT_RATE_HZ)
        stream._regained.append(stream._resampler.restore(state.resampler))
        match stream._decoder:
            case FlacDecoder() as flac:
                assert state.flac, "a stream of FLAC has its decoder's state"
                stream._regained += stream._convert(flac.restore(state.flac))
            case OpusDecoder() as opus:
                assert state.opus, "a stream of Opus has its decoder's state"
                opus.restore(state.opus)
            case linear16:
                linear16.half = state.linear16
        return stream

    def _convert(
        self, items: Iterator[Block | Damage], max_bytes: float = inf
    ) -> Iterator[bytes | GatewayError]:
        """Yield the items at 16 kHz, following the stream's own rate, in mid-stream too."""
        size = 0
        try:
            for item in items:
                if isinstance(item, Damage):
                    yield GatewayError(ErrorCode.AUDIO_CORRUPT, sequence=self._sequence)
                    continue
                if item.rate_hz != self._resampler.from_hz:
                    yield self._resampler.flush()
                    yield from self._change_rate(item.rate_hz)
                pcm = self._resampler.feed(item.pcm)
                yield pcm
                size += len(pcm)
                if size > max_bytes:
                    raise _unsupported(f"A chunk may hold at most {MAX_CHUNK_S} seconds of audio.")
        except GatewayError as error:
            self.ended = True
            yield GatewayError(error.code, error.message, sequence=self._sequence)

    def _change_rate(self, rate_hz: int) -> Iterator[GatewayError]:
        self._resampler = Resampler(rate_hz, INPUT_RATE_HZ)
        self._rate_changes += 1
        if self._rate_changes > MAX_RATE_CHANGES:
            raise _unsupported("The stream changes its sample rate too often.")
        if self._rate_changes == 1:
            yield GatewayError(
                ErrorCode.AUDIO_RATE_MISMATCH,
                sequence=self._sequence,
                expected=self._announced_hz,
                received=rate_hz,
            )

    def _decoded(self, results: list[bytes | GatewayError]) -> Decoded:
        pcm = b"".join(result for result in results if isinstance(result, bytes))  # of one that is the one
        self._pcm_bytes += len(pcm)
        return Decoded(pcm, tuple(result for result in results if isinstance(result, GatewayError)))


def _unsupported(why: str) -> GatewayError:
    return GatewayError(ErrorCode.AUDIO_UNSUPPORTED, f"{why} The stream was ended.")


class _Linear16Decoder:
    """Put together samples that were cut between chunks."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self.half = b""

    def feed(self, data: bytes) -> Iterator[Block | Damage]:
        if self.half:
            data = self.half + data
        if len(data) % 2:
            self.half, data = data[-1:], data[:-1]
        else:
            self.half = b""
        if data:
            yield Block(data, self._rate_hz)

    def resync(self) -> Iterator[Block | Damage]:
        """Drop the half sample, since its other half is lost; a chunk after a gap begins with a whole one."""
        self.half = b""
        return iter(())

    def flush(self) -> Iterator[Block | Damage]:
        if self.half:
            yield Damage()
