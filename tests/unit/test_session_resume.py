"""The session machine when something is lost: its client, the connection to the model, the node."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from antiphon import extension, live, messages
from antiphon.errors import ErrorCode, GatewayError
from antiphon.extension import ActivityStart, Ping, Pong, Resume
from antiphon.session import Limits, Session, State
from antiphon.session.calls import INTERRUPTED
from antiphon.session.effects import Again, Close, Effect, Encode, Find, HangUp, Open, Run, Send, Verify
from antiphon.session.presence import digest
from antiphon.tools.call import ClientTool, PythonTool, Tool
from unit.test_session_v1 import (
    CHUNK,
    END,
    PIECE,
    SECOND,
    chunk,
    command,
    kinds,
    one,
    sent,
    speak,
    start,
    taken,
)

NOW = 1_000_000.0
TOOLS: dict[str, Tool] = {"light": ClientTool(30.0), "time": PythonTool("a.b:c", 10.0)}
SETUP = live.Setup("en-US", "", tuple(live.Function(name, "...") for name in ("light", "time", "next")))
RESUME = Resume(token="t", session_id="s", resume_token="r1", received=2)
LOST = GatewayError(ErrorCode.UPSTREAM_LOST)


def new(limits: Limits | None = None, *, is_extended: bool = True) -> Session:
    return Session("s", SETUP, limits or Limits(), NOW, extended=is_extended, tools=TOOLS)


def ready(limits: Limits | None = None) -> Session:
    session = new(limits)
    session.receive(messages.Auth(timestamp=0, token="t"), NOW)
    session.authenticated("alice", NOW + 36_000, NOW, "r1")
    return session


def listening(limits: Limits | None = None) -> Session:
    """Return a session with an open stream and an open conversation."""
    session = ready(limits)
    session.receive(start(), NOW)
    session.receive(chunk(0), NOW)
    session.opened(NOW)
    taken(session)
    session.arrived(session.given, NOW)
    return session


def attach(session: Session, received: int, now: float = NOW, spent: str = "r1") -> list[Effect]:
    assert session.admits("alice", digest(spent))
    return session.attach(received, NOW + 36_000, "r2", digest(spent), now)


def moved(session: Session, now: float = NOW) -> Session:
    """Return the session as another node has it."""
    other = new()
    other.restore(session.dump(), [log.entries(log.first) for log in session.logs], "spent", now)
    return other


def again(effects: list[Effect]) -> list[str]:
    """Return the types of what is sent again."""
    frames = [effect.frame for effect in effects if isinstance(effect, Again)]
    return [msgspec.json.decode(frame.data)["type"] for frame in frames]


def play(session: Session, until: float) -> list[Effect]:
    effects: list[Effect] = []
    while (at := session.deadline()) is not None and at <= until:
        effects += session.expire(at)
    return effects


class TestFinding:
    def test_a_resume_has_a_session_found(self) -> None:
        session = new()
        assert session.receive(RESUME, NOW) == [Find(RESUME)]
        assert session.state is State.AUTHENTICATING
        session.moved()
        assert (session.state, session.attached) == (State.CLOSED, False)
        assert session.unfound(GatewayError(ErrorCode.SESSION_RESUME_REFUSED), NOW) == []

    def test_what_is_not_found_may_begin_anew(self) -> None:
        session = new()
        session.receive(RESUME, NOW)
        effects = session.unfound(GatewayError(ErrorCode.SESSION_RESUME_REFUSED), NOW)
        assert kinds(effects) == ["SESSION_RESUME_REFUSED"]
        assert session.receive(messages.Auth(timestamp=0, token="t"), NOW) == [Verify("t")]

    def test_or_is_closed_while_nothing_can_be_found(self) -> None:
        session = new()
        session.receive(RESUME, NOW)
        effects = session.unfound(GatewayError(ErrorCode.SESSION_RESUME_UNAVAILABLE), NOW)
        assert kinds(effects) == ["SESSION_RESUME_UNAVAILABLE", "Close"]

    def test_it_is_the_first_thing_that_is_said(self) -> None:
        (error,) = sent(ready().receive(RESUME, NOW))
        assert (error.code, error.details.path) == ("PROTOCOL_BAD_MESSAGE", "$.type")

    def test_only_a_session_that_stands_is_found_by_its_own_user_and_token(self) -> None:
        session = ready()
        assert session.admits("alice", digest("r1"))
        assert not session.admits("mallory", digest("r1"))
        assert not session.admits("alice", digest("r2"))
        session.end(LOST, NOW)
        assert not session.admits("alice", digest("r1"))
        assert not new().admits("", digest(""))

    @pytest.mark.parametrize(
        ("limits", "is_extended", "token"),
        [(Limits(resume_s=0), True, "r1"), (Limits(), False, "r1"), (Limits(), True, "")],
    )
    def test_some_cannot_be_resumed(self, limits: Limits, is_extended: bool, token: str) -> None:
        session = new(limits, is_extended=is_extended)
        session.receive(messages.Auth(timestamp=0, token="t"), NOW)
        session.authenticated("alice", NOW + 60, NOW, token)
        assert not session.admits("alice", digest(token))
        assert session.disconnected(NOW) == [Close(1000, "")]

    def test_the_token_is_said_at_the_beginning(self) -> None:
        session = new()
        session.receive(messages.Auth(timestamp=0, token="t"), NOW)
        info = one(session.authenticated("alice", NOW + 60, NOW, "r1"), extension.SessionInfo)
        assert (info.resume_token, info.limits.resume_ms) == ("r1", 120_000)
        assert session.digests == (digest("r1"),)


class TestComingBack:
    def test_what_was_missed_follows_and_the_session_goes_on(self) -> None:
        session = listening()
        session.upstream(live.Heard("hello"), NOW)
        assert session.disconnected(NOW) == []
        assert not session.attached
        assert session.detached_at == NOW
        session.upstream(live.VoiceActivity(True, 0.0), NOW + 1)
        session.upstream(live.Heard(" there"), NOW + 1)
        effects = attach(session, 5, NOW + 2)
        (resumed, *_) = sent(effects)
        assert resumed == extension.Resumed(
            timestamp=int(NOW + 2) * 1000,
            session_id="s",
            resume_token="r2",
            next_sequence=1,
            replayed=2,
            lossy=False,
            received=2,
        )
        assert again(effects) == ["recognition_result", "transcript_update"]
        assert kinds(effects) == ["resumed", "Again", "Again", "ping"]
        assert session.detached_at == float("inf")

    def test_the_answer_waits_for_it(self) -> None:
        """What waits here can still be dropped, what is on its way cannot."""
        session = listening()
        session.disconnected(NOW)
        assert speak(session, NOW + 1) == []
        assert kinds(attach(session, 4, NOW + 1)) == ["resumed", "response_started", "audio_response", "ping"]

    def test_nothing_that_it_says_before_that_counts(self) -> None:
        session = listening()
        session.disconnected(NOW)
        assert session.receive(command(), NOW) == []
        assert session.disconnected(NOW) == []
        (resumed, *_) = sent(attach(session, 3))
        assert resumed.received == 2
        assert session.authenticated("alice", NOW + 60, NOW) != []

    def test_a_verdict_of_its_renewal_comes_to_nobody(self) -> None:
        session = ready()
        session.receive(messages.Auth(timestamp=0, token="t2"), NOW)
        session.disconnected(NOW)
        assert session.authenticated("alice", NOW + 60, NOW) == []

    def test_what_could_not_be_kept_is_told_of(self) -> None:
        session = ready()
        session.disconnected(NOW)
        (resumed, *_) = sent(session.attach(99, NOW + 60, "r2", digest("r1"), NOW))
        assert (resumed.lossy, resumed.replayed) == (True, 0)
        session.disconnected(NOW)
        assert again(session.attach(100, NOW + 60, "r3", digest("r2"), NOW)) == []

    def test_a_pong_shows_what_need_not_be_kept(self) -> None:
        session = ready()
        (ping,) = sent(session.expire(NOW + 15))
        session.receive(Pong(id=ping.id), NOW + 15)
        _, outbox, _ = session.logs
        assert (outbox.first, outbox.end) == (4, 4)

    def test_much_that_is_sent_is_asked_after(self) -> None:
        session = listening(Limits(playback_s=30))
        session.receive(extension.ClientHello(playback_buffer_ms=30_000), NOW)
        found = kinds(speak(session, pcm=SECOND * 5))
        assert found.count("ping") == 1

    @pytest.mark.parametrize("clean", [True, False])
    def test_a_spent_token_is_good_until_the_client_shows_that_it_has_the_next(self, clean: bool) -> None:
        session = ready()
        session.disconnected(NOW)
        attach(session, 2)
        session.disconnected(NOW, clean=clean)
        good = [session.digests]
        attach(session, 2)
        session.receive(Ping(id=1), NOW)
        session.disconnected(NOW, clean=clean)
        good.append(session.digests)
        assert good == [(digest("r2"), digest("r1")), (digest("r2"),)]
        assert not session.admits("alice", digest("r1"))

    def test_but_not_while_nobody_is_there(self) -> None:
        session = listening()
        session.disconnected(NOW)
        for number in range(200):
            assert session.upstream(live.Heard(f"{number} {'x' * 300}", final=True), NOW) == []
        effects = attach(session, 2)
        assert kinds(effects)[-1] == "ping"
        assert kinds(effects).count("ping") == 1

    def test_the_old_connection_is_told_when_it_is_still_there(self) -> None:
        session = listening()
        effects = session.replaced(NOW)
        assert kinds(effects) == ["SESSION_TAKEN_OVER", "Close"]
        assert effects[-1] == Close(4409, "SESSION_TAKEN_OVER")
        assert kinds(attach(session, 3)) == ["resumed", "ping"]

    def test_an_error_that_closed_a_connection_is_not_told_on_the_next(self) -> None:
        session = listening()
        effects = session.failed(GatewayError(ErrorCode.SESSION_CLIENT_SLOW), NOW)
        assert kinds(effects) == ["SESSION_CLIENT_SLOW", "Close"]
        assert session.state is State.LIVE
        assert again(attach(session, 3)) == []
        assert session.rewritten, "what follows has other numbers than it was written down with"
        assert not session.rewritten

    def test_its_token_expires_with_the_connection_and_not_the_session(self) -> None:
        session = ready(Limits(idle_timeout_s=1e6, max_duration_s=1e6))
        assert kinds(session.expire(NOW + 36_000))[-2:] == ["AUTH_TOKEN_EXPIRED", "Close"]
        assert session.state is State.READY
        assert kinds(session.attach(3, NOW + 1e5, "r2", digest("r1"), NOW + 36_010)) == ["resumed", "ping"]
        assert "AUTH_TOKEN_EXPIRED" not in kinds(session.expire(NOW + 36_020))

    def test_one_that_pushes_to_talk_is_still_doing_so(self) -> None:
        session = ready()
        session.receive(start(), NOW)
        session.receive(ActivityStart(), NOW)
        session.opened(NOW)
        session.disconnected(NOW)
        attach(session, 4)
        session.receive(chunk(0), NOW)
        assert taken(session) == ["ActivityStart", "Audio"]


class TestBeingGone:
    def test_the_model_is_kept_for_a_while(self) -> None:
        session = listening(Limits(park_s=10, resume_s=120))
        session.upstream(live.Heard("hello"), NOW)
        session.disconnected(NOW)
        assert HangUp() not in session.expire(NOW + 9.9)
        assert session.deadline() == NOW + 10
        assert HangUp() in session.expire(NOW + 10)
        assert session.state is State.READY
        assert session.deadline() == NOW + 120

    def test_what_is_said_next_opens_another(self) -> None:
        session = listening()
        session.disconnected(NOW, clean=True)
        assert session.state is State.READY
        attach(session, 3)
        effects = session.receive(chunk(1), NOW)
        assert kinds(effects) == ["session_rotating", "Open"]
        assert one(effects, extension.SessionRotating).reason == "lost"

    def test_so_does_what_was_said_before(self) -> None:
        session = listening()
        session.receive(command(), NOW)
        session.disconnected(NOW, clean=True)
        assert session.expire(NOW + 10) == [HangUp()]
        effects = attach(session, 3, NOW + 10)
        assert kinds(effects) == ["resumed", "session_rotating", "Open", "ping"]
        session.opened(NOW + 10)
        assert "Text" in taken(session)

    def test_the_model_hears_what_was_said_before_it_is_left(self) -> None:
        session = listening()
        session.receive(chunk(1), NOW)
        session.receive(chunk(2), NOW)
        session.next_input(NOW)
        assert session.disconnected(NOW, clean=True) == []
        assert session.deadline() == NOW + 10
        assert session.arrived(session.given, NOW) == [], "not all of it"
        assert taken(session) == ["Audio"]
        assert session.arrived(session.given, NOW) == [HangUp()]
        assert session.state is State.READY

    def test_nothing_goes_to_the_model_that_nobody_could_tell_another_node_of(self) -> None:
        session = listening()
        session.saved_elsewhere = session.unsaved = True
        session.receive(chunk(1), NOW)
        session.disconnected(NOW)
        assert session.next_input(NOW + 5) is None
        play(session, NOW + 40)
        assert session.state is State.READY, "the model is not found slow for that"
        session = listening()
        session.saved_elsewhere = session.unsaved = True
        session.receive(chunk(1), NOW)
        session.disconnected(NOW)
        session.unsaved = False
        assert taken(session) == ["Audio"]

    def test_who_comes_back_is_told_what_the_model_has_heard_meanwhile(self) -> None:
        session = listening()
        session.saved_elsewhere = True
        session.disconnected(NOW)
        session.unsaved = True
        heard = one(attach(session, 2), extension.AudioHeard)
        assert heard.heard_ms == 100
        session = ready()
        session.disconnected(NOW)
        session.unsaved = True
        assert kinds(attach(session, 2)) == ["resumed", "ping"], "nothing"

    def test_one_that_says_so_has_the_model_left_at_once(self) -> None:
        session = listening()
        speak(session, pcm=SECOND)
        assert session.disconnected(NOW, clean=True) == [HangUp()]
        effects = attach(session, 5, NOW + 0.1)
        assert "audio_response" in kinds(effects)
        assert one(play(session, NOW + 5), extension.ResponseDone).status == "failed", "it was not ended"

    def test_it_is_over_when_it_does_not_come(self) -> None:
        session = listening(Limits(resume_s=120))
        session.disconnected(NOW)
        session.expire(NOW + 10)
        assert session.expire(NOW + 119.9) == []
        assert session.expire(NOW + 120)[-1] == Close(1000, "")
        assert (session.state, session.deadline()) == (State.CLOSED, None)

    def test_it_is_neither_idle_nor_pinged_nor_given_notice(self) -> None:
        session = ready(Limits(idle_timeout_s=60, heartbeat_s=15, resume_s=1000))
        session.disconnected(NOW)
        assert session.deadline() == NOW + 1000
        assert session.expire(NOW + 999) == []
        assert kinds(attach(session, 2, NOW + 999)) == ["resumed", "ping"]
        assert session.expire(NOW + 1000) == []

    def test_the_longest_session_ends_all_the_same(self) -> None:
        session = ready(Limits(max_duration_s=100))
        session.disconnected(NOW)
        assert session.expire(NOW + 100)[-1] == Close(4441, "SESSION_MAX_DURATION")

    def test_a_model_that_cannot_be_reached_is_nobodys_news(self) -> None:
        session = ready()
        session.receive(command(), NOW)
        session.disconnected(NOW)
        assert session.lost(GatewayError(ErrorCode.UPSTREAM_UNAVAILABLE), NOW) == [HangUp()]
        assert session.state is State.READY
        effects = attach(session, 2)
        assert isinstance(effects[-2], Open), "it is asked again"


class TestTheModel:
    def test_is_renewed_and_a_response_that_was_cut_off_is_failed(self) -> None:
        session = listening()
        session.upstream(live.Said("One two."), NOW)
        speak(session)
        effects = session.lost(LOST, NOW)
        assert kinds(effects) == ["session_rotating", "Open"]
        assert session.state is State.OPENING
        effects = session.expire(NOW + 0.2)
        assert kinds(effects)[:2] == ["transcript_update", "response_done"]
        assert one(effects, extension.ResponseDone).status == "failed"
        effects = session.opened(NOW + 0.3)
        assert one(effects, extension.SessionRotated).gap_ms == 300

    def test_one_that_was_made_is_played(self) -> None:
        session = listening()
        speak(session)
        session.upstream(live.Generated(), NOW)
        session.lost(LOST, NOW)
        assert one(session.expire(NOW + 0.2), extension.ResponseDone).status == "completed"

    def test_that_cannot_be_reached_again_closes_the_connection_and_not_the_session(self) -> None:
        session = listening()
        speak(session)
        session.lost(LOST, NOW)
        session.lost(GatewayError(ErrorCode.UPSTREAM_UNAVAILABLE), NOW)
        effects = session.expire(NOW + 30)
        assert "UPSTREAM_UNAVAILABLE" in kinds(effects)
        assert effects[-1] == Close(1011, "UPSTREAM_UNAVAILABLE")
        assert session.state is State.READY
        assert not session.attached
        effects = attach(session, 6, NOW + 31)
        assert "UPSTREAM_UNAVAILABLE" not in kinds(effects)

    def test_that_takes_nothing_is_left(self) -> None:
        session = ready()
        session.receive(command(), NOW)
        effects = session.expire(NOW + 10)
        assert effects[0] == HangUp()
        assert effects[-1] == Close(1011, "UPSTREAM_SLOW")

    @pytest.mark.parametrize("by_client", [True, False])
    def test_calls_go_on_and_one_that_begins_anew_is_told_their_results(self, by_client: bool) -> None:
        session = listening()
        session.upstream(live.Called("c1", "light" if by_client else "time", {}), NOW)
        session.lost(LOST, NOW)
        session.opened(NOW)
        taken(session)
        if by_client:
            session.receive(extension.ToolResult(call_id="c1", result=1), NOW)
        else:
            session.ran("c1", {"output": 1}, NOW)
        assert taken(session) == ["Text"]

    def test_one_that_remembers_is_given_them(self) -> None:
        session = listening()
        session.upstream(live.HandleChanged("h"), NOW)
        session.upstream(live.Called("c1", "light", {}), NOW)
        session.lost(LOST, NOW)
        session.opened(NOW)
        taken(session)
        session.receive(extension.ToolResult(call_id="c1", result=1), NOW)
        assert taken(session) == ["ToolResult"]

    def test_what_the_user_was_saying_goes_on(self) -> None:
        session = listening()
        session.upstream(live.Heard("hel", whole="hel"), NOW)
        session.lost(LOST, NOW)
        session.opened(NOW)
        effects = session.upstream(live.Heard("lo", final=True, whole="lo"), NOW)
        result = one(effects, messages.RecognitionResult)
        assert (result.transcript, result.is_final) == ("hel lo", True)

    def test_a_base_client_is_not_told(self) -> None:
        session = new(is_extended=False)
        session.receive(messages.Auth(timestamp=0, token="t"), NOW)
        session.authenticated("alice", NOW + 60, NOW)
        session.receive(command(), NOW)
        session.opened(NOW)
        effects = session.lost(LOST, NOW + 9)
        assert kinds(effects) == ["Open"]
        assert session.opened(NOW + 9) == []
        assert taken(session) == ["Text"]

    def test_one_that_is_left_is_none_to_lose(self) -> None:
        session = listening()
        session.end(LOST, NOW)
        assert session.lost(LOST, NOW) == []
        session.arrived(5, NOW)
        assert session.state is State.CLOSED


class TestAnotherNode:
    def test_goes_on_with_all_that_was_written_down(self) -> None:
        session = listening()
        session.upstream(live.HandleChanged("h"), NOW)
        session.upstream(live.Said("One two three."), NOW)
        speak(session, pcm=SECOND)
        session.upstream(live.Generated(), NOW)
        session.upstream(live.TurnEnded(), NOW)
        session.receive(chunk(1), NOW)
        other = moved(session, NOW + 1)
        assert (other.user_id, other.handle, other.attached) == ("alice", "h", False)
        assert other.state is State.READY
        effects = other.attach(2, NOW + 60, "r2", digest("r1"), NOW + 1)
        (resumed, *_) = sent(effects)
        assert (resumed.received, resumed.next_sequence, resumed.lossy) == (3, 2, False)
        assert again(effects)[:2] == ["response_started", "transcript_update"]
        assert "Open" in kinds(effects)
        told = effects + play(other, NOW + 3)
        assert one(told, extension.ResponseDone).status == "completed"
        played = [message for message in sent(told) if isinstance(message, messages.AudioResponse)]
        assert again(effects).count("audio_response") + len(played) == 10
        other.opened(NOW + 3)
        assert taken(other, NOW + 3) == ["Audio", "Audio"], "with the margin"

    def test_counts_the_streams_on(self) -> None:
        session = listening()
        session.receive(chunk(0), NOW)
        session.receive(END, NOW)
        other = moved(session)
        other.attach(2, NOW + 60, "r2", digest("r1"), NOW)
        other.receive(start(), NOW)
        other.receive(chunk(0), NOW)
        ack = one(other.receive(END, NOW), extension.AudioAck)
        assert (ack.stream, ack.sequence) == (2, 0)

    def test_encoders_are_gone_with_what_they_had(self) -> None:
        session = listening()
        session.receive(extension.ClientHello(output_formats=("audio/flac",)), NOW)
        (effect,) = speak(session, pcm=PIECE)
        assert isinstance(effect, Encode)
        session.encoded(effect.piece, b"fLaC", NOW)
        session.upstream(live.Said("Two."), NOW)
        other = moved(session)
        effects = other.attach(3, NOW + 60, "r2", digest("r1"), NOW)
        assert again(effects) == ["audio_response", "response_done"]
        assert other.answer_full is False

    def test_what_the_client_had_and_nobody_saved_is_told_as_lossy(self) -> None:
        """The message with which this node tells of what is over is not taken for one that the client had."""
        session = listening()
        session.receive(extension.ClientHello(output_formats=("audio/flac",)), NOW)
        (effect,) = speak(session, pcm=PIECE)
        assert isinstance(effect, Encode)
        session.encoded(effect.piece, b"fLaC", NOW)
        other = moved(session)
        effects = other.attach(session._presence.outbox.count + 1, NOW + 60, "r2", digest("r1"), NOW)
        assert one(effects, extension.Resumed).lossy
        assert again(effects) == ["response_done"]

    def test_what_was_on_its_way_to_the_model_is_given_again_at_once(self) -> None:
        session = listening()
        session.receive(chunk(1), NOW)
        taken(session)
        other = moved(session)
        assert "Open" in kinds(other.attach(2, NOW + 60, "r2", digest("r1"), NOW))

    def test_workers_are_gone_too_and_the_model_is_told(self) -> None:
        session = listening()
        session.upstream(live.HandleChanged("h"), NOW)
        assert isinstance(session.upstream(live.Called("c1", "time", {}), NOW)[-1], Run)
        session.upstream(live.Called("c2", "light", {}), NOW)
        other = moved(session)
        assert "Open" in kinds(other.attach(4, NOW + 60, "r2", digest("r1"), NOW))
        other.opened(NOW)
        items: list[Any] = []
        while item := other.next_input(NOW):
            items.append(item)
        (result,) = [item for item in items if isinstance(item, live.ToolResult)]
        assert (result.call_id, result.result) == ("c1", {"error": INTERRUPTED})
        assert other.receive(extension.ToolResult(call_id="c2", result=1), NOW) == []
        assert taken(other) == ["ToolResult"]

    def test_the_stream_goes_on_in_mid_sample(self) -> None:
        session = listening()
        session.receive(chunk(1, CHUNK + b"\x01"), NOW)
        other = moved(session)
        other.attach(3, NOW + 60, "r2", digest("r1"), NOW)
        other.opened(NOW)
        taken(other)
        other.receive(chunk(1, CHUNK), NOW)
        assert taken(other) == [], "it had come"
        other.receive(chunk(2, b"\x02" + CHUNK), NOW)
        (item,) = [other.next_input(NOW)]
        assert item == live.Audio(b"\x01\x02" + CHUNK)

    def test_a_state_of_another_form_is_refused(self) -> None:
        session = ready()
        with pytest.raises(msgspec.DecodeError):
            new().restore(b"\x80", [[], [], []], "spent", NOW)
        with pytest.raises(msgspec.DecodeError):
            new().restore(session.dump(), [[b"\xc1"], [], []], "spent", NOW)

    def test_this_one_is_told_that_it_has_it_no_more(self) -> None:
        session = listening()
        effects = session.evicted(NOW)
        assert kinds(effects) == ["SESSION_TAKEN_OVER", "Close"]
        assert session.evicted(NOW) == []
        session = listening()
        session.disconnected(NOW)
        assert kinds(session.evicted(NOW)) == ["Close"]

    def test_what_is_unread_is_saved_before_it_is_acknowledged(self) -> None:
        session = listening()
        session.saved_elsewhere = True
        for sequence in range(1, 5):
            assert session.receive(chunk(sequence), NOW) == []
        mark = session.mark()
        session.receive(chunk(5), NOW)
        ack = one(session.safe(mark, NOW), extension.AudioAck)
        assert (ack.stream, ack.sequence) == (1, 4)
        assert 9000 < ack.window_ms <= 10_000
        assert session.safe(mark, NOW) == []

    def test_a_renewal_that_is_refused_is_no_message_of_the_session(self) -> None:
        one_renews, other = listening(), listening()
        renewal = messages.Auth(timestamp=0, token="t")
        one_renews.receive(renewal, NOW)
        assert kinds(one_renews.receive(renewal, NOW)) == ["AUTH_RENEWAL_REFUSED"]
        received = [one(attach(session, 2), extension.Resumed).received for session in (one_renews, other)]
        assert received[0] == received[1]

    def test_what_is_saved_of_a_stream_says_nothing_of_the_next(self) -> None:
        session = listening()
        session.saved_elsewhere = True
        for sequence in range(1, 5):
            session.receive(chunk(sequence), NOW)
        mark = session.mark()
        session.receive(messages.AudioStreamEnd(timestamp=0, duration=0), NOW)
        session.receive(start(), NOW)
        session.receive(chunk(0), NOW)
        assert session.safe(mark, NOW) == []

    def test_the_end_of_a_stream_is_acknowledged_at_once(self) -> None:
        session = ready()
        session.receive(start(), NOW)
        assert kinds(session.receive(chunk(0), NOW)) == ["Open"]
        ack = one(session.receive(END, NOW), extension.AudioAck)
        assert (ack.stream, ack.sequence) == (1, 0)

    def test_an_acknowledgement_says_of_which_stream_it_is(self) -> None:
        session = ready()
        acks = []
        for _ in range(3):
            session.receive(start(), NOW)
            session.receive(chunk(0), NOW)
            acks.append(one(session.receive(END, NOW), extension.AudioAck))
        assert [(ack.stream, ack.sequence) for ack in acks] == [(1, 0), (2, 0), (3, 0)]


class TestNotices:
    def test_a_node_that_stops_says_so(self) -> None:
        (notice,) = sent(listening().drain(20.0, NOW))
        assert (notice.reason, notice.time_left_ms) == ("drain", 20_000)
        assert new().drain(20.0, NOW) == []

    def test_so_does_a_token_that_is_about_to_expire(self) -> None:
        session = new(Limits(heartbeat_s=1e6, idle_timeout_s=1e6))
        session.receive(messages.Auth(timestamp=0, token="t"), NOW)
        session.authenticated("alice", NOW + 3600, NOW)
        assert session.deadline() == NOW + 3570
        (notice,) = sent(session.expire(NOW + 3570))
        assert (notice.reason, notice.time_left_ms) == ("token", 30_000)
        assert session.deadline() == NOW + 3600

    def test_what_never_expires_is_never_told_of(self) -> None:
        session = new(Limits(heartbeat_s=1e6, idle_timeout_s=50, max_duration_s=50))
        session.receive(messages.Auth(timestamp=0, token="t"), NOW)
        session.authenticated("alice", float("inf"), NOW)
        assert session.expire(NOW + 49) == []


class TestPace:
    def test_one_that_sends_a_file_is_read_at_four_times_its_speed(self) -> None:
        session = listening(Limits(uplink_s=100, heartbeat_s=1e6))
        told = []
        for sequence in range(1, 21):
            assert not session.client_full
            assert not session.paced
            told += kinds(session.receive(chunk(sequence, bytes(32_000)), NOW))
        assert told.count("AUDIO_TOO_FAST") == 1
        assert session.client_full
        assert session.paced
        at = session.deadline()
        assert at is not None
        assert NOW + 5 < at < NOW + 5.5
        session.expire(at - 0.1)
        assert session.client_full
        session.expire(at)
        assert not session.client_full

    def test_a_ping_is_not_held_up_by_it(self) -> None:
        session = listening()
        assert kinds(session.receive(Ping(id=1), NOW)) == ["pong"]


class TestEnd:
    def test_by_the_gateway_is_for_good(self) -> None:
        session = listening()
        effects = session.end(GatewayError(ErrorCode.SERVER_INTERNAL), NOW)
        assert kinds(effects) == ["SERVER_INTERNAL", "HangUp", "Close"]
        assert session.end(LOST, NOW) == []
        assert not session.admits("alice", digest("r1"))

    def test_idleness_is_too(self) -> None:
        session = ready(Limits(idle_timeout_s=60))
        effects = session.expire(NOW + 60)
        assert effects[-1] == Close(4408, "SESSION_IDLE")
        assert session.state is State.CLOSED

    def test_a_fault_that_is_not_the_models_touches_no_response(self) -> None:
        session = listening()
        speak(session)
        effects = session.failed(GatewayError(ErrorCode.SERVER_INTERNAL), NOW)
        assert kinds(effects) == ["SERVER_INTERNAL", "Close"]
        assert isinstance(effects[0], Send)
        effects = attach(session, 5, NOW + 0.05)
        effects = session.upstream(live.TurnEnded(), NOW + 0.05)
        assert one(effects + play(session, NOW + 1), extension.ResponseDone).status == "completed"
