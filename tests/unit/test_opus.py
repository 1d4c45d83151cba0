"""The Ogg Opus decoder, against FFmpeg's muxer and decoder and streams put together by hand."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.audio.flac import Block, Damage
from antiphon.audio.ogg import MAX_PAGE_BYTES, PageReader, PageWriter
from antiphon.audio.opus import MAX_PACKET_BYTES, RATE_HZ, OpusDecoder, packet_samples
from antiphon.errors import ErrorCode, GatewayError
from audio_samples import (
    cut,
    likeness,
    mux_opus,
    ogg_opus,
    opus_head,
    opus_packets,
    pieces,
    read_samples,
    speech,
    tone,
)
from tries import tries

PCM = speech()[: 2 * 16_000]
PCM_48K = bytes(np.repeat(np.frombuffer(PCM, "<i2"), 3).data)  # rough, and good enough
PACKETS = opus_packets(PCM)
PAGES = ogg_opus(PACKETS)


def decode(chunks: Iterable[bytes]) -> list[Block | Damage]:
    decoder = OpusDecoder()
    results = [result for chunk in chunks for result in decoder.feed(chunk)]
    return [*results, *decoder.flush()]


def pcm_of(results: Iterable[Block | Damage]) -> bytes:
    return b"".join(result.pcm for result in results if isinstance(result, Block))


def samples_of(chunks: Iterable[bytes]) -> int:
    results = decode(chunks)
    assert Damage() not in results
    return len(pcm_of(results)) // 2


def why_not(chunks: Iterable[bytes]) -> str:
    with pytest.raises(GatewayError) as caught:
        decode(chunks)
    assert caught.value.code is ErrorCode.AUDIO_UNSUPPORTED
    return caught.value.message


class TestDecoding:
    @pytest.mark.parametrize("samples", [50_000, 60_001, 95_999, 96_000])
    def test_a_file_of_ffmpeg_as_ffmpeg_reads_it(self, samples: int) -> None:
        """Of two pages: the position of its first counts the pre-skip twice."""
        file = mux_opus((PCM_48K * 2)[: 2 * samples])
        results = decode([file])
        assert {result.rate_hz for result in results if isinstance(result, Block)} == {RATE_HZ}
        decoded = np.frombuffer(pcm_of(results), "<i2")
        assert len(decoded) == samples
        assert np.abs(decoded - read_samples(file)).max() < 20

    @settings(max_examples=tries(40), deadline=None)
    @given(st.lists(st.integers(0, 10_000), max_size=60))
    def test_cut_anywhere(self, places: list[int]) -> None:
        assert decode(cut(b"".join(PAGES), places)) == decode(PAGES)

    def test_single_bytes(self) -> None:
        assert decode(pieces(b"".join(PAGES), 1)) == decode(PAGES)

    def test_nothing_is_held_back(self) -> None:
        decoder = OpusDecoder()
        samples = [sum(len(pcm_of([block])) // 2 for block in decoder.feed(page)) for page in PAGES]
        assert samples == [0, 0, *[4800] * 10]

    def test_speech_survives(self) -> None:
        decoded = pcm_of(decode(ogg_opus(PACKETS, head=opus_head(pre_skip=312))))
        assert likeness(decoded, PCM_48K[: len(decoded)]) > 0.95

    @pytest.mark.parametrize("frame_ms", [2.5, 5, 10, 20, 40, 60, 120])
    @pytest.mark.parametrize("rate_hz", [8000, 48_000])
    def test_every_length_of_packet(self, frame_ms: float, rate_hz: int) -> None:
        packets = opus_packets(tone(rate_hz, rate_hz * 12 // 25), rate_hz, frame_ms=frame_ms)
        assert {packet_samples(packet) for packet in packets} == {int(48 * frame_ms)}
        assert samples_of(ogg_opus(packets, samples=int(48 * frame_ms))) == 48_000 * 12 // 25

    def test_stereo_is_mixed(self) -> None:
        left = np.frombuffer(PCM, "<i2")
        both = bytes(np.stack([left, -(left // 2)], 1).astype("<i2").data)
        packets = opus_packets(both, channels=2)
        decoded = pcm_of(decode(ogg_opus(packets, head=opus_head(channels=2, pre_skip=312))))
        assert likeness(decoded, PCM_48K[: len(decoded)]) > 0.9
        loudness = np.frombuffer(decoded, "<i2").std() / left.std()
        assert loudness == pytest.approx(0.25, abs=0.03)

    def test_the_gain_of_the_head(self) -> None:
        plain, soft = (
            np.frombuffer(pcm_of(decode(ogg_opus(PACKETS, head=opus_head(gain=gain)))), "<i2").std()
            for gain in (0, -6 * 256)
        )
        assert soft / plain == pytest.approx(10 ** (-6 / 20), rel=0.02)

    def test_one_stream_of_family_1(self) -> None:
        head = opus_head(channels=1, family=1) + b"\x01\x00\x00"
        assert samples_of(ogg_opus(PACKETS, head=head)) == 48_000


class TestEnds:
    @settings(max_examples=tries(40), deadline=None)
    @given(st.integers(0, 3000), st.integers(0, 4000), st.integers(1, 4))
    def test_length_is_exact(self, pre_skip: int, end: int, a_page: int) -> None:
        """Whatever the head and the last page say, as far as the last page goes."""
        pages = ogg_opus(PACKETS[:4], a_page=a_page, end=end, head=opus_head(pre_skip=pre_skip))
        before_last = (3 // a_page) * a_page * 960
        assert samples_of(pages) == max(0, min(max(end, before_last), 3840) - pre_skip)

    def test_only_the_last_page_trims(self) -> None:
        writer = PageWriter(1)
        pages = [writer.write([(opus_head(), 0)]), writer.write([(PACKETS[0], 5), (PACKETS[1], 10)])]
        assert samples_of(pages) == 1920
        assert samples_of([*pages, writer.write([(PACKETS[2], 500)], last=True)]) == 1920 + 490

    def test_positions_that_are_missing(self) -> None:
        writer = PageWriter(1)
        pages = [writer.write([(opus_head(), 0)]), writer.write([(PACKETS[0], -1)])]
        pages.append(writer.write([(PACKETS[1], -1)], last=True))
        assert samples_of(pages) == 1920

    def test_a_position_before_the_beginning(self) -> None:
        assert samples_of(ogg_opus(PACKETS[:2], a_page=1, end=-5)) == 960

    def test_a_page_after_the_end_is_decoded(self) -> None:
        writer = PageWriter(1)
        pages = [writer.write([(opus_head(), 0)]), writer.write([(PACKETS[0], 960)], last=True)]
        assert samples_of([*pages, writer.write([(PACKETS[1], 1920)])]) == 1920

    def test_a_damaged_packet_counts_for_the_end(self) -> None:
        bad = b"\x02\xfe"  # two frames, the first longer than the packet
        assert packet_samples(bad) == 960
        results = decode(ogg_opus([PACKETS[0], bad, PACKETS[1]], end=2880 - 100))
        assert len(pcm_of(results)) // 2 == 960 + 860
        assert results.count(Damage()) == 1

    def test_after_a_hole_nothing_is_cut_that_may_belong_there(self) -> None:
        pages = ogg_opus(PACKETS[:6], a_page=2, end=5000)
        assert len(pcm_of(decode([*pages[:3], pages[4]]))) // 2 == 4 * 960


class TestStreams:
    def test_in_a_chain(self) -> None:
        other = ogg_opus(PACKETS, serial=8, end=47_000)
        results = decode([*PAGES, *other, *PAGES])
        assert pcm_of(results) == pcm_of(decode(PAGES)) + pcm_of(decode(other)) + pcm_of(decode(PAGES))
        assert Damage() not in results

    def test_in_a_chain_whose_first_was_not_ended(self) -> None:
        assert samples_of([*PAGES[:7], *ogg_opus(PACKETS, serial=8)]) == 48_000 + 5 * 4800

    def test_others_are_ignored(self) -> None:
        video = PageWriter(99)
        head = video.write([(b"\x80theora" + bytes(40), 0)])
        assert samples_of([head, *PAGES]) == 48_000
        mixed = [PAGES[0], head]
        for page in PAGES[1:]:
            mixed += [page, video.write([(bytes(500), 1)])]
        assert samples_of(mixed) == 48_000
        assert samples_of([*PAGES, *PAGES[:1], head, *PAGES[1:]]) == 96_000

    def test_without_tags(self) -> None:
        assert samples_of(ogg_opus(PACKETS, tags=None)) == 48_000

    def test_tags_over_many_pages(self) -> None:
        assert samples_of(ogg_opus(PACKETS, tags=b"OpusTags" + bytes(500_000))) == 48_000

    def test_joined_in_the_middle_there_is_nothing(self) -> None:
        assert decode(PAGES[1:]) == [Damage()]

    def test_no_head_at_all(self) -> None:
        assert decode([]) == []
        assert decode([PCM]) == [Damage()]
        assert samples_of([b"", *PAGES]) == 48_000


class TestDamage:
    @pytest.mark.parametrize("place", [3, 20, 26, 27, 60, -1])
    def test_costs_its_page_and_is_said_once(self, place: int) -> None:
        pages = list(PAGES)
        damaged = bytearray(pages[5])
        damaged[place] ^= 0xFF
        pages[5] = bytes(damaged)
        for size in (1, 100, 100_000):
            results = decode(pieces(b"".join(pages), size))
            assert results.count(Damage()) == 1
            assert len(pcm_of(results)) // 2 == 48_000 - 4800
            assert pcm_of(results)[: 3 * 9600] == pcm_of(decode(PAGES))[: 3 * 9600]

    def test_each_region_once(self) -> None:
        lost = [*PAGES[:4], *PAGES[5:7], b"junk" * 1000, b"and more", *PAGES[8:]]
        results = decode([b"before it all", *lost])
        places = [n for n, result in enumerate(results) if result == Damage()]
        assert places == [0, 3, 6]
        assert len(pcm_of(results)) // 2 == 48_000 - 2 * 4800

    @pytest.mark.parametrize(
        "packet", [b"", b"\x03", b"\x03\x00", b"\x03\x3f", b"\xff", b"\x1b\x03" + bytes(9)]
    )
    def test_what_is_no_packet(self, packet: bytes) -> None:
        results = decode(ogg_opus([*PACKETS[:5], packet, packet, *PACKETS[5:]]))
        assert results.count(Damage()) == 1
        assert [type(result) for result in results[:2]] == [Block, Damage]
        assert len(pcm_of(results)) // 2 == 48_000

    def test_a_packet_that_is_too_long(self) -> None:
        results = decode(ogg_opus([PACKETS[0], PACKETS[1] + bytes(MAX_PACKET_BYTES), PACKETS[2]]))
        assert [type(result) for result in results] == [Block, Damage, Block]

    def test_a_part_of_a_page_at_the_end(self) -> None:
        assert decode([*PAGES[:-1], PAGES[-1][:-1]])[-1] == Damage()

    def test_a_resync_says_nothing(self) -> None:
        decoder = OpusDecoder()
        results = [*decoder.feed(b"".join(PAGES[:4]) + PAGES[4][:100]), *decoder.resync()]
        results += [*decoder.feed(PAGES[5][50:] + b"".join(PAGES[6:])), *decoder.flush()]
        assert results.count(Damage()) == 0
        assert len(pcm_of(results)) // 2 == 48_000 - 2 * 4800

    @settings(max_examples=tries(150), deadline=None)
    @given(st.data())
    def test_anything_may_be_wrong_on_the_way(self, data: st.DataObject) -> None:
        """Pages whose CRC is right around packets, heads and positions that are not."""
        writer = PageWriter(7)
        head = opus_head(pre_skip=data.draw(st.integers(0, 65_535)))
        some = st.sampled_from([*PACKETS[:3], b"", opus_head(), b"OpusTags"]) | st.binary(max_size=30)
        stream = writer.write([(head, 0)])
        for _ in range(data.draw(st.integers(0, 5))):
            packets = data.draw(st.lists(st.tuples(some, st.integers(-(2**63), 2**63 - 1)), max_size=6))
            stream += writer.write(packets, last=data.draw(st.booleans()))
        whole = decode([stream])
        assert decode(cut(stream, data.draw(st.lists(st.integers(0, 500), max_size=20)))) == whole
        flipped = bytearray(stream)
        flipped[data.draw(st.integers(len(PAGES[0]), len(stream))) - 1] ^= 1 << data.draw(st.integers(0, 7))
        decode([bytes(flipped)])


class TestLimits:
    def test_what_is_not_opus(self) -> None:
        vorbis = PageWriter(1)
        pages = [vorbis.write([(b"\x01vorbis" + bytes(23), 0)]), vorbis.write([(b"\x03vorbis", 0)])]
        assert why_not(pages) == "There is no Opus in this Ogg stream. The stream was ended."
        assert why_not([*PAGES, *pages]) == "There is no Opus in this Ogg stream. The stream was ended."
        empty = struct.pack("<4sBBqIIIB", b"OggS", 0, 2, 0, 3, 0, 0, 0)
        assert decode([empty]) == [Damage()]

    def test_webm(self) -> None:
        webm = b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01"
        assert why_not([webm]) == "This is WebM; Opus is taken in Ogg. The stream was ended."
        assert why_not(pieces(webm, 1)) == why_not([webm])
        assert decode([b"x" + webm]) == [Damage()]

    @pytest.mark.parametrize(
        ("head", "why"),
        [
            (opus_head(channels=3), "Opus with 3 channels, mapping family 0, is not supported."),
            (opus_head(channels=0), "Opus with 0 channels, mapping family 0, is not supported."),
            (
                opus_head(channels=2, family=255),
                "Opus with 2 channels, mapping family 255, is not supported.",
            ),
            (opus_head(family=1), "Opus with 1 channels, mapping family 1, is not supported."),
            (opus_head(channels=2, family=1) + b"\2\0\0\1", "Opus with 2 channels, mapping family 1, "),
            (opus_head(version=16), "This version of Opus in Ogg is not known."),
            (opus_head()[:-1], "The head of the Opus stream is too short."),
        ],
    )
    def test_heads(self, head: bytes, why: str) -> None:
        assert why_not(ogg_opus(PACKETS, head=head)).startswith(why)

    def test_memory_is_bounded(self) -> None:
        decoder = OpusDecoder()
        list(decoder.feed(PAGES[0]))
        tags = ogg_opus([], tags=b"OpusTags" + bytes(3_000_000))[1]
        for chunk in pieces(tags, 10_000):
            assert list(decoder.feed(chunk)) == []
            assert len(decoder._pages._buffer) <= MAX_PAGE_BYTES + 10_000
            stream = decoder._stream
            assert stream is not None
            assert len(stream._packets._unfinished or b"") <= MAX_PACKET_BYTES + 1

    def test_a_packet_is_at_most_120_ms(self) -> None:
        lengths = {packet_samples(bytes([n, m])) for n in range(256) for m in range(256)}
        assert max(lengths) == 5760
        assert 0 in lengths

    def test_the_pages_are_right(self) -> None:
        """The stream that the others of these tests begin from."""
        assert len([*PageReader().feed(b"".join(PAGES))]) == len(PAGES) == 12
