"""The session machine with a client of `antiphon.v1`: what the parts do together, and the time in between."""

from __future__ import annotations

from typing import Any, get_args

import msgspec
import pytest

from antiphon import extension, frames, live, messages
from antiphon.errors import ErrorCode, GatewayError
from antiphon.extension import (
    ActivityEnd,
    ActivityStart,
    ClientHello,
    Interrupt,
    Ping,
    PlaybackMark,
    Pong,
    Provoke,
)
from antiphon.session import Session, State
from antiphon.session.effects import Abort, Close, Effect, Encode, Open, Run, Send, SendBinary
from antiphon.session.negotiation import Limits
from antiphon.session.presence import digest
from antiphon.tools.call import ClientTool, PythonTool, Tool

NOW = 1_000_000.0
SECOND = b"\x01\x02" * 24_000
PIECE = SECOND[:4800]
CHUNK = b"\x01\x02" * 1600
TOOLS: dict[str, Tool] = {"light": ClientTool(30.0), "time": PythonTool("a.b:c", 10.0)}
SETUP = live.Setup("en-US", "", tuple(live.Function(name, "...") for name in ("light", "time", "next")))
END = messages.AudioStreamEnd(timestamp=0, duration=0)


def new(limits: Limits | None = None, *, is_extended: bool = True) -> Session:
    return Session("s", SETUP, limits or Limits(), NOW, extended=is_extended, tools=TOOLS)


def ready(limits: Limits | None = None, *, is_extended: bool = True) -> Session:
    session = new(limits, is_extended=is_extended)
    session.receive(messages.Auth(timestamp=0, token="t"), NOW)
    session.authenticated("alice", NOW + 3600, NOW)
    return session


def listening(limits: Limits | None = None, *, is_extended: bool = True) -> Session:
    """Return a session with an open stream and an open conversation."""
    session = ready(limits, is_extended=is_extended)
    session.receive(start(), NOW)
    session.receive(chunk(0), NOW)
    session.opened(NOW)
    taken(session)
    return session


def start(rate_hz: int = 16_000) -> extension.AudioStreamStart:
    config = extension.StreamConfig(sample_rate=rate_hz, format="LINEAR16", language="en-GB")
    return extension.AudioStreamStart(timestamp=0, config=config)


def chunk(sequence: int, data: bytes = CHUNK) -> messages.AudioChunk:
    return messages.AudioChunk(timestamp=0, sequence=sequence, data=data)


def command(text: str = "hi") -> messages.Command:
    return messages.Command(timestamp=0, command=text)


def hello(**wishes: Any) -> ClientHello:
    return ClientHello(**wishes)


def sent(effects: list[Effect]) -> list[Any]:
    return [effect.message for effect in effects if isinstance(effect, Send)]


def kinds(effects: list[Effect]) -> list[str]:
    """Return the types of what the client is sent, an error's code, and what else is done."""
    found = []
    for effect in effects:
        match effect:
            case Send(message=messages.Error(code=code)):
                found.append(code)
            case Send(message=message):
                found.append(msgspec.to_builtins(message)["type"])
            case _:
                found.append(type(effect).__name__)
    return found


def taken(session: Session, now: float = NOW) -> list[str]:
    found = []
    while item := session.next_input(now):
        found.append(type(item).__name__)
    return found


def one(effects: list[Effect], kind: type) -> Any:
    (message,) = [message for message in sent(effects) if isinstance(message, kind)]
    return message


def speak(session: Session, now: float = NOW, pcm: bytes = PIECE) -> list[Effect]:
    return session.upstream(live.Spoke(pcm), now)


class TestNegotiation:
    def test_every_token_is_answered_with_what_there_is(self) -> None:
        session = new(Limits(idle_timeout_s=60, uplink_s=5))
        session.receive(messages.Auth(timestamp=0, token="t"), NOW)
        effects = session.authenticated("alice", NOW + 60, NOW)
        assert kinds(effects) == ["auth_success", "session_info"]
        info = one(effects, extension.SessionInfo)
        assert (info.protocol, info.heartbeat_ms, info.token_expires_at) == (
            *("antiphon.v1", 15_000, int((NOW + 60) * 1000)),
        )
        assert (info.limits.idle_ms, info.limits.uplink_buffer_ms) == (60_000, 5000)
        assert kinds(session.authenticated("alice", NOW + 90, NOW)) == ["auth_success", "session_info"]

    def test_a_token_that_does_not_expire(self) -> None:
        session = new()
        session.receive(messages.Auth(timestamp=0, token="t"), NOW)
        info = one(session.authenticated("alice", float("inf"), NOW), extension.SessionInfo)
        assert info.token_expires_at is msgspec.UNSET

    def test_a_base_client_hears_nothing_of_it(self) -> None:
        session = new(is_extended=False)
        session.receive(messages.Auth(timestamp=0, token="t"), NOW)
        assert kinds(session.authenticated("alice", NOW + 60, NOW)) == ["auth_success"]

    def test_hello_may_come_before_the_token_and_anything_else_may_not(self) -> None:
        session = new()
        assert session.receive(hello(binary_audio=True), NOW) == []
        assert session.binary
        for message in (Ping(id=1), Pong(id=1), ActivityStart(), Interrupt(), command()):
            assert kinds(session.receive(message, NOW)) == ["AUTH_REQUIRED"]

    @pytest.mark.parametrize(("wanted_ms", "pieces"), [(None, 2), (0, 1), (1050, 10), (1e9, 40)])
    def test_the_buffer_is_kept_within_bounds(self, wanted_ms: float | None, pieces: int) -> None:
        session = listening(Limits(playback_s=4.01))
        if wanted_ms is not None:
            session.receive(hello(playback_buffer_ms=wanted_ms), NOW)
        effects = speak(session, pcm=SECOND * 5)
        assert kinds(effects).count("audio_response") == pieces

    def test_binary_audio_holds_from_the_next_response_on(self) -> None:
        session = listening()
        speak(session)
        session.receive(hello(binary_audio=True), NOW)
        assert kinds(speak(session)) == ["audio_response"]
        session.upstream(live.Interrupted(), NOW)
        effects = speak(session) + speak(session)
        assert kinds(effects) == ["response_started", "SendBinary", "SendBinary"]
        packed = [effect.data for effect in effects if isinstance(effect, SendBinary)]
        unpacked = [frames.unpack(data, frames.AUDIO_RESPONSE) for data in packed]
        assert [(frame.sequence, frame.audio) for frame in unpacked] == [(0, PIECE), (1, PIECE)]
        session.receive(hello(binary_audio=False), NOW)
        assert not session.binary

    def test_answers_are_encoded_as_the_client_wants_them(self) -> None:
        session = listening()
        session.receive(hello(output_formats=("audio/mp3", "audio/flac")), NOW)
        (effect,) = speak(session)
        assert isinstance(effect, Encode)
        effects = session.encoded(effect.piece, b"fLaC", NOW)
        assert kinds(effects) == ["response_started", "audio_response"]
        assert one(effects, messages.AudioResponse).data == b"fLaC"
        session.upstream(live.Interrupted(), NOW)
        session.receive(hello(output_formats=("audio/pcm",), features=("playback_mark",)), NOW)
        assert kinds(speak(session)) == ["response_started", "audio_response"]


class TestTime:
    def test_a_ping_is_answered_at_once_with_its_own_time(self) -> None:
        pong = one(ready().receive(Ping(id="x", timestamp=5), NOW), extension.ServerPong)
        assert (pong.id, pong.echo_time, pong.timestamp) == ("x", 5, NOW * 1000)

    def test_neither_ping_nor_pong_keeps_an_idle_session(self) -> None:
        session = ready(Limits(heartbeat_s=1e6))
        session.receive(hello(), NOW + 100)
        for second in range(100, 400, 10):
            session.receive(Ping(id=1), NOW + second)
            assert session.receive(Pong(id=1), NOW + second) == []
        assert kinds(session.expire(NOW + 369)) == []
        assert kinds(session.expire(NOW + 370)) == ["go_away"]
        assert kinds(session.expire(NOW + 399)) == []
        assert kinds(session.expire(NOW + 400)) == ["SESSION_IDLE", "Close"]

    def test_something_comes_every_heartbeat(self) -> None:
        session = ready(Limits(heartbeat_s=10))
        assert session.deadline() == NOW + 10
        assert session.expire(NOW + 9) == []
        first, second = session.expire(NOW + 10), session.expire(NOW + 20)
        assert [one(effects, extension.ServerPing).id for effects in (first, second)] == [1, 2]
        session.receive(Ping(id=1), NOW + 25)
        assert session.deadline() == NOW + 35

    def test_what_the_client_does_not_see_is_no_sign_of_life(self) -> None:
        session = listening(Limits(heartbeat_s=10))
        session.receive(hello(output_formats=("audio/wav",)), NOW)
        assert kinds(speak(session, NOW + 5)) == ["Encode"]
        assert session.deadline() == NOW + 10

    def test_a_base_client_is_never_pinged(self) -> None:
        session = ready(is_extended=False)
        assert session.deadline() == NOW + 300
        assert session.expire(NOW + 299) == []

    def test_a_client_that_does_not_read_is_cut(self) -> None:
        session = listening(Limits(unread_s=15, heartbeat_s=1e6))
        session.hold(True, NOW)
        assert session.deadline() == NOW + 15
        assert session.expire(NOW + 14.9) == []
        assert kinds(session.expire(NOW + 15)) == ["SESSION_CLIENT_SLOW", "Close"]

    def test_one_that_reads_again_is_not(self) -> None:
        session = listening(Limits(unread_s=15, heartbeat_s=1e6))
        session.hold(True, NOW)
        assert speak(session, NOW + 1) == []
        assert kinds(session.hold(False, NOW + 14)) == ["response_started", "audio_response"]
        assert "SESSION_CLIENT_SLOW" not in kinds(session.expire(NOW + 20))

    def test_a_base_client_is_not_held(self) -> None:
        session = listening(is_extended=False)
        assert session.hold(True, NOW) == []
        assert kinds(speak(session)) == ["audio_response"]


class TestInterruption:
    def test_comes_ahead_of_everything_else(self) -> None:
        session = listening()
        session.upstream(live.Said("One two."), NOW)
        speak(session, pcm=SECOND)
        session.upstream(live.Heard("stop"), NOW)
        effects = session.upstream(live.Interrupted(), NOW)
        assert kinds(effects)[:3] == ["audio_flush", "response_done", "transcript_update"]
        assert "recognition_result" in kinds(effects)

    @pytest.mark.parametrize("named", ["r1", None])
    def test_by_the_client_is_told_to_the_model(self, named: str | None) -> None:
        session = listening()
        speak(session, pcm=SECOND)
        message = Interrupt(response_id=named) if named else Interrupt()
        assert kinds(session.receive(message, NOW)) == ["audio_flush", "response_done"]
        assert taken(session) == ["Interrupt"]
        assert speak(session) == []

    def test_before_anything_is_heard_the_model_is_told_too(self) -> None:
        session = listening()
        session.upstream(live.Said("Well,"), NOW)
        assert session.receive(Interrupt(), NOW) == []
        assert taken(session) == ["Interrupt"]

    def test_of_an_answer_that_is_made_does_not_silence_the_next(self) -> None:
        session = listening()
        speak(session, pcm=SECOND)
        session.upstream(live.Generated(), NOW)
        session.receive(Interrupt(), NOW)
        assert kinds(speak(session)) == ["response_started", "audio_response"]

    def test_after_the_models_turn_there_is_nothing_to_tell(self) -> None:
        session = listening()
        speak(session, pcm=SECOND)
        session.upstream(live.TurnEnded(), NOW)
        assert kinds(session.receive(Interrupt(), NOW)) == ["audio_flush", "response_done", "usage"]
        assert taken(session) == []

    def test_of_what_is_over_is_left_at_that(self) -> None:
        session = listening()
        assert session.receive(Interrupt(), NOW) == []
        speak(session)
        session.upstream(live.TurnEnded(), NOW)
        session.expire(NOW + 1)
        assert session.receive(Interrupt(response_id="r1"), NOW + 1) == []
        assert taken(session) == []

    def test_of_what_never_was_is_refused(self) -> None:
        session = listening()
        for message in (Interrupt(response_id="r1"), PlaybackMark(response_id="r1", played_ms=0)):
            assert kinds(session.receive(message, NOW)) == ["PROTOCOL_UNKNOWN_RESPONSE"]

    def test_a_mark_settles_the_transcript(self) -> None:
        session = listening()
        session.receive(hello(features=("playback_mark",)), NOW)
        session.upstream(live.Said("One two."), NOW)
        speak(session, pcm=SECOND)
        assert kinds(session.upstream(live.Interrupted(), NOW)) == ["audio_flush", "response_done"]
        effects = session.receive(PlaybackMark(response_id="r1", played_ms=0), NOW)
        assert one(effects, extension.TranscriptUpdate).text == ""

    def test_the_next_turn_of_the_user_supersedes_when_it_is_answered(self) -> None:
        session = listening()
        session.receive(hello(playback_buffer_ms=5000), NOW)
        speak(session, pcm=SECOND * 3)
        session.upstream(live.TurnEnded(), NOW)
        session.receive(command(), NOW)
        effects = session.upstream(live.Called("c1", "next", {}), NOW)
        assert one(effects, extension.AudioFlush).reason == "superseded"
        assert kinds(effects)[0] == "audio_flush"

    def test_the_session_fails_with_its_response(self) -> None:
        session = listening()
        session.upstream(live.Said("One."), NOW)
        speak(session, pcm=SECOND)
        effects = session.failed(GatewayError(ErrorCode.UPSTREAM_LOST), NOW)
        assert kinds(effects) == ["transcript_update", "response_done", "UPSTREAM_LOST", "Close"]
        assert one(effects, extension.ResponseDone).status == "failed"

    def test_but_not_by_an_error_it_survives(self) -> None:
        session = listening()
        speak(session, pcm=SECOND)
        effects = session.failed(GatewayError(ErrorCode.PROTOCOL_BAD_JSON), NOW)
        assert kinds(effects) == ["PROTOCOL_BAD_JSON"]


class TestPushToTalk:
    def test_the_conversation_begins_with_it(self) -> None:
        session = ready()
        assert session.receive(start(), NOW) == []
        effects = session.receive(ActivityStart(), NOW)
        assert kinds(effects) == ["speech_started", "Open"]
        (opened,) = [effect for effect in effects if isinstance(effect, Open)]
        assert (opened.setup.push_to_talk, opened.setup.language) == (True, "en-GB")
        session.receive(chunk(0), NOW)
        assert kinds(session.receive(ActivityEnd(), NOW)) == ["speech_stopped"]
        session.opened(NOW)
        assert taken(session) == ["ActivityStart", "Audio", "ActivityEnd"]

    def test_one_that_listened_by_itself_is_opened_again(self) -> None:
        session = listening()
        session.upstream(live.HandleChanged("h"), NOW)
        session.upstream(live.Heard("uh"), NOW)
        session.upstream(live.Called("c1", "light", {}), NOW)
        session.receive(chunk(1), NOW)
        session.receive(command("kept"), NOW)
        effects = session.receive(ActivityStart(), NOW)
        assert kinds(effects)[-2:] == ["tool_cancelled", "Open"]
        (opened,) = [effect for effect in effects if isinstance(effect, Open)]
        assert (opened.setup.push_to_talk, opened.setup.handle) == (True, "h")
        assert session.state is State.OPENING
        session.opened(NOW)
        assert taken(session) == ["Text", "ActivityStart"], "what was said before is not meant for it"

    def test_the_second_press_opens_nothing(self) -> None:
        session = listening()
        session.receive(ActivityStart(), NOW)
        session.opened(NOW)
        session.receive(ActivityEnd(), NOW)
        assert kinds(session.receive(ActivityStart(), NOW)) == ["speech_started"]
        assert session.state is State.LIVE

    def test_pressing_interrupts_what_is_played(self) -> None:
        session = listening()
        speak(session, pcm=SECOND)
        effects = session.receive(ActivityStart(), NOW)
        assert kinds(effects)[:3] == ["audio_flush", "response_done", "speech_started"]
        assert one(effects, extension.AudioFlush).reason == "activity"

    def test_out_of_order_changes_nothing(self) -> None:
        session = listening()
        assert kinds(session.receive(ActivityEnd(), NOW)) == ["PROTOCOL_ACTIVITY_ORDER"]
        session.receive(ActivityStart(), NOW)
        session.opened(NOW)
        taken(session)
        assert kinds(session.receive(ActivityStart(), NOW)) == ["PROTOCOL_ACTIVITY_ORDER"]
        assert taken(session) == []
        assert session.state is State.LIVE

    def test_the_end_of_the_stream_releases(self) -> None:
        session = listening()
        session.receive(ActivityStart(), NOW)
        assert kinds(session.receive(END, NOW)) == ["speech_stopped", "audio_ack"]

    def test_a_client_that_is_gone_has_released(self) -> None:
        session = listening()
        session.receive(ActivityStart(), NOW)
        session.opened(NOW)
        session.receive(chunk(1), NOW)
        assert kinds(session.disconnected(NOW)) == ["Close"]
        assert session.parting
        assert session.last_words
        assert taken(session) == ["ActivityStart", "Audio", "ActivityEnd"]
        assert not session.last_words

    def test_its_last_words_go_on_as_those_before_arrive(self) -> None:
        session = listening()
        session.receive(ActivityStart(), NOW)
        session.opened(NOW)
        for sequence in range(1, 40):
            session.receive(chunk(sequence), NOW)
        session.disconnected(NOW)
        words: list[str] = []
        while more := taken(session):
            assert session.last_words or more[-1] == "ActivityEnd"
            words += more
            session.arrived(session.given, NOW)
        assert words == ["ActivityStart", *["Audio"] * 39, "ActivityEnd"]
        assert not session.last_words

    def test_one_that_had_not_begun_leaves_no_last_words(self) -> None:
        session = listening()
        session.receive(chunk(1), NOW)
        session.disconnected(NOW)
        assert not session.last_words
        assert taken(session) == []


class TestTools:
    def test_from_the_model_to_the_client_and_back(self) -> None:
        session = listening()
        assert kinds(session.upstream(live.Called("c1", "light", {}), NOW)) == [
            *("recognition_result", "tool_call")
        ]
        assert session.receive(extension.ToolResult(call_id="c1", result=1), NOW) == []
        assert taken(session) == ["ToolResult"]
        again = session.receive(extension.ToolResult(call_id="c1", result=1), NOW)
        assert kinds(again) == ["TOOL_RESULT_REPEATED"]
        assert taken(session) == []

    def test_by_a_worker(self) -> None:
        session = listening()
        effects = session.upstream(live.Called("c1", "time", {}), NOW)
        (run,) = [effect for effect in effects if isinstance(effect, Run)]
        assert (run.call.session_id, run.call.user_id) == ("s", "alice")
        assert session.ran("c1", {"output": 1}, NOW) == []
        assert taken(session) == ["ToolResult"]
        assert session.ran("c1", {"output": 1}, NOW) == []
        assert taken(session) == []

    def test_the_model_goes_on_to_something_else(self) -> None:
        session = listening()
        session.upstream(live.Called("c1", "light", {}), NOW)
        session.upstream(live.Called("c2", "time", {}), NOW)
        effects = session.upstream(live.Cancelled(("c1", "c2")), NOW)
        assert kinds(effects) == ["tool_cancelled", "Abort"]
        assert effects[-1] == Abort("c2")
        assert session.ran("c2", {"output": 1}, NOW) == []
        assert taken(session) == []

    def test_late(self) -> None:
        session = listening(Limits(heartbeat_s=1e6))
        session.upstream(live.Called("c1", "light", {}), NOW)
        assert session.deadline() == NOW + 30
        assert kinds(session.expire(NOW + 30)) == ["tool_cancelled"]
        assert taken(session) == ["ToolResult"]

    def test_a_base_client_is_told_of_the_command_and_the_model_that_it_is_done(self) -> None:
        session = listening(is_extended=False)
        effects = session.upstream(live.Called("c1", "light", {}), NOW)
        assert kinds(effects) == ["recognition_result"]
        assert taken(session) == ["ToolResult"]

    def test_a_client_that_carries_out_all_commands_says_so(self) -> None:
        session = listening()
        assert kinds(session.upstream(live.Called("c1", "next", {}), NOW)) == ["recognition_result"]
        session.receive(hello(features=("tools",)), NOW)
        assert kinds(session.upstream(live.Called("c2", "next", {}), NOW))[-1] == "tool_call"

    def test_a_model_that_only_calls_is_not_read_for_ever(self) -> None:
        session = listening()
        for place in range(64):
            assert not session.answer_full
            session.upstream(live.Called(f"c{place}", "next", {}), NOW)
        assert session.answer_full
        taken(session)
        assert not session.answer_full

    def test_a_turn_of_calls_alone_is_no_response(self) -> None:
        session = listening()
        session.upstream(live.Called("c1", "next", {}), NOW)
        session.upstream(live.Generated(), NOW)
        assert kinds(session.upstream(live.TurnEnded(), NOW)) == ["usage"]


class TestUsage:
    def test_comes_once_the_response_has_been_played(self) -> None:
        session = listening()
        speak(session)
        session.upstream(live.Metered(3, 4, 7), NOW)
        assert session.upstream(live.TurnEnded(), NOW) == []
        effects = session.expire(NOW + 0.2)
        assert kinds(effects) == ["response_done", "usage"]
        usage = one(effects, extension.UsageUpdate)
        assert usage.turn == usage.session
        assert (usage.turn.audio_in_ms, usage.turn.audio_out_ms, usage.turn.total_tokens) == (100, 100, 7)

    def test_what_is_counted_late_comes_by_itself(self) -> None:
        session = listening()
        session.upstream(live.TurnEnded(), NOW)
        assert kinds(session.upstream(live.Metered(3, 4, 7), NOW)) == ["usage"]
        assert session.upstream(live.Metered(3, 4, 7), NOW) == []

    def test_an_answer_that_is_played_holds_it_back(self) -> None:
        session = listening()
        speak(session)
        assert session.upstream(live.Metered(3, 4, 7), NOW) == []

    def test_a_base_client_has_none(self) -> None:
        session = listening(is_extended=False)
        assert session.upstream(live.TurnEnded(), NOW) == []

    def test_audio_counts_when_the_model_has_it(self) -> None:
        """What is discarded on the way was not used, and is never taken back."""
        session = listening()
        session.receive(chunk(1), NOW)
        usage = one(session.upstream(live.TurnEnded(), NOW), extension.UsageUpdate)
        assert usage.turn.audio_in_ms == 100
        session.receive(ActivityStart(), NOW)
        session.opened(NOW)
        session.receive(chunk(2), NOW)
        taken(session)
        usage = one(session.upstream(live.TurnEnded(), NOW), extension.UsageUpdate)
        assert (usage.turn.audio_in_ms, usage.session.audio_in_ms) == (100, 200)

    def test_tokens_of_two_conversations_add_up(self) -> None:
        session = listening()
        session.upstream(live.Metered(10, 10, 20), NOW)
        session.receive(ActivityStart(), NOW)
        session.opened(NOW)
        usage = one(session.upstream(live.Metered(1, 1, 2), NOW), extension.UsageUpdate)
        assert usage.session.total_tokens == 22


class TestSpeech:
    def test_places_are_those_of_the_stream(self) -> None:
        session = listening()
        session.receive(END, NOW)
        session.receive(start(), NOW)
        session.receive(chunk(0), NOW)
        (began,) = sent(session.upstream(live.VoiceActivity(True, 130.0), NOW))
        (ceased,) = sent(session.upstream(live.VoiceActivity(False, 9999.0), NOW))
        assert (began.stream_ms, ceased.stream_ms) == (30, 100)

    def test_a_base_client_is_not_told(self) -> None:
        assert listening(is_extended=False).upstream(live.VoiceActivity(True, 0.0), NOW) == []


@pytest.mark.parametrize("is_extended", [True, False])
def test_nothing_wakes_a_session_that_is_closed(is_extended: bool) -> None:
    session = listening(is_extended=is_extended)
    speak(session)
    assert isinstance(session.disconnected(NOW)[-1], Close)
    assert session.hold(True, NOW) == session.hold(False, NOW) == []
    assert session.receive(Interrupt(), NOW) == session.receive(Ping(id=1), NOW) == []
    assert session.opened(NOW) == session.upstream(live.TurnEnded(), NOW) == []
    assert session.state is State.CLOSED


class TestProvocations:
    ALLOWED = Limits(provocations=True)

    def test_they_are_offered_where_they_are_allowed(self) -> None:
        for limits, offered in ((self.ALLOWED, True), (Limits(), False)):
            session = new(limits)
            session.receive(messages.Auth(timestamp=0, token="t"), NOW)
            info = one(session.authenticated("alice", NOW + 60, NOW), extension.SessionInfo)
            assert ("provoke" in info.features) is offered
            assert list(info.features) == sorted(info.features)

    @pytest.mark.parametrize("what", get_args(extension.Provocation))
    def test_elsewhere_they_are_refused_and_nothing_happens(self, what: extension.Provocation) -> None:
        session = listening()
        assert kinds(session.receive(Provoke(what=what), NOW)) == ["PROTOCOL_PROVOKE_REFUSED"]
        assert session.state is State.LIVE
        assert "Open" not in kinds(session.expire(NOW + 10))

    def test_a_rotation_comes_when_nobody_speaks(self) -> None:
        session = listening(self.ALLOWED)
        assert session.receive(Provoke(what="rotation"), NOW) == []
        assert session.expire(NOW + 0.3) == []
        effects = session.expire(NOW + 0.5)
        assert kinds(effects) == ["session_rotating", "Open"]
        assert one(effects, extension.SessionRotating).reason == "go_away"
        assert kinds(session.opened(NOW + 1)) == ["session_rotated"]

    def test_or_soon_in_any_case(self) -> None:
        session = listening(self.ALLOWED)
        session.receive(Provoke(what="rotation"), NOW)
        session.upstream(live.Heard("I speak"), NOW)
        assert session.expire(NOW + 1.9) == []
        assert "session_rotating" in kinds(session.expire(NOW + 3))

    def test_without_a_connection_to_the_model_there_is_nothing_to_renew(self) -> None:
        session = ready(self.ALLOWED)
        assert session.receive(Provoke(what="rotation"), NOW) == []
        session.receive(command(), NOW)
        session.opened(NOW)
        assert "session_rotating" not in kinds(session.expire(NOW + 5))

    def test_an_expired_token_ends_the_connection_and_not_the_session(self) -> None:
        session = new(self.ALLOWED)
        session.receive(messages.Auth(timestamp=0, token="t"), NOW)
        session.authenticated("alice", NOW + 3600, NOW, "r1")
        effects = session.receive(Provoke(what="token_expiry"), NOW)
        assert kinds(effects) == ["AUTH_TOKEN_EXPIRED", "Close"]
        assert effects[-1] == Close(4440, "AUTH_TOKEN_EXPIRED")
        assert session.state is State.READY
        assert kinds(session.attach(3, NOW + 60, "r2", digest("r1"), NOW + 1)) == ["resumed", "ping"]
