"""The user's audio: to the last sample, and with push to talk nothing that was not meant for the model."""

from __future__ import annotations

import numpy as np
import pytest

from antiphon import live
from antiphon.errors import ErrorCode, GatewayError
from antiphon.messages import StreamFormat
from antiphon.session.microphone import Microphone, Outcome
from antiphon.session.user_side import Timeline
from audio_samples import flac_frame, stream_info

PCM = b"\x01\x02" * 1600
SURROUND = stream_info(channels=3) + flac_frame([0] * 160, [0] * 160, [0] * 160)


def microphone(format: StreamFormat = "LINEAR16", rate_hz: int = 16_000) -> Microphone:  # noqa: A002
    opened = Microphone(Timeline())
    opened.start(format, rate_hz)
    return opened


def short(outcomes: list[Outcome]) -> list[object]:
    """Return what came of it: bytes of audio, codes of errors, names of the rest."""
    found: list[object] = []
    for outcome in outcomes:
        match outcome:
            case live.Audio(pcm=pcm):
                found.append(len(pcm))
            case GatewayError(code=code):
                found.append(code)
            case _:
                found.append(type(outcome).__name__)
    return found


class TestStream:
    def test_goes_to_the_model_and_ends(self) -> None:
        mic = microphone()
        assert mic.chunk(0, PCM) == [live.Audio(PCM)]
        assert mic.end() == [live.AudioEnd()]
        assert not mic.open

    def test_there_must_be_one(self) -> None:
        mic = Microphone(Timeline())
        assert short(mic.chunk(0, PCM)) == [ErrorCode.AUDIO_STREAM_INACTIVE]
        assert short(mic.end()) == [ErrorCode.AUDIO_STREAM_INACTIVE]

    def test_what_nobody_can_decode_ends_it(self) -> None:
        mic = microphone("FLAC")
        outcomes = short(mic.chunk(0, SURROUND))
        assert ErrorCode.AUDIO_UNSUPPORTED in outcomes
        assert outcomes[-1] == "AudioEnd"
        assert not mic.open

    def test_long_audio_goes_in_pieces_of_a_quarter_of_a_second(self) -> None:
        assert short(microphone().chunk(0, bytes(22_000))) == [8000, 8000, 6000]

    def test_places_count_all_that_was_received(self) -> None:
        timeline = Timeline()
        mic = Microphone(timeline)
        for _ in range(2):
            mic.start("LINEAR16", 16_000)
            mic.chunk(0, PCM)
            mic.end()
        assert timeline.position_ms == 200
        assert timeline.place_ms(None) == 100


class TestPushToTalk:
    def test_only_what_is_said_between_is_heard(self) -> None:
        mic = microphone()
        assert short(mic.press()) == ["ActivityStart"]
        assert short(mic.chunk(0, PCM)) == [3200]
        assert short(mic.release()) == ["ActivityEnd"]
        assert short(mic.chunk(1, PCM)) == []
        assert mic.end() == [], "the model detects nothing by itself: it wants no end of the stream"
        assert (mic.push_to_talk, mic.pressed) == (True, False)

    def test_every_sample_is_heard_before_the_end(self) -> None:
        """What the resampler holds back belongs to the activity."""
        mic = microphone(rate_hz=48_000)
        mic.press()
        tone = (np.sin(np.arange(4800) / 20) * 10_000).astype("<i2").tobytes()
        outcomes = [*mic.chunk(0, tone), *mic.release()]
        assert sum(len(item.pcm) for item in outcomes if isinstance(item, live.Audio)) == 3200
        assert outcomes[-1] == live.ActivityEnd()
        assert isinstance(outcomes[-2], live.Audio)
        assert short(mic.chunk(1, tone)) == [], "and the stream goes on"

    @pytest.mark.parametrize("pressed", [True, False])
    def test_twice_in_a_row_changes_nothing(self, pressed: bool) -> None:
        mic = microphone()
        if pressed:
            mic.press()
        again = mic.press if pressed else mic.release
        assert short(again()) == [ErrorCode.PROTOCOL_ACTIVITY_ORDER]
        assert (mic.push_to_talk, mic.pressed) == (pressed, pressed)
        assert short(mic.chunk(0, PCM)) == [3200]

    def test_an_end_that_is_missing_is_made_up_at_the_end_of_the_stream(self) -> None:
        mic = microphone()
        mic.press()
        assert short(mic.end()) == ["ActivityEnd"]
        assert short(mic.release()) == [ErrorCode.PROTOCOL_ACTIVITY_ORDER]

    def test_or_where_the_stream_cannot_go_on(self) -> None:
        mic = microphone("FLAC")
        mic.press()
        assert short(mic.chunk(0, SURROUND))[-1] == "ActivityEnd"
        assert not mic.pressed

    def test_needs_no_stream(self) -> None:
        mic = Microphone(Timeline())
        assert short(mic.press() + mic.release()) == ["ActivityStart", "ActivityEnd"]
