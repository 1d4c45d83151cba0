"""The FLAC decoder, against PyAV's encoder and frames written by hand."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable

import numpy as np
import pytest
from av.audio.frame import AudioFrame
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.audio.flac import (
    MAX_FRAME_BYTES,
    MAX_METADATA_BYTES,
    Block,
    Damage,
    FlacDecoder,
    Header,
    _Codec,
)
from antiphon.errors import ErrorCode, GatewayError
from audio_samples import (
    cut,
    encode_flac,
    flac_frame,
    flac_header,
    metadata_block,
    pieces,
    speech,
    stream_info,
    tone,
    with_crc,
)
from tries import tries

PCM = speech()[: 2 * 16_000]
NOISE = [random.Random(1).randrange(-(1 << 15), 1 << 15) for _ in range(64)]


def decode(chunks: Iterable[bytes]) -> list[Block | Damage]:
    decoder = FlacDecoder()
    results: list[Block | Damage] = []
    for chunk in chunks:
        results += decoder.feed(chunk)
    results += decoder.flush()
    return results


def pcm_of(results: Iterable[Block | Damage]) -> bytes:
    return b"".join(result.pcm for result in results if isinstance(result, Block))


def damages(results: Iterable[Block | Damage]) -> int:
    return sum(isinstance(result, Damage) for result in results)


def pcm16(samples: Iterable[int]) -> bytes:
    return bytes(np.array(list(samples), "<i2").data)


class TestBitExact:
    @pytest.mark.parametrize("block_size", [16, 320, 1600, 4096, 65_535])
    @pytest.mark.parametrize("size", [7, 1000, 10_000_000])
    def test_speech(self, block_size: int, size: int) -> None:
        results = decode(pieces(b"".join(encode_flac(PCM, block_size=block_size)), size))
        assert pcm_of(results) == PCM
        assert damages(results) == 0

    def test_single_bytes(self) -> None:
        results = decode(pieces(b"".join(encode_flac(PCM)), 1))
        assert pcm_of(results) == PCM
        assert damages(results) == 0

    @settings(max_examples=tries(60), deadline=None)
    @given(st.data())
    def test_any_chunking_of_any_length(self, data: st.DataObject) -> None:
        samples = data.draw(st.integers(16, 6000))
        rate_hz = data.draw(st.sampled_from([8000, 11_025, 16_000, 44_100, 48_000]))
        block_size = data.draw(st.sampled_from([16, 320, 1600, 4096]))
        pcm = tone(rate_hz, samples)
        stream = b"".join(encode_flac(pcm, rate_hz, block_size=block_size))
        results = decode(cut(stream, data.draw(st.lists(st.integers(0, len(stream)), max_size=80))))
        assert pcm_of(results) == pcm
        assert {result.rate_hz for result in results if isinstance(result, Block)} == {rate_hz}
        assert damages(results) == 0

    @pytest.mark.parametrize("bits", [4, 8, 12, 15, 16])
    def test_up_to_16_bits_are_left_aligned(self, bits: int) -> None:
        samples = [n >> 16 - bits for n in NOISE]
        frame = flac_frame(samples, bits=bits, bits_code={4: 0, 15: 0}.get(bits))
        assert pcm_of(decode([stream_info(bits=bits) + frame])) == pcm16(n << 16 - bits for n in samples)

    @pytest.mark.parametrize("bits", [20, 24, 32])
    def test_more_bits_are_rounded_half_up(self, bits: int) -> None:
        low = bits - 16
        half = 1 << low - 1
        top = (1 << bits - 1) - 1
        samples = [0, half, half - 1, -half, -half - 1, top, -top - 1, *(n << low | half + 1 for n in NOISE)]
        expected = [0, 1, 0, 0, -1, 32767, -32768, *(min(n + 1, 32767) for n in NOISE)]
        assert pcm_of(decode([flac_frame(samples, bits=bits)])) == pcm16(expected)

    def test_24_bits_from_an_encoder(self) -> None:
        wide = (np.frombuffer(PCM, "<i2").astype("<i4") << 16) + (100 << 8)
        assert pcm_of(decode(encode_flac(bytes(wide.data), bits=24))) == PCM

    @pytest.mark.parametrize("bits", [8, 16, 24])
    def test_stereo_is_mixed_evenly(self, bits: int) -> None:
        shift = bits - 16
        left = [n << shift if shift > 0 else n >> -shift for n in NOISE]
        right = [*reversed(left)]
        expected = [
            min((sum(pair) * (1 << 32 - bits) + (1 << 16)) >> 17, 32767)
            for pair in zip(left, right, strict=True)
        ]
        assert pcm_of(decode([flac_frame(left, right, bits=bits)])) == pcm16(expected)

    def test_stereo_from_an_encoder(self) -> None:
        both = np.repeat(np.frombuffer(PCM, "<i2"), 2)
        assert pcm_of(decode(encode_flac(bytes(both.data), channels=2))) == PCM

    @pytest.mark.parametrize(
        ("rate_hz", "rate_code"),
        [
            *((rate_hz, None) for rate_hz in (8000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)),
            (12_000, 12),
            (11_025, 13),
            (12_340, 14),
            (9_999, 0),
        ],
    )
    def test_rates(self, rate_hz: int, rate_code: int | None) -> None:
        frame = flac_frame(NOISE, rate_hz=rate_hz, rate_code=rate_code)
        for size in (1, 1000):
            results = decode(pieces(stream_info(rate_hz) + frame, size))
            assert results == [Block(pcm16(NOISE), rate_hz)]

    @pytest.mark.parametrize("code", [1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15])
    def test_block_size_codes(self, code: int) -> None:
        size = {1: 192, 6: 100}.get(code) or (576 << code - 2 if code < 6 else 256 << code - 8)
        samples = [*range(-50, size - 50)]
        assert pcm_of(decode([flac_frame(samples, block_code=code)])) == pcm16(samples)

    @pytest.mark.parametrize(
        "number", [0, 0x7F, 0x80, 0x7FF, 0x800, 0xFFFF, 1 << 20, 1 << 25, (1 << 31) - 100_000]
    )
    def test_variable_block_size_and_numbers(self, number: int) -> None:
        frames = [
            flac_frame(NOISE, variable=True, number=number),
            flac_frame(NOISE[:1], variable=True, number=number + len(NOISE)),
            flac_frame(NOISE * 100, variable=True, number=number + len(NOISE) + 1),
        ]
        stream = stream_info() + b"".join(frames)
        for size in (1, 33, 100_000):
            results = decode(pieces(stream, size))
            assert pcm_of(results) == pcm16(NOISE + NOISE[:1] + NOISE * 100)
            assert damages(results) == 0


class TestDelay:
    def test_a_frame_that_ends_its_piece_is_decoded_at_once(self) -> None:
        decoder = FlacDecoder()
        info, *frames = encode_flac(PCM)
        assert not list(decoder.feed(info))
        for number, frame in enumerate(frames):
            assert pcm_of(decoder.feed(frame)) == PCM[number * 3200 : (number + 1) * 3200]
        assert not list(decoder.flush())

    def test_else_as_soon_as_the_next_header_is_there(self) -> None:
        _, first, second, *_ = encode_flac(PCM)
        decoder = FlacDecoder()
        assert not list(decoder.feed(first[:-1]))
        assert not list(decoder.feed(first[-1:] + second[:5]))
        assert pcm_of(decoder.feed(second[5:9])) == PCM[:3200]


class TestMetadata:
    @pytest.mark.parametrize("size", [1, 41, 10_000])
    def test_any_blocks_are_skipped(self, size: int) -> None:
        blocks = (
            metadata_block(4, b"\xff" * 7) + metadata_block(1, b"") + metadata_block(6, bytes(200), last=True)
        )
        stream = stream_info(last=False) + blocks + flac_frame(NOISE)
        assert decode(pieces(stream, size)) == [Block(pcm16(NOISE), 16_000)]

    def test_a_huge_block_is_not_kept(self) -> None:
        decoder = FlacDecoder()
        results = [*decoder.feed(stream_info(last=False) + bytes([0x86]) + (1 << 23).to_bytes(3, "big"))]
        for _ in range(128):
            results += decoder.feed(bytes(1 << 16))
            assert len(decoder._buffer) < 100
        results += decoder.feed(flac_frame(NOISE))
        assert results == [Block(pcm16(NOISE), 16_000)]

    def test_more_than_the_limit_is_damage_and_audio_is_found_again(self) -> None:
        block = metadata_block(1, bytes((1 << 24) - 1))
        count = MAX_METADATA_BYTES // len(block) + 1
        results = decode([stream_info(last=False), *[block] * count, flac_frame(NOISE)])
        assert results == [Damage(), Block(pcm16(NOISE), 16_000)]

    @pytest.mark.parametrize("kind", [0, 0x7F])
    def test_a_block_that_may_not_be_there(self, kind: int) -> None:
        stream = stream_info(last=False) + metadata_block(kind, bytes(20), last=True) + flac_frame(NOISE)
        assert decode([stream]) == [Damage(), Block(pcm16(NOISE), 16_000)]

    @pytest.mark.parametrize("kind", [b"\x01", b"\x81"])
    def test_a_damaged_length_does_not_swallow_the_audio(self, kind: bytes) -> None:
        stream = stream_info(last=False) + kind + b"\x40\x00\x00" + flac_frame(NOISE) * 2
        for size in (1, 100_000):
            assert decode(pieces(stream, size)) == [Damage(), *[Block(pcm16(NOISE), 16_000)] * 2]

    def test_a_block_that_lies_ends_the_metadata(self) -> None:
        stream = stream_info(last=False) + b"\x01\x40\x00\x00" + flac_frame(NOISE)
        stream += metadata_block(4, b"words", last=True) + flac_frame(NOISE)
        for size in (1, 100_000):
            assert decode(pieces(stream, size)) == [Damage(), Block(pcm16(NOISE), 16_000)] * 2

    def test_a_damaged_stream_info_does_not_swallow_the_audio(self) -> None:
        stream = stream_info()[:-20] + flac_frame(NOISE) * 2
        assert decode([stream]) == [Damage(), *[Block(pcm16(NOISE), 16_000)] * 2]

    @pytest.mark.parametrize("missing", [1, 30, 35])
    def test_cut_off(self, missing: int) -> None:
        stream = stream_info(last=False) + metadata_block(4, bytes(30), last=True)
        assert decode([stream[:-missing]]) == [Damage()]

    def test_nothing_but_metadata(self) -> None:
        assert decode([stream_info()]) == []
        assert decode([]) == []


class TestJoined:
    @pytest.mark.parametrize("size", [1, 100, 1_000_000])
    def test_streams_one_after_the_other(self, size: int) -> None:
        other = tone(8000, 5000)
        stream = b"".join(encode_flac(PCM, block_size=4096) + encode_flac(other, 8000))
        results = decode(pieces(stream * 2, size))
        assert pcm_of(results) == (PCM + other) * 2
        assert damages(results) == 0

    def test_in_the_middle(self) -> None:
        _, first, *frames = encode_flac(PCM)
        results = decode(frames)
        assert pcm_of(results) == PCM[3200:]
        assert damages(results) == 0
        results = decode([first[100:], *frames])
        assert pcm_of(results) == PCM[3200:]
        assert damages(results) == 1

    def test_in_the_middle_of_frames_that_need_their_stream_info(self) -> None:
        frame = flac_frame(NOISE, rate_hz=9_999, rate_code=0)
        assert decode([frame]) == [Damage()]
        assert decode([flac_frame(NOISE, bits_code=0)]) == [Damage()]

    def test_a_piece_lost(self) -> None:
        info, *frames = encode_flac(PCM)
        decoder = FlacDecoder()
        results = [*decoder.feed(info + frames[0] + frames[1][:500])]
        results += decoder.resync()
        results += decoder.feed(frames[2][700:] + frames[3])
        assert damages(results) == 0, "whoever lost it knows"
        assert pcm_of(results) == PCM[:3200] + PCM[9600:12_800]
        results += decoder.feed(b"\x00" * 50)
        assert damages(results) == 1, "this is another matter"

    def test_a_piece_lost_just_after_a_frame_that_foreign_bytes_follow(self) -> None:
        decoder = FlacDecoder()
        assert not list(decoder.feed(flac_frame(NOISE) + b"foreign"))
        assert list(decoder.resync()) == [Block(pcm16(NOISE), 16_000)]


class TestDamage:
    INFO, *FRAMES = encode_flac(PCM, block_size=320)

    def test_garbage(self) -> None:
        assert decode([random.Random(1).randbytes(100_000)]) == [Damage()]
        assert decode(pieces(b"RIFF....WAVEfmt ", 1)) == [Damage()]

    def test_it_is_told_before_the_stream_ends(self) -> None:
        assert list(FlacDecoder().feed(bytes(20))) == [Damage()]

    @pytest.mark.parametrize(
        "junk", [b"x", b"TAG" + bytes(125), b"\xff\xf8\x69\x02", b"fLaC", b"fLaC\0\0\0\x21"]
    )
    def test_foreign_bytes_between_frames(self, junk: bytes) -> None:
        stream = self.INFO + self.FRAMES[0] + junk + b"".join(self.FRAMES[1:4]) + junk
        for size in (1, 50, 100_000):
            results = decode(pieces(stream, size))
            assert pcm_of(results) == PCM[: 4 * 640]
            assert damages(results) == 2

    @pytest.mark.parametrize("count", [1, 2, 9, 10, 50, 5000])
    def test_zeros_between_frames(self, count: int) -> None:
        results = decode([self.INFO + bytes(count).join(self.FRAMES[:4])])
        assert pcm_of(results) == PCM[: 4 * 640]

    def test_the_last_frame_is_cut_off(self) -> None:
        results = decode([self.INFO + self.FRAMES[0] + self.FRAMES[1][:-1]])
        assert results == [Block(PCM[:640], 16_000), Damage()]

    def test_a_new_stream_after_a_cut_frame(self) -> None:
        for size in (1, 100_000):
            stream = self.INFO + self.FRAMES[0][:-5] + self.INFO + self.FRAMES[1]
            assert decode(pieces(stream, size)) == [Damage(), Block(PCM[640:1280], 16_000)]

    def test_a_frame_that_never_ends(self) -> None:
        decoder = FlacDecoder()
        results = [*decoder.feed(flac_header(320) + bytes([2]))]
        for _ in range(60):
            results += decoder.feed(b"\x55" * 50)
        assert results == [Damage()], "before the stream ends"

    def test_recovery_waits_for_two_frames_at_most(self) -> None:
        decoder = FlacDecoder()
        damaged = self.FRAMES[0][:50] + b"\x00" + self.FRAMES[0][51:]
        assert not list(decoder.feed(damaged))
        assert not list(decoder.feed(self.FRAMES[1]))
        assert list(decoder.feed(self.FRAMES[2])) == [
            Damage(),
            Block(PCM[640:1280], 16_000),
            Block(PCM[1280:1920], 16_000),
        ]

    def test_every_second_frame(self) -> None:
        quiet = [flac_frame([number, -number], number=number) for number in range(1, 101)]
        for number in range(0, 100, 2):
            quiet[number] = quiet[number][:-1] + bytes([quiet[number][-1] ^ 1])
        results = decode(quiet)
        assert pcm_of(results) == pcm16(n * sign for n in range(2, 101, 2) for sign in (1, -1))
        assert damages(results) == 50

    @settings(max_examples=tries(100), deadline=None)
    @given(st.data())
    def test_what_was_not_touched_comes_out(self, data: st.DataObject) -> None:
        """Flip, remove or insert bytes anywhere: the other frames are bit-exact and in order."""
        info = stream_info(last=False) + metadata_block(4, b"words", last=True)
        stream = bytearray(info + b"".join(self.FRAMES))
        kinds = st.tuples(st.sampled_from(["flip", "remove", "insert"]), st.integers(1, 700))
        touched: set[int] = set()
        place = len(stream)
        while (place := data.draw(st.integers(-1, place - 701))) >= 0:
            kind, size = data.draw(kinds)
            end = {"flip": place + 1, "remove": place + size, "insert": place}[kind]
            begin = len(info)
            for number, frame in enumerate(self.FRAMES):
                inside = kind == "insert" and begin < place < begin + len(frame)
                if inside or (begin < end and place < begin + len(frame)):
                    touched.add(number)
                begin += len(frame)
            match kind:
                case "flip":
                    stream[place] ^= 1 << size % 8
                case "remove":
                    del stream[place:end]
                case _:
                    stream[place:place] = random.Random(size).randbytes(size)
            if place < 701:
                break
        size = data.draw(st.sampled_from([7, 50, 1000, 100_000]))
        results = decode(pieces(bytes(stream), size))
        expected = [PCM[n * 640 : (n + 1) * 640] for n in range(len(self.FRAMES)) if n not in touched]
        assert [result.pcm for result in results if isinstance(result, Block)] == expected


class TestFalseSync:
    """A frame's body may hold what looks like a frame, and its CRC may be zero on the way."""

    @staticmethod
    def frame_with(content: bytes, count: int = 200) -> tuple[bytes, bytes]:
        """Return a verbatim frame of this content, and what it decodes to."""
        body = b"\x12\x34" * count + content + bytes(len(content) % 2) + b"\x12\x34" * count
        frame = with_crc(flac_header(len(body) // 2) + b"\x02" + body)
        return frame, bytes(np.frombuffer(body, ">i2").astype("<i2").data)

    @pytest.mark.parametrize(
        "content",
        [
            flac_header(320),
            flac_header(320) * 50,
            flac_header(5000) * 50,
            flac_frame(NOISE),
            flac_header(5000) * 20 + flac_frame(NOISE) + flac_header(5000) * 20,
            b"fLaC\x00\x00\x00\x21" + bytes(50),
            b"\xff\xf8",
        ],
        ids=["header", "headers", "long headers", "a whole frame", "all", "marker", "sync"],
    )
    @pytest.mark.parametrize("size", [1, 100, 100_000])
    def test_is_not_taken(self, content: bytes, size: int) -> None:
        frame, pcm = self.frame_with(content)
        results = decode(pieces(stream_info() + frame * 3, size))
        assert pcm_of(results) == pcm * 3
        assert damages(results) == 0

    @pytest.mark.parametrize("size", [1, 100, 100_000])
    @pytest.mark.parametrize("count", [1, 2])
    def test_a_crc_that_fits_in_the_middle(self, count: int, size: int) -> None:
        """At a piece's end or before a header, where only the decoder can tell."""
        head = flac_header(300) + b"\x02"
        frame = head
        for _ in range(count):
            frame = with_crc(frame + b"\x12\x34" * 60) + flac_header(320)
        frame = with_crc((frame + b"\x12\x34" * 300)[: len(head) + 600])
        pcm = bytes(np.frombuffer(frame[len(head) : -2], ">i2").astype("<i2").data)
        results = decode(pieces(frame * 3, size))
        assert pcm_of(results) == pcm * 3
        assert damages(results) == 0

    def test_a_crc_that_fits_only_past_the_frame(self) -> None:
        """The decoder would take the frame before it, whose own is wrong."""
        damaged = with_crc(flac_frame([7] * 100)[:-2] + b"\x01\x02")
        assert decode([damaged + flac_frame(NOISE) * 2]) == [Damage(), *[Block(pcm16(NOISE), 16_000)] * 2]

    def test_a_header_that_is_invalid_only_in_its_tail(self) -> None:
        wrong = [
            b"\xff\xf8\x75\x08\xff\x00\x10",  # a number of eight bytes
            flac_header(320, number=1 << 31),  # of seven
            b"\xff\xf8\x75\x08\x80\x00\x10",  # a number that begins in its middle
            b"\xff\xf8\x75\x08\xc2\x00\x10",  # a number that breaks off
            flac_header(65_536),
            flac_header(320, rate_hz=0, rate_code=13),
        ]
        stream = stream_info() + b"".join(wrong) + flac_frame(NOISE)
        for size in (1, 100_000):
            assert decode(pieces(stream, size)) == [Damage(), Block(pcm16(NOISE), 16_000)]


class TestLimits:
    @pytest.mark.parametrize(
        "frame",
        [
            flac_frame(NOISE, NOISE, NOISE),
            flac_frame(NOISE, rate_hz=96_000),
            flac_frame(NOISE, rate_hz=48_001, rate_code=13),
            flac_frame(NOISE, rate_hz=7_999, rate_code=13),
        ],
    )
    def test_unsupported(self, frame: bytes) -> None:
        with pytest.raises(GatewayError) as caught:
            decode([stream_info() + frame])
        assert caught.value.code is ErrorCode.AUDIO_UNSUPPORTED

    def test_a_stream_info_that_lies_is_not_believed(self) -> None:
        stream = stream_info(655_350, 8, 32) + flac_frame(NOISE)
        assert decode([stream]) == [Block(pcm16(NOISE), 16_000)]

    def test_a_stream_info_with_bits_that_nothing_has(self) -> None:
        assert decode([stream_info(bits=2) + flac_frame(NOISE, bits_code=0)]) == [Damage()]

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "unit",
        [
            b"\xff",
            b"\xff\xf8",
            b"\xff\xf8\x75\x08\x00\x00\x10\x00",
            flac_header(65_535),
            flac_header(17),
            with_crc(flac_header(65_535)),
            with_crc(flac_header(17)),
            flac_header(65_535) + b"\x10" + b"\xff" * 500,
            stream_info(),
            stream_info(last=False) + b"\x01\xff\xff\xff",
            b"".join(with_crc(flac_header(999, rate_hz=rate_hz) + b"\xff") for rate_hz in (8000, 16_000)),
        ],
    )
    def test_time_is_linear_in_hostile_bytes(self, unit: bytes) -> None:
        """The limit is far: one quadratic step would take many minutes."""
        stream = unit * (400_000 // len(unit))
        begin = time.process_time()
        assert damages(decode(pieces(stream, 48_000))) <= 1
        assert time.process_time() - begin < 60

    def test_memory_is_bounded(self) -> None:
        unit = flac_header(65_535, bits=32) + b"\x02" + bytes(50_000)
        decoder = FlacDecoder()
        for _ in range(60):
            assert damages(decoder.feed(unit)) <= 1
            assert len(decoder._buffer) <= MAX_FRAME_BYTES + len(unit)

    def test_few_proofs_are_tried(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Zeros keep a zero CRC at zero: every byte could be the end."""
        proofs = 0
        original = _Codec.decode

        def counted(codec: _Codec, header: Header, frame: bytes) -> AudioFrame | None:
            nonlocal proofs
            proofs += 1
            return original(codec, header, frame)

        monkeypatch.setattr(_Codec, "decode", counted)
        stream = with_crc(flac_header(65_535) + b"\x02") + bytes(10_000)
        assert decode(pieces(stream, 1)) == [Damage()]
        assert proofs <= 6
