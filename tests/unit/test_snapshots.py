"""A stream that is written down at any place, and goes on elsewhere, gives what it would have given here."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.audio.resampling import Resampler
from antiphon.audio.stream import AudioStream, StreamState
from antiphon.errors import ErrorCode, GatewayError
from antiphon.messages import StreamFormat
from audio_samples import (
    cut,
    encode_flac,
    flac_frame,
    metadata_block,
    ogg_opus,
    opus_packets,
    pieces,
    speech,
    stream_info,
    tone,
)
from tries import tries

OPUS: StreamFormat = "audio/ogg;codecs=opus"
PCM = speech()[:64_000]
RATES_HZ = [8000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000]
PACKETS = opus_packets(PCM)


def moved(stream: AudioStream) -> AudioStream:
    """Return the stream as another node has it."""
    written = msgspec.msgpack.encode(stream.snapshot())
    return AudioStream.restored(msgspec.msgpack.decode(written, type=StreamState))


def run(
    stream: AudioStream, chunks: Sequence[bytes], places: set[int] | None = None
) -> tuple[bytes, list[GatewayError], AudioStream]:
    """Feed chunks, moving before those at the places; return all that came out."""
    decoded = []
    for place, chunk in enumerate(chunks):
        if places and place in places:
            stream = moved(stream)
        decoded.append(stream.feed(place, chunk))
    if places and len(chunks) in places:
        stream = moved(stream)
    decoded.append(stream.flush())
    return (
        b"".join(part.pcm for part in decoded),
        [error for part in decoded for error in part.errors],
        stream,
    )


def difference(one: bytes, other: bytes) -> int:
    """Return by how much two runs of samples differ; they are of one length."""
    assert len(one) == len(other)
    apart = np.frombuffer(one, "<i2").astype(int) - np.frombuffer(other, "<i2").astype(int)
    return int(np.abs(apart).max(initial=0))


places_of = st.sets(st.integers(0, 60), min_size=1, max_size=6)


class TestLinear16:
    @pytest.mark.parametrize("rate_hz", RATES_HZ)
    @settings(max_examples=tries(15), deadline=None)
    @given(places=places_of, size=st.integers(1, 4001))
    def test_the_same_samples(self, rate_hz: int, places: set[int], size: int) -> None:
        chunks = list(pieces(tone(rate_hz, 20_000), size))[:60]
        whole, errors, _ = run(AudioStream("LINEAR16", rate_hz), chunks)
        again, errors_again, stream = run(AudioStream("LINEAR16", rate_hz), chunks, places)
        assert difference(again, whole) <= (0 if rate_hz == 16_000 else 1)
        assert [error.code for error in errors_again] == [error.code for error in errors]
        assert stream.received_ms == pytest.approx(len(whole) / 32)

    @pytest.mark.parametrize("rate_hz", [8000, 44_100, 48_000])
    def test_after_minutes(self, rate_hz: int) -> None:
        """What a resampler needs to go on is little, however long it has run."""
        chunks = list(pieces(tone(rate_hz, rate_hz * 20), rate_hz // 5))
        whole, _, _ = run(AudioStream("LINEAR16", rate_hz), chunks)
        again, _, stream = run(AudioStream("LINEAR16", rate_hz), chunks, {1, 37, 80, 81, 99})
        assert difference(again, whole) <= 1
        assert len(stream.snapshot().resampler.lead) <= rate_hz * 2 * 0.51

    def test_between_the_halves_of_a_sample(self) -> None:
        chunks = [PCM[:101], PCM[101:201]]
        assert run(AudioStream("LINEAR16", 16_000), chunks, {1})[0] == PCM[:200]

    @pytest.mark.parametrize("rate_hz", [16_000, 48_000])
    def test_at_a_gap_and_a_repeat(self, rate_hz: int) -> None:
        results = []
        for moves in (False, True):
            stream = AudioStream("LINEAR16", rate_hz)
            out = [stream.feed(5, PCM[:4001])]
            stream = moved(stream) if moves else stream
            out.append(stream.feed(5, PCM[:4000]))
            out.append(stream.feed(8, PCM[4001:8000]))
            out.append(stream.flush())
            codes = [error.code for part in out for error in part.errors]
            results.append((b"".join(part.pcm for part in out), codes))
        assert difference(results[0][0], results[1][0]) <= 1
        assert results[0][1] == results[1][1] == [ErrorCode.AUDIO_SEQUENCE_GAP, ErrorCode.AUDIO_CORRUPT]

    def test_drained_in_between(self) -> None:
        """What the talk button ends is out; the resampler begins afresh on either node."""
        results = []
        for moves in (False, True):
            stream = AudioStream("LINEAR16", 48_000)
            out = [stream.feed(0, PCM), stream.drain()]
            stream = moved(stream) if moves else stream
            out += [stream.feed(1, PCM), stream.flush()]
            results.append(b"".join(part.pcm for part in out))
        assert difference(*results) <= 1


class TestFlac:
    @settings(max_examples=tries(40), deadline=None)
    @given(places=places_of, cuts=st.lists(st.integers(0, 60_000), max_size=50))
    def test_16_khz_is_bit_exact(self, places: set[int], cuts: list[int]) -> None:
        chunks = list(cut(b"".join(encode_flac(PCM)), cuts))
        assert run(AudioStream("FLAC", 16_000), chunks, places)[:2] == (PCM, [])

    @settings(max_examples=tries(20), deadline=None)
    @given(places=places_of, cuts=st.lists(st.integers(0, 60_000), max_size=50))
    def test_other_rates(self, places: set[int], cuts: list[int]) -> None:
        chunks = list(cut(b"".join(encode_flac(tone(44_100, 30_000), 44_100)), cuts))
        whole, errors, _ = run(AudioStream("FLAC", 16_000), chunks)
        again, errors_again, _ = run(AudioStream("FLAC", 16_000), chunks, places)
        assert difference(again, whole) <= 1
        assert [error.details for error in errors_again] == [error.details for error in errors]
        assert [error.code for error in errors] == [ErrorCode.AUDIO_RATE_MISMATCH]

    @settings(max_examples=tries(25), deadline=None)
    @given(places=places_of, cuts=st.lists(st.integers(0, 60_000), max_size=50), at=st.integers(100, 20_000))
    def test_damage_is_told_once(self, places: set[int], cuts: list[int], at: int) -> None:
        stream = bytearray(b"".join(encode_flac(PCM)))
        stream[at : at + 40] = bytes(40)
        chunks = list(cut(bytes(stream), cuts))
        whole, errors, _ = run(AudioStream("FLAC", 16_000), chunks)
        again, errors_again, _ = run(AudioStream("FLAC", 16_000), chunks, places)
        assert again == whole
        assert [error.code for error in errors_again] == [error.code for error in errors]

    def test_what_a_header_leaves_to_the_stream_is_known(self) -> None:
        frame = flac_frame([5 * n for n in range(480)], rate_code=0, bits_code=0)
        whole, errors, _ = run(AudioStream("FLAC", 16_000), [stream_info(), frame, frame])
        assert (len(whole), errors) == (1920, [])
        assert run(AudioStream("FLAC", 16_000), [stream_info(), frame, frame], {1, 2})[0] == whole

    def test_damage_that_goes_on_is_the_same(self) -> None:
        frame = flac_frame([5 * n for n in range(480)])
        chunks = [stream_info() + b"nothing of the kind", b"nor is this", frame]
        whole, errors, _ = run(AudioStream("FLAC", 16_000), chunks)
        again, errors_again, _ = run(AudioStream("FLAC", 16_000), chunks, {1, 2})
        assert (len(whole), len(errors)) == (960, 1)
        assert (again, len(errors_again)) == (whole, 1)

    def test_metadata_is_stepped_over(self) -> None:
        frame = flac_frame([5 * n for n in range(480)])
        stream = stream_info(last=False) + metadata_block(4, bytes(3000), last=True) + frame
        chunks = list(pieces(stream, 500))
        for place in range(len(chunks)):
            assert len(run(AudioStream("FLAC", 16_000), chunks, {place})[0]) == 960
            assert run(AudioStream("FLAC", 16_000), chunks, {place})[1] == []

    def test_a_rate_that_changes_in_mid_stream(self) -> None:
        frames = [
            flac_frame([9 * n for n in range(480)], rate_hz=rate_hz) for rate_hz in (48_000, 8000, 16_000)
        ]
        chunks = [stream_info(48_000), *frames]
        whole, errors, _ = run(AudioStream("FLAC", 48_000), chunks)
        for place in range(len(chunks) + 1):
            again, errors_again, _ = run(AudioStream("FLAC", 48_000), chunks, {place})
            assert difference(again, whole) <= 1
            assert [error.code for error in errors_again] == [error.code for error in errors]


class TestOpus:
    @settings(max_examples=tries(40), deadline=None)
    @given(
        places=places_of,
        cuts=st.lists(st.integers(0, 30_000), max_size=50),
        a_page=st.sampled_from([1, 3, 10, 50]),
    )
    def test_as_many_samples(self, places: set[int], cuts: list[int], a_page: int) -> None:
        chunks = list(cut(b"".join(ogg_opus(PACKETS, a_page=a_page)), cuts))
        whole, errors, _ = run(AudioStream(OPUS, 48_000), chunks)
        again, errors_again, _ = run(AudioStream(OPUS, 48_000), chunks, places)
        assert len(again) == len(whole)
        assert errors == errors_again == []

    def test_and_soon_the_same_ones(self) -> None:
        """The codec's memory is not written down, but it is short."""
        chunks = ogg_opus(PACKETS, a_page=5)
        whole, _, _ = run(AudioStream(OPUS, 48_000), chunks)
        again, _, _ = run(AudioStream(OPUS, 48_000), chunks, {5})
        moved_at = 3 * 5 * 320 * 2  # two pages are heads
        assert difference(again[: moved_at - 3200], whole[: moved_at - 3200]) <= 1
        later = moved_at + 16_000
        assert difference(again[later:], whole[later:]) <= 300

    @pytest.mark.parametrize("place", range(6))
    def test_the_end_is_cut_where_the_stream_says(self, place: int) -> None:
        chunks = ogg_opus(PACKETS[:10], a_page=5, end=9000)
        whole, _, _ = run(AudioStream(OPUS, 48_000), chunks)
        assert len(whole) == 9000 // 3 * 2
        assert len(run(AudioStream(OPUS, 48_000), chunks, {place})[0]) == len(whole)

    @pytest.mark.parametrize("place", range(8))
    def test_streams_that_follow_one_another(self, place: int) -> None:
        chunks = ogg_opus(PACKETS[:10]) + ogg_opus(PACKETS[10:20], serial=8)
        whole, errors, _ = run(AudioStream(OPUS, 48_000), chunks)
        again, errors_again, _ = run(AudioStream(OPUS, 48_000), chunks, {place})
        assert (len(again), errors_again) == (len(whole), errors) == (20 * 640, [])

    def test_damage_is_told_once(self) -> None:
        stream = bytearray(b"".join(ogg_opus(PACKETS, a_page=5)))
        stream[2000:2040] = bytes(40)
        chunks = list(pieces(bytes(stream), 500))
        _, errors, _ = run(AudioStream(OPUS, 48_000), chunks)
        for place in range(len(chunks)):
            assert [error.code for error in run(AudioStream(OPUS, 48_000), chunks, {place})[1]] == [
                error.code for error in errors
            ]


class TestEnded:
    def test_what_is_over_stays_so(self) -> None:
        stream = AudioStream("LINEAR16", 48_000)
        stream.feed(0, PCM)
        stream.flush()
        stream = moved(stream)
        assert stream.ended
        assert (stream.feed(1, PCM).pcm, stream.flush().pcm) == (b"", b"")

    def test_so_does_what_nobody_can_decode(self) -> None:
        stream = AudioStream("FLAC", 16_000)
        stream.feed(0, stream_info(channels=3) + flac_frame([0] * 160, [0] * 160, [0] * 160))
        assert stream.ended
        stream = moved(stream)
        assert stream.feed(1, PCM) == AudioStream("FLAC", 16_000).feed(0, b"")


@settings(max_examples=tries(60), deadline=None)
@given(
    st.sampled_from(RATES_HZ),
    st.integers(0, 12_000),
    st.lists(st.integers(1, 6000), max_size=12),
    st.integers(0, 12),
)
def test_a_resampler_goes_on_to_the_sample(rate_hz: int, begin: int, sizes: list[int], place: int) -> None:
    one, other = Resampler(rate_hz, 16_000), Resampler(rate_hz, 16_000)
    pcm = tone(rate_hz, 90_000)
    out: list[bytes] = [b"", b""]
    for number, size in enumerate([begin, *sizes]):
        if number == place:
            another = Resampler(rate_hz, 16_000)
            out[1] += another.restore(other.snapshot())
            other = another
        part, pcm = pcm[: 2 * size], pcm[2 * size :]
        out[0] += one.feed(part)
        out[1] += other.feed(part)
    out[0] += one.flush()
    out[1] += other.flush()
    assert difference(*out) <= 1
