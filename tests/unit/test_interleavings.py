"""Whatever comes in whatever order, a session goes on: the next thing that is asked is answered.

The model here does what Gemini does, on paper: it answers, calls a tool, is interrupted, and what it has sent
is on its way while the client does other things.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antiphon import extension, frames, live, messages
from antiphon.errors import GatewayError
from antiphon.session import Limits, Session, State
from antiphon.session.effects import Abort, Close, Effect, Encode, Open, Run, Send, SendBinary, Verify
from antiphon.tools.call import ClientTool, PythonTool, Tool
from grammar import Grammar

NAMES = ("told", "mine", "yours")
SETUP = live.Setup("en-US", "", tuple(live.Function(name, "...") for name in NAMES))
TOOLS: dict[str, Tool] = {"mine": PythonTool("a.b:c", 5.0), "yours": ClientTool(5.0)}
LIMITS = Limits(idle_timeout_s=1e9, max_duration_s=1e9, unread_s=1e9)
PCM = b"\x01\x02" * 2400


class Model:
    """A conversation with Gemini: what it has sent is `sent`, what it will send uninterrupted `plan`."""

    def __init__(self, setup: live.Setup, name: str) -> None:
        self.name = name
        self.manual = setup.push_to_talk
        self.sent: deque[live.LiveEvent] = deque()
        self.plan: deque[live.LiveEvent] = deque()
        self.calls: set[str] = set()
        self.cancelled: set[str] = set()
        self.count = 0
        self.heard = False
        self.active = False

    def take(self, item: live.LiveInput) -> None:
        match item:
            case live.Text(text=text):
                self.interrupt()
                self.answer(text)
            case live.Audio():
                assert not self.manual or self.active, "audio outside of an activity"
                if not self.manual and not self.heard:
                    self.interrupt()
                    self.sent += [live.VoiceActivity(True, 0.0), live.Heard("hel")]
                self.heard = True
            case live.AudioEnd():
                assert not self.manual, "an end of the stream in manual mode"
                self.speech_over()
            case live.ActivityStart():
                assert self.manual
                assert not self.active, "a start in an activity"
                self.active = True
                self.interrupt()
            case live.ActivityEnd():
                assert self.active, "an end without a start"
                self.active = False
                if self.heard:
                    self.sent.append(live.Heard("hel"))
                self.speech_over()
            case live.Interrupt():
                self.interrupt()
            case live.ToolResult(call_id=call_id):
                assert call_id in self.calls | self.cancelled, "a result that nobody asked for, or the second"
                if call_id in self.calls:
                    self.answer("done")
                self.calls.discard(call_id)
                self.cancelled.discard(call_id)

    def speech_over(self) -> None:
        if self.heard:
            self.heard = False
            self.sent += [live.VoiceActivity(False, 1.0), live.Heard("lo")]
            self.answer("hello")

    def interrupt(self) -> None:
        if self.calls:
            self.sent.append(live.Cancelled(tuple(sorted(self.calls))))
            self.cancelled |= self.calls
            self.calls.clear()
        if self.plan:
            self.plan.clear()
            self.sent += [live.Interrupted(), live.TurnEnded()]

    def answer(self, text: str) -> None:
        self.count += 1
        name = text.removeprefix("call ")
        if name != text:
            call_id = f"{self.name}{self.count}"
            self.calls.add(call_id)
            self.sent.append(live.Called(call_id, name, {}))
            return
        for word in (f"{text} ", "a ", "b."):
            self.plan += [live.Said(word), live.Spoke(PCM)]
        used = live.Metered(self.count, self.count, 2 * self.count)
        self.plan += [live.Generated(), used, live.TurnEnded()]


class Scene:
    """A client, its session, its workers and its model."""

    def __init__(self, *, is_extended: bool) -> None:
        self.now = 1e6
        self.grammar = Grammar()
        self.got: list[dict[str, Any]] = []
        self.model: Model | None = None
        self.opening: live.Setup | None = None
        self.encodings: deque[Encode] = deque()
        self.running: dict[str, Run] = {}
        self.streaming = self.pressed = False
        self.sequence = 0
        self.session = Session("s", SETUP, LIMITS, self.now, extended=is_extended, tools=TOOLS)
        self.receive(messages.Auth(timestamp=0, token="t"))
        self.perform(self.session.authenticated("alice", float("inf"), self.now))

    def receive(self, message: Any) -> None:
        self.perform(self.session.receive(message, self.now))

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(message=message):
                    self.note(msgspec.json.decode(messages.encode(message)))
                case SendBinary(data=data):
                    frames.unpack(data, frames.AUDIO_RESPONSE)
                    self.note({"type": "binary"})
                case Open(setup=setup):
                    self.model, self.opening = None, setup
                case Encode():
                    self.encodings.append(effect)
                case Run(call=call):
                    self.running[call.call_id] = effect
                case Abort(call_id=call_id):
                    del self.running[call_id]
                case Close() | Verify():
                    pass

    def note(self, message: dict[str, Any]) -> None:
        if self.session.extended:
            self.grammar.take(message)
        else:
            assert message["type"] in ("auth_success", "recognition_result", "audio_response", "error")
        self.got.append(message)

    # ---- what may happen

    def open(self) -> None:
        if self.opening:
            self.model, self.opening = Model(self.opening, "ab"[self.opening.push_to_talk]), None
            self.perform(self.session.opened(self.now))

    def feed(self) -> bool:
        if self.model and (item := self.session.next_input(self.now)):
            self.model.take(item)
            return True
        return False

    def generate(self) -> None:
        if self.model and self.model.plan:
            self.model.sent.append(self.model.plan.popleft())

    def deliver(self) -> None:
        if self.model and self.model.sent:
            self.perform(self.session.upstream(self.model.sent.popleft(), self.now))

    def encode(self) -> None:
        if self.encodings:
            piece = self.encodings.popleft().piece
            self.perform(self.session.encoded(piece, b"encoded" * (piece.data is None), self.now))

    def work(self) -> None:
        for call_id in list(self.running)[:1]:
            del self.running[call_id]
            self.perform(self.session.ran(call_id, {"output": "done"}, self.now))

    def start(self) -> None:
        config = extension.StreamConfig(sample_rate=16_000, format="LINEAR16", language="en-US")
        self.receive(extension.AudioStreamStart(timestamp=0, config=config))
        self.streaming = True

    def chunk(self) -> None:
        self.receive(messages.AudioChunk(timestamp=0, data=PCM, sequence=self.sequence))
        self.sequence += 1

    def end(self) -> None:
        self.receive(messages.AudioStreamEnd(timestamp=0, duration=0))
        self.streaming, self.sequence = False, 0

    def press(self) -> None:
        self.receive(extension.ActivityStart())

    def release(self) -> None:
        self.receive(extension.ActivityEnd())

    def interrupt(self) -> None:
        self.receive(extension.Interrupt())

    def interrupt_last(self) -> None:
        self.receive(extension.Interrupt(response_id=self.last_response))

    def mark(self) -> None:
        self.receive(extension.PlaybackMark(response_id=self.last_response, played_ms=150))

    def result(self) -> None:
        called = [m["callId"] for m in self.got if m["type"] == "tool_call"]
        self.receive(extension.ToolResult(call_id=called[-1] if called else "c0", result=1))

    def first_result(self) -> None:
        called = [m["callId"] for m in self.got if m["type"] == "tool_call"]
        self.receive(extension.ToolResult(call_id=called[0] if called else "c0", result=1))

    def command(self, text: str = "hi") -> None:
        self.receive(messages.Command(timestamp=0, command=text))

    def hello(self) -> None:
        wanted = ("audio/flac",)
        self.receive(extension.ClientHello(output_formats=wanted, playback_buffer_ms=5000))

    def hello_marks(self) -> None:
        self.receive(extension.ClientHello(features=("playback_mark",), output_formats=(), binary_audio=True))

    def hold(self) -> None:
        self.perform(self.session.hold(True, self.now))

    def go_on(self) -> None:
        self.perform(self.session.hold(False, self.now))

    def wait(self, duration_s: float = 0.3) -> None:
        self.open()  # a model that takes nothing is given up, which is not what is tried here
        while self.feed():
            pass
        until = self.now + duration_s
        while (at := self.session.deadline()) is not None and at <= until:
            self.now = max(self.now, at)
            self.perform(self.session.expire(self.now))
        self.now = until

    def wait_long(self) -> None:
        self.wait(6.0)

    @property
    def last_response(self) -> str:
        return next((m["responseId"] for m in reversed(self.got) if "responseId" in m), "r1")

    # ---- in the end

    def settle(self) -> None:
        """Let everything happen that is on its way."""
        for _ in range(25):
            self.open()
            for _ in range(12):
                for step in (self.feed, self.generate, self.deliver, self.encode, self.work):
                    step()
            self.wait(0.5)

    def prove_alive(self) -> None:
        """Have a typed turn answered, and everything be over after it."""
        self.go_on()
        self.settle()
        if self.model and self.model.active:
            self.release()
        self.settle()
        before = len(self.got)
        self.command("still there")
        self.settle()
        later = self.got[before:]
        texts = [m["text"] for m in later if m["type"] == "audio_response"]
        updates = [m["text"] for m in later if m["type"] == "transcript_update"]
        assert "still there " in texts or "still there" in updates, later
        if self.session.extended:
            dones = [m for m in later if m["type"] == "response_done"]
            assert dones[-1]["status"] == "completed", later
            assert "still there a b." in updates
            assert [m for m in later if m["type"] == "usage"]
        assert self.model is not None
        assert not self.model.calls, "a call that nobody answers"
        assert not self.running, "a worker that nobody waits for"


Step = Callable[["Scene"], object]

BASE: list[Step] = [
    *(
        Scene.open,
        Scene.feed,
        Scene.feed,
        Scene.generate,
        Scene.generate,
        Scene.deliver,
        Scene.deliver,
        Scene.work,
    ),
    *(Scene.start, Scene.chunk, Scene.chunk, Scene.end, Scene.command, Scene.wait),
    *(lambda scene, name=name: scene.command(f"call {name}") for name in ("told", "mine", "yours", "none")),
]
EXTENDED: list[Step] = [
    *BASE,
    *(
        Scene.press,
        Scene.press,
        Scene.release,
        Scene.release,
        Scene.interrupt,
        Scene.interrupt_last,
        Scene.mark,
    ),
    *(
        Scene.result,
        Scene.first_result,
        Scene.hello,
        Scene.hello_marks,
        Scene.hold,
        Scene.go_on,
        Scene.encode,
    ),
    Scene.wait_long,
]


@pytest.mark.slow
@settings(max_examples=1000, deadline=None)
@given(st.lists(st.sampled_from(EXTENDED), min_size=10, max_size=80))
def test_no_interleaving_wedges_a_session(steps: list[Step]) -> None:
    scene = Scene(is_extended=True)
    for step in steps:
        step(scene)
    scene.prove_alive()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(BASE), max_size=60))
def test_nor_one_of_a_base_client(steps: list[Step]) -> None:
    scene = Scene(is_extended=False)
    for step in steps:
        step(scene)
    scene.prove_alive()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(EXTENDED), max_size=40), st.lists(st.sampled_from(EXTENDED), max_size=10))
def test_a_client_that_is_gone_leaves_nothing(steps: list[Step], more: list[Step]) -> None:
    scene = Scene(is_extended=True)
    for step in steps:
        step(scene)
    scene.perform(scene.session.disconnected(scene.now))
    told = len(scene.got)
    while scene.model and (item := scene.session.next_input(scene.now)):
        scene.model.take(item)
    assert not (scene.model and scene.model.active), "the button is still pressed"
    for step in more:
        step(scene)
    assert scene.session.failed(GatewayError("UPSTREAM_LOST"), scene.now) == []  # type: ignore[arg-type]
    assert len(scene.got) == told
    assert scene.session.state is State.CLOSED
    assert scene.session.deadline() is None


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(BASE), max_size=60))
def test_a_base_client_is_told_what_an_extended_one_is_told_less_the_extensions(
    steps: list[Step],
) -> None:
    told = []
    for is_extended in (False, True):
        scene = Scene(is_extended=is_extended)
        for step in steps:
            step(scene)
            scene.open()
        base = ("auth_success", "recognition_result", "audio_response", "error")
        told.append([m for m in scene.got if m["type"] in base])
    assert told[0] == told[1]
