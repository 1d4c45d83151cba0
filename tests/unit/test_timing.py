"""When what of a response came: the arrivals of audio, the user's turn, and what a session tells of both."""

from __future__ import annotations

import pytest
from msgspec import UNSET

from antiphon import extension, live, messages
from antiphon.extension import ActivityEnd, ActivityStart, ResponseTiming
from antiphon.session import Limits, Session
from antiphon.session.effects import Again, Effect, Encode
from antiphon.session.presence import digest
from antiphon.session.timing import MAX_CHUNKS, Arrivals, UserTurn
from unit.test_session_v1 import (
    END,
    NOW,
    PIECE,
    SETUP,
    chunk,
    command,
    hello,
    kinds,
    one,
    ready,
    speak,
    start,
)

TIMING = hello(features=("response_timing",), playback_buffer_ms=30_000)


def ms(at: float) -> int:
    return int(at * 1000)


class TestArrivals:
    def test_a_place_had_come_with_the_chunk_that_it_is_in(self) -> None:
        arrivals = Arrivals()
        for number in range(4):
            arrivals.note(number * 100.0, number * 100.0 + 100, NOW + number)
        places = {1: 0, 99.9: 0, 100: 0, 100.1: 1, 350: 3, 400: 3}
        assert {place: arrivals.at(place) for place in places} == {
            place: NOW + second for place, second in places.items()
        }

    def test_what_has_not_come_has_no_time(self) -> None:
        arrivals = Arrivals()
        assert arrivals.at(1) is None
        arrivals.note(0, 100, NOW)
        assert arrivals.at(100.1) is None

    def test_nor_has_what_came_before_the_first_that_is_known(self) -> None:
        arrivals = Arrivals()
        arrivals.note(5000, 5100, NOW)
        assert (arrivals.at(5000), arrivals.at(5001)) == (None, NOW)

    def test_the_oldest_are_forgotten(self) -> None:
        arrivals = Arrivals()
        for number in range(MAX_CHUNKS + 2):
            arrivals.note(number * 20.0, number * 20.0 + 20, NOW + number)
        assert (arrivals.at(40), arrivals.at(41)) == (None, NOW + 2)
        assert arrivals.at(MAX_CHUNKS * 20 + 40) == NOW + MAX_CHUNKS + 1


class TestUserTurn:
    def test_a_typed_one_has_no_transcript_though_an_earlier_one_s_may_come_late(self) -> None:
        turn = UserTurn()
        turn.typed(NOW)
        turn.transcribed(NOW + 1)
        assert (turn.ended_at, turn.transcribed_at) == (NOW, None)

    def test_one_that_was_answered_is_over_with_the_model_s_turn(self) -> None:
        turn = UserTurn()
        turn.released(NOW)
        turn.finish(guessed=False)
        assert turn.ended_at == NOW, "that was the turn before"
        turn.answer()
        turn.finish(guessed=False)
        assert turn.ended_at is None

    @pytest.mark.parametrize(("typed", "kept"), [(True, NOW), (False, None)])
    def test_where_turns_are_guessed_what_came_meanwhile_is_doubtful(
        self, typed: bool, kept: float | None
    ) -> None:
        turn = UserTurn()
        if typed:
            turn.typed(NOW)
        else:
            turn.transcribed(NOW)
        turn.finish(guessed=True)
        assert (turn.ended_at, turn.transcribed_at) == (kept, None)


def timing(effects: list[Effect]) -> ResponseTiming:
    told: ResponseTiming = one(effects, ResponseTiming)
    return told


def talking() -> Session:
    """Return a session whose client wants timing, with an open stream and an open conversation."""
    session = ready()
    session.receive(TIMING, NOW)
    session.receive(start(), NOW)
    session.receive(chunk(0), NOW)
    session.opened(NOW)
    return session


class TestSession:
    def test_a_spoken_turn_whose_end_the_engine_tells(self) -> None:
        session = talking()
        session.upstream(live.VoiceActivity(True, 0.0), NOW + 0.2)
        for number in range(1, 8):
            session.receive(chunk(number), NOW + number / 10)
        assert session.next_input(NOW + 0.7)
        session.upstream(live.VoiceActivity(False, 350.0), NOW + 0.8)
        session.upstream(live.Heard("hel", whole="hel"), NOW + 0.85)
        session.upstream(live.Heard("", whole="hello", final=True), NOW + 0.9)
        session.upstream(live.Said("Hi."), NOW + 1.25)
        effects = speak(session, NOW + 1.5)
        assert kinds(effects)[:3] == ["response_started", "response_timing", "transcript_update"]
        assert timing(effects) == ResponseTiming(
            timestamp=ms(NOW + 1.5),
            response_id="r1",
            speech_ended_at=ms(NOW + 0.3),
            transcribed_at=ms(NOW + 0.9),
            model_at=ms(NOW + 1.25),
            audio_at=ms(NOW + 1.5),
        )

    def test_a_client_that_has_not_asked_is_told_nothing(self) -> None:
        session = talking()
        session.receive(hello(features=("playback_mark",)), NOW)
        assert "response_timing" not in kinds(speak(session))
        base = ready(is_extended=False)
        base.receive(command(), NOW)
        base.opened(NOW)
        assert kinds(speak(base)) == ["audio_response"]

    def test_a_typed_turn(self) -> None:
        session = talking()
        session.receive(command(), NOW + 1)
        told = timing(speak(session, NOW + 2))
        assert (told.speech_ended_at, told.transcribed_at) == (ms(NOW + 1), UNSET)
        assert (told.model_at, told.audio_at) == (ms(NOW + 2), ms(NOW + 2))

    @pytest.mark.parametrize("is_made_up", [True, False])
    def test_a_turn_by_the_talk_button_ends_with_its_release(self, is_made_up: bool) -> None:
        session = talking()
        session.receive(ActivityStart(), NOW)
        session.opened(NOW)
        session.receive(chunk(1), NOW + 1)
        session.receive(END if is_made_up else ActivityEnd(), NOW + 2)
        session.upstream(live.Heard("hello"), NOW + 2.5)
        told = timing(speak(session, NOW + 3))
        assert (told.speech_ended_at, told.transcribed_at) == (ms(NOW + 2), ms(NOW + 2.5))

    def test_the_end_of_the_stream_ends_what_is_said_in_it(self) -> None:
        session = talking()
        session.receive(END, NOW + 1)
        session.upstream(live.Heard("hello"), NOW + 2)
        session.upstream(live.Heard(" there"), NOW + 2.5)
        told = timing(speak(session, NOW + 3))
        assert (told.speech_ended_at, told.transcribed_at) == (ms(NOW + 1), ms(NOW + 2.5))
        session.upstream(live.TurnEnded(), NOW + 4)
        session.receive(start(), NOW + 5)
        session.receive(chunk(0), NOW + 5)
        session.upstream(live.Heard("more"), NOW + 6)
        assert timing(session.expire(NOW + 7) + speak(session, NOW + 7)).speech_ended_at is UNSET

    def test_where_nobody_tells_the_end_of_speech_is_not_made_up(self) -> None:
        session = talking()
        session.upstream(live.Heard("hello"), NOW + 1)
        told = timing(speak(session, NOW + 2))
        assert (told.speech_ended_at, told.transcribed_at) == (UNSET, ms(NOW + 1))

    def test_an_engine_that_does_not_say_where_leaves_it_open(self) -> None:
        session = talking()
        session.upstream(live.VoiceActivity(True), NOW)
        session.upstream(live.VoiceActivity(False), NOW + 1)
        assert timing(speak(session, NOW + 2)).speech_ended_at is UNSET

    def test_what_the_model_says_unasked_answers_no_turn(self) -> None:
        session = talking()
        session.receive(command(), NOW + 1)
        speak(session, NOW + 2)
        session.upstream(live.TurnEnded(), NOW + 2)
        session.expire(NOW + 3)
        told = timing(speak(session, NOW + 9))
        assert (told.speech_ended_at, told.model_at) == (UNSET, ms(NOW + 9))

    def test_an_answer_after_a_call_is_of_the_same_turn(self) -> None:
        session = talking()
        session.receive(hello(features=("response_timing", "tools")), NOW)
        session.receive(command(), NOW + 1)
        speak(session, NOW + 2)
        session.upstream(live.Called("c", "light", {}), NOW + 2)
        session.upstream(live.TurnEnded(), NOW + 2)
        session.expire(NOW + 3)
        told = timing(speak(session, NOW + 9))
        assert (told.speech_ended_at, told.model_at) == (ms(NOW + 1), ms(NOW + 9))

    def test_a_turn_that_interrupts_is_not_over_with_what_it_interrupts(self) -> None:
        session = talking()
        session.receive(command(), NOW + 1)
        speak(session, NOW + 2)
        session.receive(command(), NOW + 3)
        session.upstream(live.Interrupted(), NOW + 3.1)
        assert timing(speak(session, NOW + 4)).speech_ended_at == ms(NOW + 3)

    def test_a_response_of_text_alone_has_none(self) -> None:
        session = talking()
        session.upstream(live.Said("Only words."), NOW)
        effects = speak(session, pcm=b"") + session.upstream(live.TurnEnded(), NOW)
        assert "response_started" in kinds(effects)
        assert "response_timing" not in kinds(effects)

    def test_an_encoded_response_sounded_when_the_model_s_sound_came(self) -> None:
        session = talking()
        session.receive(hello(output_formats=("audio/flac",)), NOW)
        (effect,) = speak(session, NOW + 1)
        assert isinstance(effect, Encode)
        told = timing(session.encoded(effect.piece, b"fLaC", NOW + 2))
        assert (told.audio_at, told.timestamp) == (ms(NOW + 1), ms(NOW + 2))

    def test_chunks_without_sound_have_no_time(self) -> None:
        session = talking()
        session.receive(chunk(1, b""), NOW + 1)
        session.upstream(live.VoiceActivity(True, 0.0), NOW + 2)
        session.upstream(live.VoiceActivity(False, 100.0), NOW + 2)
        assert timing(speak(session, NOW + 2)).speech_ended_at == ms(NOW)


class TestResume:
    def resumable(self) -> Session:
        session = Session("s", SETUP, Limits(), NOW, extended=True)
        session.receive(messages.Auth(timestamp=0, token="t"), NOW)
        session.authenticated("alice", NOW + 3600, NOW, "r1")
        session.receive(TIMING, NOW)
        session.receive(command(), NOW + 1)
        session.opened(NOW + 1)
        return session

    def test_it_is_among_what_a_client_missed(self) -> None:
        session = self.resumable()
        speak(session, NOW + 2)
        session.disconnected(NOW + 2)
        told = replayed(session.attach(2, NOW + 60, "r2", digest("r1"), NOW + 5))
        assert (told.speech_ended_at, told.timestamp) == (ms(NOW + 1), ms(NOW + 2))

    def test_another_node_tells_what_this_one_knew(self) -> None:
        session = self.resumable()
        session.disconnected(NOW + 2)
        speak(session, NOW + 2, PIECE * 3)
        other = self.moved(session)
        told = replayed(other.attach(2, NOW + 60, "r2", digest("r1"), NOW + 4))
        assert (told.speech_ended_at, told.audio_at) == (ms(NOW + 1), ms(NOW + 2))

    def test_another_node_goes_on_telling(self) -> None:
        session = self.resumable()
        other = self.moved(session)
        other.attach(2, NOW + 60, "r2", digest("r1"), NOW + 4)
        other.opened(NOW + 5)
        told = timing(speak(other, NOW + 9))
        assert (told.speech_ended_at, told.audio_at) == (ms(NOW + 1), ms(NOW + 9))

    def moved(self, session: Session) -> Session:
        logs = [part.entries(part.first) for part in session.logs]
        other = Session("s", SETUP, Limits(), NOW + 3, extended=True)
        other.restore(session.dump(), logs, digest("r1"), NOW + 3)
        return other


def replayed(effects: list[Effect]) -> ResponseTiming:
    """Return what is told among the messages that are sent again."""
    sent = [extension.decode_server(effect.frame.data) for effect in effects if isinstance(effect, Again)]
    (told,) = [message for message in sent if isinstance(message, ResponseTiming)]
    return told
