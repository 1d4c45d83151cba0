"""The user's side: when the user speaks, what he says, and where in his audio."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from antiphon import live
from antiphon.extension import ServerMessage, SpeechStarted, SpeechStopped, TranscriptUpdate
from antiphon.messages import RecognitionResult
from antiphon.session.user_side import Timeline, UserSide

NOW = 1000.0


def told(messages: list[ServerMessage]) -> list[object]:
    """Return what was told, in short; the recognition_result and its update are one."""
    short: list[object] = []
    result: RecognitionResult | None = None
    for message in messages:
        match message:
            case SpeechStarted(stream_ms=at_ms):
                short.append(f"started {at_ms:g}")
            case SpeechStopped(stream_ms=at_ms):
                short.append(f"stopped {at_ms:g}")
            case RecognitionResult():
                result = message
            case TranscriptUpdate(utterance_id=utterance_id, revision=revision, text=text, is_final=is_final):
                assert result
                assert (result.transcript, result.is_final) == (text, is_final)
                short.append((utterance_id, revision, text, is_final))
                result = None
            case _:
                raise AssertionError(message)
    return [*short, result.command] if result else short


class TestTimeline:
    def test_a_place_is_that_in_its_stream(self) -> None:
        timeline = Timeline()
        timeline.begin_connection(0)
        for _ in range(2):
            timeline.begin_stream()
            timeline.position_ms += 1000
        assert [timeline.place_ms(at_ms) for at_ms in (0, 400.04, 1000, 1400, 2000)] == [0, 400, 0, 400, 1000]

    def test_now_when_nobody_says_where(self) -> None:
        timeline = Timeline()
        timeline.position_ms = 500
        timeline.begin_stream()
        timeline.position_ms = 730
        assert timeline.place_ms(None) == 230

    def test_a_later_connection_counts_from_its_own_beginning(self) -> None:
        timeline = Timeline()
        timeline.begin_stream()
        timeline.position_ms = 3000
        timeline.begin_connection(waiting_ms=1000)
        timeline.position_ms = 4000
        assert timeline.place_ms(500) == 2500

    def test_nothing_happens_in_what_was_not_sent_yet(self) -> None:
        timeline = Timeline()
        timeline.position_ms = 100
        assert timeline.place_ms(5000) == 100

    def test_a_stream_too_long_ago_is_forgotten(self) -> None:
        timeline = Timeline()
        for _ in range(100):
            timeline.begin_stream()
            timeline.position_ms += 10
        assert timeline.place_ms(5) == 0
        assert timeline.place_ms(995) == 5

    @given(st.lists(st.tuples(st.booleans(), st.floats(0, 1e5)), max_size=80), st.none() | st.floats(0, 1e7))
    def test_is_always_within_the_stream(self, steps: list[tuple[bool, float]], at_ms: float | None) -> None:
        timeline = Timeline()
        for connects, duration_ms in steps:
            timeline.begin_connection(0) if connects else timeline.begin_stream()
            timeline.position_ms += duration_ms
        assert 0 <= timeline.place_ms(at_ms) <= round(timeline.position_ms, 1)


class TestSpeech:
    def test_as_the_engine_tells(self) -> None:
        timeline = Timeline()
        timeline.position_ms = 900
        side = UserSide(timeline)
        assert told(side.voice(live.VoiceActivity(True, 250), NOW)) == ["started 250"]
        assert told(side.hear(live.Heard("go"), NOW)) == [("u1", 1, "go", False)]
        assert told(side.finish(NOW)) == [("u1", 2, "go", True)]
        assert told(side.voice(live.VoiceActivity(False, 700), NOW)) == ["stopped 700"]

    def test_else_as_its_transcription_tells(self) -> None:
        side = UserSide(Timeline())
        assert told(side.hear(live.Heard("go"), NOW)) == ["started 0", ("u1", 1, "go", False)]
        assert told(side.finish(NOW)) == ["stopped 0", ("u1", 2, "go", True)]
        assert told(side.hear(live.Heard("on", final=True), NOW)) == [
            *("started 0", "stopped 0", ("u2", 1, "on", True))
        ]

    def test_a_transcription_of_nothing_is_no_speech(self) -> None:
        side = UserSide(Timeline())
        assert side.hear(live.Heard(" "), NOW) == []
        assert side.finish(NOW) == []
        side.hear(live.Heard(" "), NOW)
        assert told(side.hear(live.Heard("go"), NOW)) == ["started 0", ("u1", 1, "go", False)]

    def test_the_button_alone_tells_once_it_was_pressed(self) -> None:
        side = UserSide(Timeline())
        assert told(side.press(pressed=True, now=NOW)) == ["started 0"]
        assert side.voice(live.VoiceActivity(True, 0), NOW) == []
        assert told(side.hear(live.Heard("go", final=True), NOW)) == [("u1", 1, "go", True)]
        assert side.voice(live.VoiceActivity(False, 0), NOW) == []
        assert told(side.press(pressed=False, now=NOW)) == ["stopped 0"]

    def test_pressing_while_speaking_is_no_second_beginning(self) -> None:
        side = UserSide(Timeline())
        side.voice(live.VoiceActivity(True, 0), NOW)
        assert side.press(pressed=True, now=NOW) == []
        assert told(side.press(pressed=False, now=NOW)) == ["stopped 0"]

    @given(
        st.lists(
            st.sampled_from(
                [
                    *(
                        live.VoiceActivity(True, 1.0),
                        live.VoiceActivity(False),
                        live.Heard("a"),
                        live.Heard(" "),
                    ),
                    *(live.Heard("b", final=True), live.Heard("", 0, False, ""), live.Heard("", 0, True, "")),
                    *("press", "release", "finish", "command", "wait"),
                ]
            )
        )
    )
    def test_every_order_keeps_the_order(self, steps: list[object]) -> None:
        side, now = UserSide(Timeline()), NOW
        messages: list[ServerMessage] = []
        for step in steps:
            match step:
                case live.VoiceActivity():
                    messages += side.voice(step, now)
                case live.Heard():
                    messages += side.hear(step, now)
                case "press" | "release":
                    messages += side.press(pressed=step == "press", now=now)
                case "wait":
                    now += 2.5
                    messages += side.expire(now)
                case _:
                    messages += side.finish(now)
        spoken = [
            isinstance(m, SpeechStarted) for m in messages if isinstance(m, SpeechStarted | SpeechStopped)
        ]
        assert spoken == [place % 2 == 0 for place in range(len(spoken))]
        messages += side.finish(now)
        updates = [m for m in messages if isinstance(m, TranscriptUpdate)]
        expected = ("u1", 1)
        for update in updates:
            assert (update.utterance_id, update.revision) == expected
            count, revision = int(expected[0][1:]), expected[1]
            expected = (f"u{count + 1}", 1) if update.is_final else (f"u{count}", revision + 1)
        assert not updates or updates[-1].is_final


class TestUtterance:
    def test_revisions_count_within_an_utterance(self) -> None:
        side = UserSide(Timeline())
        side.voice(live.VoiceActivity(False), NOW)
        messages = [
            *(side.hear(live.Heard("Go"), NOW) + side.hear(live.Heard(" on"), NOW)),
            *(side.hear(live.Heard(""), NOW) + side.finish(NOW) + side.hear(live.Heard("Stop"), NOW)),
        ]
        assert told(messages) == [
            ("u1", 1, "Go", False),
            ("u1", 2, "Go on", False),
            ("u1", 3, "Go on", False),
            ("u1", 4, "Go on", True),
            ("u2", 1, "Stop", False),
        ]

    def test_one_that_the_engine_takes_back_ends_empty(self) -> None:
        """What was told of it would stay on the client's screen for good."""
        side = UserSide(Timeline())
        side.hear(live.Heard("uh", 0.2, False, "uh"), NOW)
        assert told(side.hear(live.Heard("", 0.0, True, ""), NOW)) == ["stopped 0", ("u1", 2, "", True)]
        assert told(side.hear(live.Heard("go"), NOW)) == ["started 0", ("u2", 1, "go", False)]

    def test_the_final_comes_once(self) -> None:
        side = UserSide(Timeline())
        side.hear(live.Heard("go", final=True), NOW)
        assert side.finish(NOW) == side.expire(NOW + 10) == []
        assert not side.open
        assert side.final_at == float("inf")

    def test_two_seconds_without_more_end_it(self) -> None:
        side = UserSide(Timeline())
        side.hear(live.Heard("go"), NOW)
        assert side.final_at == NOW + 2
        assert side.expire(NOW + 1.9) == []
        assert told(side.expire(NOW + 2)) == ["stopped 0", ("u1", 2, "go", True)]

    def test_a_command_is_on_the_final_result_or_comes_after_it_alone(self) -> None:
        side = UserSide(Timeline())
        side.voice(live.VoiceActivity(False), NOW)
        side.hear(live.Heard("next"), NOW)
        result, update = side.finish(NOW, "next")
        assert isinstance(result, RecognitionResult)
        assert (result.command, result.is_final) == ("next", True)
        assert isinstance(update, TranscriptUpdate)
        assert told(side.finish(NOW, "next")) == ["next"]

    def test_a_command_refers_to_what_was_typed(self) -> None:
        side = UserSide(Timeline())
        side.typed("go on please", NOW)
        (result,) = side.finish(NOW, "next")
        assert isinstance(result, RecognitionResult)
        assert (result.transcript, result.confidence) == ("go on please", 0.0)

    def test_half_an_hour_of_speech_is_cut_in_two(self) -> None:
        side = UserSide(Timeline())
        side.voice(live.VoiceActivity(True), NOW)
        assert told(side.hear(live.Heard("ha " * 11_000), NOW)) == [("u1", 1, ("ha " * 11_000).strip(), True)]
        assert told(side.hear(live.Heard("ha"), NOW)) == [("u2", 1, "ha", False)]
