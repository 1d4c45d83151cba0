"""One conversation as a state machine: what the client sends, the ear hears and the voice makes, to messages.

No I/O, no clock and no task in here: `now` is any steady clock in seconds, `stream` performs the effects.

    IDLE ──user's turn──▶ SPEAKING ──all made──▶ PLAYING ──playback over──▶ IDLE
      └──a command──▶ CALLING ──result──▶ SPEAKING
    CALLING, SPEAKING, PLAYING ──user's turn──▶ interrupted ──▶ IDLE

As Gemini does, a turn stays open until its audio would have been played in real time, so that the user can
interrupt what is still to be heard.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from datetime import datetime
from enum import Enum, auto
from typing import Final, assert_never

from msgspec import Struct

from antiphon.engine import playback, wire
from antiphon.engine.hearing import Hearing, Told
from antiphon.engine.listener import Discarded, ListenerEvent, Partial, SpeechStarted, SpeechStopped
from antiphon.engine.listener import Final as FinalHeard
from antiphon.engine.memory import Memory
from antiphon.engine.phrases import Call
from antiphon.engine.responder import Answer, confirm, first_line, respond, unanswered

TOOL_TIMEOUT_S: Final = 10.0
GO_AWAY_NOTICE_S: Final = 60.0
MAX_WAITING_TURNS: Final = 8
"""User's turns that wait where the answer may not be interrupted; the oldest give way."""

TOKENS_PER_SECOND: Final = 25
"""Of audio, both ways: what Gemini's native audio models count."""

_INPUT_BYTES_PER_S: Final = 2 * 16_000
_OUTPUT_BYTES_PER_S: Final = 2 * playback.RATE_HZ


class Phase(Enum):
    """Where a conversation stands."""

    IDLE = auto()
    CALLING = auto()
    SPEAKING = auto()
    PLAYING = auto()
    ENDED = auto()


# ---- effects


class Send(Struct, frozen=True):
    """Send a message to the client."""

    message: wire.ServerMessage


class Say(Struct, frozen=True):
    """Synthesise sentences; report with `spoke` and `generated`."""

    turn: int
    sentences: tuple[str, ...]


class Hush(Struct, frozen=True):
    """Stop synthesis, and drop audio that has not been sent."""


class End(Struct, frozen=True):
    """End the connection after what was sent, with a gRPC status by its name."""

    status: str
    sentence: str


Effect = Send | Say | Hush | End


class _Pending(Struct, frozen=True):
    """A call that waits for its result."""

    id: str
    call: Call
    until: float


class Conversation:
    """Everything that decides what a client is sent, and when.

    `keep` stores a memory and returns its handle, `clock` tells local time, `new_id` makes ids for calls.
    """

    def __init__(
        self,
        setup: wire.Setup,
        memory: Memory,
        now: float,
        *,
        max_connection_s: float,
        keep: Callable[[Memory, float], str],
        clock: Callable[[], datetime],
        new_id: Callable[[], str],
    ) -> None:
        self.phase = Phase.IDLE
        self._setup = setup
        self._memory = memory
        self._keep = keep
        self._clock = clock
        self._new_id = new_id
        self._end_at = now + max_connection_s
        self._go_away_at = self._end_at - min(GO_AWAY_NOTICE_S, max_connection_s / 2)
        self._end_reason = "The connection has reached its longest duration."
        self._input_over = False
        # The user's side.
        self._hearing = Hearing()
        self._in_activity = False
        self._heard_words = False
        self._waiting: deque[str] = deque(maxlen=MAX_WAITING_TURNS)
        self._audio_in_bytes = 0
        self._text_in = setup.tokens
        # The model's side.
        self._turn = 0
        self._call: _Pending | None = None
        self._playback = playback.Playback()
        self._text_out = 0

    @property
    def listens(self) -> bool:
        """Whether audio is to be heard: with activity signals of the client's, only between them."""
        return self._setup.detects_activity or self._in_activity

    def deadline(self) -> float:
        """Return when `expire` wants to be called."""
        if self.phase is Phase.ENDED:
            return float("inf")
        turn = float("inf")
        if self._call:
            turn = self._call.until
        elif self.phase is Phase.PLAYING:
            turn = self._playback.over_at
        return min(turn, self._go_away_at, self._end_at)

    # ---- the connection

    def open(self, now: float) -> list[Effect]:
        """Answer the setup."""
        return [Send(wire.setup_complete()), *self._offer_resumption(now)]

    def expire(self, now: float) -> list[Effect]:
        """Do what is due at `now`."""
        effects: list[Effect] = []
        if self._call and now >= self._call.until:
            effects += [*self._cancel_call(), *self._say(unanswered(), now)]
        if self.phase is Phase.PLAYING and now >= self._playback.over_at:
            effects += self._complete_turn(now)
        if self.phase is Phase.ENDED:
            return effects
        if now >= self._go_away_at:
            self._go_away_at = float("inf")
            effects.append(Send(wire.go_away(max(0.0, self._end_at - now))))
        if now >= self._end_at:
            self.phase = Phase.ENDED
            effects.append(End("ABORTED", self._end_reason))
        return effects

    def drain(self, time_left_s: float, now: float) -> list[Effect]:
        """Announce that the server stops in `time_left_s`, and the connection with it."""
        if self.phase is Phase.ENDED:
            return []
        if now + time_left_s < self._end_at:
            self._end_at, self._end_reason = now + time_left_s, "The server is stopping."
        self._go_away_at = now
        return self.expire(now)

    def close_input(self, now: float) -> list[Effect]:
        """Note that the client sends nothing more and all it sent was heard: finish what is begun."""
        if self.phase is Phase.ENDED:
            return []
        self._input_over = True
        if self.phase is Phase.SPEAKING:
            return []
        return [*self._cancel_call(), *(self._complete_turn(now) if self._turn_open else self._end_if_over())]

    # ---- the user's side

    def receive(self, item: wire.Typed | wire.Content | wire.ToolResult, now: float) -> list[Effect]:
        """Take what the client sent, audio and activity apart."""
        if self.phase is Phase.ENDED or self._input_over:
            return []
        match item:
            case wire.Typed(text=text):
                return self._typed(text, now)
            case wire.Content():
                return self._content(item, now)
            case wire.ToolResult():
                return self._tool_result(item, now)
            case _:
                assert_never(item)

    def listened(self, size: int) -> None:
        """Meter `size` bytes of audio (16 kHz PCM16) that the ear was given."""
        self._audio_in_bytes += size

    def hear(self, event: ListenerEvent, now: float) -> list[Effect]:
        """Take what the ear reports."""
        if self.phase is Phase.ENDED or self._input_over or not self.listens:
            return []
        match event:
            case SpeechStarted():
                return self._interrupt(now) if self._setup.detects_activity else []
            case Partial(text=text, confidence=confidence):
                return self._transcribe(self._hearing.partial(text, confidence))
            case FinalHeard(text=text, confidence=confidence) if self._setup.detects_activity:
                return self._utterance(self._hearing.final(text, confidence), now)
            case FinalHeard(text=text, confidence=confidence):
                return self._transcribe(self._hearing.piece(text, confidence))
            case Discarded() if self._setup.detects_activity:
                return self._utterance(self._hearing.final(), now)
            case SpeechStopped() | Discarded():
                return []
            case _:
                assert_never(event)

    def end_audio(self, now: float) -> list[Effect]:
        """Note that all audio up to the end of the stream has been heard."""
        if self._in_activity:
            return self.end_activity(now)
        heard, self._heard_words = self._heard_words, False
        return [] if heard else self._nothing_heard()

    def start_activity(self, now: float) -> list[Effect]:
        """Note that the user begins to speak, as the client says."""
        self._in_activity = True
        return self._interrupt(now)

    def end_activity(self, now: float) -> list[Effect]:
        """Answer what was heard since `start_activity`."""
        if not self._in_activity or self.phase is Phase.ENDED or self._input_over:
            return []
        self._in_activity = False
        return self._utterance(self._hearing.final(), now) or self._nothing_heard()

    # ---- the model's side

    def spoke(self, turn: int, pcm: bytes, text: str, now: float) -> list[Effect]:
        """Take a piece of the voice, 24 kHz PCM16, with the sentence that begins with it, if one does."""
        if turn != self._turn or self.phase is not Phase.SPEAKING:
            return []
        return self._send_audio(self._playback.add(pcm, text, now))

    def generated(self, turn: int, now: float) -> list[Effect]:
        """Note that the voice has made all of the answer."""
        if turn != self._turn or self.phase is not Phase.SPEAKING:
            return []
        self.phase = Phase.PLAYING
        effects = [*self._send_audio(self._playback.flush()), Send(wire.generation_complete())]
        if self._input_over or self._playback.over_at <= now:
            effects += self._complete_turn(now)
        return effects

    # ---- what was heard

    def _transcribe(self, told: Told | None) -> list[Effect]:
        return [Send(wire.heard(*told))] if told and self._setup.transcribes_input else []

    def _utterance(self, told: Told | None, now: float) -> list[Effect]:
        """Answer a whole utterance, if it has words; if it lost those that were told of, that is told too."""
        if told is None or not told.hypothesis.whole:
            return self._transcribe(told)
        self._heard_words = True
        return self._take_turn(told.hypothesis.whole, now, told)

    def _nothing_heard(self) -> list[Effect]:
        return [Send(wire.waiting_for_input())] if self.phase is Phase.IDLE else []

    def _typed(self, text: str, now: float) -> list[Effect]:
        self._text_in += wire.text_tokens(text)
        return self._take_turn(text, now)

    def _content(self, content: wire.Content, now: float) -> list[Effect]:
        self._text_in += sum(wire.text_tokens(entry.text) for entry in content.entries)
        for entry in content.entries:
            self._memory = self._memory.with_entry(entry.role, entry.text)
        asked = self._memory.entries[-1:] if content.complete else ()
        if not asked or asked[0].role != "user":
            return [] if self._turn_open else self._offer_resumption(now)
        self._memory = Memory(self._memory.entries[:-1])
        return self._take_turn(asked[0].text, now)

    @property
    def _turn_open(self) -> bool:
        return self.phase in (Phase.CALLING, Phase.SPEAKING, Phase.PLAYING)

    # ---- turns

    def _take_turn(self, text: str, now: float, told: Told | None = None) -> list[Effect]:
        """Answer the user now, or where the answer that is given may not be interrupted, after it."""
        if self._turn_open and not self._setup.interruptible:
            self._waiting.append(text)
            return self._transcribe(told)
        return self._user_turn(text, now, told)

    def _user_turn(self, text: str, now: float, told: Told | None = None) -> list[Effect]:
        """Answer the user. The transcription of a command is not final, so that the call can go with it."""
        effects = [*self._interrupt(now), *self._suspend_resumption()]
        line = first_line(text)
        reply = respond(line, self._setup.grammar, self._memory, self._setup.language, self._clock())
        if told:
            final = isinstance(reply, Answer)
            effects += self._transcribe(Told(told.delta, told.hypothesis._replace(final=final)))
        self._memory = self._memory.with_entry("user", line)
        self._turn += 1
        if isinstance(reply, Answer):
            return effects + self._say(reply, now)
        call_id = self._new_id()
        self._call = _Pending(call_id, reply, now + TOOL_TIMEOUT_S)
        self._text_out += wire.text_tokens(reply.name + json.dumps(reply.args))
        self.phase = Phase.CALLING
        return [*effects, Send(wire.tool_call(call_id, reply.name, reply.args))]

    def _tool_result(self, result: wire.ToolResult, now: float) -> list[Effect]:
        """Take a result; one that no call waits for, or no longer, is ignored."""
        pending = self._call
        if pending is None or (result.call_id or pending.id, result.name or pending.call.name) != (
            pending.id,
            pending.call.name,
        ):
            return []
        self._text_in += wire.text_tokens(json.dumps(result.response))
        if result.more_to_come:
            self._call = _Pending(pending.id, pending.call, now + TOOL_TIMEOUT_S)
            return []
        self._call = None
        if result.silent:
            return [Send(wire.generation_complete()), *self._complete_turn(now)]
        answer = confirm(pending.call, result.response, self._memory, self._setup.language)
        return self._say(answer, now)

    def _cancel_call(self) -> list[Effect]:
        pending, self._call = self._call, None
        return [Send(wire.tool_call_cancellation(pending.id))] if pending else []

    def _say(self, answer: Answer, now: float) -> list[Effect]:
        self._memory = self._memory.with_entry("model", " ".join(answer.sentences))
        self._playback.begin(now)
        self.phase = Phase.SPEAKING
        return [Say(self._turn, answer.sentences)]

    def _send_audio(self, pieces: list[playback.Piece]) -> list[Effect]:
        tells = self._setup.transcribes_output
        return [Send(wire.spoken(piece.pcm, piece.text if tells else "")) for piece in pieces]

    def _interrupt(self, now: float) -> list[Effect]:
        """End the turn that is open, if one is and it may be ended."""
        if not self._turn_open or not self._setup.interruptible:
            return []
        stop = self._cancel_call() or [Hush()]
        return [*stop, Send(wire.interrupted()), *self._complete_turn(now)]

    def _complete_turn(self, now: float) -> list[Effect]:
        self.phase = Phase.IDLE
        usage = wire.Usage(
            text_in=self._text_in,
            audio_in=self._audio_in_bytes * TOKENS_PER_SECOND // _INPUT_BYTES_PER_S,
            text_out=self._text_out,
            audio_out=self._playback.total_bytes * TOKENS_PER_SECOND // _OUTPUT_BYTES_PER_S,
        )
        effects = [Send(wire.turn_complete(usage)), *self._offer_resumption(now)]
        if self._waiting:
            return effects + self._user_turn(self._waiting.popleft(), now)
        return effects + self._end_if_over()

    def _end_if_over(self) -> list[Effect]:
        if not self._input_over:
            return []
        self.phase = Phase.ENDED
        return [End("OK", "")]

    # ---- resumption

    def _offer_resumption(self, now: float) -> list[Effect]:
        if not self._setup.resumable:
            return []
        return [Send(wire.session_resumption_update(self._keep(self._memory, now)))]

    def _suspend_resumption(self) -> list[Effect]:
        return [Send(wire.session_resumption_update(""))] if self._setup.resumable else []
