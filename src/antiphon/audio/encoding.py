"""Encoders of audio: for answers, in the formats a client may ask for, and for what a client sends.

Whatever an encoder returned so far can be played: at most a block is held back, 20 ms of Opus and 33 of FLAC,
and the 6.5 ms by which Opus is late.
None has a clock or does I/O. They may be used in a thread, one call at a time.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import cached_property, partial
from itertools import count
from typing import Final, Protocol

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext

from antiphon.audio.ogg import PageWriter
from antiphon.audio.resampling import Resampler

RATE_HZ: Final = 24_000
PCM: Final = "audio/pcm;rate=24000"
WAV: Final = "audio/wav"
FLAC: Final = "audio/flac"
OPUS: Final = "audio/ogg;codecs=opus"
FORMATS: Final = (PCM, WAV, FLAC, OPUS)
"""MIME types of answers, mono at 24 kHz."""

OPUS_RATES_HZ: Final = (8000, 12_000, 16_000, 24_000, 48_000)
OPUS_BITS_A_SECOND: Final = 32_000

_OPUS_FRAMES_A_SECOND: Final = 50
_OPUS_FRAME_48K: Final = 960
_FLAC_BLOCK_SAMPLES: Final = 800  # a third of a piece of an answer
_UNKNOWN_BYTES: Final = 0xFFFFFFFF
_serials: Final = count(1)  # streams that a client strings together must differ


class Encoder(Protocol):
    """Encode one response; all that it returns, joined, is a file."""

    costly: bool
    """It takes more than 200 µs for 100 ms, or to make: not to be run in the event loop.

    100 ms of Opus take 1 ms and of FLAC 0.1, without the GIL for the most part; FLAC takes 5 ms and 7 MB to
    make.
    """

    def encode(self, pcm: bytes, rate_hz: int) -> bytes:
        """Return what mono PCM16 of any rate adds to the file."""

    def finish(self) -> bytes:
        """Return the rest of the file. Nothing may be encoded after it."""


def choose(wanted: Sequence[str]) -> str:
    """Return the first of the wanted MIME types that there is, as it is written in `FORMATS`, else PCM."""
    known = {"audio/pcm": PCM} | {name: name for name in FORMATS}
    return next((known[name] for name in map(_normal, wanted) if name in known), PCM)


def encoder(format: str) -> Encoder:  # noqa: A002 (the protocol's word)
    """Return an encoder of one of `FORMATS`."""
    if format == OPUS:
        return _AtRate(partial(OpusEncoder, RATE_HZ), costly=True)
    if format == FLAC:
        return _AtRate(partial(FlacEncoder, RATE_HZ, _FLAC_BLOCK_SAMPLES), costly=True)
    return _AtRate(_WavEncoder if format == WAV else _PcmEncoder, costly=False)


def _normal(name: str) -> str:
    kind, *parameters = (part.strip().lower() for part in name.split(";"))
    pairs = (parameter.partition("=") for parameter in parameters)
    return ";".join([kind, *(f"{key.strip()}={value.strip().strip(chr(34))}" for key, _, value in pairs)])


class _Codec(Protocol):
    def encode(self, pcm: bytes) -> bytes: ...

    def finish(self) -> bytes: ...


class _AtRate:
    """An encoder of audio of any rate: 24 kHz goes to the codec as it is."""

    def __init__(self, make: Callable[[], _Codec], *, costly: bool) -> None:
        self.costly = costly
        self._make = make  # by the first call, since that is costly too
        self._resampler = Resampler(RATE_HZ, RATE_HZ)

    def encode(self, pcm: bytes, rate_hz: int) -> bytes:
        rest = b""
        if rate_hz != self._resampler.from_hz:
            rest = self._resampler.flush()
            self._resampler = Resampler(rate_hz, RATE_HZ)
        return self._codec.encode(rest + self._resampler.feed(pcm))

    def finish(self) -> bytes:
        return self._codec.encode(self._resampler.flush()) + self._codec.finish()

    @cached_property
    def _codec(self) -> _Codec:
        return self._make()


class _PcmEncoder:
    def encode(self, pcm: bytes) -> bytes:
        return pcm

    def finish(self) -> bytes:
        return b""


class _WavEncoder:
    """A WAV file of unknown length, as programs write them to a pipe."""

    def __init__(self) -> None:
        form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE_HZ, RATE_HZ * 2, 2, 16)
        riff = struct.pack("<4sI4s", b"RIFF", _UNKNOWN_BYTES, b"WAVE")
        self._head = riff + form + struct.pack("<4sI", b"data", _UNKNOWN_BYTES)

    def encode(self, pcm: bytes) -> bytes:
        head, self._head = self._head, b""
        return head + pcm

    def finish(self) -> bytes:
        return self.encode(b"")


class FlacEncoder:
    """FLAC of one rate, in blocks of one size."""

    def __init__(self, rate_hz: int, block_samples: int) -> None:
        self._blocks = _Blocks(block_samples)
        self._context = av.CodecContext.create("flac", "w")
        _open(self._context, rate_hz, frame_size=block_samples)
        self._head = b"fLaC\x80\x00\x00\x22" + (self._context.extradata or b"")[:34]

    def encode(self, pcm: bytes) -> bytes:
        return self._packets(self._blocks.feed(pcm))

    def finish(self) -> bytes:
        return self._packets(self._blocks.flush(), last=True)

    def _packets(self, blocks: Iterator[bytes], *, last: bool = False) -> bytes:
        packets = [
            packet for block in blocks for packet in self._context.encode(_frame(self._context, block))
        ]
        if last:
            packets += self._context.encode(None)
        data = self._head + b"".join(bytes(packet) for packet in packets)
        self._head = b""
        return data


class OpusEncoder:
    """Ogg Opus (RFC 7845): what each call adds is on pages of its own.

    Rates that Opus does not know are resampled to 48 kHz. Decoded, it is as long as what was encoded.
    """

    def __init__(self, rate_hz: int) -> None:
        coded_hz = rate_hz if rate_hz in OPUS_RATES_HZ else 48_000
        self._resampler = Resampler(rate_hz, coded_hz)
        self._blocks = _Blocks(coded_hz // _OPUS_FRAMES_A_SECOND)
        self._to_48k = 48_000 // coded_hz
        self._samples = 0  # given to be encoded, at `coded_hz`
        self._coded_48k = 0
        self._context = av.CodecContext.create("libopus", "w")
        self._context.bit_rate = OPUS_BITS_A_SECOND
        # The mode for voice is made for microphones: its filters take clean speech further from what it was.
        _open(self._context, coded_hz, application="audio", frame_duration=1000 // _OPUS_FRAMES_A_SECOND)
        head = self._context.extradata or b""
        self._pre_skip = int.from_bytes(head[10:12], "little")
        self._pages = PageWriter(next(_serials) & 0xFFFFFFFF)
        tags = struct.pack("<8sI8sI", b"OpusTags", 8, b"antiphon", 0)
        self._head = self._pages.write([(head, 0)]) + self._pages.write([(tags, 0)])

    def encode(self, pcm: bytes) -> bytes:
        return self._take_head() + self._pages.write(self._packets(self._resampler.feed(pcm)))

    def finish(self) -> bytes:
        packets = list(self._packets(self._resampler.flush()))
        # The encoder is late by the pre-skip: silence brings out what it still has.
        end_48k = self._pre_skip + self._samples * self._to_48k
        missing = -(-(end_48k - self._coded_48k) // _OPUS_FRAME_48K)
        packets += self._encode(self._blocks.pad(missing))
        packets[-1] = packets[-1][0], end_48k
        return self._take_head() + self._pages.write(packets, last=True)

    def _packets(self, pcm: bytes) -> Iterator[tuple[bytes, int]]:
        self._samples += len(pcm) // 2
        return self._encode(self._blocks.feed(pcm))

    def _encode(self, blocks: Iterator[bytes]) -> Iterator[tuple[bytes, int]]:
        for block in blocks:
            for packet in self._context.encode(_frame(self._context, block)):
                self._coded_48k += _OPUS_FRAME_48K
                yield bytes(packet), self._coded_48k

    def _take_head(self) -> bytes:
        head, self._head = self._head, b""
        return head


class _Blocks:
    """Cut samples into blocks of one size."""

    def __init__(self, samples: int) -> None:
        self._size = samples * 2
        self._rest = b""

    def feed(self, pcm: bytes) -> Iterator[bytes]:
        pcm = self._rest + pcm if self._rest else pcm
        whole = len(pcm) - len(pcm) % self._size
        self._rest = pcm[whole:]
        return (pcm[place : place + self._size] for place in range(0, whole, self._size))

    def pad(self, blocks: int) -> Iterator[bytes]:
        """Return so many blocks of what is left and silence."""
        return self.feed(bytes(blocks * self._size - len(self._rest)))

    def flush(self) -> Iterator[bytes]:
        """Return what is left, a shorter block or none."""
        rest, self._rest = self._rest, b""
        return iter([rest] if rest else [])


def _open(context: AudioCodecContext, rate_hz: int, **options: object) -> None:
    context.format = "s16"
    context.layout = "mono"
    context.sample_rate = rate_hz
    context.time_base = Fraction(1, rate_hz)
    context.options = {name: str(value) for name, value in options.items()}
    context.open()


def _frame(context: AudioCodecContext, pcm: bytes) -> av.AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.frombuffer(pcm, "<i2").reshape(1, -1), "s16", "mono")
    frame.sample_rate = context.sample_rate
    return frame
