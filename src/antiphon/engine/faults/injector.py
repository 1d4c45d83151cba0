"""One connection with its faults as a state machine: no I/O, no clock, no task.

What the client sends (`receive`), what the engine sends (`send`, `ended`) and time go in. What is to be done
is pulled: messages for the client (`next_message`, at `sends_at`), the rest (`next_action`, at `acts_at`).
"""

from __future__ import annotations

from collections import deque
from typing import Final

from antiphon.engine import wire
from antiphon.engine.faults import messages
from antiphon.engine.faults.actions import Action, Finish, Inject
from antiphon.engine.faults.armed import NEVER, Armed
from antiphon.engine.faults.armory import Armory
from antiphon.engine.faults.gate import Gate
from antiphon.engine.faults.kinds import (
    AnswerAudio,
    CancelTool,
    End,
    GoAway,
    Lasting,
    Late,
    Lost,
    MessageKind,
    Moment,
    Mute,
    SlowReads,
    StuckTool,
    Twice,
)
from antiphon.engine.faults.outgoing import Outgoing
from antiphon.engine.faults.plan import Plan
from antiphon.engine.faults.shaper import Piece, Shaper
from antiphon.engine.faults.summary import kinds
from antiphon.engine.faults.tools import Tools

_OF_MESSAGES: Final = (Late, Lost, Twice, StuckTool, CancelTool)
"""These strike with each message or call, not with their beginning."""


class Injector:
    """The faults of one connection, which begins at `now`."""

    def __init__(self, connection: int, plan: Plan, now: float) -> None:
        self._armory = Armory(connection, plan, now)
        self._gate = Gate(self._armory)
        self._tools = Tools(self._armory)
        self._out = Outgoing()
        self._shaper = Shaper()
        self._injected: deque[Inject] = deque()
        self._now = now
        # The end: that of a GoAway when its time is over, that of the engine, and the one decided.
        self._last = (NEVER, Finish("OK"))
        self._engine_end: Finish | None = None
        self._finish: Finish | None = None
        self._is_told = False
        # The client's side.
        self._mute_until = now
        self._deaf_until = now
        self._reads_at = now
        self._audio_s = 0.0
        self._ended_at_ms = -1.0
        self._turn_is_over = False
        # The model's side.
        self._turns = 0
        self._answers = 1
        self._answer_bytes = 0
        self._splits_text = any(
            "output_transcription" in kinds(armed.fault.messages)
            for armed in self._armory.armed
            if isinstance(armed.fault, Late | Lost | Twice)
        )
        self._pass("start", now)

    # ---- what is to be done

    @property
    def reads_at(self) -> float:
        """When the client may be read next."""
        return max(self._reads_at, self._deaf_until)

    @property
    def sends_at(self) -> float:
        """When there is a message to send."""
        return NEVER if self._finish else max(self._out.due_at, self._mute_until)

    @property
    def acts_at(self) -> float:
        """When something else may be due, as of the last call; what goes in may bring it forward."""
        if self._finish:
            return NEVER
        times = [self._last[0], *(armed.begins_at for armed in self._armory.armed)]
        times += [*self._tools.due_at(), *self._gate.due_at()]
        if self._engine_end:
            times.append(self._mute_until)
        return min((one for one in times if one > self._now), default=NEVER)

    @property
    def held_bytes(self) -> int:
        """How much waits to be sent."""
        return self._out.held_bytes

    def next_message(self, now: float) -> wire.ServerMessage | None:
        """Take the next message for the client; None while there is none, or none may be sent."""
        self._expire(now)
        while self.sends_at <= now and (message := self._out.pop(now)) is not None:
            if (leaving := self._leave(message, now)) is not None:
                return leaving
        return None

    def next_action(self, now: float) -> Action | None:
        """Take what is next to be done, messages apart; nothing comes after a `Finish`."""
        self._expire(now)
        if self._armory.reports:
            return self._armory.reports.pop(0)
        if not self._finish and now >= self._mute_until and self._out.due_at > now:
            # What ends in order is sent to the last; an error cuts short what is held.
            end = self._engine_end
            self._finish = end if end and (end.status != "OK" or not self._out) else None
        if self._finish:
            told, self._is_told = self._is_told, True
            return None if told else self._finish
        return self._injected.popleft() if self._injected else None

    # ---- from the client

    def receive(self, data: bytes, now: float) -> bool:
        """Take a message of the client's; return whether the engine is to have it."""
        self._expire(now)
        try:
            items = wire.parse(data)
        except wire.Invalid:
            return not self._finish  # the engine has the sentence for it
        passes = True
        audio_s = 0.0
        for item in items:
            match item:
                case wire.Setup(handle=handle):
                    self._pass("setup", now)
                    if handle and not self._finish:
                        self._finish = self._gate.refusal(handle, now)
                case wire.Audio():
                    audio_s = len(item.pcm) / 2 / item.rate_hz
                    self._audio_s += audio_s
                    self._armory.hears(self._audio_s, now)
                    self._begin_due(now)
                case wire.AudioEnded() | wire.ActivityEnded():
                    self._end_turn(now)
                case wire.Typed() | wire.Content(complete=True):
                    self._tools.is_stuck = False
                    self._pass("turn_end", now)
                case wire.ToolResult():
                    self._pass("tool_result", now)
                    passes = self._tools.result(item, now) and passes
                case wire.Content():
                    self._tools.is_stuck = False
                case _:
                    pass
        self._slow_down(audio_s, now)
        return passes and not self._finish

    def _end_turn(self, now: float) -> None:
        """Note that the client says the user's turn is over, unless the engine has heard that already."""
        self._ended_at_ms = self._audio_s * 1000
        told, self._turn_is_over = self._turn_is_over, False
        if not told:
            self._pass("turn_end", now)

    def _slow_down(self, audio_s: float, now: float) -> None:
        for _, slow in self._armory.lasting(SlowReads, now):
            wait_s = audio_s / slow.speed if slow.speed else 0.0
            wait_s = max(wait_s, (slow.message_ms or 0.0) / 1000)
            self._reads_at = max(self._reads_at, now + wait_s)

    # ---- from the engine

    def send(self, message: wire.ServerMessage, now: float) -> None:
        """Take a message of the engine's."""
        self._expire(now)
        if voice := messages.voice(message):
            self._voice(*voice, now)
        if self._finish or self._mute_until == NEVER:
            return
        found = messages.kinds_of(message)
        kind = found[0] if found else None
        if kind in ("interrupted", "input_transcription", "final_transcription"):
            self._tools.is_stuck = False
        if self._tools.is_stuck and kind in messages.MODEL_SIDE:
            return
        if kind == "interrupted":
            self._out.drop_answer()
            self._shaper.drop()
        if kind == "audio":
            self._shape(message, now)
            return
        if kind in messages.IN_ORDER:
            self._put_pieces(self._shaper.flush(now), now)
        if kind == "handle":
            message = self._gate.passed(message, now)
        self._put(message, found, now, now)

    def ended(self, status: str, details: str, now: float) -> None:
        """Note that the engine has ended the connection."""
        self._expire(now)
        self._engine_end = Finish(status, details)

    def _voice(self, started: bool, at_ms: float, now: float) -> None:
        """Note that the engine heard the user begin or cease to speak."""
        if started:
            self._tools.is_stuck = self._turn_is_over = False
        elif at_ms > self._ended_at_ms:
            # The client has not said so, or will in a moment.
            self._turn_is_over = True
            self._pass("turn_end", now)

    def _shape(self, message: wire.ServerMessage, now: float) -> None:
        shape = next((fault for _, fault in self._armory.lasting(AnswerAudio, now)), None)
        pcm, text = messages.audio_of(message)
        if text and self._splits_text:
            self._put(messages.said(text), ("output_transcription",), now, now)
            message = wire.spoken(pcm, text := "")
        if shape:
            self._put_pieces(self._shaper.add(pcm, text, now, shape), now)
        else:
            self._put_pieces(self._shaper.flush(now), now)
            self._put(message, ("audio",), now, now)

    def _put_pieces(self, pieces: list[Piece], now: float) -> None:
        for piece in pieces:
            self._put(wire.spoken(piece.pcm, piece.text), ("audio",), piece.due, now)

    def _put(
        self, message: wire.ServerMessage, found: tuple[MessageKind, ...], due: float, now: float
    ) -> None:
        """Put a message on its way, as the faults of messages have it."""
        in_order = bool(found) and found[0] in messages.IN_ORDER
        opens = found == ("setup_complete",)
        again: list[float] = []
        for armed in self._armory.armed:
            fault = armed.fault
            if not isinstance(fault, Late | Lost | Twice) or not armed.lasts(now):
                continue
            if set(kinds(fault.messages)).isdisjoint(found) or not self._armory.strikes(armed, now):
                continue
            if isinstance(fault, Late):
                due += fault.by_s
            elif isinstance(fault, Twice):
                again.append(fault.by_s)
            else:
                due = NEVER
        if due == NEVER and not opens:
            self._count_end(found)
            return
        due = self._out.put(message, due, in_order=in_order, opens=opens)
        for by_s in again:
            self._out.put(message, due + by_s, in_order=in_order and not by_s)

    def _leave(self, message: wire.ServerMessage, now: float) -> wire.ServerMessage | None:
        """Note that a message is sent; return what of it, or None where a fault strikes before."""
        found = messages.kinds_of(message)
        if found == ("audio",):
            return self._leave_audio(message, now)
        self._count_end(found)
        match found:
            case ("setup_complete",):
                self._pass("ready", now)
            case ("handle",):
                self._gate.given(message, now)
            case ("tool_call",):
                self._tools.called(message, now)
                self._pass("tool_call", now)
            case ("tool_call_cancellation",):
                self._tools.cancelled()
            case ("turn_complete",):
                self._turns += 1
                self._gate.completed(self._turns)
                self._pass("turn_complete", now)
            case ("go_away",):
                self._pass("go_away", now)
            case _:
                pass
        return message

    def _leave_audio(self, message: wire.ServerMessage, now: float) -> wire.ServerMessage | None:
        """Send audio up to where a fault begins in the midst of it."""
        pcm, text = messages.audio_of(message)
        edges = [(messages.samples(one.answer_edge_ms(self._answers)), one) for one in self._waiting()]
        edge = min((edge for edge, _ in edges), default=self._answer_bytes + len(pcm))
        size = edge - self._answer_bytes
        if size > 0:
            if size < len(pcm):
                self._out.put_first(wire.spoken(pcm[size:], ""))
                message = wire.spoken(pcm[:size], text)
            self._answer_bytes += min(size, len(pcm))
            return message
        for at, armed in edges:
            if at <= edge:
                armed.answers(self._answers, now)
        self._out.put_first(message)
        self._begin_due(now)
        return None

    def _waiting(self) -> list[Armed]:
        """Return the faults that are to begin in the present answer."""
        return [armed for armed in self._armory.armed if armed.answer_edge_ms(self._answers) < NEVER]

    def _count_end(self, found: tuple[MessageKind, ...]) -> None:
        if found in (("turn_complete",), ("interrupted",)) and self._answer_bytes:
            self._answers += 1
            self._answer_bytes = 0

    # ---- the faults

    def _pass(self, moment: Moment, now: float) -> None:
        self._armory.passes(moment, now)
        self._begin_due(now)

    def _expire(self, now: float) -> None:
        """Do what is due."""
        self._now = max(self._now, now)
        self._begin_due(now)
        if (handle := self._gate.released(now)) is not None:
            self._put(handle, ("handle",), now, now)
        if call_id := self._tools.expire(now):
            self._out.put_first(wire.tool_call_cancellation(call_id))
            self._injected.append(Inject(messages.silent_result(call_id)))
        at, finish = self._last
        if now >= at and not self._finish:
            self._finish = finish

    def _begin_due(self, now: float) -> None:
        for armed in self._armory.armed:
            while not self._finish and armed.take(now):
                self._begin(armed, now)

    def _begin(self, armed: Armed, now: float) -> None:
        fault = armed.fault
        if not isinstance(fault, _OF_MESSAGES) and not self._armory.strikes(armed, now):
            return
        if isinstance(fault, Lasting):
            armed.begin(now)
        match fault:
            case GoAway():
                self._out.put_first(wire.go_away(fault.time_left_s))
                if fault.then != "never" and now + fault.time_left_s < self._last[0]:
                    self._last = (now + fault.time_left_s, Finish(fault.then, fault.details))
            case Mute():
                self._mute_until = max(self._mute_until, armed.until)
                if not fault.reads:
                    self._deaf_until = max(self._deaf_until, armed.until)
            case End():
                self._finish = Finish(fault.status, fault.details, fault.retry_s)
            case _:
                pass
