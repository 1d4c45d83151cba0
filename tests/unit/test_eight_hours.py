"""Eight hours of conversation over connections of ten minutes: nothing grows, and every token is counted."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
import pytest

from antiphon import extension, live, messages
from antiphon.errors import ErrorCode, GatewayError
from antiphon.session import Limits, Session
from antiphon.session.calls import MAX_REMEMBERED
from antiphon.session.effects import Effect, HangUp, Open, Send
from antiphon.session.ring import RING_S
from antiphon.tools.call import ClientTool
from grammar import Grammar

HOURS = 8
CONNECTION_S = 600
TURN_S = 20
LIMITS = Limits(max_duration_s=1e9, connection_s=1e9)
SETUP = live.Setup("en-US", "", (live.Function("light", "..."), live.Function("next", "...")))
VOICE = (np.sin(np.arange(1600) / 5) * 8000).astype("<i2").tobytes()
SILENCE = bytes(3200)
ANSWER = b"\x01\x02" * 2400


class Model:
    """Gemini, on paper: what it is asked it answers, and it counts tokens, by the connection."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.tokens = [0, 0]
        self.heard_s = 0.0
        self.questions = 0

    def count(self, prompt: int, response: int) -> live.Metered:
        self.tokens[0] += prompt
        self.tokens[1] += response
        return live.Metered(self.tokens[0], self.tokens[1], sum(self.tokens))


class Conversation:
    """A session, its client and its models."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.grammar = Grammar()
        self.model = Model(0)
        self.models: list[Model] = []
        self.opening = False
        self.replayed_ms = self.lost_ms = 0
        self.count = 0
        self.calls: list[str] = []
        self.pings: list[Any] = []
        self.usage: dict[str, float] = {}
        self.turn_totals = np.zeros(3)
        self.sequence = 0
        self.rotations = 0
        self.session = Session("s", SETUP, LIMITS, self.now, extended=True, tools={"light": ClientTool(10.0)})
        self.do(self.session.receive(messages.Auth(timestamp=0, token="t"), self.now))
        self.do(self.session.authenticated("alice", float("inf"), self.now, "token"))

    def do(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(data=data):
                    assert data is not None
                    self.told(msgspec.json.decode(data))
                case Open():
                    self.opening = True
                case HangUp():
                    raise AssertionError("the model was left")
                case _:
                    pass

    def told(self, message: dict[str, Any]) -> None:
        self.grammar.take(message)
        self.grammar.messages = self.grammar.messages[-8:]
        self.count += message["type"] != "pong"
        match message["type"]:
            case "ping":
                self.pings.append(message["id"])
            case "tool_call":
                self.calls.append(message["callId"])
            case "session_rotated":
                self.rotations += 1
                self.replayed_ms += message["replayedAudioMs"]
                self.lost_ms += message["lostAudioMs"]
            case "usage":
                self.usage = message["session"]
                turn = message["turn"]
                self.turn_totals += [turn["promptTokens"], turn["responseTokens"], turn["totalTokens"]]
            case "error":
                raise AssertionError(message)

    def receive(self, message: Any) -> None:
        self.do(self.session.receive(message, self.now))

    def model_says(self, *events: live.LiveEvent) -> None:
        for event in events:
            self.do(self.session.upstream(event, self.now))

    def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        while (at := self.session.deadline()) is not None and at <= until:
            self.now = max(self.now, at)
            self.do(self.session.expire(self.now))
            self.shell()
        self.now = until
        self.shell()

    def shell(self) -> None:
        if self.opening:
            self.opening = False
            self.model = Model(len(self.models) + 1)
            self.models.append(self.model)
            self.do(self.session.opened(self.now))
        while item := self.session.next_input(self.now):
            if isinstance(item, live.Audio):
                self.model.heard_s += len(item.pcm) / 32_000
            self.model.questions += isinstance(item, live.Text | live.ToolResult | live.AudioEnd)
        self.session.arrived(self.session.given, self.now)
        for ping_id in self.pings:
            self.receive(extension.Pong(id=ping_id))
        self.pings.clear()

    # ---- turns

    def chunks(self, count: int, pcm: bytes) -> None:
        for _ in range(count):
            self.receive(messages.AudioChunk(timestamp=0, data=pcm, sequence=self.sequence))
            self.sequence += 1
            self.pass_time(0.1)

    def speak(self, number: int, *, lost: bool = False) -> None:
        """Have a spoken turn of twenty seconds, in the middle of which the model may be lost."""
        began = self.now
        self.chunks(10, VOICE)
        self.model_says(live.Heard(f"turn {number}"))
        if lost:
            self.do(self.session.lost(GatewayError(ErrorCode.UPSTREAM_LOST), self.now))
            self.chunks(5, VOICE)
            self.shell()
            self.model_says(live.Heard(f"of turn {number}"))
        self.chunks(10, SILENCE)
        self.model_says(live.HandleChanged(None))
        if number % 5 == 0:
            name = ("light", "next")[number // 5 % 2]
            self.model_says(live.Called(f"{self.model.number}-{number}", name, {}))
            for call_id in self.calls:
                self.receive(extension.ToolResult(call_id=call_id, result="done"))
            self.calls.clear()
            self.pass_time(0.1)
        for word in range(20):
            self.model_says(live.Said(f"word {word} "), live.Spoke(ANSWER))
        self.model_says(live.Generated(), self.model.count(100 + number % 7, 50), live.TurnEnded())
        self.model_says(live.HandleChanged(f"h{number}"))
        self.pass_time(began + TURN_S - self.now)

    def liven(self) -> None:
        """Reach the bounds of what is remembered, since what grows up to there is not what is looked for."""
        self.receive(messages.Command(timestamp=0, command="go"))
        self.shell()
        for number in range(MAX_REMEMBERED + 10):
            self.model_says(live.Called(f"early {number}", "next", {}))
            self.shell()
        self.model_says(self.model.count(5, 5), live.TurnEnded())
        self.pass_time(1.0)


def walk(thing: object, seen: set[int]) -> Iterator[tuple[int, int]]:
    """Yield, for all containers and texts within a thing, how many things they hold and how many bytes."""
    if id(thing) in seen or callable(thing):
        return
    seen.add(id(thing))
    match thing:
        case str() | bytes() | bytearray():
            yield 0, len(thing)
        case Mapping():
            yield len(thing), 0
            for key, value in thing.items():
                yield from walk(key, seen)
                yield from walk(value, seen)
        case list() | tuple() | set() | frozenset() | deque():
            yield len(thing), 0
            for value in thing:
                yield from walk(value, seen)
        case msgspec.Struct():
            for name in thing.__struct_fields__:
                yield from walk(getattr(thing, name), seen)
        case _:
            for value in getattr(thing, "__dict__", {}).values():
                yield from walk(value, seen)


def sizes(session: Session) -> dict[str, int]:
    things, amounts = zip(*walk(session, set()), strict=True)
    return {
        "containers": len(things),
        "things in them": sum(things),
        "bytes in them": sum(amounts),
        "bytes of the state": len(session.dump()),
        "bytes of the logs": sum(len(entry) for log in session.logs for entry in log.entries(log.first)),
    }


@pytest.mark.interpreted
@pytest.mark.slow
def test_eight_hours(capsys: pytest.CaptureFixture[str]) -> None:
    talk = Conversation()
    config = extension.StreamConfig(sample_rate=16_000, format="LINEAR16", language="en-US")
    talk.receive(extension.AudioStreamStart(timestamp=0, config=config))
    talk.liven()
    began, hourly = talk.now, []
    turns = HOURS * 3600 // TURN_S
    for number in range(turns):
        elapsed = number * TURN_S
        due = elapsed > 0 and elapsed % CONNECTION_S == 0
        announced = elapsed // CONNECTION_S % 2 == 0
        if due and announced:
            talk.model_says(live.GoingAway(50.0))
        talk.speak(number, lost=due and not announced)
        if (elapsed + TURN_S) % 3600 == 0:
            talk.pass_time(0.0)
            hourly.append(sizes(talk.session))
    talk.pass_time(5.0)
    prompt, response = (sum(model.tokens[place] for model in talk.models) for place in (0, 1))
    paper = [prompt, response, prompt + response]
    told = [talk.usage["promptTokens"], talk.usage["responseTokens"], talk.usage["totalTokens"]]
    heard_s = sum(model.heard_s for model in talk.models)
    with capsys.disabled():
        print(f"\n  {HOURS} h: {turns} turns, {len(talk.models)} connections, {talk.count} messages")
        print(f"  tokens told {told}, counted by the models {paper}")
        print(f"  audio said again {talk.replayed_ms} ms, never heard {talk.lost_ms} ms")
        for name in hourly[0]:
            print(f"  {name}, by the hour: {[hour[name] for hour in hourly]}")
    assert talk.now - began >= HOURS * 3600
    assert len(talk.models) == HOURS * 3600 // CONNECTION_S
    assert talk.rotations == len(talk.models) - 1
    assert told == paper == talk.turn_totals.tolist()
    assert talk.lost_ms == 0
    assert talk.usage["audioInMs"] == pytest.approx(heard_s * 1000)
    assert heard_s * 1000 == pytest.approx(talk.sequence * 100 + talk.replayed_ms)
    assert talk.replayed_ms <= 300 * talk.rotations
    for name in hourly[0]:
        grown = max(hour[name] for hour in hourly[1:]) - hourly[0][name]
        assert grown <= 0.02 * hourly[0][name] + 64, name
    assert hourly[-1]["bytes in them"] < RING_S * 32_000 * 2
