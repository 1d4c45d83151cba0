"""A stream's chunks to 16 kHz: every chunking, every rate, gaps, repeats and damage."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.audio.stream import MAX_CHUNK_S, MAX_RATE_CHANGES, AudioStream, Decoded
from antiphon.errors import ErrorCode, GatewayError
from antiphon.messages import StreamFormat, error_message
from audio_samples import (
    cut,
    encode_flac,
    flac_frame,
    likeness,
    ogg_opus,
    opus_head,
    opus_packets,
    pieces,
    speech,
    stream_info,
    tone,
)
from tries import tries

OPUS: StreamFormat = "audio/ogg;codecs=opus"
PCM = speech()
RATES_HZ = [8000, 11_025, 12_345, 22_050, 24_000, 32_000, 44_100, 48_000]


def run(stream: AudioStream, chunks: Iterable[bytes], first: int = 0) -> tuple[bytes, list[GatewayError]]:
    decoded = [stream.feed(sequence, chunk) for sequence, chunk in enumerate(chunks, first)]
    decoded.append(stream.flush())
    return b"".join(part.pcm for part in decoded), [error for part in decoded for error in part.errors]


def codes(errors: Iterable[GatewayError]) -> list[ErrorCode]:
    return [error.code for error in errors]


class TestLinear16:
    def test_16_khz_passes_uncopied(self) -> None:
        assert AudioStream("LINEAR16", 16_000).feed(0, PCM).pcm is PCM

    @settings(max_examples=tries(50), deadline=None)
    @given(st.lists(st.integers(0, len(PCM)), max_size=100))
    def test_16_khz_cut_anywhere(self, places: list[int]) -> None:
        assert run(AudioStream("LINEAR16", 16_000), cut(PCM, places)) == (PCM, [])

    def test_single_bytes_and_empty_chunks(self) -> None:
        chunks = [chunk for byte in pieces(PCM[:1000], 1) for chunk in (byte, b"")]
        assert run(AudioStream("LINEAR16", 16_000), chunks) == (PCM[:1000], [])

    def test_half_a_sample_at_the_end(self) -> None:
        pcm, errors = run(AudioStream("LINEAR16", 16_000), [PCM[:5], PCM[5:101]], first=7)
        assert pcm == PCM[:100]
        assert codes(errors) == [ErrorCode.AUDIO_CORRUPT]
        assert errors[0].details == {"sequence": 8}

    def test_a_gap_drops_the_half_before_it(self) -> None:
        stream = AudioStream("LINEAR16", 16_000)
        assert stream.feed(0, PCM[:101]).pcm == PCM[:100]
        assert stream.feed(2, PCM[200:300]).pcm == PCM[200:300]
        assert stream.flush().errors == ()


class TestResampling:
    @settings(max_examples=tries(60), deadline=None)
    @given(st.data())
    def test_the_same_samples_for_every_chunking(self, data: st.DataObject) -> None:
        rate_hz = data.draw(st.sampled_from(RATES_HZ) | st.integers(8000, 48_000))
        count = data.draw(st.integers(0, 20_000))
        pcm = tone(rate_hz, count)
        whole, errors = run(AudioStream("LINEAR16", rate_hz), [pcm])
        assert not errors
        places = data.draw(st.lists(st.integers(0, len(pcm)), max_size=100))
        assert run(AudioStream("LINEAR16", rate_hz), cut(pcm, places)) == (whole, [])
        assert abs(len(whole) // 2 - count * 16_000 / rate_hz) <= 1

    @pytest.mark.parametrize("rate_hz", RATES_HZ)
    def test_single_samples(self, rate_hz: int) -> None:
        pcm = tone(rate_hz, 3000)
        whole = run(AudioStream("LINEAR16", rate_hz), [pcm])
        assert run(AudioStream("LINEAR16", rate_hz), pieces(pcm, 1)) == whole

    @pytest.mark.parametrize("rate_hz", RATES_HZ)
    def test_a_minute_keeps_its_length_and_place(self, rate_hz: int) -> None:
        seconds = np.arange(60 * rate_hz) / rate_hz
        pcm = bytes((10_000 * np.sin(2 * np.pi * 1000 * seconds)).astype("<i2").data)
        resampled, _ = run(AudioStream("LINEAR16", rate_hz), pieces(pcm, 3001))
        assert len(resampled) == 60 * 16_000 * 2
        expected = 10_000 * np.sin(2 * np.pi * 1000 * np.arange(60 * 16_000) / 16_000)
        middle = slice(1600, -1600)
        noise = np.frombuffer(resampled, "<i2")[middle] - expected[middle]
        assert np.abs(noise).max() < 4

    def test_what_the_new_rate_cannot_hold_is_filtered_out(self) -> None:
        resampled, _ = run(AudioStream("LINEAR16", 48_000), [tone(48_000, 48_000, frequency_hz=10_000)])
        assert np.abs(np.frombuffer(resampled, "<i2")[1600:-1600]).max() < 100

    def test_overshoot_is_clipped(self) -> None:
        square = np.repeat(np.tile(np.array([32_767, -32_768], "<i2"), 500), 40)
        resampled, _ = run(AudioStream("LINEAR16", 44_100), [bytes(square.data)])
        samples = np.frombuffer(resampled, "<i2").astype(int)
        assert samples.max() == 32_767
        assert samples.min() == -32_768
        assert np.abs(np.diff(np.sign(samples))).sum() // 2 <= 1000, "nothing wraps round"

    def test_little_is_held_back(self) -> None:
        for rate_hz in RATES_HZ:
            stream = AudioStream("LINEAR16", rate_hz)
            stream.feed(0, tone(rate_hz, rate_hz))
            assert stream.received_ms >= 930


class TestFlac:
    @pytest.mark.parametrize("block_size", [320, 1600, 4096])
    def test_bit_exact(self, block_size: int) -> None:
        chunks = pieces(b"".join(encode_flac(PCM, block_size=block_size)), 997)
        assert run(AudioStream("FLAC", 16_000), chunks) == (PCM, [])

    @pytest.mark.parametrize("rate_hz", [8000, 44_100, 48_000])
    def test_other_rates_are_resampled_as_linear16_is(self, rate_hz: int) -> None:
        pcm = tone(rate_hz, 20_011)
        flac = run(AudioStream("FLAC", rate_hz), pieces(b"".join(encode_flac(pcm, rate_hz)), 1001))
        assert flac == run(AudioStream("LINEAR16", rate_hz), [pcm])

    def test_its_own_rate_wins(self) -> None:
        stream = AudioStream("FLAC", 48_000)
        pcm, errors = run(stream, encode_flac(PCM), first=3)
        assert pcm == PCM
        assert codes(errors) == [ErrorCode.AUDIO_RATE_MISMATCH]
        assert errors[0].details == {"sequence": 4, "expected": 48_000, "received": 16_000}

    def test_another_rate_in_mid_stream(self) -> None:
        low = tone(8000, 8000)
        pcm, errors = run(
            AudioStream("FLAC", 16_000), encode_flac(PCM) + encode_flac(low, 8000) + encode_flac(PCM)
        )
        assert pcm == PCM + run(AudioStream("LINEAR16", 8000), [low])[0] + PCM
        assert codes(errors) == [ErrorCode.AUDIO_RATE_MISMATCH]

    def test_damage_names_its_chunk_once(self) -> None:
        info, *frames = encode_flac(PCM)
        frames[4] = frames[4][:200] + bytes(100) + frames[4][300:]
        pcm, errors = run(AudioStream("FLAC", 16_000), [info, *frames])
        assert pcm == PCM[:12_800] + PCM[16_000:]
        assert codes(errors) == [ErrorCode.AUDIO_CORRUPT]
        assert errors[0].details["sequence"] in (5, 6, 7)

    def test_a_gap_costs_the_frames_it_touches_and_one_error(self) -> None:
        stream = b"".join(encode_flac(PCM, block_size=320))
        chunks = list(pieces(stream, 1000))
        audio = AudioStream("FLAC", 16_000)
        decoded = [audio.feed(n, chunk) for n, chunk in enumerate(chunks) if n not in (10, 11)]
        decoded.append(audio.flush())
        pcm = b"".join(part.pcm for part in decoded)
        assert codes(error for part in decoded for error in part.errors) == [ErrorCode.AUDIO_SEQUENCE_GAP]
        lost = len(PCM) - len(pcm)
        assert 0 < lost <= 10 * 640
        assert lost % 640 == 0
        begin = next(n for n in range(0, len(PCM), 640) if PCM[n : n + 640] != pcm[n : n + 640])
        assert PCM[:begin] + PCM[begin + lost :] == pcm

    def test_what_is_no_flac(self) -> None:
        pcm, errors = run(AudioStream("FLAC", 16_000), pieces(PCM, 3200))
        assert pcm == b""
        assert codes(errors) == [ErrorCode.AUDIO_CORRUPT]


class TestOpus:
    PAGES = ogg_opus(opus_packets(PCM), head=opus_head(pre_skip=312), end=4 * 48_000)

    @pytest.mark.parametrize("rate_hz", [8000, 16_000, 48_000])
    def test_at_whatever_rate_was_announced(self, rate_hz: int) -> None:
        pcm, errors = run(AudioStream(OPUS, rate_hz), self.PAGES)
        assert len(pcm) == len(PCM) - 2 * 312 // 3
        assert likeness(pcm, PCM[: len(pcm)]) > 0.95
        assert not errors

    @settings(max_examples=tries(15), deadline=None)
    @given(st.lists(st.integers(0, 50_000), max_size=60))
    def test_cut_anywhere(self, places: list[int]) -> None:
        chunks = cut(b"".join(self.PAGES), places)
        assert run(AudioStream(OPUS, 16_000), chunks) == run(AudioStream(OPUS, 16_000), self.PAGES)

    def test_damage_names_its_chunk_once(self) -> None:
        pages = list(self.PAGES)
        pages[7] = pages[7][:100] + b"damage" + pages[7][106:]
        pcm, errors = run(AudioStream(OPUS, 16_000), pages)
        assert len(pcm) == len(PCM) - 2 * 312 // 3 - 3200
        assert codes(errors) == [ErrorCode.AUDIO_CORRUPT]
        assert errors[0].details["sequence"] in (7, 8)

    def test_a_gap_costs_the_pages_it_touches_and_one_error(self) -> None:
        stream = AudioStream(OPUS, 16_000)
        chunks = enumerate(pieces(b"".join(self.PAGES), 100))
        decoded = [stream.feed(n, chunk) for n, chunk in chunks if n not in (50, 51)]
        decoded.append(stream.flush())
        assert codes(error for part in decoded for error in part.errors) == [ErrorCode.AUDIO_SEQUENCE_GAP]
        lost = len(PCM) - 2 * 312 // 3 - sum(len(part.pcm) for part in decoded)
        assert lost in (3200, 6400)

    def test_unsupported_ends_the_stream(self) -> None:
        stream = AudioStream(OPUS, 16_000)
        decoded = stream.feed(3, b"\x1a\x45\xdf\xa3")
        assert codes(decoded.errors) == [ErrorCode.AUDIO_UNSUPPORTED]
        assert decoded.errors[0].details == {"sequence": 3}
        assert stream.ended

    def test_a_bomb_ends_the_stream(self) -> None:
        """Packets of two bytes that hold 120 ms of nothing."""
        bomb = b"".join(ogg_opus([b"\xfb\x06"] * 2000, samples=5760, a_page=100))
        assert len(bomb) < 10_000
        stream = AudioStream(OPUS, 16_000)
        decoded = stream.feed(0, bomb)
        assert codes(decoded.errors) == [ErrorCode.AUDIO_UNSUPPORTED]
        assert len(decoded.pcm) <= (MAX_CHUNK_S + 1) * 32_000
        assert stream.ended


class TestDrain:
    @pytest.mark.parametrize("rate_hz", [8000, 44_100, 48_000])
    def test_the_end_comes_out_and_the_stream_goes_on(self, rate_hz: int) -> None:
        first, second = tone(rate_hz, 5003), tone(rate_hz, 7001, frequency_hz=300)
        stream = AudioStream("LINEAR16", rate_hz)
        pcm = [
            stream.feed(0, first).pcm + stream.drain().pcm,
            stream.feed(1, second).pcm + stream.flush().pcm,
        ]
        alone = [run(AudioStream("LINEAR16", rate_hz), [part])[0] for part in (first, second)]
        assert pcm == alone
        assert stream.received_ms == sum(map(len, pcm)) / 32

    def test_what_is_cut_in_two_is_put_together(self) -> None:
        stream = AudioStream("LINEAR16", 16_000)
        decoded = [stream.feed(0, PCM[:101]), stream.drain(), stream.feed(1, PCM[101:300]), stream.flush()]
        assert b"".join(part.pcm for part in decoded) == PCM[:300]
        assert not any(part.errors for part in decoded)

    @pytest.mark.parametrize("format_", ["FLAC", OPUS])
    def test_of_what_is_encoded(self, format_: StreamFormat) -> None:
        chunks = encode_flac(tone(48_000, 48_000), 48_000) if format_ == "FLAC" else TestOpus.PAGES
        whole = run(AudioStream(format_, 48_000), chunks)
        stream = AudioStream(format_, 48_000)
        decoded = []
        for sequence, chunk in enumerate(pieces(b"".join(chunks), 5000)):
            decoded += [stream.feed(sequence, chunk), stream.drain()]
        decoded.append(stream.flush())
        pcm = b"".join(part.pcm for part in decoded)
        assert abs(len(pcm) - len(whole[0])) <= len(decoded), "each part is rounded"
        assert not any(part.errors for part in decoded)

    def test_nothing_in_nothing_out(self) -> None:
        stream = AudioStream("LINEAR16", 48_000)
        assert stream.drain() == stream.drain() == Decoded(b"")
        stream.feed(0, tone(48_000, 4800))
        stream.flush()
        assert stream.drain() == Decoded(b"")


class TestSequence:
    @pytest.mark.parametrize("first", [0, 1, -5, 1 << 40])
    def test_begins_anywhere(self, first: int) -> None:
        assert run(AudioStream("LINEAR16", 16_000), pieces(PCM, 3200), first) == (PCM, [])

    def test_repeats_are_dropped_and_counted(self) -> None:
        stream = AudioStream("LINEAR16", 16_000)
        fed = [stream.feed(n, PCM[n * 100 : n * 100 + 100]) for n in (0, 0, 1, 0, 1, 2, -7)]
        assert b"".join(part.pcm for part in fed) == PCM[:300]
        assert not any(part.errors for part in fed)
        assert stream.duplicates == 4

    def test_each_gap_is_told_once(self) -> None:
        stream = AudioStream("LINEAR16", 16_000)
        stream.feed(5, PCM[:100])
        decoded = stream.feed(9, PCM[400:500])
        assert decoded.pcm == PCM[400:500]
        assert codes(decoded.errors) == [ErrorCode.AUDIO_SEQUENCE_GAP]
        assert decoded.errors[0].details == {"sequence": 9, "expected": 6, "received": 9}
        assert stream.feed(10, PCM[500:600]).errors == ()
        assert stream.feed(7, PCM[200:300]).pcm == b"", "late is too late"
        assert stream.gaps == 1
        assert stream.duplicates == 1

    def test_its_errors_fit_the_wire(self) -> None:
        stream = AudioStream("FLAC", 48_000)
        decoded = [stream.feed(0, b"".join(encode_flac(PCM))), stream.feed(2, bytes(100)), stream.flush()]
        for error in (error for part in decoded for error in part.errors):
            assert error_message(error, 0).code == error.code


class TestEnd:
    @pytest.mark.parametrize("format_", ["FLAC", "LINEAR16", OPUS])
    def test_nothing_in_nothing_out(self, format_: StreamFormat) -> None:
        assert run(AudioStream(format_, 44_100), []) == (b"", [])

    def test_after_the_end_nothing_comes(self) -> None:
        stream = AudioStream("LINEAR16", 8000)
        stream.feed(0, PCM)
        assert stream.flush().pcm
        assert stream.ended
        assert stream.flush().pcm == b""
        assert stream.feed(1, PCM).pcm == b""
        assert stream.duplicates == 0

    def test_received_ms(self) -> None:
        stream = AudioStream("LINEAR16", 48_000)
        stream.feed(0, tone(48_000, 48_000))
        stream.flush()
        assert stream.received_ms == 1000

    def test_unsupported_ends_the_stream(self) -> None:
        stream = AudioStream("FLAC", 16_000)
        assert stream.feed(0, stream_info(channels=3)).errors == ()
        decoded = stream.feed(1, flac_frame([1, 2, 3], [1, 2, 3], [1, 2, 3]))
        assert codes(decoded.errors) == [ErrorCode.AUDIO_UNSUPPORTED]
        assert decoded.errors[0].details == {"sequence": 1}
        assert stream.ended
        assert stream.feed(2, stream_info() + flac_frame([1, 2, 3])).pcm == b""

    def test_unsupported_found_at_a_gap_is_told_once(self) -> None:
        frame = flac_frame([1, 2], [1, 2], [1, 2])
        stream = AudioStream("FLAC", 16_000)
        assert not stream.feed(0, frame + b"tail").errors
        decoded = stream.feed(5, frame)
        assert codes(decoded.errors) == [ErrorCode.AUDIO_UNSUPPORTED, ErrorCode.AUDIO_SEQUENCE_GAP]

    def test_a_bomb_ends_the_stream(self) -> None:
        bomb = flac_frame([0] * 65_535) * 4000
        assert len(bomb) < 60_000
        stream = AudioStream("FLAC", 16_000)
        decoded = stream.feed(0, bomb)
        assert codes(decoded.errors) == [ErrorCode.AUDIO_UNSUPPORTED]
        assert len(decoded.pcm) <= (MAX_CHUNK_S + 5) * 32_000
        assert stream.ended

    def test_a_long_file_in_one_chunk_is_no_bomb(self) -> None:
        pcm = PCM * 40
        assert len(pcm) > MAX_CHUNK_S * 32_000
        assert run(AudioStream("FLAC", 16_000), [b"".join(encode_flac(pcm, block_size=4096))]) == (pcm, [])

    def test_too_many_rates_end_the_stream(self) -> None:
        both = [flac_frame([1, 2, 3], rate_hz=rate_hz) for rate_hz in (8000, 16_000)]
        stream = AudioStream("FLAC", 16_000)
        assert codes(stream.feed(0, b"".join(both * (MAX_RATE_CHANGES // 2))).errors) == [
            ErrorCode.AUDIO_RATE_MISMATCH
        ]
        assert codes(stream.feed(1, both[0]).errors) == [ErrorCode.AUDIO_UNSUPPORTED]
        assert stream.ended
