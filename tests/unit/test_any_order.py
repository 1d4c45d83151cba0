"""Whatever a model sends and a client says, sensible or not: the client is told in the documented order."""

from __future__ import annotations

from collections import deque
from itertools import count
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon import extension, live, messages
from antiphon.errors import ErrorCode, GatewayError
from antiphon.extension import ActivityEnd, ActivityStart, ClientHello, Interrupt, Ping, PlaybackMark
from antiphon.session import Limits, Session, State
from antiphon.session.effects import Abort, Effect, Encode, Run, Send, SendBinary
from antiphon.tools.call import ClientTool, PythonTool, Tool
from grammar import Grammar
from tries import tries

NOW = 1_000_000.0
PCM = b"\x01\x02" * 7000
TOOLS: dict[str, Tool] = {"light": ClientTool(3.0), "time": PythonTool("a.b:c", 3.0)}
SETUP = live.Setup("en-US", "", tuple(live.Function(name, "...") for name in ("light", "time", "next")))
LIMITS = Limits(uplink_s=1e6, idle_timeout_s=1e6, max_duration_s=1e6, protocol_errors_a_minute=1000)
CONFIG = extension.StreamConfig(sample_rate=48_000, format="LINEAR16", language="en-GB")

words = st.sampled_from(["", " ", "go", " on", "naïve\n"])
calls = st.sampled_from(["c1", "c2", "c3"])
responses = st.sampled_from(["r1", "r2", "r3", "x"])
events = st.one_of(
    st.builds(live.Spoke, st.sampled_from([b"", b"\1", PCM, PCM * 4]), st.sampled_from([16_000, 24_000])),
    st.builds(live.Said, words),
    st.builds(live.Heard, words, st.just(0.5), st.booleans(), st.none() | words),
    st.builds(live.VoiceActivity, st.booleans(), st.none() | st.floats(0, 1e6)),
    st.builds(live.Called, calls, st.sampled_from(["light", "time", "next", "explode"]), st.just({})),
    st.builds(live.Cancelled, st.lists(calls, max_size=2).map(tuple)),
    st.builds(live.Metered, st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
    st.sampled_from([live.Generated(), live.TurnEnded(), live.Interrupted(), live.HandleChanged("h")]),
)
said = st.one_of(
    st.builds(Interrupt, response_id=responses | st.just(msgspec.UNSET)),
    st.builds(PlaybackMark, response_id=responses, played_ms=st.sampled_from([0.0, 200.0, 1e9])),
    st.builds(extension.ToolResult, call_id=calls, result=st.just(1)),
    st.builds(ClientHello, output_formats=st.sampled_from([("audio/wav",), ()])),
    st.builds(ClientHello, binary_audio=st.booleans(), playback_buffer_ms=st.sampled_from([0.0, 250.0, 1e9])),
    st.sampled_from(
        [
            *(ActivityStart(), ActivityEnd(), Ping(id=1), messages.Command(timestamp=0, command="hi")),
            *(
                extension.AudioStreamStart(timestamp=0, config=CONFIG),
                ClientHello(features=("playback_mark",)),
            ),
            *(messages.AudioStreamEnd(timestamp=0, duration=0), "chunk"),
        ]
    ),
)
shell = st.sampled_from(["open", "open", "take", "encode", "work", "hold", "go on", 0.02, 0.3, 1.2, 4.0])


class Wire:
    """A session, whose shell does what it is told, sometimes, and a client that checks the order."""

    def __init__(self) -> None:
        self.now = self.told_at = NOW
        self.grammar = Grammar()
        self.encodings: deque[Encode] = deque()
        self.running: list[str] = []
        self.sequence = count()
        self.session = Session("s", SETUP, LIMITS, NOW, extended=True, tools=TOOLS)
        self.perform(self.session.receive(messages.Auth(timestamp=0, token="t"), NOW))
        self.perform(self.session.authenticated("alice", float("inf"), NOW))

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(message=message):
                    self.told(msgspec.json.decode(messages.encode(message)))
                case SendBinary():
                    self.told({"type": "binary"})
                case Encode():
                    self.encodings.append(effect)
                case Run(call=call):
                    self.running.append(call.call_id)
                case Abort(call_id=call_id):
                    self.running.remove(call_id)
                case _:
                    pass

    def told(self, message: dict[str, Any]) -> None:
        assert self.now - self.told_at <= LIMITS.heartbeat_s, "nothing was heard of the server for too long"
        self.told_at = self.now
        self.grammar.take(message)

    def wait(self, duration_s: float) -> None:
        until = self.now + duration_s
        for _ in range(1000):
            at = self.session.deadline()
            if at is None or at > until:
                break
            self.now = max(self.now, at)
            self.perform(self.session.expire(self.now))
        else:
            raise AssertionError("the deadline does not move")
        self.now = until

    def step(self, step: Any) -> None:
        session, now = self.session, self.now
        match step:
            case float():
                self.wait(step)
            case "open":
                self.perform(session.opened(now))
            case "take":
                while session.next_input(now):
                    pass
            case "encode":
                if self.encodings:
                    self.perform(session.encoded(self.encodings.popleft().piece, b"data", now))
            case "work":
                if self.running:
                    self.perform(session.ran(self.running.pop(0), {}, now))
            case "hold" | "go on":
                self.perform(session.hold(step == "hold", now))
            case "chunk":
                chunk = messages.AudioChunk(timestamp=0, sequence=next(self.sequence), data=PCM)
                self.perform(session.receive(chunk, now))
            case msgspec.Struct() if type(step).__module__ == live.__name__:
                if session.state is State.LIVE:
                    self.perform(session.upstream(step, now))  # type: ignore[arg-type]
            case _:
                self.perform(session.receive(step, now))


@settings(max_examples=tries(300), deadline=None)
@given(st.lists(events | said | shell, max_size=60))
def test_every_order_is_a_documented_one(steps: list[Any]) -> None:
    wire = Wire()
    for step in ["open", messages.Command(timestamp=0, command="hi"), "open", *steps]:
        wire.step(step)
    wire.perform(wire.session.failed(GatewayError(ErrorCode.UPSTREAM_LOST), wire.now))
    told = wire.grammar.messages
    begun = [message["responseId"] for message in told if message["type"] == "response_started"]
    assert [message["responseId"] for message in told if message["type"] == "response_done"] == begun
    finals = {m["utteranceId"]: m["isFinal"] for m in told if m["type"] == "transcript_update"}
    assert all(finals[response_id] for response_id in begun if response_id in finals)
