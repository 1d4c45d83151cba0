"""Sound files of every kind, and their chunks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from antiphon.audio.recording import Recording, RecordingError
from antiphon.audio.stream import AudioStream
from audio_samples import SPEECH, encode_flac, flac_frame, likeness, speech, stream_info, tone, write_wav

PCM = speech()


def test_speech_is_read_bit_for_bit() -> None:
    recording = Recording.read(SPEECH / "arctic_a0007.wav")
    assert recording.pcm == PCM
    assert recording.rate_hz == 16_000
    assert recording.duration_s == len(PCM) / 32_000


@pytest.mark.parametrize("rate_hz", [8000, 11_025, 44_100, 48_000])
def test_a_rate_that_can_be_sent_is_kept(tmp_path: Path, rate_hz: int) -> None:
    pcm = tone(rate_hz, 5001)
    recording = Recording.read(write_wav(tmp_path / "a.wav", pcm, rate_hz))
    assert (recording.pcm, recording.rate_hz) == (pcm, rate_hz)


@pytest.mark.parametrize("rate_hz", [4000, 96_000])
def test_another_rate_is_resampled(tmp_path: Path, rate_hz: int) -> None:
    recording = Recording.read(write_wav(tmp_path / "a.wav", tone(rate_hz, rate_hz), rate_hz))
    assert recording.rate_hz == 16_000
    assert recording.duration_s == pytest.approx(1, abs=0.001)


def test_flac(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(b"".join(encode_flac(PCM)))
    assert Recording.read(path).pcm == PCM


def test_stereo_is_mixed(tmp_path: Path) -> None:
    both = bytes(np.repeat(np.frombuffer(PCM, "<i2"), 2).data)
    assert Recording.read(write_wav(tmp_path / "a.wav", both, channels=2)).pcm == PCM


@pytest.mark.parametrize("sample_bytes", [1, 3, 4])
def test_other_sample_sizes(tmp_path: Path, sample_bytes: int) -> None:
    samples = np.arange(-100, 100, dtype="<i4") * 256  # exact in 8 bits, too
    wide = samples << 16
    raw = {
        1: bytes(((samples >> 8) + 128).astype("u1").data),
        3: wide.view("u1").reshape(-1, 4)[:, 1:].tobytes(),
        4: bytes(wide.data),
    }[sample_bytes]
    recording = Recording.read(write_wav(tmp_path / "a.wav", raw, sample_bytes=sample_bytes))
    assert recording.pcm == bytes(samples.astype("<i2").data)


@pytest.mark.parametrize("rate_hz", [8000, 11_025, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_chunks_are_tenths_of_a_second_that_flow(rate_hz: int, extra: int) -> None:
    pcm = tone(rate_hz, rate_hz + extra)
    recording = Recording(Path("a"), pcm, rate_hz)
    chunks = list(recording.chunks("LINEAR16"))
    assert b"".join(data for _, data in chunks) == pcm
    assert all(samples == rate_hz // 20 * 2 for samples, _ in chunks[:-1])
    encoded = list(recording.chunks("FLAC"))
    assert [samples for samples, _ in encoded] == [samples for samples, _ in chunks]
    stream = AudioStream("FLAC", rate_hz)
    plain = AudioStream("LINEAR16", rate_hz)
    for sequence, (_, data) in enumerate(encoded):
        decoded = stream.feed(sequence, data)
        assert decoded.pcm == plain.feed(sequence, chunks[sequence][1]).pcm, "nothing is held back"
        assert not decoded.errors
    assert stream.flush() == plain.flush()


@pytest.mark.parametrize("rate_hz", [8000, 11_025, 16_000, 24_000, 44_100, 48_000])
@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_opus_chunks_are_as_long(rate_hz: int, extra: int) -> None:
    recording = Recording(Path("a"), tone(rate_hz, rate_hz + extra), rate_hz)
    chunks = list(recording.chunks("audio/ogg;codecs=opus"))
    assert [samples for samples, _ in chunks] == [samples for samples, _ in recording.chunks("LINEAR16")]
    stream = AudioStream("audio/ogg;codecs=opus", rate_hz)
    said_ms = 0.0
    for sequence, (samples, data) in enumerate(chunks):
        assert not stream.feed(sequence, data).errors
        said_ms += samples / rate_hz * 1000
        assert said_ms - stream.received_ms < 100, "what the encoder and both resamplers hold back"
    assert not stream.flush().errors
    assert stream.received_ms == pytest.approx((rate_hz + extra) / rate_hz * 1000, abs=0.1)


def test_opus_keeps_the_speech() -> None:
    stream = AudioStream("audio/ogg;codecs=opus", 16_000)
    chunks = Recording(Path("a"), PCM, 16_000).chunks("audio/ogg;codecs=opus")
    pcm = b"".join(stream.feed(sequence, data).pcm for sequence, (_, data) in enumerate(chunks))
    assert likeness(pcm + stream.flush().pcm, PCM) > 0.98


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17])
def test_very_short(count: int) -> None:
    recording = Recording(Path("a"), PCM[: 2 * count], 16_000)
    stream = AudioStream("FLAC", 16_000)
    assert [stream.feed(0, data).pcm for _, data in recording.chunks("FLAC")] == [PCM[: 2 * count]]


def test_what_cannot_be_read(tmp_path: Path) -> None:
    missing = tmp_path / "missing.wav"
    text = tmp_path / "text.wav"
    text.write_text("These are words, and no sound is in them. " * 100)
    damaged = tmp_path / "damaged.flac"
    damaged.write_bytes(stream_info() + flac_frame([1, 2, 3] * 100)[:-50])
    silent = write_wav(tmp_path / "empty.wav", b"")
    for path, sentence in [
        (missing, f"{missing} cannot be read: No such file or directory."),
        (tmp_path, f"{tmp_path} cannot be read: Is a directory."),
        (text, f"{text} is not audio that can be read; a WAV or FLAC file is."),
        (silent, f"There is no sound in {silent}."),
        (Path("http://a/b.wav"), "http:/a/b.wav cannot be read: No such file or directory."),
    ]:
        with pytest.raises(RecordingError) as caught:
            Recording.read(path)
        assert str(caught.value) == sentence
    with pytest.raises(RecordingError, match=r"damaged.flac"):
        Recording.read(damaged)


def test_a_picture_has_no_sound(tmp_path: Path) -> None:
    pixel = (
        "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c63f8cfc0f01f"
        "0005000200ff5a5c2b8d0000000049454e44ae426082"
    )
    path = tmp_path / "pixel.png"
    path.write_bytes(bytes.fromhex(pixel))
    with pytest.raises(RecordingError, match="There is no sound in"):
        Recording.read(path)
