"""One connection with faults, without a connection: what goes in, what comes out, when."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from antiphon.engine import wire
from antiphon.engine.faults import plan as plan_module
from antiphon.engine.faults.actions import Finish, Inject, Report
from antiphon.engine.faults.injector import Injector
from antiphon.engine.faults.kinds import AnswerAudio
from antiphon.engine.faults.messages import kinds_of, said
from antiphon.engine.faults.outgoing import Outgoing
from antiphon.engine.faults.plan import HandleBook, Plan
from antiphon.engine.faults.script import parse
from antiphon.engine.faults.shaper import Piece, Shaper
from antiphon.transcription import Hypothesis
from loopback_engine import ClientMessage, spoken

NEVER = float("inf")
SECOND = bytes(32_000)
READY, HANDLE = wire.setup_complete(), wire.session_resumption_update("h1")
CALL, DONE = wire.tool_call("c1", "next", {}), wire.turn_complete(wire.Usage())
MADE = wire.generation_complete()


def client(**message: Any) -> bytes:
    data: bytes = json_format.ParseDict(message, ClientMessage()).SerializeToString()
    return data


def audio(pcm: bytes = SECOND, **more: Any) -> bytes:
    message = json_format.ParseDict({"realtimeInput": more}, ClientMessage())
    message.realtime_input.audio.mime_type = "audio/pcm;rate=16000"
    message.realtime_input.audio.data = pcm
    data: bytes = message.SerializeToString()
    return data


def setup(handle: str = "") -> bytes:
    return client(setup={"model": "m", "sessionResumption": {"handle": handle}})


def typed(text: str = "hello") -> bytes:
    return client(realtimeInput={"text": text})


def result(call_id: str = "c1", **more: Any) -> bytes:
    return client(toolResponse={"functionResponses": [{"id": call_id, "response": {}, **more}]})


def voice_of(ms: int, text: str = "") -> Any:
    return wire.spoken(b"\x01\x00" * 24 * ms, text)


def ms_of(messages: list[Any]) -> list[int]:
    return [len(spoken([message])) // 48 for message in messages]


END_TURN = client(realtimeInput={"audioStreamEnd": True})


def planned(*faults: str, seed: int = 0) -> Plan:
    return Plan(parse(f"seed = {seed}\n" + "\n".join(f"[[fault]]\n{one}" for one in faults), "f.toml"))


class Side:
    """A connection whose time is in our hands."""

    def __init__(self, *faults: str, plan: Plan | None = None, connection: int = 1, now: float = 0.0) -> None:
        self.now = now
        self.plan = plan or planned(*faults)
        self.injector = Injector(connection, self.plan, now)
        self.sent: list[Any] = []
        self.done: list[Any] = []
        self.told: list[str] = []

    @property
    def kinds(self) -> list[str]:
        return ["".join(kinds_of(message)[:1]) for message in self.sent]

    @property
    def finish(self) -> Finish | None:
        return next((one for one in self.done if isinstance(one, Finish)), None)

    def client(self, *data: bytes) -> list[bool]:
        taken = []
        for one in data:
            taken.append(self.injector.receive(one, self.now))
            self.pull()
        return taken

    def engine(self, *messages: Any) -> Side:
        for message in messages:
            self.injector.send(message, self.now)
            self.pull()
        return self

    def pull(self) -> Side:
        """Do what is to be done, as `Connection` does: messages before what ends them."""
        while (message := self.injector.next_message(self.now)) is not None:
            self.sent.append(message)
        while (action := self.injector.next_action(self.now)) is not None:
            if isinstance(action, Report):
                self.told.append(action.line)
            else:
                self.done.append(action)
        return self

    def until(self, now: float) -> Side:
        """Let time pass, from one thing that is due to the next."""
        while (due := min(self.injector.acts_at, max(self.injector.sends_at, self.now))) <= now:
            assert due > self.now or self.injector.sends_at <= self.now
            self.now = due
            self.pull()
        self.now = now
        return self.pull()

    def take(self) -> list[Any]:
        """Return what was sent since the last time."""
        taken, self.sent = self.sent, []
        return taken


def test_without_faults_all_passes_at_once() -> None:
    side = Side('kind = "mute"\nconnections = [2]')
    sent = [READY, HANDLE, wire.voice_activity(True, 0.0), wire.heard("a", Hypothesis("a", 0.5, True))]
    sent += [CALL, voice_of(160, "Hi."), MADE, wire.interrupted(), DONE, wire.waiting_for_input()]
    sent += [wire.go_away(1.0), wire.tool_call_cancellation("c1"), said("x")]
    data = [setup(), audio(activityStart={}), typed(), END_TURN, result(), b"\xff"]
    data += [client(clientContent={"turnComplete": False}), client(clientContent={"turnComplete": True})]
    assert all(side.client(*data))
    assert side.engine(*sent).take() == sent
    assert (side.injector.reads_at, side.injector.acts_at, side.injector.sends_at) == (0.0, NEVER, NEVER)
    assert side.injector.held_bytes == 0
    side.injector.ended("OK", "", 1.0)
    assert side.pull().done == [Finish("OK")]
    assert side.pull().done == [Finish("OK")]
    assert side.told == []


# ---- when


@pytest.mark.parametrize(
    ("moment", "before", "at"),
    [
        ("start", [], None),
        ("setup", [], setup()),
        ("ready", [setup()], READY),
        ("turn_end", [READY, audio()], END_TURN),
        ("turn_end", [READY], typed()),
        ("turn_end", [READY], client(realtimeInput={"activityEnd": {}})),
        ("turn_end", [READY], client(clientContent={"turnComplete": True})),
        ("turn_end", [READY], wire.voice_activity(False, 10.0)),
        ("tool_call", [READY], CALL),
        ("tool_result", [READY, CALL], result()),
        ("turn_complete", [READY, voice_of(160), MADE], DONE),
        ("go_away", [READY], wire.go_away(1.0)),
    ],
)
def test_a_moment_is_when_a_fault_strikes(moment: str, before: list[Any], at: Any) -> None:
    fault = f'kind = "end"\nat = "{moment}"\nstatus = "INTERNAL"\ndetails = "x"\nretry_s = 2'
    side = Side(fault)
    for one in before:
        side.client(one) if isinstance(one, bytes) else side.engine(one)
        assert side.finish is None
    if isinstance(at, bytes):
        assert side.client(at) == [False]
    elif at is not None:
        side.engine(at)
    else:
        side.pull()
    assert side.finish == Finish("INTERNAL", "x", 2.0)
    # What the engine sends to a client's doing is cut off; what strikes after a message does not.
    assert (at in side.sent) is (moment in ("ready", "tool_call", "turn_complete", "go_away"))
    assert side.told == [f"connection 1, 0.000 s: fault 1 (end) strikes: {_said(side)}"]
    assert side.client(typed()) == [False]
    assert side.client(b"\xff") == [False]
    assert side.engine(MADE).sent[-1:] != [MADE]
    assert (side.injector.acts_at, side.injector.sends_at) == (NEVER, NEVER)
    assert len(side.done) == 1


def _said(side: Side) -> str:
    return side.told[0].partition("strikes: ")[2]


def test_a_fault_comes_after_its_moment() -> None:
    side = Side('kind = "end"\nafter_s = 30').engine(READY)
    assert side.injector.acts_at == 30.0
    assert side.until(29.9).finish is None
    assert side.until(30.0).finish == Finish("UNAVAILABLE")


def test_a_fault_comes_after_so_much_audio() -> None:
    side = Side('kind = "end"\nat = "audio"\naudio_s = 2.5', 'kind = "mute"\nat = "audio"\naudio_s = 9')
    assert side.client(audio(), audio(), audio()) == [True, True, False]
    assert side.finish


def test_several_pieces_of_audio_count_once_each() -> None:
    side = Side('kind = "mute"\nat = "audio"\naudio_s = 2', 'kind = "no_handles"\nfor_s = 1')
    side.client(audio())
    assert len(side.told) == 1
    side.client(audio(), audio())
    assert len(side.told) == 2


def test_the_nth_time_and_each_time() -> None:
    side = Side(
        'kind = "mute"\nat = "turn_complete"\nnth = 2\nfor_s = 1',
        'kind = "go_away"\nat = "turn_complete"\nnth = "each"\nthen = "never"',
    )
    side.engine(DONE)
    assert side.kinds == ["turn_complete", "go_away"]
    side.engine(DONE, DONE)
    assert side.kinds[2:] == ["turn_complete"]
    side.until(1.0)
    assert side.kinds[3:] == ["go_away", "turn_complete", "go_away"]


def test_a_turns_end_counts_once_whoever_tells_it_first() -> None:
    def ends(*events: Any) -> int:
        side = Side('kind = "go_away"\nat = "turn_end"\nnth = "each"\nthen = "never"')
        for one in events:
            side.client(one) if isinstance(one, bytes) else side.engine(one)
        return len(side.told)

    start, stop = wire.voice_activity(True, 0.0), wire.voice_activity(False, 900.0)
    assert ends(audio(), start, stop, END_TURN) == 1
    assert ends(audio(), END_TURN, start, stop) == 1
    assert ends(audio(), start, stop, audio(), wire.voice_activity(True, 950.0), END_TURN) == 2
    assert ends(audio(), END_TURN, audio(), wire.voice_activity(False, 1_500.0)) == 2
    assert ends(END_TURN, audio(), END_TURN) == 2


# ---- in the midst of an answer


def test_a_fault_in_the_midst_of_an_answer_is_exact() -> None:
    side = Side('kind = "end"\nat = "answer"\nanswer_ms = 200').engine(READY, *[voice_of(160, "Hi.")] * 3)
    assert ms_of(side.sent[1:]) == [160, 40]
    assert side.finish == Finish("UNAVAILABLE")


def test_a_fault_at_the_beginning_of_an_answer() -> None:
    side = Side('kind = "mute"\nat = "answer"\nnth = 2\nfor_s = 1').engine(voice_of(160), MADE, DONE)
    side.engine(voice_of(160), MADE, DONE)
    assert side.kinds == ["audio", "generation_complete", "turn_complete"]
    side.until(1.0)
    assert side.kinds[3:] == ["audio", "generation_complete", "turn_complete"]


def test_several_faults_in_one_answer_and_each_answer() -> None:
    side = Side(
        'kind = "go_away"\nat = "answer"\nanswer_ms = 100\nthen = "never"\nnth = "each"',
        'kind = "go_away"\nat = "answer"\nanswer_ms = 100\nthen = "never"\nprobability = 0.000001',
        'kind = "go_away"\nat = "answer"\nanswer_ms = 50\nthen = "never"',
    )
    side.engine(voice_of(160, "Hi."), wire.interrupted(), DONE, voice_of(40), DONE, voice_of(160))
    assert [ms or kind for ms, kind in zip(ms_of(side.sent), side.kinds, strict=True)] == [
        *(50, "go_away", 50, "go_away", 60, "interrupted", "turn_complete"),
        *(40, "turn_complete", 100, "go_away", 60),
    ]


# ---- chance


def test_times_is_over_all_connections() -> None:
    plan = planned('kind = "end"\nat = "setup"\ntimes = 2')
    for connection, taken in ((1, False), (2, False), (3, True)):
        assert Side(plan=plan, connection=connection).client(setup()) == [taken]


@given(seed=st.integers(0, 2**40), order=st.permutations(range(1, 9)))
def test_chance_does_not_depend_on_who_comes_first(seed: int, order: list[int]) -> None:
    def struck(connections: list[int]) -> dict[int, list[bool]]:
        plan = planned('kind = "lost"\nmessages = "audio"\nprobability = 0.5', seed=seed)
        return {one: [plan.strikes(1, one, occasion) for occasion in (1, 2, 3)] for one in connections}

    assert struck(order) == struck(sorted(order))


def test_chance_is_as_likely_as_said() -> None:
    plan = planned('kind = "mute"\nprobability = 0.3', seed=1)
    assert 250 < sum(plan.strikes(1, connection, 1) for connection in range(1_000)) < 350


def test_connections_are_counted() -> None:
    plan = planned('kind = "mute"\nconnections = [2]')
    assert [plan.connect(), plan.connect()] == [1, 2]
    assert [number for number, _ in plan.faults_for(1) + plan.faults_for(2)] == [1]


# ---- the end


def test_go_away_and_the_end() -> None:
    side = Side('kind = "go_away"\nafter_s = 3\ntime_left_s = 5\ndetails = "over"').engine(READY)
    side.until(7.9)
    assert side.kinds == ["setup_complete", "go_away"]
    assert side.sent[1].go_away.time_left.ToMilliseconds() == 5_000
    assert side.finish is None
    assert side.until(8.0).finish == Finish("ABORTED", "over")


def test_the_first_of_two_go_aways_ends_it() -> None:
    side = Side(
        'kind = "go_away"\nthen = "OK"\ntime_left_s = 2', 'kind = "go_away"\nafter_s = 1\ntime_left_s = 5'
    )
    side.engine(READY).until(9.0)
    assert side.finish == Finish("OK", "The connection is at its end.")


def test_a_go_away_without_an_end() -> None:
    side = Side('kind = "go_away"\nthen = "never"\ntime_left_s = 2').engine(READY).until(100.0)
    assert (side.kinds, side.finish) == (["setup_complete", "go_away"], None)


def test_an_end_while_mute() -> None:
    side = Side('kind = "go_away"\ntime_left_s = 2', 'kind = "mute"\nat = "go_away"')
    side.engine(READY, HANDLE).until(2.0)
    assert side.kinds == ["setup_complete", "go_away"]
    assert side.finish == Finish("ABORTED", "The connection is at its end.")


def test_the_engines_end_waits_for_what_it_ended_with() -> None:
    side = Side('kind = "late"\nmessages = "turn_complete"\nby_s = 3').engine(DONE)
    side.injector.ended("OK", "", 0.0)
    assert side.until(2.9).done == []
    side.until(3.0)
    assert (side.kinds, side.finish) == (["turn_complete"], Finish("OK"))


def test_the_engines_error_does_not_wait() -> None:
    side = Side('kind = "late"\nmessages = "turn_complete"\nby_s = 3').engine(DONE)
    side.injector.ended("INVALID_ARGUMENT", "no", 0.0)
    assert side.pull().finish == Finish("INVALID_ARGUMENT", "no")


# ---- silence


def test_for_ever_mute() -> None:
    side = Side('kind = "mute"').engine(READY, HANDLE)
    side.injector.ended("ABORTED", "", 5.0)
    side.until(1_000.0)
    assert (side.kinds, side.finish) == (["setup_complete"], None)
    assert side.injector.held_bytes == 0
    assert side.client(typed()) == [True]
    assert side.injector.reads_at == 0.0


def test_mute_and_deaf_for_a_while() -> None:
    side = Side('kind = "mute"\nreads = false\nfor_s = 4').engine(READY, HANDLE)
    assert (side.injector.reads_at, side.kinds) == (4.0, ["setup_complete"])
    assert side.injector.held_bytes == HANDLE.ByteSize()
    side.injector.ended("OK", "", 0.0)
    assert side.until(3.9).done == []
    side.until(4.0)
    assert (side.kinds, side.finish) == (["setup_complete", "handle"], Finish("OK"))


def test_the_engines_error_while_mute_waits() -> None:
    side = Side('kind = "mute"\nfor_s = 4').engine(READY)
    side.injector.ended("ABORTED", "", 0.0)
    assert side.injector.acts_at == 4.0
    assert side.until(3.9).done == []
    assert side.until(4.0).finish == Finish("ABORTED")


# ---- resumption


def test_a_handle_is_refused_so_often() -> None:
    plan = planned('kind = "refuse_handle"\ntimes = 1\nstatus = "INTERNAL"\ndetails = "x"\nretry_s = 1')
    first = Side(plan=plan)
    assert first.client(setup()) == [True]
    second = Side(plan=plan, connection=2)
    assert second.client(setup("h")) == [False]
    assert second.finish == Finish("INTERNAL", "x", 1.0)
    assert Side(plan=plan, connection=3).client(setup("h")) == [True]


def test_an_end_before_a_handle_is_looked_at() -> None:
    side = Side('kind = "refuse_handle"', 'kind = "end"\nat = "setup"')
    assert side.client(setup("h")) == [False]
    assert len(side.told) == 1


def test_handles_expire() -> None:
    plan = planned('kind = "expire_handles"\nlifetime_s = 5')
    Side(plan=plan, now=10.0).engine(READY, wire.session_resumption_update(""), HANDLE)
    assert Side(plan=plan, connection=2, now=15.0).client(setup("h1")) == [True]
    assert Side(plan=plan, connection=3, now=15.1).client(setup("h1")) == [False]
    assert Side(plan=plan, connection=4, now=99.0).client(setup("unknown")) == [True]


def test_handles_are_held_while_their_connection_is_open_and_longer() -> None:
    plan = planned('kind = "hold_handles"\nfor_s = 5')
    Side(plan=plan).engine(HANDLE)
    second = Side(plan=plan, connection=2, now=100.0)
    assert second.client(setup("h1")) == [False]
    assert second.finish
    assert second.finish.status == "FAILED_PRECONDITION"
    plan.book.closed(1, 100.0)
    assert Side(plan=plan, connection=3, now=104.9).client(setup("h1")) == [False]
    assert Side(plan=plan, connection=4, now=105.0).client(setup("h1"), setup("unknown")) == [True, True]
    # Now it is the fourth's.
    assert Side(plan=plan, connection=5, now=200.0).client(setup("h1")) == [False]


def test_what_is_known_of_handles_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_module, "MAX_HANDLES", 2)
    book = HandleBook()
    for number in (1, 2, 3):
        book.given(f"h{number}", number, 0.0)
        book.closed(number, 1.0)
    assert [book.age_s(f"h{number}", 9.0) for number in (1, 2, 3)] == [0.0, 9.0, 9.0]
    assert book.free_for_s("h1", 9.0) == NEVER
    assert book.free_for_s("h3", 9.0) == 8.0


def test_no_handles_for_a_while() -> None:
    side = Side('kind = "no_handles"\nfor_s = 10').engine(READY, HANDLE)
    assert [message.session_resumption_update.resumable for message in side.sent[1:]] == [False]
    assert side.until(9.0).kinds == ["setup_complete", "handle"]
    # The one that was kept back is given as soon as it may be.
    assert side.until(10.0).sent[2:] == [HANDLE]
    assert side.engine(HANDLE).sent[3:] == [HANDLE]
    assert side.until(1_000.0).sent[4:] == []


def test_no_handles_while_a_turn_is_open_anyway() -> None:
    side = Side('kind = "no_handles"\nfor_s = 10').engine(HANDLE, wire.session_resumption_update(""))
    assert len(side.until(10.0).sent) == 2


def test_no_handles_until_a_turn() -> None:
    side = Side('kind = "no_handles"\nuntil_turn = 2').engine(HANDLE, DONE, HANDLE)
    assert not any(message.session_resumption_update.resumable for message in side.take())
    side.engine(DONE, wire.session_resumption_update("h2"))
    handles = [message.session_resumption_update.new_handle for message in side.sent]
    assert [one for one in handles if one] == ["h1", "h2"]


def test_no_handles_ever() -> None:
    side = Side('kind = "no_handles"').engine(HANDLE, DONE, HANDLE).until(1e6)
    assert not any(message.session_resumption_update.resumable for message in side.sent)


# ---- messages


FINAL = wire.heard("you", Hypothesis("thank you", 0.5, True))
PARTIAL = wire.heard("thank", Hypothesis("thank", 0.5, False))


def test_a_late_final_is_overtaken_by_the_answer() -> None:
    side = Side('kind = "late"\nmessages = "final_transcription"\nby_s = 2')
    side.engine(PARTIAL, FINAL, voice_of(160), MADE, DONE)
    assert side.kinds == ["input_transcription", "audio", "generation_complete", "turn_complete"]
    assert side.until(2.0).sent[4:] == [FINAL]


def test_lost_transcriptions() -> None:
    for messages, left in (("final_transcription", [PARTIAL]), ("input_transcription", [])):
        side = Side(f'kind = "lost"\nmessages = "{messages}"').engine(PARTIAL, FINAL).until(100.0)
        assert side.sent == left
        assert len(side.told) == 2 - len(left)


def test_what_is_in_order_waits_for_what_is_late() -> None:
    side = Side('kind = "late"\nmessages = "turn_complete"\nby_s = 3').engine(MADE, DONE, HANDLE, PARTIAL)
    assert side.take() == [MADE, PARTIAL]
    assert side.until(3.0).sent == [DONE, HANDLE]


def test_lost_ends_of_turns_count_for_the_answers() -> None:
    side = Side('kind = "lost"\nmessages = ["turn_complete", "generation_complete"]')
    side.engine(voice_of(160), MADE, DONE, HANDLE)
    assert side.kinds == ["audio", "handle"]
    side = Side('kind = "lost"\nmessages = "turn_complete"', 'kind = "end"\nat = "answer"\nnth = 2').engine(
        voice_of(160), DONE, voice_of(160)
    )
    assert side.kinds == ["audio"]
    assert side.finish


def test_nothing_comes_before_the_set_up_is_acknowledged() -> None:
    side = Side('kind = "late"\nmessages = "setup_complete"\nby_s = 3').engine(READY, HANDLE, PARTIAL)
    assert side.take() == []
    assert side.until(3.0).sent == [READY, HANDLE, PARTIAL]
    side = Side('kind = "lost"\nmessages = "setup_complete"').engine(READY, HANDLE, PARTIAL).until(1e6)
    assert (side.sent, side.injector.held_bytes) == ([], 0)


def test_messages_for_a_while_and_so_often() -> None:
    side = Side('kind = "lost"\nmessages = "turn_complete"\nat = "ready"\nfor_s = 5\ntimes = 2')
    side.engine(DONE, READY, DONE, DONE, DONE)
    assert side.kinds == ["turn_complete", "setup_complete", "turn_complete"]
    side = Side('kind = "lost"\nmessages = "turn_complete"\nfor_s = 5').until(5.0).engine(DONE)
    assert side.sent == [DONE]


def test_a_late_output_transcription_goes_apart_from_its_audio() -> None:
    side = Side('kind = "late"\nmessages = "output_transcription"\nby_s = 1').engine(
        voice_of(160, "Hi."), voice_of(160)
    )
    assert side.kinds == ["audio", "audio"]
    assert ms_of(side.sent) == [160, 160]
    assert not any(message.server_content.HasField("output_transcription") for message in side.sent)
    assert side.until(1.0).sent[2].server_content.output_transcription.text == "Hi."


def test_a_call_comes_twice() -> None:
    assert Side('kind = "twice"').engine(CALL, DONE).sent == [CALL, CALL, DONE]
    side = Side('kind = "twice"\nby_s = 2').engine(CALL, DONE)
    assert side.sent == [CALL, DONE]
    assert side.until(2.0).sent == [CALL, DONE, CALL]


# ---- tools


def test_a_result_that_is_ignored() -> None:
    side = Side('kind = "stuck_tool"').engine(CALL)
    assert side.client(result("other"), result(), result("")) == [True, False, False]
    # The engine gives up, and says so to nobody.
    side.engine(wire.tool_call_cancellation("c1"), voice_of(160), MADE, DONE, HANDLE, wire.go_away(1.0))
    assert side.kinds == ["tool_call", "go_away"]
    assert len(side.told) == 1


@pytest.mark.parametrize(
    "again",
    [
        typed(),
        client(clientContent={"turnComplete": True}),
        client(clientContent={}),
        wire.voice_activity(True, 0.0),
        PARTIAL,
        wire.interrupted(),
    ],
)
def test_a_stuck_call_ends_with_the_users_next_turn(again: Any) -> None:
    side = Side('kind = "stuck_tool"').engine(CALL)
    side.client(result())
    side.client(again) if isinstance(again, bytes) else side.engine(again)
    side.engine(DONE)
    assert side.sent[-1] == DONE
    # It is still the one that is ignored.
    assert side.client(result()) == [False]


def test_a_result_in_parts() -> None:
    side = Side('kind = "stuck_tool"\ntimes = 1\nat = "tool_result"\nnth = 2\nafter_s = 1').engine(CALL)
    assert side.client(result(willContinue=True), result(willContinue=True)) == [True, True]
    side.until(1.0)
    assert side.client(result()) == [False]
    side = Side('kind = "stuck_tool"\nat = "turn_complete"').engine(CALL)
    assert side.client(result(), result()) == [True, True]


def test_a_call_is_taken_back() -> None:
    side = Side('kind = "cancel_tool"\ncancel_s = 2', 'kind = "stuck_tool"').engine(CALL)
    side.client(result())
    side.until(2.0)
    assert side.sent[-1] == wire.tool_call_cancellation("c1")
    (inject,) = side.done
    assert isinstance(inject, Inject)
    assert wire.parse(inject.data) == [wire.ToolResult("c1", "", {}, True, False)]
    # The engine's end of the turn is heard.
    assert side.engine(MADE, DONE).kinds[-2:] == ["generation_complete", "turn_complete"]


def test_a_call_that_is_over_is_not_taken_back() -> None:
    side = Side('kind = "cancel_tool"\ncancel_s = 2').engine(CALL)
    side.client(result())
    assert (side.until(2.0).kinds, side.told) == (["tool_call"], [])
    side = Side('kind = "cancel_tool"\ncancel_s = 2').engine(CALL, wire.tool_call_cancellation("c1"))
    assert (side.until(2.0).kinds, side.done) == (["tool_call", "tool_call_cancellation"], [])


# ---- speed


def test_slow_reads() -> None:
    side = Side('kind = "slow_reads"\nspeed = 2\nfor_s = 100')
    side.client(typed())
    assert side.injector.reads_at == 0.0
    side.client(audio())
    assert side.injector.reads_at == 0.5
    side = Side('kind = "slow_reads"\nmessage_ms = 200')
    side.client(audio())
    assert side.injector.reads_at == 0.2
    side = Side('kind = "slow_reads"\nmessage_ms = 200\nspeed = 2')
    side.client(audio())
    assert side.injector.reads_at == 0.5
    side = Side('kind = "slow_reads"\nmessage_ms = 200\nfor_s = 1').until(1.0)
    side.client(audio())
    assert side.injector.reads_at == 0.0


def test_a_burst() -> None:
    side = Side('kind = "answer_audio"\nspeed = "burst"').engine(voice_of(160, "Hi."), voice_of(100))
    assert side.take() == []
    assert ms_of(side.engine(MADE).sent) == [160, 100, 0]
    side = Side('kind = "answer_audio"\nspeed = "burst"\nchunk_ms = 60000').engine(
        voice_of(160, "Hi."), voice_of(100, " There."), MADE
    )
    assert ms_of(side.sent) == [260, 0]
    assert side.sent[0].server_content.output_transcription.text == "Hi. There."


def test_real_time() -> None:
    side = Side('kind = "answer_audio"\nspeed = 1').engine(*[voice_of(100)] * 10, MADE, DONE, PARTIAL)
    assert side.kinds == ["audio", "input_transcription"]
    side.until(0.45)
    assert side.kinds.count("audio") == 5
    side.until(0.91)
    assert side.kinds[-3:] == ["audio", "generation_complete", "turn_complete"]


def test_an_interruption_drops_what_was_held() -> None:
    side = Side('kind = "answer_audio"\nspeed = 1\nchunk_ms = 30').engine(*[voice_of(100, "Hi.")] * 10)
    side.until(0.5).take()
    side.engine(wire.interrupted(), DONE)
    assert side.take() == [wire.interrupted(), DONE]
    assert side.injector.held_bytes == 0
    assert ms_of(side.engine(voice_of(70), MADE).until(100.0).sent) == [30, 30, 10, 0]


def test_pieces_of_another_size() -> None:
    side = Side('kind = "answer_audio"\nchunk_ms = 30\nfor_s = 10').engine(voice_of(100, "Hi."), voice_of(10))
    assert ms_of(side.take()) == [30, 30, 30]
    side.until(10.0).engine(voice_of(160))
    assert ms_of(side.take()) == [20, 160]


@given(
    sizes=st.lists(st.integers(1, 700), max_size=12),
    chunk_ms=st.none() | st.integers(1, 400),
    speed=st.sampled_from(["as_made", "burst"]) | st.floats(0.1, 10),
)
def test_no_audio_is_lost_and_all_of_it_in_order(sizes: list[int], chunk_ms: int | None, speed: Any) -> None:
    shape = AnswerAudio(speed=speed, chunk_ms=chunk_ms if speed != "as_made" else chunk_ms or 160)
    shaper = Shaper()
    pieces: list[Piece] = []
    whole, texts = b"", ""
    for number, size in enumerate(sizes):
        pcm = number.to_bytes(2, "little") * size
        whole, texts = whole + pcm, texts + f" {number}"
        pieces += shaper.add(pcm, f" {number}", number / 10, shape)
    pieces += shaper.flush(len(sizes) / 10)
    assert b"".join(piece.pcm for piece in pieces) == whole
    assert "".join(piece.text for piece in pieces) == texts
    assert [piece.due for piece in pieces] == sorted(piece.due for piece in pieces)
    assert all(len(piece.pcm) % 2 == 0 for piece in pieces)
    assert shaper.flush(99.0) == []


def test_nothing_is_sent_before_it_is_due() -> None:
    out = Outgoing()
    out.put(DONE, 1.0, in_order=True)
    assert [out.pop(0.9), out.pop(1.0), out.pop(2.0)] == [None, DONE, None]


@given(
    puts=st.lists(
        st.tuples(st.sampled_from([DONE, PARTIAL, HANDLE, MADE]), st.floats(0, 5), st.booleans()), max_size=20
    )
)
def test_what_is_in_order_stays_so(puts: list[tuple[Any, float, bool]]) -> None:
    out = Outgoing()
    expected = []
    for number, (message, due, in_order) in enumerate(puts):
        one = type(message)()
        one.CopyFrom(message)
        one.usage_metadata.total_token_count = number + 1
        out.put(one, due, in_order=in_order)
        expected += [number] if in_order else []
    popped = []
    while out:
        now = out.due_at
        assert out.pop(now - 0.001) is None
        message = out.pop(now)
        assert message is not None
        popped.append(message.usage_metadata.total_token_count - 1)
    assert [number for number in popped if puts[number][2]] == expected
    assert len(popped) == len(puts)
    assert (out.due_at, out.held_bytes, out.pop(NEVER)) == (NEVER, 0, None)


FAULTS = [
    'kind = "mute"\nat = "turn_end"\nnth = "each"\nfor_s = 0.5',
    'kind = "late"\nmessages = ["turn_complete", "audio"]\nby_s = 0.7\nprobability = 0.5',
    'kind = "late"\nmessages = ["final_transcription", "output_transcription"]\nby_s = 2',
    'kind = "twice"\nmessages = ["tool_call", "handle"]\nby_s = 0.3',
    'kind = "answer_audio"\nspeed = 1\nchunk_ms = 70\nat = "turn_complete"\nfor_s = 5',
    'kind = "answer_audio"\nspeed = "burst"',
    'kind = "stuck_tool"\nprobability = 0.5',
    'kind = "cancel_tool"\ncancel_s = 0.4',
    'kind = "no_handles"\nfor_s = 1\nat = "tool_call"\nnth = "each"',
    'kind = "slow_reads"\nmessage_ms = 100',
    'kind = "go_away"\nat = "answer"\nanswer_ms = 90\nthen = "never"\nnth = "each"',
    'kind = "go_away"\nafter_s = 20',
    'kind = "end"\nat = "audio"\naudio_s = 8',
]
EVENTS: list[Any] = [READY, HANDLE, wire.session_resumption_update(""), CALL, DONE, MADE, PARTIAL, FINAL]
EVENTS += [wire.interrupted(), voice_of(160, "Hi."), voice_of(30), wire.voice_activity(True, 5.0)]
EVENTS += [wire.voice_activity(False, 9.0), wire.tool_call_cancellation("c1"), said("x")]
EVENTS += [setup(), setup("h1"), audio(), typed(), END_TURN, result(), 0.1, 1.0, 7.0]


@given(
    faults=st.lists(st.sampled_from(FAULTS), min_size=1, max_size=6),
    events=st.lists(st.sampled_from(EVENTS), max_size=40),
)
def test_whatever_comes_time_never_stands_still(faults: list[str], events: list[Any]) -> None:
    side = Side(*faults)
    for event in events:
        if isinstance(event, bytes):
            side.client(event)
        elif isinstance(event, float):
            side.until(side.now + event)
        else:
            side.engine(event)
        assert side.injector.acts_at > side.now or side.injector.sends_at <= side.now
    side.until(side.now + 100.0)
    assert side.injector.held_bytes == 0
    side.injector.ended("OK", "", side.now)
    side.until(side.now + 100.0)
    assert side.finish
    assert len([one for one in side.done if isinstance(one, Finish)]) == 1
