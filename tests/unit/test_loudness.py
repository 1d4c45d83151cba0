"""Loudness: speech is loud, a quiet room is not."""

from __future__ import annotations

import numpy as np
import pytest

from antiphon.session.loudness import LOUD_RMS, is_loud
from audio_samples import speech, tone


def test_silence_is_not() -> None:
    assert not is_loud(b"")
    assert not is_loud(bytes(640))


@pytest.mark.parametrize(
    ("amplitude", "loud"), [(20_000.0, True), (500.0, True), (400.0, False), (0.0, False)]
)
def test_a_tone_is_by_its_rms(amplitude: float, loud: bool) -> None:
    assert is_loud(tone(16_000, 3200, amplitude=amplitude)) is loud


def test_the_edge() -> None:
    level = np.full(640, LOUD_RMS, "<i2")
    assert is_loud(level.tobytes())
    assert not is_loud((level - 1).tobytes())


def test_full_scale_is_no_overflow() -> None:
    assert is_loud(np.full(100_000, -0x8000, "<i2").tobytes())


def test_most_of_speech_is() -> None:
    pcm = speech()
    loud = [is_loud(pcm[place : place + 8000]) for place in range(0, len(pcm) - 8000, 8000)]
    assert sum(loud) > len(loud) * 0.6
