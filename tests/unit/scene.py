"""A client, its session, its workers, a model and a store, on paper, and all that may happen between them.

The model does what Gemini does: it answers, calls a tool, is interrupted, and what it has sent is on its way
while the client does other things. What is given to it is on its way, too, and lost with its connection. The
client counts what it gets, keeps what it sends, and resumes. The store keeps what a node writes down of a
session, as the session's logs say.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from antiphon import extension, frames, live, messages
from antiphon.errors import ErrorCode, GatewayError
from antiphon.session import Limits, Session, State
from antiphon.session.effects import (
    Abort,
    Again,
    Close,
    Effect,
    Encode,
    Find,
    HangUp,
    Open,
    Run,
    Send,
    SendBinary,
    Verify,
)
from antiphon.session.machine import Mark
from antiphon.session.outbox import Frame
from antiphon.session.presence import digest
from antiphon.tools.call import ClientTool, PythonTool, Tool
from grammar import Grammar

NAMES = ("told", "mine", "yours")
SETUP = live.Setup("en-US", "", tuple(live.Function(name, "...") for name in NAMES))
TOOLS: dict[str, Tool] = {"mine": PythonTool("a.b:c", 5.0), "yours": ClientTool(5.0)}
LIMITS = Limits(idle_timeout_s=1e9, max_duration_s=1e9, unread_s=1e9)
PCM = b"\x01\x02" * 2400
MAX_FAILURES = 3


def sound(number: int) -> bytes:
    """Return 150 ms of loud audio that tells which chunk it is."""
    return (1000 + number).to_bytes(2, "little") * 2400


class Model:
    """A connection to Gemini: what it has sent is `sent`, what it will send uninterrupted `plan`.

    With a handle it knows the calls that were made `before`, and waits for the results of those `carried`.
    """

    def __init__(self, setup: live.Setup, name: str, before: set[str], carried: set[str]) -> None:
        self.name = name
        self.manual = setup.push_to_talk
        self.inbox: deque[live.LiveInput] = deque()
        self.sent: deque[live.LiveEvent] = deque()
        self.plan: deque[live.LiveEvent] = deque()
        self.before = before if setup.handle else set()
        self.calls = carried if setup.handle else set()
        self.cancelled: set[str] = set()
        self.chunks: set[int] = set()
        self.count = 0
        self.heard = False
        self.active = False

    def take(self, item: live.LiveInput) -> None:
        match item:
            case live.Text(text=text):
                self.interrupt()
                self.answer(text)
            case live.Audio(pcm=pcm):
                assert not self.manual or self.active, "audio outside of an activity"
                if not self.manual and not self.heard:
                    self.interrupt()
                    self.sent += [live.VoiceActivity(True, 0.0), live.Heard("hel")]
                self.heard = True
                self.chunks |= {int(sample) - 1000 for sample in np.unique(np.frombuffer(pcm, "<i2"))}
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
                known = self.calls | self.cancelled | self.before
                assert call_id in known, "a result that nobody asked for, or the second"
                if call_id not in self.cancelled:
                    self.answer("done")
                for calls in (self.calls, self.cancelled, self.before):
                    calls.discard(call_id)

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
            call_id = f"{self.name}-{self.count}"
            self.calls.add(call_id)
            self.sent.append(live.Called(call_id, name, {}))
            return
        self.plan.append(live.HandleChanged(None))
        for word in (f"{text} ", "a ", "b."):
            self.plan += [live.Said(word), live.Spoke(PCM)]
        used = live.Metered(self.count, self.count, 2 * self.count)
        self.plan += [live.Generated(), used, live.TurnEnded(), live.HandleChanged(f"{self.name}-h")]


@dataclass
class Saved:
    """What a store has of a session, and all that was told up to then."""

    state: bytes
    logs: list[list[bytes]]
    told: list[bytes]
    mark: Mark
    ends: tuple[int, ...]


@dataclass
class Client:
    """A client of `antiphon.v1`: it counts what it gets and keeps what it sends, over all its connections."""

    token: str = "first"
    count: int = 0
    got: list[bytes] = field(default_factory=list)
    sent: list[Any] = field(default_factory=list)
    pings: list[Any] = field(default_factory=list)
    acked: int = -1
    lossy: bool = False
    tokens: int = 0
    resumed: bool = True
    """Whether it has been told where to go on; before that it sends nothing."""


class Scene:
    """All of them. A client that is `resumable` comes back; what it gets is checked against the grammar."""

    def __init__(self, *, is_extended: bool, resumable: bool = False, saved: bool = False) -> None:
        self.now = 1e6
        self.grammar = Grammar()
        self.got: list[dict[str, Any]] = []
        self.client = Client()
        self.wire: deque[tuple[bytes, bool]] = deque()
        self.reads = True
        self.attached = True
        self.model: Model | None = None
        self.opening: live.Setup | None = None
        self.opened = 0
        self.setups: list[live.Setup] = []
        self.known: set[str] = set()
        self.carried: set[str] = set()
        self.heard: set[int] = set()
        self.failures = 0
        self.renewing = False
        self.encodings: deque[Encode] = deque()
        self.running: dict[str, Run] = {}
        self.streaming = self.pressed = False
        self.sequence = 0
        self.closed: list[int] = []
        self.truth: list[bytes] = []
        """Every message of the session to its client, in order, as far as a node knew of it."""
        self.stored: Saved | None = None
        self.writing: Saved | None = None
        self.whole = False
        """Whether all is written down, whatever is: until that is safe."""
        self.untold: deque[tuple[bytes, bool]] = deque()
        self.is_extended = is_extended
        self.saved = saved
        self.session = self.new_session()
        self.perform(self.session.receive(messages.Auth(timestamp=0, token="t"), self.now))
        token = self.client.token if resumable else ""
        self.session.saved_elsewhere = saved
        self.perform(self.session.authenticated("alice", float("inf"), self.now, token))
        self.save()

    def new_session(self) -> Session:
        return Session("s", SETUP, LIMITS, self.now, extended=self.is_extended, tools=TOOLS)

    def receive(self, message: Any) -> None:
        """Have the client send a message; one that is gone keeps it until it is back."""
        self.client.sent.append(message)
        if self.attached and self.client.resumed:
            self.perform(self.session.receive(message, self.now))

    def perform(self, effects: list[Effect]) -> None:
        self.log()
        for effect in effects:
            match effect:
                case Send(message=message, data=data):
                    self.tell(messages.encode(message) if data is None else data, False)
                case SendBinary(data=data):
                    self.tell(data, True)
                case Again(frame=frame):
                    self.tell(frame.data, frame.binary)
                case Open(setup=setup):
                    self.leave_model()
                    self.opening = setup
                    self.setups.append(setup)
                case HangUp():
                    self.leave_model()
                    self.opening = None
                case Encode():
                    self.encodings.append(effect)
                case Run(call=call):
                    self.running[call.call_id] = effect
                case Abort(call_id=call_id):
                    del self.running[call_id]
                case Close(code=code):
                    self.closed.append(code)
                    if self.session.state is not State.CLOSED:
                        self.attached = False
                        self.read()
                case Verify() | Find():
                    pass
        if self.reads:
            self.read()

    def log(self) -> None:
        """Note what the session has told, whether or not anybody is there to hear it."""
        if self.is_extended:
            outbox = self.session.logs[1]
            new = outbox.entries(len(self.truth) + 1)
            assert len(self.truth) + len(new) + 1 == outbox.end
            self.truth += [msgspec.msgpack.decode(entry, type=Frame).data for entry in new]

    def tell(self, data: bytes, binary: bool) -> None:
        (self.untold if self.saved else self.wire).append((data, binary))

    def read(self) -> None:
        """Let the client read what has come."""
        while self.wire:
            data, binary = self.wire.popleft()
            if binary:
                frames.unpack(data, frames.AUDIO_RESPONSE)
            self.note(data, {"type": "binary"} if binary else msgspec.json.decode(data))

    def note(self, data: bytes, message: dict[str, Any]) -> None:
        client = self.client
        if self.is_extended:
            self.grammar.take(message)
        else:
            assert message["type"] in ("auth_success", "recognition_result", "audio_response", "error")
        if message["type"] not in ("pong", "resumed"):
            client.got.append(data)
            client.count += 1
        match message["type"]:
            case "ping":
                client.pings.append(message["id"])
            case "audio_ack":
                client.acked = max(client.acked, message["sequence"])
            case "resumed":
                client.token = message["resumeToken"]
                client.lossy |= message["lossy"]
                assert message["received"] <= len(client.sent)
                again = client.sent[message["received"] :]
                for kept in again:
                    safe = isinstance(kept, messages.AudioChunk) and kept.sequence <= client.acked
                    assert not safe, "audio that was acknowledged, and might be forgotten, is asked for"
                del client.sent[message["received"] :]
                client.resumed = True
                self.got.append(message)
                for kept in again:
                    self.receive(kept)
                return
            case "session_rotated":
                assert message["lostAudioMs"] == 0
        self.got.append(message)

    # ---- what may happen: the model

    def open(self) -> None:
        if self.opening:
            setup, self.opening = self.opening, None
            self.opened += 1
            name = f"m{self.opened}"
            self.model = Model(setup, name, set(self.known), set(self.carried))
            self.failures, self.renewing = 0, False
            self.perform(self.session.opened(self.now))

    def feed(self) -> bool:
        """Give the model the next item, which is on its way with that."""
        if self.model and (item := self.session.next_input(self.now)):
            self.model.inbox.append(item)
            return True
        return False

    def hear(self) -> bool:
        """Let the model have the next item of what is on its way."""
        if self.model and self.model.inbox:
            self.model.take(self.model.inbox.popleft())
            self.heard |= self.model.chunks
            return True
        return False

    def arrive(self) -> bool:
        """Let all that is on its way arrive, and be told so."""
        if not self.model:
            return False
        while self.hear():
            pass
        was_in_flight = self.session.in_flight
        self.session.arrived(self.session.given, self.now)
        return was_in_flight and not self.session.in_flight

    def pour(self) -> None:
        while self.feed() or self.arrive():
            pass

    def generate(self) -> None:
        if self.model and self.model.plan:
            self.model.sent.append(self.model.plan.popleft())

    def deliver(self) -> None:
        if self.model and self.model.sent:
            event = self.model.sent.popleft()
            if isinstance(event, live.Called):
                self.known.add(event.call_id)
            self.perform(self.session.upstream(event, self.now))

    def leave_model(self) -> None:
        if self.model:
            self.carried = {call_id for call_id in self.model.calls if call_id in self.known}
            self.model = None

    def lose_model(self, code: ErrorCode = ErrorCode.UPSTREAM_LOST) -> None:
        if self.model:
            self.now += 5.1  # a connection that breaks at once, again and again, is given up
            self.renewing = True
            self.leave_model()
            self.perform(self.session.lost(GatewayError(code), self.now))

    def fail_to_open(self) -> None:
        if self.opening and self.renewing and self.failures < MAX_FAILURES:
            self.failures += 1
            self.opening = None
            self.perform(self.session.lost(GatewayError(ErrorCode.UPSTREAM_UNAVAILABLE), self.now))

    def go_away(self) -> None:
        if self.model:
            self.perform(self.session.upstream(live.GoingAway(3.0), self.now))

    # ---- the workers

    def encode(self) -> None:
        if self.encodings:
            piece = self.encodings.popleft().piece
            self.perform(self.session.encoded(piece, b"encoded" * (piece.data is None), self.now))

    def work(self) -> None:
        for call_id in list(self.running)[:1]:
            del self.running[call_id]
            self.perform(self.session.ran(call_id, {"output": "done"}, self.now))

    # ---- the client

    def start(self) -> None:
        config = extension.StreamConfig(sample_rate=16_000, format="LINEAR16", language="en-US")
        self.receive(extension.AudioStreamStart(timestamp=0, config=config))
        self.streaming = True

    def chunk(self) -> None:
        self.receive(messages.AudioChunk(timestamp=0, data=sound(self.sequence), sequence=self.sequence))
        self.sequence += 1

    def end(self) -> None:
        self.receive(messages.AudioStreamEnd(timestamp=0, duration=0))
        self.streaming = False

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
        features = ("playback_mark", "response_timing")
        self.receive(extension.ClientHello(features=features, output_formats=(), binary_audio=True))

    def pong(self) -> None:
        """Answer the pings."""
        pings, self.client.pings = self.client.pings, []
        for ping_id in pings:
            if self.attached:
                self.perform(self.session.receive(extension.Pong(id=ping_id), self.now))

    def hold(self) -> None:
        self.perform(self.session.hold(True, self.now))

    def go_on(self) -> None:
        self.perform(self.session.hold(False, self.now))

    def stop_reading(self) -> None:
        self.reads = False

    def read_on(self) -> None:
        self.reads = True
        self.read()

    def wait(self, duration_s: float = 0.3) -> None:
        self.open()  # a model that takes nothing is given up, which is not what is tried here
        self.pour()
        until = self.now + duration_s
        for _ in range(10_000):
            at = self.session.deadline()
            if at is None or at > until:
                break
            self.now = max(self.now, at)
            self.perform(self.session.expire(self.now))
            self.open()
            self.pour()
        else:
            raise AssertionError("the deadline does not move")
        self.now = until

    def wait_long(self) -> None:
        self.wait(6.0)

    @property
    def last_response(self) -> str:
        return next((m["responseId"] for m in reversed(self.got) if "responseId" in m), "r1")

    # ---- the client's connection

    def cut(self, *, clean: bool = False) -> None:
        """Lose the connection, with all that was on its way."""
        if self.attached:
            self.attached = False
            self.wire.clear()
            self.untold.clear()
            self.perform(self.session.disconnected(self.now, clean=clean))

    def leave(self) -> None:
        self.cut(clean=True)

    def be_slow(self) -> None:
        """Be closed by the gateway."""
        if self.attached:
            self.perform(self.session.failed(GatewayError(ErrorCode.SESSION_CLIENT_SLOW), self.now))

    def attach(self) -> None:
        """Come back, to the node that has the session."""
        if self.attached:
            return
        client, session = self.client, self.session
        self.wire.clear()
        self.untold.clear()
        client.pings.clear()
        assert session.admits("alice", digest(client.token)), "the client has a token that is good"
        kept = self.truth[: client.count] + [
            data for data in self.truth[client.count :] if not is_passing(data)
        ]
        client.tokens += 1
        self.attached, client.resumed = True, False
        effects = session.attach(
            client.count, float("inf"), f"token-{client.tokens}", digest(client.token), self.now
        )
        self.truth = kept
        self.perform(effects)

    # ---- the store, and the node

    def write(self) -> None:
        """Write the session down; it is not known yet whether that is done."""
        session = self.session
        self.whole |= session.rewritten
        last = None if self.whole else self.stored
        logs, ends = [], []
        for place, part in enumerate(session.logs):
            begin = max(last.ends[place], part.first) if last else part.first
            added = part.entries(begin)
            before = last.logs[place] if last else []
            length = part.end - part.first
            log = [*before, *added][-length:] if length else []
            assert len(log) == length, "a part of the log was never written down"
            for old, new in zip(log, part.entries(part.first), strict=True):
                assert not new or content(old) == content(new), "what was written down is another now"
            logs.append(log)
            ends.append(part.end)
        self.log()
        self.writing = Saved(session.dump(), logs, list(self.truth), session.mark(), tuple(ends))
        self.writing_untold = len(self.untold)

    def written(self) -> None:
        """What was written down is safe: tell what waited for that."""
        if self.writing and self.saved:
            self.stored, self.writing, self.whole = self.writing, None, False
            for _ in range(min(self.writing_untold, len(self.untold))):
                self.wire.append(self.untold.popleft())
            self.writing_untold = 0
            self.perform(self.session.safe(self.stored.mark, self.now))

    def save(self) -> None:
        if self.saved and self.session.state is not State.CLOSED:
            self.write()
            self.written()

    def lose_node(self) -> None:
        """Lose the node; another one goes on from what is saved, once the client comes."""
        stored = self.stored
        if stored is None:
            return
        self.attached = False
        self.wire.clear()
        self.untold.clear()
        self.writing = None
        self.model = self.opening = None
        self.carried = set()
        self.renewing = False
        self.running.clear()
        self.encodings.clear()
        self.closed.clear()
        assert self.client.count <= len(stored.told), "it was told before it was saved"
        self.truth = stored.told
        self.session = self.new_session()
        self.session.restore(stored.state, stored.logs, "spent", self.now)
        self.session.saved_elsewhere = True
        self.stored = None
        client = self.client
        client.pings.clear()
        self.log()
        client.tokens += 1
        self.attached, client.resumed = True, False
        kept = self.truth[: client.count] + [
            data for data in self.truth[client.count :] if not is_passing(data)
        ]
        effects = self.session.attach(
            client.count, float("inf"), f"token-{client.tokens}", digest(client.token), self.now
        )
        self.truth = kept
        self.perform(effects)
        self.save()

    # ---- in the end

    def settle(self) -> None:
        """Let everything happen that is on its way."""
        for _ in range(25):
            self.open()
            for _ in range(12):
                for step in (self.feed, self.arrive, self.generate, self.deliver, self.encode, self.work):
                    step()
            self.save()
            self.pong()
            self.wait(0.5)

    def prove_alive(self) -> None:
        """Have a typed turn answered, and everything be over after it."""
        self.read_on()
        self.attach()
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
        if self.is_extended:
            dones = [m for m in later if m["type"] == "response_done"]
            assert dones[-1]["status"] == "completed", later
            assert "still there a b." in updates
            assert [m for m in later if m["type"] == "usage"]
            self.check_told()
        self.check_heard()
        assert self.model is not None
        assert not self.model.calls, "a call that nobody answers"
        assert not self.running, "a worker that nobody waits for"

    def check_told(self) -> None:
        """See that the client has had every message once, and in order."""
        self.log()
        assert not self.client.lossy
        assert self.client.got == self.truth[: len(self.client.got)]
        assert len(self.client.got) + len(self.untold) >= len(self.truth)

    def check_heard(self) -> None:
        """See that all audio has come to a model, where it alone was to find out who speaks."""
        said = set()
        streaming = False
        for message in self.client.sent:
            match message:
                case messages.AudioChunk(sequence=number) if streaming:
                    said.add(number)
                case extension.AudioStreamStart() | messages.AudioStreamEnd():
                    streaming = isinstance(message, extension.AudioStreamStart)
                case extension.ActivityStart():
                    return
        assert said <= self.heard, said - self.heard


def content(entry: bytes) -> Any:
    """Return what an entry of a log says; what an encoder makes of a piece is of no use elsewhere."""
    decoded = msgspec.msgpack.decode(entry)
    return decoded | {"data": None} if isinstance(decoded, dict) and decoded.get("encoding") else decoded


def is_passing(data: bytes) -> bool:
    """Whether a message is about its connection: an error that closes it, or what has come over it."""
    message = msgspec.json.decode(data) if data.startswith(b"{") else {}
    fatal = message.get("type") == "error" and bool(message["details"].get("fatal"))
    return fatal or message.get("type") == "audio_ack"


Step = Callable[["Scene"], object]

BASE: list[Step] = [
    *(
        Scene.open,
        Scene.feed,
        Scene.feed,
        Scene.hear,
        Scene.arrive,
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
        Scene.pong,
        Scene.hold,
        Scene.go_on,
        Scene.encode,
    ),
    Scene.wait_long,
]
LOSSES: list[Step] = [Scene.lose_model, Scene.lose_model, Scene.fail_to_open, Scene.go_away]
"""What befalls the connection to the model."""
ABSENCES: list[Step] = [
    *(Scene.cut, Scene.leave, Scene.be_slow, Scene.attach, Scene.attach, Scene.stop_reading, Scene.read_on)
]
"""What befalls the connection to the client."""
DEATHS: list[Step] = [Scene.write, Scene.written, Scene.save, Scene.lose_node]
"""What befalls the node."""
