"""What a client tells of its loudspeaker, and what binary frames become."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from antiphon import frames
from antiphon.client import Mark, Speaker, pcm_rate
from antiphon.client.binary import Answers
from antiphon.errors import GatewayError
from antiphon.extension import ResponseStarted, TranscriptUpdate
from antiphon.messages import AudioResponse


class TestMarks:
    def test_once_a_second_and_when_all_is_played(self) -> None:
        speaker = Speaker()
        speaker.begin("a")
        speaker.add(2500)
        assert speaker.given_ms == 2500
        assert speaker.marks(0, 10.0) == []
        assert speaker.marks(50, 10.05) == [Mark("a", 50)]
        assert speaker.marks(1000, 11.0) == []
        assert speaker.marks(1100, 11.05) == [Mark("a", 1100)]
        assert speaker.marks(2500, 11.5) == [Mark("a", 2500)]
        assert speaker.marks(2500, 15.0) == [], "said once"

    def test_a_response_that_goes_on(self) -> None:
        speaker = Speaker()
        speaker.begin("a")
        speaker.add(100)
        assert speaker.marks(100, 1.0) == [Mark("a", 100)]
        speaker.add(100)
        assert speaker.marks(200, 1.1) == [Mark("a", 200)]

    def test_one_response_after_the_other(self) -> None:
        speaker = Speaker()
        speaker.begin("a")
        speaker.add(100)
        speaker.begin("b")
        speaker.add(100)
        assert speaker.marks(150, 1.0) == [Mark("a", 100), Mark("b", 50)]
        assert speaker.marks(200, 1.1) == [Mark("b", 100)]

    def test_a_flush(self) -> None:
        speaker = Speaker()
        speaker.begin("a")
        speaker.add(1000)
        assert speaker.flush("a", 300) == Mark("a", 300)
        assert speaker.marks(300, 5.0) == []
        speaker.begin("b")
        speaker.add(200)
        assert speaker.marks(500, 6.0) == [Mark("b", 200)]

    def test_a_flush_of_what_it_does_not_know(self) -> None:
        assert Speaker().flush("a", 0) is None

    def test_audio_of_no_response(self) -> None:
        speaker = Speaker()
        speaker.add(100)
        speaker.begin("a")
        speaker.add(100)
        assert speaker.marks(150, 1.0) == [Mark("a", 50)]

    def test_rounded_durations_are_played_to_their_end(self) -> None:
        speaker = Speaker()
        speaker.begin("a")
        for _ in range(100):
            speaker.add(0.042)
        assert speaker.marks(100 / 24, 1.0) == [Mark("a", 4.167)]

    @example([(0, 0), (1, 3), (2, 2)])  # the end is told of once more, though a mark was close to it
    @given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3000)), max_size=60))
    def test_marks_rise_and_never_exceed_what_came(self, steps: list[tuple[int, int]]) -> None:
        speaker = Speaker()
        given_ms: defaultdict[str, float] = defaultdict(float)
        told: defaultdict[str, float] = defaultdict(float)
        position, now, name = 0.0, 0.0, ""

        def note(marks: list[Mark]) -> None:
            for mark in marks:
                assert told[mark.response_id] < mark.played_ms <= given_ms[mark.response_id]
                told[mark.response_id] = mark.played_ms

        for kind, amount in steps:
            if kind == 0:
                name = f"r{len(given_ms)}"
                given_ms[name] = 0.0
                speaker.begin(name)
            elif kind == 1 and name:
                speaker.add(amount)
                given_ms[name] += amount
            elif kind == 2:
                position = min(position + amount, speaker.given_ms)
                now += amount / 1000
                note(speaker.marks(position, now))
            elif kind == 3 and name:
                mark = speaker.flush(name, position)
                assert mark is None or told[name] <= mark.played_ms <= given_ms[name]
                name = ""
        if name:
            note(speaker.marks(speaker.given_ms, now))
            assert told[name] == given_ms[name] or given_ms[name] <= 1


class TestAnswers:
    @staticmethod
    def frame(audio: bytes) -> bytes:
        return frames.pack(frames.Frame(frames.AUDIO_RESPONSE, 0, 77, audio))

    @staticmethod
    def update(text: str, role: str = "model", *, final: bool = False) -> TranscriptUpdate:
        return TranscriptUpdate(
            timestamp=0,
            role="model" if role == "model" else "user",
            utterance_id="a",
            revision=1,
            text=text,
            is_final=final,
        )

    @staticmethod
    def started(format_: str = "audio/pcm;rate=24000") -> ResponseStarted:
        return ResponseStarted(timestamp=0, response_id="a", format=format_, language="de")

    def test_frames_say_what_the_messages_before_them_do(self) -> None:
        answers = Answers()
        answers.note(self.started())
        answers.note(self.update("One."))
        answers.note(self.update("I said", role="user"))
        assert answers.unpack(self.frame(bytes(4800))) == AudioResponse(
            timestamp=77,
            data=bytes(4800),
            format="audio/pcm;rate=24000",
            duration=100,
            text="One.",
            language="de",
        )
        assert answers.unpack(self.frame(b"")).text == "", "the sentence goes on"
        answers.note(self.update("One. Two"))
        answers.note(self.update("One. Two, three."))
        assert answers.unpack(self.frame(b"")).text == " Two, three."

    def test_a_cut_is_no_text(self) -> None:
        answers = Answers()
        answers.note(self.started("audio/flac"))
        answers.note(self.update("One. Two."))
        answers.note(self.update("One.", final=True))
        piece = answers.unpack(self.frame(bytes(100)))
        assert (piece.text, piece.format, piece.duration) == ("One. Two.", "audio/flac", 0)
        answers.note(self.started())
        answers.note(self.update("Three."))
        assert answers.unpack(self.frame(b"")).text == "Three."

    def test_no_frame(self) -> None:
        with pytest.raises(GatewayError):
            Answers().unpack(b"\x01")

    @pytest.mark.parametrize(
        ("format_", "rate_hz"),
        [
            ("audio/pcm;rate=24000", 24_000),
            ("audio/pcm; rate=8000", 8000),
            ("audio/pcm", None),
            ("audio/pcm;rate=fast", None),
            ("audio/wav;rate=24000", None),
            ("", None),
        ],
    )
    def test_the_rate_of_pcm(self, format_: str, rate_hz: int | None) -> None:
        assert pcm_rate(format_) == rate_hz
