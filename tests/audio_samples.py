"""Audio that the tests are fed: the speech files, tones, FLAC encoded in two ways, and Ogg Opus.

`encode_flac` is PyAV's encoder, as a client would use one. `flac_frame` writes frames bit by bit, for what
no encoder makes: every header field, 4 to 32 bits, chosen bytes in the body.
"""

from __future__ import annotations

import io
import itertools
import struct
import wave
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from fastcrc import crc8, crc16

from antiphon.audio.ogg import PageWriter

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


# ---- Ogg Opus


def opus_packets(
    pcm: bytes, rate_hz: int = 16_000, *, channels: int = 1, frame_ms: float = 20
) -> list[bytes]:
    """Encode interleaved PCM16, whole frames of it."""
    context = av.CodecContext.create("libopus", "w")
    context.format = "s16"
    context.layout = "mono" if channels == 1 else "stereo"
    context.sample_rate = rate_hz
    context.time_base = Fraction(1, rate_hz)
    context.bit_rate = 32_000 * channels
    context.options = {"frame_duration": str(frame_ms)}
    context.open()
    packets: list[bytes] = []
    for block in pieces(pcm, int(rate_hz * frame_ms / 1000) * channels * 2):
        samples = np.frombuffer(block, "<i2").reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout=context.layout.name)
        frame.sample_rate = rate_hz
        packets += [bytes(packet) for packet in context.encode(frame)]
    return packets


def opus_head(
    *, channels: int = 1, pre_skip: int = 0, gain: int = 0, version: int = 1, family: int = 0
) -> bytes:
    return struct.pack("<8sBBHIhB", b"OpusHead", version, channels, pre_skip, 16_000, gain, family)


def ogg_opus(
    packets: Sequence[bytes],
    *,
    serial: int = 7,
    samples: int = 960,
    a_page: int = 5,
    end: int | None = None,
    head: bytes | None = None,
    tags: bytes | None = b"OpusTags" + bytes(8),
) -> list[bytes]:
    """Return the pages of a stream: packets of so many samples (at 48 kHz), so many a page, to `end`."""
    writer = PageWriter(serial)
    pages = [writer.write([(opus_head() if head is None else head, 0)])]
    if tags is not None:
        pages.append(writer.write([(tags, 0)]))
    for place in range(0, len(packets), a_page):
        part = packets[place : place + a_page]
        ends = [samples * (place + n) for n in range(1, len(part) + 1)]
        last = place + a_page >= len(packets)
        if last and end is not None:
            ends[-1] = end
        pages.append(writer.write(zip(part, ends, strict=True), last=last))
    return pages


def mux_opus(pcm: bytes, rate_hz: int = 48_000) -> bytes:
    """Return a file as FFmpeg writes it."""
    file = io.BytesIO()
    with av.open(file, "w", format="ogg") as container:
        stream = container.add_stream("libopus", rate=rate_hz, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.frombuffer(pcm, "<i2").reshape(1, -1), "s16", "mono")
        frame.sample_rate = rate_hz
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()


def read_samples(data: bytes) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """Return the samples of a mono file, full scale 32768, as FFmpeg reads it."""
    blocks = [np.zeros(0, np.float32)]
    with av.open(io.BytesIO(data), "r") as container:
        for frame in container.decode(audio=0):
            samples = frame.to_ndarray().reshape(-1)
            scale = np.float32(1 if samples.dtype == np.int16 else 32768)
            blocks.append(samples.astype(np.float32) * scale)
    return np.concatenate(blocks)


def likeness(one: bytes, other: bytes) -> float:
    """Return the correlation of two pieces of PCM16 of one length."""
    return float(np.corrcoef(np.frombuffer(one, "<i2"), np.frombuffer(other, "<i2"))[0, 1])
