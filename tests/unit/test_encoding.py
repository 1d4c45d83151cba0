"""Answers encoded piece by piece, and read by others."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon.audio import encoding
from antiphon.audio.encoding import FLAC, FORMATS, OPUS, PCM, WAV, OpusEncoder
from antiphon.audio.flac import Block
from antiphon.audio.ogg import Page, PageReader
from antiphon.audio.opus import OpusDecoder
from audio_samples import cut, likeness, pieces, read_samples, speech, tone
from tries import tries

SPEECH = bytes(
    np.rint(soxr.resample(np.frombuffer(speech()[:64_000], "<i2").astype(np.float32), 16_000, 24_000))
    .clip(-32768, 32767)
    .astype("<i2")
    .data
)
PIECE = 4800  # bytes: 100 ms
LOSSLESS = [PCM, WAV, FLAC]


def encode(format_: str, parts: list[bytes], rate_hz: int = 24_000) -> list[bytes]:
    encoder = encoding.encoder(format_)
    return [*(encoder.encode(part, rate_hz) for part in parts), encoder.finish()]


def samples_in(format_: str, file: bytes) -> bytes:
    """Return what a player makes of a file, at 24 kHz (48 kHz of Opus)."""
    if format_ == PCM:
        return file
    return bytes(np.rint(read_samples(file)).clip(-32768, 32767).astype("<i2").data)


class TestChoice:
    def test_the_first_that_there_is(self) -> None:
        assert encoding.choose([WAV, FLAC]) == WAV
        assert encoding.choose(["audio/mpeg", "", ";", "audio/ogg", OPUS, PCM]) == OPUS

    def test_else_pcm(self) -> None:
        assert encoding.choose([]) == encoding.choose(["audio/mpeg", "audio/pcm;rate=16000"]) == PCM

    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("audio/ogg; codecs=opus", OPUS),
            ('audio/ogg;codecs="opus"', OPUS),
            (" Audio/OGG ; Codecs = Opus ", OPUS),
            ("AUDIO/FLAC", FLAC),
            ("audio/pcm", PCM),
            ("audio/pcm; rate=24000", PCM),
            ("audio/ogg;codecs=vorbis", WAV),
            ("audio/ogg;codecs", WAV),
        ],
    )
    def test_spelling(self, name: str, meant: str) -> None:
        assert encoding.choose([name, WAV]) == meant

    def test_the_costly_ones(self) -> None:
        assert [encoding.encoder(name).costly for name in FORMATS] == [False, False, True, True]


class TestEveryFormat:
    @pytest.mark.parametrize("format_", LOSSLESS)
    @settings(max_examples=tries(25), deadline=None)
    @given(st.data())
    def test_bit_for_bit(self, format_: str, data: st.DataObject) -> None:
        pcm = tone(24_000, data.draw(st.integers(1, 6000)))
        places = data.draw(st.lists(st.integers(0, len(pcm) // 2), max_size=10))
        parts = list(cut(pcm, (2 * place for place in places)))
        assert samples_in(format_, b"".join(encode(format_, parts))) == pcm

    @settings(max_examples=tries(25), deadline=None)
    @given(st.integers(1, 6000), st.lists(st.integers(0, 6000), max_size=10))
    def test_opus_is_as_long(self, samples: int, places: list[int]) -> None:
        pcm = tone(24_000, samples)
        parts = list(cut(pcm, (2 * (place % samples) for place in places)))
        assert len(samples_in(OPUS, b"".join(encode(OPUS, parts)))) == 2 * len(pcm)

    def test_opus_sounds_alike(self) -> None:
        file = b"".join(encode(OPUS, list(pieces(SPEECH, PIECE))))
        assert likeness(samples_in(OPUS, file), twice(SPEECH)) > 0.98
        assert len(file) < len(SPEECH) / 8

    @pytest.mark.parametrize("format_", FORMATS)
    def test_what_has_come_so_far_can_be_played(self, format_: str) -> None:
        chunks = encode(format_, list(pieces(SPEECH[: 8 * PIECE], PIECE)))
        whole = samples_in(format_, b"".join(chunks))
        late, scale = (624, 2) if format_ == OPUS else (0, 1)
        for count in range(1, 9):
            played = samples_in(format_, b"".join(chunks[:count]))
            assert len(played) == count * PIECE * scale - late
            assert played == whole[: len(played)]

    @pytest.mark.parametrize("format_", FORMATS)
    @pytest.mark.parametrize("samples", [1, 100, 799, 961, 2399])
    def test_little_is_held_back(self, format_: str, samples: int) -> None:
        """Of pieces of any size: less than a block, and of Opus what its encoder is late by."""
        encoder = encoding.encoder(format_)
        file, given_ = b"", 0
        for piece in pieces(SPEECH[:20_000], samples * 2):
            file += encoder.encode(piece, 24_000)
            given_ += len(piece) // 2
        played = samples_in(format_, file)
        missing = given_ - len(played) // (4 if format_ == OPUS else 2)
        assert missing <= {OPUS: 480 + 156, FLAC: 800}.get(format_, 0)

    @pytest.mark.parametrize("format_", FORMATS)
    @pytest.mark.parametrize("rate_hz", [8000, 16_000, 22_050, 44_100, 48_000])
    def test_another_rate_is_resampled(self, format_: str, rate_hz: int) -> None:
        pcm = tone(rate_hz, rate_hz)
        chunks = encode(format_, list(pieces(pcm, rate_hz // 10 * 2)), rate_hz)
        assert len(samples_in(format_, b"".join(chunks))) == (96_000 if format_ == OPUS else 48_000)

    def test_a_rate_that_changes(self) -> None:
        encoder = encoding.encoder(PCM)
        pcm = encoder.encode(tone(48_000, 4801), 48_000) + encoder.encode(SPEECH, 24_000) + encoder.finish()
        assert abs(len(pcm) - len(SPEECH) - 4801) <= 2
        assert pcm.endswith(SPEECH)

    @pytest.mark.parametrize("format_", FORMATS)
    def test_nothing(self, format_: str) -> None:
        for parts in ([], [b""], [b"", b""]):
            file = b"".join(encode(format_, parts))
            assert len(file) < 400
            if format_ == OPUS:
                assert samples_in(format_, file) == b""
        assert b"".join(encode(format_, [b"", SPEECH, b""])) != b""


class TestWav:
    def test_as_python_reads_it(self) -> None:
        file = b"".join(encode(WAV, list(pieces(SPEECH, PIECE))))
        with wave.open(io.BytesIO(file)) as reader:
            assert reader.getparams()[:3] == (1, 2, 24_000)
            assert reader.readframes(10 * len(SPEECH)) == SPEECH


class TestOgg:
    def test_each_call_ends_its_page(self) -> None:
        encoder = encoding.encoder(OPUS)
        reader = PageReader()
        counts = []
        for piece in pieces(SPEECH[: 5 * PIECE], PIECE):
            pages = [page for page in reader.feed(encoder.encode(piece, 24_000)) if isinstance(page, Page)]
            counts.append([len(page.parts) for page in pages])
        assert counts == [[1, 1, 5], [5], [5], [5], [5]]
        assert [getattr(page, "last", None) for page in reader.feed(encoder.finish())] == [True]

    def test_responses_one_after_another(self) -> None:
        """A client may string them together: they differ in their serial."""
        files = [b"".join(encode(OPUS, [SPEECH[:PIECE]])) for _ in range(3)]
        serials = {page.serial for page in PageReader().feed(b"".join(files)) if isinstance(page, Page)}
        assert len(serials) == 3
        blocks = list(OpusDecoder().feed(b"".join(files)))
        assert sum(len(block.pcm) for block in blocks if isinstance(block, Block)) == 3 * 2 * PIECE

    def test_a_long_piece(self) -> None:
        file = b"".join(encode(OPUS, [bytes(2 * 24_000 * 20)]))
        assert len(samples_in(OPUS, file)) == 2 * 48_000 * 20

    @pytest.mark.parametrize("rate_hz", [8000, 11_025, 12_000, 16_000, 44_100, 48_000])
    def test_other_rates(self, rate_hz: int) -> None:
        encoder = OpusEncoder(rate_hz)
        pcm = tone(rate_hz, rate_hz // 2)
        file = encoder.encode(pcm) + encoder.finish()
        assert len(samples_in(OPUS, file)) // 2 == round(rate_hz // 2 * 48_000 / rate_hz)

    def test_what_is_high_is_kept(self) -> None:
        """A rate that Opus knows is not gone below, and another goes to its highest."""
        for rate_hz in (44_100, 48_000):
            encoder = OpusEncoder(rate_hz)
            pcm = tone(rate_hz, rate_hz, frequency_hz=15_000)
            loudness = read_samples(encoder.encode(pcm) + encoder.finish()).std()
            assert loudness > np.frombuffer(pcm, "<i2").std() / 2


def twice(pcm: bytes) -> bytes:
    doubled = soxr.resample(np.frombuffer(pcm, "<i2").astype(np.float32), 24_000, 48_000)
    return bytes(np.rint(doubled).clip(-32768, 32767).astype("<i2").data)
