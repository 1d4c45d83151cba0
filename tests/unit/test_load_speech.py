"""What the sessions of a load say."""

from __future__ import annotations

import numpy as np
import pytest

from antiphon import frames as binary
from antiphon import messages
from antiphon.audio.flac import Block, FlacDecoder
from antiphon.load.speech import Voice, noise, pieces
from antiphon.messages import AudioChunk


def unmasked(frame: bytes) -> bytes:
    size = frame[1] & 0x7F
    at = 2 if size < 126 else 4
    mask, payload = frame[at : at + 4], frame[at + 4 :]
    return bytes(byte ^ mask[number % 4] for number, byte in enumerate(payload))


def test_a_recording_is_said_over_and_over() -> None:
    pcm = noise(0.25)
    voice = Voice(pcm)
    assert voice.count == 3
    said = []
    for number in range(5):
        message = messages.decode(unmasked(voice.chunk(number)))
        assert isinstance(message, AudioChunk)
        assert message.sequence == number
        said.append(message.data)
    assert b"".join(said[:3]) == pcm + pcm[:1600]
    assert said[3:] == said[:2]


def test_a_frame_is_built_once() -> None:
    voice = Voice(noise(1.0))
    assert voice.chunk(7) is voice.chunk(7)


def test_frames_are_not_kept_for_ever() -> None:
    voice = Voice(noise(0.1), chunk_ms=20)
    first = voice.chunk(0)
    for number in range(1, 4097):
        voice.chunk(number)
    assert voice.chunk(0) is not first


def test_binary_frames() -> None:
    voice = Voice(noise(0.2), as_binary=True)
    frame = binary.unpack(unmasked(voice.chunk(1)), binary.AUDIO_CHUNK)
    assert (frame.sequence, frame.audio) == (1, voice.audio(1))


def test_flac_is_one_stream_without_a_sample_more_or_less() -> None:
    pcm = noise(0.25)
    voice = Voice(pcm, audio_format="FLAC")
    decoder = FlacDecoder()
    voice.audio(4)  # whoever is ahead encodes for all
    decoded = [item for number in range(5) for item in decoder.feed(voice.audio(number))]
    decoded += decoder.flush()
    blocks = [item for item in decoded if isinstance(item, Block)]
    assert len(blocks) == len(decoded) == 5
    assert b"".join(block.pcm for block in blocks) == (pcm + pcm[:1600]) + (pcm + pcm[:1600])[:6400]


def test_noise_is_loud_and_the_same_each_time() -> None:
    samples = np.frombuffer(noise(0.5), "<i2")
    assert len(samples) == 8000
    assert 6_000 < np.abs(samples).max() <= 12_000
    assert noise(0.5) == noise(0.5)


def test_there_must_be_audio() -> None:
    with pytest.raises(ValueError, match="no audio"):
        pieces(b"", 3200)
