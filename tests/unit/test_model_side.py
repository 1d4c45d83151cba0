"""The model's side: what becomes of a response, and what the client is told of it, in which order."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.errors import ErrorCode, GatewayError
from antiphon.extension import AudioFlush, ResponseDone, ResponseStarted, ServerMessage, TranscriptUpdate
from antiphon.messages import AudioResponse
from antiphon.session.model_side import MAX_TRANSCRIPT, ModelSide
from antiphon.session.piece import Piece
from antiphon.session.response import Response

NOW = 1000.0
SECOND = b"\x01\x02" * 24_000
PIECE = SECOND[:4800]


def flushable(lead_s: float = 0.25, *, marks: bool = False) -> ModelSide:
    side = ModelSide(can_flush=True)
    side.set_lead(lead_s)
    side.marks = marks
    return side


def speaking(lead_s: float = 0.25, text: str = "One two three four.", *, marks: bool = False) -> ModelSide:
    """Return a side that says four words in four seconds, from NOW on."""
    side = flushable(lead_s, marks=marks)
    side.say(text, "en", NOW)
    side.speak(SECOND * 4, 24_000, "en", NOW)
    return side


def play(side: ModelSide, until: float) -> list[ServerMessage]:
    told: list[ServerMessage] = []
    while (at := side.deadline) <= until:
        told += side.expire(at)
    return told


def track(messages: list[ServerMessage]) -> list[str]:
    """Return what is told of responses, audio apart, in short."""
    short: list[str] = []
    for message in messages:
        match message:
            case ResponseStarted(response_id=response_id):
                short.append(f"{response_id} started")
            case ResponseDone(response_id=response_id, status=status):
                short.append(f"{response_id} {status}")
            case AudioFlush(response_id=response_id, reason=reason):
                short.append(f"{response_id} flush {reason}")
            case TranscriptUpdate(utterance_id=utterance_id, text=text, is_final=is_final):
                short.append(f"{utterance_id} {'final' if is_final else 'says'} {text}")
    return short


def audio(messages: list[ServerMessage]) -> list[AudioResponse]:
    return [message for message in messages if isinstance(message, AudioResponse)]


def refused(side: ModelSide, response_id: str) -> bool:
    with pytest.raises(GatewayError) as caught:
        side.talks(response_id)
    return caught.value.code is ErrorCode.PROTOCOL_UNKNOWN_RESPONSE


class TestResponse:
    def test_from_its_first_piece_to_the_moment_it_has_been_played(self) -> None:
        side = flushable()
        side.say("Hello.", "de-DE", NOW)
        told = side.speak(PIECE, 24_000, "de-DE", NOW)
        assert isinstance(told[0], ResponseStarted)
        assert (told[0].format, told[0].language) == ("audio/pcm;rate=24000", "de-DE")
        assert track(told) == ["r1 started", "r1 says Hello."]
        assert (audio(told)[0].text, audio(told)[0].language) == ("Hello.", "de-DE")
        assert side.ended(NOW) == []
        assert side.deadline == pytest.approx(NOW + 0.1)
        assert side.expire(NOW + 0.09) == []
        assert track(side.expire(NOW + 0.11)) == ["r1 final Hello.", "r1 completed"]
        assert not side.talking
        assert side.deadline == float("inf")

    def test_without_text_has_no_transcript(self) -> None:
        side = flushable()
        told = side.speak(PIECE, 24_000, "en", NOW) + side.ended(NOW) + play(side, NOW + 1)
        assert track(told) == ["r1 started", "r1 completed"]

    def test_of_text_alone(self) -> None:
        side = flushable()
        assert side.say("Only ", "en", NOW) + side.say("words.", "en", NOW) == []
        told = side.ended(NOW)
        assert track(told) == ["r1 started", "r1 says Only words.", "r1 final Only words.", "r1 completed"]
        assert [(piece.data, piece.duration, piece.text) for piece in audio(told)] == [
            (b"", 0, "Only words.")
        ]

    @pytest.mark.parametrize("pcm", [None, b"", b"\1"])
    def test_a_turn_without_output_is_none(self, pcm: bytes | None) -> None:
        side = flushable()
        side.begin_turn(NOW)
        if pcm is not None:
            side.speak(pcm, 24_000, "en", NOW)
        side.generated()
        assert side.ended(NOW) == []
        assert not side.talking
        assert side.fail(NOW) == []

    def test_the_next_one_waits_until_this_one_is_nearly_over(self) -> None:
        """A client may have seconds of one response, but never of two: it is known which one is heard."""
        side = flushable(30)
        told = side.speak(SECOND, 24_000, "en", NOW) + side.ended(NOW)
        assert len(audio(told)) == 10
        assert side.speak(SECOND, 24_000, "en", NOW) == []
        begins_at = side.deadline
        assert begins_at == pytest.approx(NOW + 1 + 0.1 - 0.25)
        told = side.expire(begins_at)
        assert track(told) == ["r1 completed", "r2 started"]
        assert len(audio(told)) == 10, "its own lead is the client's again"

    def test_transcript_grows_piece_by_piece(self) -> None:
        side = flushable(5)
        told: list[ServerMessage] = []
        for word in ("One", " two", " three"):
            side.say(word, "en", NOW)
            told += side.speak(PIECE, 24_000, "en", NOW)
        told += side.ended(NOW) + play(side, NOW + 1)
        updates = [m for m in told if isinstance(m, TranscriptUpdate)]
        assert [m.text for m in updates] == ["One", "One two", "One two three", "One two three"]
        assert [m.revision for m in updates] == [1, 2, 3, 4]
        assert [piece.text for piece in audio(told)] == ["One", " two", " three"]

    def test_failure_tells_how_far_it_came(self) -> None:
        side = speaking(5)
        assert track(side.fail(NOW + 2.2)) == ["r1 final One two", "r1 failed"]
        assert not side.talking
        assert play(side, NOW + 100) == []
        assert side.waiting_s == 0

    def test_failure_in_the_middle_of_a_sentence_tells_what_was_heard_of_it(self) -> None:
        side = speaking(0.25)
        play(side, NOW + 1.2)
        assert track(side.fail(NOW + 1.2)) == ["r1 final One", "r1 failed"]

    def test_failure_of_what_nobody_has_heard_of_is_silent(self) -> None:
        side = flushable()
        side.say("Hel", "en", NOW)
        assert side.fail(NOW) == []


class TestCutShort:
    def test_flush_first_then_the_end_then_the_transcript(self) -> None:
        side = speaking(5)
        told = side.interrupted(NOW + 1.2)
        assert track(told) == ["r1 flush interrupted", "r1 interrupted", "r1 final One"]
        assert play(side, NOW + 100) == []

    def test_what_has_not_begun_to_be_heard_is_dropped_without_a_word(self) -> None:
        side = flushable()
        side.say("Hel", "en", NOW)
        assert side.interrupted(NOW) == []
        assert side.ended(NOW) == []

    def test_without_text_there_is_no_transcript(self) -> None:
        side = flushable()
        side.speak(SECOND, 24_000, "en", NOW)
        assert track(side.interrupted(NOW)) == ["r1 flush interrupted", "r1 interrupted"]

    def test_the_next_response_comes_at_once_since_the_player_is_empty(self) -> None:
        side = speaking(5)
        side.interrupted(NOW + 0.1)
        told = side.speak(PIECE, 24_000, "en", NOW + 0.1)
        assert track(told) == ["r2 started"]

    def test_a_base_client_plays_on_what_it_has(self) -> None:
        side = ModelSide(can_flush=False)
        side.speak(SECOND, 24_000, "en", NOW)
        side.interrupted(NOW)
        side.speak(PIECE, 24_000, "en", NOW)
        assert side.deadline == pytest.approx(NOW + 0.2 + 0.1 - 0.25)

    def test_a_sentence_that_was_not_sent_whole_was_not_heard_whole(self) -> None:
        """Its text goes out with the first piece, so what waits of it counts where it is cut."""
        side = speaking(0.25)
        play(side, NOW + 1.2)
        assert track(side.interrupted(NOW + 1.2))[-1] == "r1 final One"

    def test_what_waits_of_the_next_sentence_does_not_count(self) -> None:
        side = flushable(0.25)
        for sentence in ("One two three four.", " Five six."):
            side.say(sentence, "en", NOW)
            side.speak(SECOND * 4, 24_000, "en", NOW)
        play(side, NOW + 2.2)
        assert track(side.interrupted(NOW + 2.2))[-1] == "r1 final One two"

    def test_in_the_second_sentence_the_first_was_heard_whole(self) -> None:
        side = flushable(10)
        for sentence in ("One two.", " Three four five six."):
            side.say(sentence, "en", NOW)
            side.speak(SECOND * 2, 24_000, "en", NOW)
        assert track(side.interrupted(NOW + 3.1))[-1] == "r1 final One two. Three four"

    def test_one_that_began_ahead_of_time_was_not_heard_at_all(self) -> None:
        side = flushable(30)
        side.speak(SECOND, 24_000, "en", NOW)
        side.ended(NOW)
        side.say("Next.", "en", NOW)
        side.speak(PIECE, 24_000, "en", NOW)
        assert track(side.expire(NOW + 0.86)) == ["r1 completed", "r2 started", "r2 says Next."]
        assert track(side.interrupted(NOW + 0.86))[-1] == "r2 final "


class TestTurn:
    def test_is_open_from_its_first_output_to_its_end(self) -> None:
        side = flushable()
        states = [side.turn_open]
        for end in (side.ended, side.interrupted):
            side.begin_turn(NOW)
            states.append(side.turn_open)
            end(NOW)
            states.append(side.turn_open)
        assert states == [False, True, False, True, False]


class TestSuperseded:
    def test_by_the_answer_to_the_next_turn(self) -> None:
        side = speaking(5)
        side.ended(NOW)
        side.supersede()
        assert side.expire(NOW + 1) == []
        told = side.speak(PIECE, 24_000, "en", NOW + 1.2)
        assert track(told) == ["r1 flush superseded", "r1 interrupted", "r1 final One", "r2 started"]

    def test_not_by_more_of_its_own_turn(self) -> None:
        side = speaking(0.25)
        side.supersede()
        assert track(side.speak(PIECE, 24_000, "en", NOW) + play(side, NOW + 1)) == []

    def test_not_once_it_was_interrupted_anyway(self) -> None:
        side = speaking(5)
        side.supersede()
        side.interrupted(NOW)
        side.speak(PIECE, 24_000, "en", NOW)
        side.ended(NOW)
        assert side.begin_turn(NOW) == []

    def test_there_must_be_something_to_supersede(self) -> None:
        side = flushable()
        side.supersede()
        side.speak(PIECE, 24_000, "en", NOW)
        side.ended(NOW)
        assert side.begin_turn(NOW) == []


class TestMarks:
    def test_are_waited_for_before_the_transcript_is_cut(self) -> None:
        side = speaking(5, marks=True)
        assert track(side.interrupted(NOW + 3)) == ["r1 flush interrupted", "r1 interrupted"]
        assert side.deadline == NOW + 3.5
        assert side.expire(NOW + 3.4) == []
        assert track(side.mark("r1", 1.2, NOW + 3.4)) == ["r1 final One"]
        assert side.mark("r1", 4.0, NOW + 3.4) == []
        assert side.deadline == float("inf")

    def test_one_that_does_not_come_leaves_it_to_the_clock(self) -> None:
        side = speaking(5, marks=True)
        side.interrupted(NOW + 1.2)
        assert track(side.expire(NOW + 1.7)) == ["r1 final One"]
        assert side.mark("r1", 4.0, NOW + 2) == []

    def test_the_next_response_does_not_wait_for_one(self) -> None:
        side = speaking(5, marks=True)
        side.interrupted(NOW + 1.2)
        told = side.speak(PIECE, 24_000, "en", NOW + 1.3)
        assert track(told) == ["r1 final One", "r2 started"]

    def test_a_second_interruption_does_not_disturb_the_first(self) -> None:
        side = speaking(5, marks=True)
        side.interrupted(NOW + 1.2)
        assert side.interrupted(NOW + 1.3) == []
        assert track(side.mark("r1", 2.2, NOW + 1.3)) == ["r1 final One two"]

    def test_failure_ends_the_wait(self) -> None:
        side = speaking(5, marks=True)
        side.interrupted(NOW + 1.2)
        assert track(side.fail(NOW + 1.3)) == ["r1 final One"]

    def test_nobody_has_heard_more_than_was_sent(self) -> None:
        side = speaking(0.25, marks=True)
        play(side, NOW + 1)
        side.interrupted(NOW + 1)
        assert track(side.mark("r1", 1e9, NOW + 1)) == ["r1 final One"]

    def test_tell_that_a_response_has_been_played(self) -> None:
        side = speaking(5)
        side.ended(NOW)
        assert track(side.mark("r1", 1e9, NOW + 1)) == ["r1 final One two three four.", "r1 completed"]

    def test_tell_that_it_is_played_late(self) -> None:
        side = speaking(5)
        side.ended(NOW)
        assert side.mark("r1", 0.0, NOW + 3) == []
        assert side.expire(NOW + 4.1) == []
        assert track(side.expire(NOW + 7.1)) == ["r1 final One two three four.", "r1 completed"]

    def test_let_more_out_of_a_response_that_is_heard_faster(self) -> None:
        side = speaking(1.05)
        assert len(audio(side.mark("r1", 1.0, NOW))) == 10

    def test_are_waited_for_once_a_client_has_sent_one(self) -> None:
        side = speaking(5)
        side.mark("r1", 0.0, NOW)
        assert track(side.interrupted(NOW)) == ["r1 flush interrupted", "r1 interrupted"]

    def test_of_an_older_response_change_nothing(self) -> None:
        side = flushable(5)
        side.speak(PIECE, 24_000, "en", NOW)
        side.ended(NOW)
        play(side, NOW + 1)
        side.speak(SECOND * 10, 24_000, "en", NOW + 1)
        deadline = side.deadline
        assert side.mark("r1", 0.0, NOW + 1) == []
        assert side.deadline == deadline

    def test_of_one_that_has_not_begun_change_nothing(self) -> None:
        side = flushable()
        side.say("Hel", "en", NOW)
        assert side.mark("r1", 5.0, NOW) == []

    def test_of_what_never_was_are_refused(self) -> None:
        side = speaking()
        assert all(refused(side, name) for name in ("r2", "r0", "r01", "x", "", "r1\n", "r" + "9" * 17, "r١"))
        assert not side.marks
        with pytest.raises(GatewayError):
            side.mark("r2", 0.0, NOW)
        assert not side.marks, "that is no client that sends marks"


class TestStop:
    def test_what_the_model_goes_on_to_say_is_dropped(self) -> None:
        side = speaking()
        told = side.stop("client", NOW + 0.1)
        assert track(told) == ["r1 flush client", "r1 interrupted", "r1 final "]
        for moment in range(1, 30):
            at = NOW + 0.1 + moment * 0.9
            assert side.speak(PIECE, 24_000, "en", at) + side.say("More.", "en", at) == []
        assert side.waiting_s == 0

    @pytest.mark.parametrize("end", ["generated", "ended", "interrupted"])
    def test_until_its_turn_is_over(self, end: str) -> None:
        side = speaking()
        side.stop("client", NOW)
        end_of = {
            "generated": lambda now: side.generated(),
            "ended": side.ended,
            "interrupted": side.interrupted,
        }
        assert not end_of[end](NOW)
        assert track(side.speak(PIECE, 24_000, "en", NOW)) == ["r2 started"]

    def test_or_until_it_has_been_quiet_for_a_second(self) -> None:
        side = speaking()
        side.stop("client", NOW)
        assert side.speak(PIECE, 24_000, "en", NOW + 1.0) == []
        assert track(side.speak(PIECE, 24_000, "en", NOW + 2.1)) == ["r2 started"]

    @pytest.mark.parametrize("over", [True, False])
    def test_after_the_whole_was_made_nothing_is_muted(self, over: bool) -> None:
        side = speaking(5)
        side.ended(NOW) if over else side.generated()
        side.stop("activity", NOW)
        assert track(side.speak(PIECE, 24_000, "en", NOW)) == ["r2 started"]

    def test_nobody_talks(self) -> None:
        side = flushable()
        assert side.stop("client", NOW) == []
        side.begin_turn(NOW)
        assert side.stop("client", NOW) == []
        assert track(side.speak(PIECE, 24_000, "en", NOW)) == ["r1 started"]

    def test_which_response_talks(self) -> None:
        side = speaking(5)
        assert side.talks("r1")
        side.stop("client", NOW)
        assert not side.talks("r1")


class TestEncoded:
    def one(self, lead_s: float = 5) -> tuple[ModelSide, list[Piece]]:
        side = flushable(lead_s)
        side.format = "audio/wav"
        side.say("Hello.", "en", NOW)
        assert side.speak(SECOND[:14_400], 24_000, "en", NOW) == []
        side.ended(NOW)
        return side, side.take_unencoded()

    def test_pieces_wait_for_what_the_encoder_makes_of_them_in_order(self) -> None:
        side, pieces = self.one()
        assert [piece.last for piece in pieces] == [False, False, False, True]
        assert side.take_unencoded() == []
        assert side.encoded(pieces[1], b"2", NOW) == []
        told = side.encoded(pieces[0], b"1", NOW)
        assert track(told) == ["r1 started", "r1 says Hello."]
        assert {piece.format for piece in audio(told)} == {"audio/wav"}
        told += side.encoded(pieces[2], b"", NOW) + side.encoded(pieces[3], b"end", NOW)
        sounds = [(piece.data, piece.duration, piece.text) for piece in audio(told)]
        assert sounds == [(b"1", 100, "Hello."), (b"2", 100, ""), (b"", 100, ""), (b"end", 0, "")]
        assert track(play(side, NOW + 1)) == ["r1 final Hello.", "r1 completed"]

    def test_an_end_that_adds_nothing_is_not_sent(self) -> None:
        side, pieces = self.one()
        told = [message for piece in pieces for message in side.encoded(piece, b"x" * (not piece.last), NOW)]
        assert len(audio(told)) == 3

    def test_not_over_while_the_encoder_works(self) -> None:
        side, pieces = self.one()
        for piece in pieces[:3]:
            side.encoded(piece, b"x", NOW)
        assert side.expire(NOW + 100) == []
        assert track(side.encoded(pieces[3], b"x", NOW + 100)) == ["r1 final Hello.", "r1 completed"]

    def test_its_last_sounds_do_not_wait_for_the_end_of_the_turn(self) -> None:
        side = flushable()
        side.format = "audio/flac"
        side.speak(PIECE, 24_000, "en", NOW)
        side.generated()
        told = [m for piece in side.take_unencoded() for m in side.encoded(piece, b"x", NOW)]
        assert [piece.duration for piece in audio(told)] == [100, 0]
        assert play(side, NOW + 10) == [], "and it is over with the turn"
        assert track(side.ended(NOW + 10)) == ["r1 completed"]

    def test_what_is_said_after_its_file_is_whole_is_a_response_of_its_own(self) -> None:
        side = flushable()
        side.format = "audio/flac"
        side.speak(PIECE, 24_000, "en", NOW)
        side.generated()
        side.say("Late words.", "en", NOW)
        side.speak(PIECE, 24_000, "en", NOW)
        side.ended(NOW)
        pieces = side.take_unencoded()
        told = [m for piece in pieces[:2] for m in side.encoded(piece, b"x", NOW)] + side.expire(NOW + 1)
        assert track(told) == ["r1 started", "r1 completed"]
        assert [(piece.number, piece.last) for piece in pieces] == [
            *((1, False), (1, True), (2, False), (2, True))
        ]

    def test_words_that_come_after_its_file_is_whole_still_go_out(self) -> None:
        side = flushable()
        side.format = "audio/flac"
        side.speak(PIECE, 24_000, "en", NOW)
        side.generated()
        side.say("Late words.", "en", NOW)
        side.ended(NOW)
        told = [m for piece in side.take_unencoded() for m in side.encoded(piece, b"x", NOW)]
        told += play(side, NOW + 1)
        assert track(told) == ["r1 started", "r1 says Late words.", "r1 final Late words.", "r1 completed"]
        assert {piece.format for piece in audio(told)} == {"audio/flac"}

    def test_what_was_dropped_needs_no_encoder(self) -> None:
        side, pieces = self.one()
        side.encoded(pieces[0], b"x", NOW)
        side.interrupted(NOW)
        assert [piece.data for piece in pieces] == [b"x", b"", b"", b""]
        assert side.encoded(pieces[1], b"late", NOW) == []

    def test_another_format_holds_from_the_next_response_on(self) -> None:
        side = speaking()
        side.format = "audio/wav"
        assert {piece.format for piece in audio(play(side, NOW + 1))} == {"audio/pcm;rate=24000"}
        assert side.take_unencoded() == []


class TestHold:
    def test_what_is_held_can_still_be_dropped(self) -> None:
        side = speaking(5)
        side.interrupted(NOW)
        side.hold(True, NOW)
        assert side.speak(SECOND, 24_000, "en", NOW) == []
        assert side.deadline == float("inf")
        assert side.interrupted(NOW + 1) == []
        assert side.hold(False, NOW + 1) == []

    def test_what_is_released_comes_at_once(self) -> None:
        side = flushable()
        side.hold(True, NOW)
        side.speak(SECOND, 24_000, "en", NOW)
        assert side.expire(NOW + 5) == []
        assert len(audio(side.hold(False, NOW + 5))) == 2

    def test_nothing_is_told_while_it_is_held(self) -> None:
        side = speaking(5)
        side.ended(NOW)
        assert side.hold(True, NOW + 100) == []


words = st.text("abc dé\n世界", max_size=30)


class TestHeardText:
    @pytest.mark.parametrize(
        ("played_s", "heard"),
        [
            (-1.0, ""),
            (0.0, ""),
            (0.5, ""),
            (1.3, "One"),
            (2.0, "One"),
            (2.2, "One two"),
            (3.9, "One two"),
            (4.0, "One two three"),
        ],
    )
    def test_ends_after_a_whole_word(self, played_s: float, heard: str) -> None:
        response = Response(1, None, "en", sent_s=4.0, text="One two three", segments=[(0.0, 0)])
        assert response.heard_text(played_s) == heard

    def test_a_script_without_spaces_is_cut_between_characters(self) -> None:
        text = "今日は天気がとてもいいので散歩に行きましょうと彼は言いました"
        response = Response(1, None, "ja", sent_s=float(len(text)), text=text, segments=[(0.0, 0)])
        assert response.heard_text(27.0) == text[:27]

    def test_text_without_sound_takes_no_time(self) -> None:
        segments = [(0.0, 0), (1.0, 4), (1.0, 8)]
        response = Response(1, None, "en", sent_s=2.0, text="One two three four", segments=segments)
        assert response.heard_text(0.7) == ""
        assert response.heard_text(1.0) == "One two"
        assert response.heard_text(2.0) == "One two three four"

    @given(
        st.lists(st.tuples(words, st.sampled_from([0.0, 0.1, 0.7, 3.0])), max_size=6),
        st.lists(st.floats(-1, 30), min_size=2, max_size=8),
        st.sampled_from([0.0, 0.1, 2.0]),
    )
    def test_a_prefix_that_grows_with_what_is_played(
        self, parts: list[tuple[str, float]], moments: list[float], unsent_s: float
    ) -> None:
        response = Response(1, None, "en", unsent_s=unsent_s)
        for text, duration_s in parts:
            if text:
                response.segments.append((response.sent_s, len(response.text)))
                response.text += text
            response.sent_s += duration_s
        heard = [response.heard_text(moment) for moment in sorted(moments)]
        whole = response.text.strip()
        assert all(whole.startswith(text) for text in heard)
        assert [len(text) for text in heard] == sorted(len(text) for text in heard)
        assert response.heard_text(response.sent_s + unsent_s) == whole


class Listener:
    """A client: it counts what it is sent, and when it will have heard it."""

    def __init__(self, lead_s: float) -> None:
        self.lead_s = lead_s
        self.heard_until = 0.0
        self.data = b""

    def take(self, messages: list[Any], now: float) -> None:
        for message in messages:
            match message:
                case AudioResponse(data=data, duration=duration):
                    self.heard_until = max(self.heard_until, now) + duration / 1000
                    self.data += data
                    assert self.heard_until - now <= self.lead_s + 1e-6
                case AudioFlush():
                    self.heard_until = now
                case _:
                    pass


@given(
    st.sampled_from([0.1, 0.25, 1.0, 30.0]),
    st.lists(st.tuples(st.sampled_from(["speak", "end", "interrupt", "hold"]), st.floats(0, 1)), max_size=20),
)
def test_never_further_ahead_than_the_client_wants(lead_s: float, steps: list[tuple[str, float]]) -> None:
    side, listener, now = flushable(lead_s), Listener(lead_s), NOW
    for what, wait_s in steps:
        match what:
            case "speak":
                told = side.speak(SECOND, 24_000, "en", now)
            case "end":
                told = side.ended(now)
            case "hold":
                told = side.hold(True, now) + side.hold(False, now)
            case _:
                told = side.interrupted(now)
        listener.take(told, now)
        until = now + wait_s
        while (at := side.deadline) <= until:
            now = max(now, at)
            listener.take(side.expire(now), now)
        now = until
    side.ended(now)
    play(side, now + 100)
    assert not side.talking
    assert side.waiting_s == 0


@pytest.mark.parametrize("pieces", [1, 5000])
def test_a_transcript_that_would_be_sent_whole_for_ever_ends(pieces: int) -> None:
    side = flushable(30.0)
    for _ in range(pieces):
        side.say("word " * (50_000 // pieces), "en-US", 0.0)
        side.speak(bytes(2), 24_000, "en-US", 0.0)
    side.ended(0.0)
    *_, final, _ = side.expire(10.0)
    assert isinstance(final, TranscriptUpdate)
    assert final.is_final
    assert len(final.text) <= MAX_TRANSCRIPT
    assert set(final.text.split()[:-1]) == {"word"}
