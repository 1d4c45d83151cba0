"""The session machine: what each message and event does, in every state, with time passed in."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from antiphon import live
from antiphon.errors import DISPOSITIONS, ErrorCode, GatewayError
from antiphon.messages import (
    AudioChunk,
    AudioResponse,
    AudioStreamEnd,
    AudioStreamStart,
    Auth,
    AuthSuccess,
    Command,
    Error,
    RecognitionResult,
    StreamConfig,
)
from antiphon.session import LEGAL, Limits, Session, State
from antiphon.session.effects import Close, Effect, Open, Send, Verify
from antiphon.session.uplink import IN_FLIGHT_S
from tries import tries

NOW = 1_000_000.0
SETUP = live.Setup("en-US", "Be brief.", (live.Function("next", "Go on."), live.Function("pause", "Wait.")))


def auth(token: str = "t") -> Auth:
    return Auth(timestamp=0, token=token)


def start(rate_hz: float = 16_000, language: str = "en-GB") -> AudioStreamStart:
    return AudioStreamStart(
        timestamp=0, config=StreamConfig(sample_rate=rate_hz, format="LINEAR16", language=language)
    )


def chunk(sequence: int, data: bytes = bytes(3200)) -> AudioChunk:
    return AudioChunk(timestamp=0, sequence=sequence, data=data)


END = AudioStreamEnd(timestamp=0, duration=0)


def new(limits: Limits | None = None) -> Session:
    return Session("the-session", SETUP, limits or Limits(), NOW)


def ready(limits: Limits | None = None) -> Session:
    session = new(limits)
    session.receive(auth(), NOW)
    session.authenticated("alice", NOW + 3600, NOW)
    return session


def talking(limits: Limits | None = None) -> Session:
    session = ready(limits)
    session.receive(start(), NOW)
    session.opened(NOW)
    return session


def test_small_chunks_are_gathered_where_that_is_wanted() -> None:
    session = talking(Limits(gather_s=0.04))
    assert session.gathers_until == float("inf")
    session.receive(chunk(1, bytes(640)), NOW)
    assert session.next_input(NOW) is None
    assert session.gathers_until == NOW + 0.04
    assert session.next_input(session.gathers_until) == live.Audio(bytes(640))


def sent(effects: list[Effect]) -> list[Any]:
    return [effect.message for effect in effects if isinstance(effect, Send)]


def codes(effects: list[Effect]) -> list[str]:
    return [message.code for message in sent(effects) if isinstance(message, Error)]


def results(effects: list[Effect]) -> list[tuple[str, bool]]:
    return [(m.transcript, m.is_final) for m in sent(effects) if isinstance(m, RecognitionResult)]


def taken(session: Session, now: float = NOW) -> list[live.LiveInput]:
    items = []
    while item := session.next_input(now):
        items.append(item)
    return items


class TestAuthentication:
    def test_a_good_token_begins_the_session(self) -> None:
        session = new()
        assert session.receive(auth("secret"), NOW) == [Verify("secret")]
        states = [session.state]
        (message,) = sent(session.authenticated("alice", NOW + 60, NOW + 1))
        assert message == AuthSuccess(
            timestamp=int((NOW + 1) * 1000), session_id="the-session", user_id="alice"
        )
        assert [*states, session.state] == [State.AUTHENTICATING, State.READY]

    def test_anything_else_first_is_refused_and_the_session_lives_on(self) -> None:
        for message in (start(), chunk(0), END, Command(timestamp=0, command="next")):
            session = new()
            assert codes(session.receive(message, NOW)) == ["AUTH_REQUIRED"]
            assert session.receive(auth(), NOW) == [Verify("t")]

    def test_a_bad_token_closes(self) -> None:
        session = new()
        session.receive(auth(), NOW)
        effects = session.refused(GatewayError(ErrorCode.AUTH_TOKEN_INVALID), NOW)
        assert codes(effects) == ["AUTH_TOKEN_INVALID"]
        assert effects[-1] == Close(4401, "AUTH_TOKEN_INVALID")

    @pytest.mark.parametrize("verifying", [False, True])
    def test_no_token_in_time_closes(self, verifying: bool) -> None:
        session = new()
        if verifying:
            session.receive(auth(), NOW)
        assert session.deadline() == NOW + 10
        assert session.expire(NOW + 9.9) == []
        assert codes(session.expire(NOW + 10)) == ["AUTH_TIMEOUT"]
        assert session.state is State.CLOSED

    def test_renewal_moves_the_expiry(self) -> None:
        session = ready()
        assert session.receive(auth("fresh"), NOW) == [Verify("fresh")]
        assert session.state is State.READY
        effects = session.authenticated("alice", NOW + 7200, NOW)
        assert isinstance(sent(effects)[0], AuthSuccess)
        session.receive(END, NOW + 3590)
        assert session.expire(NOW + 3601) == []

    def test_expiry_closes_with_4440(self) -> None:
        session = ready(Limits(idle_timeout_s=1e6))
        effects = session.expire(NOW + 3600)
        assert codes(effects) == ["AUTH_TOKEN_EXPIRED"]
        assert effects[-1] == Close(4440, "AUTH_TOKEN_EXPIRED")

    def test_renewal_for_another_user_closes(self) -> None:
        session = ready()
        effects = session.authenticated("mallory", NOW + 60, NOW)
        assert codes(effects) == ["AUTH_USER_CHANGED"]
        assert effects[-1] == Close(4403, "AUTH_USER_CHANGED")

    def test_a_bad_renewal_leaves_the_token_in_force(self) -> None:
        session = ready()
        effects = session.refused(GatewayError(ErrorCode.AUTH_TOKEN_INVALID), NOW)
        assert codes(effects) == ["AUTH_RENEWAL_REFUSED"]
        assert session.state is State.READY

    def test_one_token_is_verified_at_a_time(self) -> None:
        session = ready()
        session.receive(auth("one"), NOW)
        assert codes(session.receive(auth("two"), NOW)) == ["AUTH_RENEWAL_REFUSED"]
        session.authenticated("alice", NOW + 60, NOW)
        assert session.receive(auth("three"), NOW) == [Verify("three")]

    def test_a_verdict_for_a_closed_session_is_nothing(self) -> None:
        session = new()
        session.receive(auth(), NOW)
        session.disconnected(NOW)
        assert session.authenticated("alice", NOW + 60, NOW) == []
        assert session.refused(GatewayError(ErrorCode.AUTH_TOKEN_INVALID), NOW) == []


class TestAudio:
    def test_the_first_stream_opens_the_conversation_in_its_language(self) -> None:
        session = ready()
        (effect,) = session.receive(start(language="de-DE"), NOW)
        assert effect == Open(live.Setup("de-DE", SETUP.instruction, SETUP.functions))
        assert session.state is State.OPENING

    def test_audio_waits_for_the_model_and_then_goes_in_order(self) -> None:
        session = ready()
        session.receive(start(), NOW)
        session.receive(chunk(0, b"\1\0"), NOW)
        session.receive(chunk(1, b"\2\0"), NOW)
        session.receive(END, NOW)
        assert session.next_input(NOW) is None
        session.opened(NOW)
        assert taken(session) == [live.Audio(b"\1\0"), live.Audio(b"\2\0"), live.AudioEnd()]

    def test_a_second_stream_does_not_open_another_conversation(self) -> None:
        session = talking()
        session.receive(END, NOW)
        assert session.receive(start(), NOW) == []
        assert session.state is State.LIVE

    def test_a_second_start_is_refused_and_the_stream_goes_on(self) -> None:
        session = talking()
        session.receive(chunk(0), NOW)
        assert codes(session.receive(start(8000), NOW)) == ["AUDIO_STREAM_ACTIVE"]
        assert session.receive(chunk(1), NOW) == []
        assert taken(session) == [live.Audio(bytes(3200))] * 2

    def test_audio_without_a_stream(self) -> None:
        session = ready()
        assert codes(session.receive(chunk(0), NOW)) == ["AUDIO_STREAM_INACTIVE"]
        assert codes(session.receive(END, NOW)) == ["AUDIO_STREAM_INACTIVE"]

    def test_a_gap_is_told_and_the_audio_behind_it_is_kept(self) -> None:
        session = talking()
        session.receive(chunk(5), NOW)
        (error,) = sent(session.receive(chunk(8), NOW))
        assert error.code == "AUDIO_SEQUENCE_GAP"
        assert (error.details.expected, error.details.received, error.details.fatal) == (6, 8, False)
        assert len(taken(session)) == 2

    def test_unsupported_audio_ends_the_stream(self, unsupported_flac: bytes) -> None:
        session = ready()
        config = StreamConfig(sample_rate=16_000, format="FLAC", language="en-US")
        session.receive(AudioStreamStart(timestamp=0, config=config), NOW)
        effects = session.receive(chunk(0, unsupported_flac), NOW)
        assert "AUDIO_UNSUPPORTED" in codes(effects)
        assert codes(session.receive(chunk(1), NOW)) == ["AUDIO_STREAM_INACTIVE"]
        assert session.receive(start(), NOW) == []

    def test_long_audio_goes_in_pieces_that_a_server_takes(self) -> None:
        session = talking()
        speech = bytes(range(250)) * 600
        session.receive(chunk(0, speech), NOW)
        items: list[live.LiveInput] = []
        while more := taken(session):
            items += more
            session.arrived(session.given, NOW)
        assert all(isinstance(item, live.Audio) and len(item.pcm) <= 64_000 for item in items)
        assert b"".join(item.pcm for item in items if isinstance(item, live.Audio)) == speech

    def test_no_more_is_given_than_may_be_on_its_way_until_some_has_arrived(self) -> None:
        session = talking()
        for sequence in range(20):
            session.receive(chunk(sequence), NOW)
        at_once = round(IN_FLIGHT_S / 0.1)
        assert len(taken(session)) == at_once
        behind = [session.behind]
        session.arrived(4, NOW)
        assert len(taken(session)) == 4
        session.arrived(session.given, NOW)
        assert len(taken(session)) == at_once
        session.arrived(session.given, NOW)
        assert len(taken(session)) == 20 - 4 - 2 * at_once
        assert [*behind, session.behind] == [True, False]

    def test_it_is_on_its_way_until_it_has_arrived(self) -> None:
        session = talking()
        session.receive(chunk(0), NOW)
        on_the_way = [session.in_flight]
        assert len(taken(session)) == 1
        on_the_way.append(session.in_flight)
        session.arrived(session.given, NOW)
        assert [*on_the_way, session.in_flight] == [False, True, False]

    def test_a_model_that_takes_nothing_is_given_up(self) -> None:
        session = ready()
        session.receive(start(), NOW)
        for second in range(11):
            assert not session.client_full or second >= 10
            session.receive(chunk(second, bytes(32_000)), NOW + second)
        assert session.client_full
        assert session.deadline() == NOW + 10
        assert codes(session.expire(NOW + 10)) == ["UPSTREAM_SLOW"]
        assert session.state is State.CLOSED

    def test_opening_grants_the_wait_anew(self) -> None:
        session = ready()
        session.receive(start(), NOW)
        session.receive(chunk(0), NOW)
        session.opened(NOW + 9)
        assert session.expire(NOW + 18) == []
        assert codes(session.expire(NOW + 19)) == ["UPSTREAM_SLOW"]

    def test_opened_twice_or_too_late_is_nothing(self) -> None:
        session = talking()
        session.disconnected(NOW)
        assert session.opened(NOW) == []
        assert session.state is State.CLOSED


class TestTypedTurns:
    def test_a_command_opens_the_conversation_and_goes_to_the_model(self) -> None:
        session = ready()
        (effect,) = session.receive(Command(timestamp=0, command="next", context={"item": 4}), NOW)
        assert isinstance(effect, Open)
        session.opened(NOW)
        assert taken(session) == [live.Text("next", {"item": 4})]

    def test_without_context(self) -> None:
        session = talking()
        assert session.receive(Command(timestamp=0, command="next"), NOW) == []
        assert taken(session) == [live.Text("next")]

    def test_a_command_that_the_model_recognises_names_what_was_typed(self) -> None:
        session = talking()
        session.receive(Command(timestamp=0, command="go on please"), NOW)
        (result,) = sent(session.upstream(live.Called("1", "next", {}), NOW))
        assert (result.transcript, result.command, result.is_final) == ("go on please", "next", True)

    def test_typing_does_not_touch_an_utterance_that_is_being_spoken(self) -> None:
        session = talking()
        session.upstream(live.Heard("hello"), NOW)
        session.receive(Command(timestamp=0, command="next"), NOW)
        assert results(session.upstream(live.TurnEnded(), NOW)) == [("hello", True)]


class TestTranscription:
    def test_deltas_add_up(self) -> None:
        session = talking()
        assert results(session.upstream(live.Heard(" go"), NOW)) == [("go", False)]
        assert results(session.upstream(live.Heard(" forward"), NOW)) == [("go forward", False)]

    @pytest.mark.parametrize(
        "event",
        [live.Said("Yes."), live.Spoke(bytes(480)), live.Generated(), live.TurnEnded(), live.Interrupted()],
    )
    def test_final_at_the_first_output_or_the_end_of_a_turn(self, event: live.LiveEvent) -> None:
        session = talking()
        session.upstream(live.Heard("go"), NOW)
        assert results(session.upstream(event, NOW)) == [("go", True)]
        assert results(session.upstream(live.TurnEnded(), NOW)) == []

    def test_later_output_of_the_same_turn_cuts_no_new_utterance(self) -> None:
        session = talking()
        session.upstream(live.Spoke(bytes(480)), NOW)
        session.upstream(live.Heard("uh"), NOW)
        assert results(session.upstream(live.Spoke(bytes(480)), NOW)) == []
        assert results(session.upstream(live.Heard(" huh"), NOW)) == [("uh huh", False)]
        assert results(session.upstream(live.TurnEnded(), NOW)) == [("uh huh", True)]

    def test_final_after_a_while_when_no_model_says_so(self) -> None:
        session = talking()
        session.upstream(live.Heard("go"), NOW)
        assert session.deadline() == NOW + 2
        assert results(session.expire(NOW + 1.9)) == []
        assert results(session.expire(NOW + 2)) == [("go", True)]
        assert results(session.upstream(live.Heard("on"), NOW + 3)) == [("on", False)]

    def test_an_engine_that_marks_finals_is_not_cut_by_time(self) -> None:
        session = talking()
        first = live.Heard("go", 0.5, False, "go")
        assert results(session.upstream(first, NOW)) == [("go", False)]
        assert session.expire(NOW + 60) == []
        (result,) = sent(session.upstream(live.Heard("", 0.9, True, "Oh, forward."), NOW))
        assert (result.transcript, result.confidence, result.is_final) == ("Oh, forward.", 0.9, True)
        assert session.upstream(live.TurnEnded(), NOW) == []

    def test_confidence_is_never_made_up(self) -> None:
        session = talking()
        (result,) = sent(session.upstream(live.Heard("go"), NOW))
        assert result.confidence == 0.0

    def test_nothing_heard_is_no_result(self) -> None:
        session = talking()
        assert session.upstream(live.Heard(" "), NOW) == []
        assert session.upstream(live.Heard("", 0.0, True, ""), NOW) == []


class TestCommands:
    def test_on_the_final_result(self) -> None:
        session = talking()
        session.upstream(live.Heard("next please"), NOW)
        (result,) = sent(session.upstream(live.Called("7", "next", {}), NOW))
        assert (result.transcript, result.command, result.is_final) == ("next please", "next", True)
        assert taken(session)[-1] == live.ToolResult("7", "next", {"output": "done"})

    def test_sent_once_more_when_the_final_is_out(self) -> None:
        session = talking()
        session.upstream(live.Heard("next", 0.8, True), NOW)
        (result,) = sent(session.upstream(live.Called("7", "next", {}), NOW))
        assert (result.transcript, result.command, result.confidence) == ("next", "next", 0.8)

    def test_a_function_nobody_configured(self) -> None:
        session = talking()
        session.upstream(live.Heard("explode"), NOW)
        (result,) = sent(session.upstream(live.Called("7", "explode", {}), NOW))
        assert (result.transcript, result.is_final) == ("explode", True)
        assert not isinstance(result.command, str)
        (item,) = taken(session)
        assert isinstance(item, live.ToolResult)
        assert "error" in item.result


class TestAnswer:
    def test_paced(self) -> None:
        session = talking()
        first = sent(session.upstream(live.Spoke(bytes(48_000)), NOW))
        assert len(first) == 2
        assert isinstance(first[0], AudioResponse)
        assert (first[0].format, first[0].duration, first[0].language) == (
            "audio/pcm;rate=24000",
            100,
            "en-GB",
        )
        deadline = session.deadline()
        assert deadline is not None
        assert NOW < deadline < NOW + 0.1
        assert len(sent(session.expire(deadline))) == 1

    def test_text_comes_with_it(self) -> None:
        session = talking()
        session.upstream(live.Said("Hello."), NOW)
        (piece,) = sent(session.upstream(live.Spoke(bytes(480)), NOW))
        assert piece.text == "Hello."

    def test_text_alone_comes_when_the_turn_ends(self) -> None:
        session = talking()
        session.upstream(live.Said("Hello."), NOW)
        (piece,) = sent(session.upstream(live.TurnEnded(), NOW))
        assert (piece.text, piece.data, piece.duration) == ("Hello.", b"", 0)

    def test_interrupted_is_silent_at_once(self) -> None:
        session = talking()
        session.upstream(live.Spoke(bytes(480_000)), NOW)
        session.upstream(live.Interrupted(), NOW)
        assert sent(session.expire(NOW + 5)) == []

    @pytest.mark.parametrize("by_voice", [True, False])
    def test_an_answer_to_something_newer_replaces_it(self, by_voice: bool) -> None:
        session = talking()
        session.upstream(live.Spoke(b"\1\1" * 240_000), NOW)
        session.upstream(live.TurnEnded(), NOW)
        if by_voice:
            session.upstream(live.Heard("stop"), NOW)
        else:
            session.receive(Command(timestamp=0, command="stop"), NOW)
        pieces = sent(session.upstream(live.Spoke(b"\2\2" * 2400), NOW)) + sent(session.expire(NOW + 1))
        assert {piece.data[:2] for piece in pieces if isinstance(piece, AudioResponse)} == {b"\2\2"}

    def test_a_model_far_ahead_is_not_read(self) -> None:
        session = talking(Limits(answer_s=10))
        session.upstream(live.Spoke(bytes(48_000 * 10)), NOW)
        assert not session.answer_full
        session.upstream(live.Spoke(bytes(48_000)), NOW)
        assert session.answer_full

    @pytest.mark.parametrize(
        "event", [live.Cancelled(("1",)), live.GoingAway(50), live.Metered(1, 2, 3), live.HandleChanged(None)]
    )
    def test_what_concerns_no_base_client(self, event: live.LiveEvent) -> None:
        assert talking().upstream(event, NOW) == []

    def test_the_last_good_handle_is_kept(self) -> None:
        session = talking()
        session.upstream(live.HandleChanged("h1"), NOW)
        session.upstream(live.HandleChanged(None), NOW)
        assert session.handle == "h1"


class TestEnds:
    def test_idle(self) -> None:
        session = ready()
        session.receive(END, NOW + 100)
        assert session.expire(NOW + 300) == []
        effects = session.expire(NOW + 400)
        assert codes(effects) == ["SESSION_IDLE"]
        assert effects[-1] == Close(4408, "SESSION_IDLE")

    def test_a_long_answer_is_not_idleness(self) -> None:
        session = talking(Limits(idle_timeout_s=1))
        session.upstream(live.Spoke(bytes(48_000 * 3)), NOW)
        now = NOW
        while now < NOW + 2.5:
            assert codes(session.expire(now)) == []
            now += 0.05

    def test_longest_session(self) -> None:
        session = ready(Limits(max_duration_s=60, idle_timeout_s=1000))
        effects = session.expire(NOW + 60)
        assert effects[-1] == Close(4441, "SESSION_MAX_DURATION")

    def test_repeated_nonsense(self) -> None:
        session = ready(Limits(protocol_errors_a_minute=3))
        error = GatewayError(ErrorCode.PROTOCOL_BAD_JSON)
        for _ in range(3):
            assert codes(session.reject(error, NOW)) == ["PROTOCOL_BAD_JSON"]
        assert codes(session.reject(error, NOW + 61)) == ["PROTOCOL_BAD_JSON"]
        effects = session.reject(error, NOW + 59)
        assert codes(effects) == ["PROTOCOL_TOO_MANY_ERRORS"]
        assert effects[-1] == Close(4400, "PROTOCOL_TOO_MANY_ERRORS")

    def test_the_client_leaves(self) -> None:
        session = talking()
        assert session.disconnected(NOW) == [Close(1000, "")]
        assert session.disconnected(NOW) == []
        assert session.deadline() is None

    def test_nothing_happens_after_the_end(self) -> None:
        session = talking()
        session.failed(GatewayError(ErrorCode.UPSTREAM_LOST), NOW)
        assert session.receive(chunk(0), NOW) == []
        assert session.upstream(live.Heard("x"), NOW) == []
        assert session.expire(NOW + 1e6) == []
        assert session.failed(GatewayError(ErrorCode.SERVER_INTERNAL), NOW) == []
        assert session.reject(GatewayError(ErrorCode.PROTOCOL_BAD_JSON), NOW) == []
        assert session.next_input(NOW) is None

    def test_what_may_be_said_when_is_one_table(self) -> None:
        assert set(LEGAL) == set(State)


@pytest.fixture
def unsupported_flac() -> bytes:
    """A FLAC stream with three channels."""
    file = io.BytesIO()
    with av.open(file, "w", format="flac") as container:
        stream = container.add_stream("flac", rate=16_000, layout="2.1")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 3 * 8192), np.int16), "s16", "2.1")
        frame.sample_rate = 16_000
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return file.getvalue()


texts = st.sampled_from(["", " ", "go", " on", "naïve"])
EVENTS = st.one_of(
    st.builds(live.Heard, texts),
    st.builds(live.Heard, texts, st.floats(0, 1), st.booleans(), texts),
    st.builds(live.Said, texts),
    st.builds(live.Spoke, st.binary(max_size=20_000), st.sampled_from([16_000, 24_000])),
    st.builds(live.Called, st.just("1"), st.sampled_from(["next", "pause", "unknown"]), st.just({})),
    st.sampled_from(
        [
            live.Generated(),
            live.TurnEnded(),
            live.Interrupted(),
            live.Cancelled(("1",)),
            live.Metered(1, 1, 2),
        ]
    ),
)


class Conversation(RuleBasedStateMachine):
    """Any client, any model, any timing."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.session = new(Limits(protocol_errors_a_minute=20))
        self.effects: list[Effect] = []
        self.expected = b""
        self.given = b""
        self.sequence = 0
        self.streaming = False
        self.heard_until = 0.0
        self.ended = False

    def do(self, effects: list[Effect]) -> None:
        assert not (self.ended and effects), "nothing follows the end"
        for effect in effects:
            match effect:
                case Send(message=AudioResponse() as piece):
                    self.heard_until = max(self.heard_until, self.now) + piece.duration / 1000
                    assert self.heard_until - self.now <= 0.25 + 1e-6
                case Send(message=Error() as error):
                    fatal = DISPOSITIONS[ErrorCode(error.code)].close is not None
                    assert fatal == isinstance(effects[-1], Close)
                case Close():
                    assert effect is effects[-1]
                    assert self.session.state is State.CLOSED
                    self.ended = True
                case _:
                    pass

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.1, 1.0, 3.0, 400.0]))
    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        for _ in range(10_000):
            deadline = self.session.deadline()
            if deadline is None or deadline > until:
                break
            self.now = max(self.now, deadline)
            self.do(self.session.expire(self.now))
        else:
            raise AssertionError("the deadline does not move")
        self.now = until

    @rule()
    def authenticate(self) -> None:
        self.do(self.session.receive(auth(), self.now))

    @precondition(lambda self: self.session.state is State.AUTHENTICATING)
    @rule(good=st.booleans())
    def verdict(self, good: bool) -> None:
        if good:
            self.do(self.session.authenticated("alice", self.now + 3600, self.now))
        else:
            self.do(self.session.refused(GatewayError(ErrorCode.AUTH_UNAVAILABLE), self.now))

    @rule()
    def begin_stream(self) -> None:
        effects = self.session.receive(start(), self.now)
        if not codes(effects) and not self.ended and self.session.state is not State.CLOSED:
            self.streaming, self.sequence = True, 0
        self.do(effects)

    @rule(size=st.integers(0, 5000))
    def speak(self, size: int) -> None:
        data = bytes((self.sequence + i) % 256 for i in range(size * 2))
        if self.streaming and self.session.state is not State.CLOSED:
            self.expected += data
        self.do(self.session.receive(chunk(self.sequence, data), self.now))
        self.sequence += 1

    @rule()
    def end_stream(self) -> None:
        self.do(self.session.receive(END, self.now))
        self.streaming = False

    @rule()
    def type_something(self) -> None:
        self.do(self.session.receive(Command(timestamp=0, command="next"), self.now))

    @rule()
    def talk_nonsense(self) -> None:
        self.do(self.session.reject(GatewayError(ErrorCode.PROTOCOL_BAD_JSON), self.now))

    @precondition(lambda self: self.session.state is State.OPENING)
    @rule()
    def open(self) -> None:
        self.do(self.session.opened(self.now))

    @precondition(lambda self: self.session.state is State.LIVE)
    @rule(event=EVENTS)
    def model(self, event: live.LiveEvent) -> None:
        self.do(self.session.upstream(event, self.now))

    @rule()
    def take(self) -> None:
        for item in taken(self.session, self.now):
            if isinstance(item, live.Audio):
                self.given += item.pcm

    @rule()
    def arrive(self) -> None:
        self.session.arrived(self.session.given, self.now)

    @rule()
    def leave(self) -> None:
        self.do(self.session.disconnected(self.now))

    @invariant()
    def audio_is_exact(self) -> None:
        assert self.expected.startswith(self.given)


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=tries(150), stateful_step_count=40, deadline=None)
