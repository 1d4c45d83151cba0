"""Audio that the tests are fed: the speech files, tones, and FLAC encoded in two ways.

`encode_flac` is PyAV's encoder, as a client would use one. `flac_frame` writes frames bit by bit, for what
no encoder makes: every header field, 4 to 32 bits, chosen bytes in the body.
"""

from __future__ import annotations

import itertools
import wave
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from fastcrc import crc8, crc16

SPEECH = Path(__file__).parent / "speech"


def speech(name: str = "arctic_a0007") -> bytes:
    """Return a file's samples: 16 kHz mono PCM16."""
    with wave.open(str(SPEECH / f"{name}.wav"), "rb") as file:
        return file.readframes(file.getnframes())


def tone(rate_hz: int, samples: int, *, frequency_hz: float = 440.0, amplitude: float = 20_000.0) -> bytes:
    """Return a sine with a little noise, the same each time, as mono PCM16."""
    noise = np.random.default_rng(samples).normal(0, 20, samples)
    sine = amplitude * np.sin(2 * np.pi * frequency_hz / rate_hz * np.arange(samples))
    return bytes((sine + noise).clip(-32768, 32767).astype("<i2").data)


def cut(data: bytes, places: Iterable[int]) -> Iterator[bytes]:
    """Yield the data cut at the places (in any order, taken modulo its size)."""
    edges = sorted({0, len(data), *(place % (len(data) or 1) for place in places)})
    for begin, end in itertools.pairwise(edges):
        yield data[begin:end]


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[place : place + size] for place in range(0, len(data), size))


def encode_flac(
    pcm: bytes, rate_hz: int = 16_000, *, block_size: int = 1600, channels: int = 1, bits: int = 16
) -> list[bytes]:
    """Encode interleaved PCM16 (or the upper 24 bits of PCM32): marker with STREAMINFO, then frames."""
    name = "s16" if bits == 16 else "s32"
    context = av.CodecContext.create("flac", "w")
    context.format = name
    context.layout = "mono" if channels == 1 else "stereo"
    context.sample_rate = rate_hz
    context.time_base = Fraction(1, rate_hz)
    context.options = {"frame_size": str(block_size)}
    context.open()
    samples = np.frombuffer(pcm, "<i2" if bits == 16 else "<i4")
    frames: list[bytes] = []
    for block in np.split(samples, range(block_size * channels, len(samples), block_size * channels)):
        frame = av.AudioFrame.from_ndarray(block.reshape(1, -1), format=name, layout=context.layout.name)
        frame.sample_rate = rate_hz
        frames += [bytes(packet) for packet in context.encode(frame)]
    frames += [bytes(packet) for packet in context.encode(None)]
    assert context.extradata is not None
    return [b"fLaC\x80\x00\x00\x22" + context.extradata[:34], *(frame for frame in frames if frame)]


# ---- FLAC by hand (RFC 9639)

RATE_CODES = {88200: 1, 176400: 2, 192000: 3, 8000: 4, 16000: 5, 22050: 6, 24000: 7, 32000: 8}
RATE_CODES |= {44100: 9, 48000: 10, 96000: 11}
BITS_CODES = {8: 1, 12: 2, 16: 4, 20: 5, 24: 6, 32: 7}


def stream_info(rate_hz: int = 16_000, channels: int = 1, bits: int = 16, *, last: bool = True) -> bytes:
    """Return the marker and STREAMINFO: total and MD5 unknown."""
    packed = rate_hz << 44 | channels - 1 << 41 | bits - 1 << 36
    block = b"\x00\x10\xff\xff" + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
    return b"fLaC" + metadata_block(0, block, last=last)


def metadata_block(kind: int, content: bytes, *, last: bool = False) -> bytes:
    return bytes([kind | last << 7]) + len(content).to_bytes(3, "big") + content


def flac_header(
    block_size: int,
    *,
    rate_hz: int = 16_000,
    channels: int = 1,
    bits: int = 16,
    number: int = 0,
    variable: bool = False,
    rate_code: int | None = None,
    bits_code: int | None = None,
    block_code: int = 7,
) -> bytes:
    """Return a frame header with its CRC-8; the codes replace the usual coding of their field."""
    if rate_code is None:
        rate_code = RATE_CODES[rate_hz]
    if bits_code is None:
        bits_code = BITS_CODES[bits]
    header = bytes([0xFF, 0xF8 | variable, block_code << 4 | rate_code, channels - 1 << 4 | bits_code << 1])
    header += _coded_number(number)
    if block_code in (6, 7):
        header += (block_size - 1).to_bytes(block_code - 5, "big")
    if rate_code in (12, 13, 14):
        coded, width = {12: (rate_hz // 1000, 1), 13: (rate_hz, 2), 14: (rate_hz // 10, 2)}[rate_code]
        header += coded.to_bytes(width, "big")
    return header + bytes([crc8.smbus(header)])


def _coded_number(number: int) -> bytes:
    if number < 0x80:
        return bytes([number])
    width = next(n for n in range(2, 8) if number < 1 << (5 * n + 1))
    tail = [number >> 6 * n & 0x3F | 0x80 for n in range(width - 1)]
    return bytes([(0xFF00 >> width & 0xFF) | number >> 6 * (width - 1), *reversed(tail)])


def flac_frame(
    *channels: Sequence[int],
    rate_hz: int = 16_000,
    bits: int = 16,
    number: int = 0,
    variable: bool = False,
    rate_code: int | None = None,
    bits_code: int | None = None,
    block_code: int = 7,
) -> bytes:
    """Return a frame of verbatim subframes (constant ones where all samples are equal)."""
    header = flac_header(
        len(channels[0]),
        rate_hz=rate_hz,
        channels=len(channels),
        bits=bits,
        number=number,
        variable=variable,
        rate_code=rate_code,
        bits_code=bits_code,
        block_code=block_code,
    )
    body = ""
    for samples in channels:
        constant = len(set(samples)) == 1
        body += "00000000" if constant else "00000010"
        body += "".join(f"{n & (1 << bits) - 1:0{bits}b}" for n in (samples[:1] if constant else samples))
    body += "0" * (-len(body) % 8)
    return with_crc(header + int(body, 2).to_bytes(len(body) // 8, "big"))


def with_crc(frame: bytes) -> bytes:
    return frame + crc16.umts(frame).to_bytes(2, "big")


def write_wav(
    path: Path, pcm: bytes, rate_hz: int = 16_000, channels: int = 1, sample_bytes: int = 2
) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(sample_bytes)
        file.setframerate(rate_hz)
        file.writeframes(pcm)
    return path
