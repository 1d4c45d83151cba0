"""One conversation as a state machine: what the client sends, the ear hears and the voice makes, to messages.

No I/O, no clock and no task in here: `now` is any steady clock in seconds, `stream` performs the effects.

    IDLE ──user's turn──▶ SPEAKING ──all made──▶ PLAYING ──playback over──▶ IDLE
      ├──a command──▶ CALLING ──result──▶ SPEAKING
      └──for the brain──▶ THINKING ──all thought, or failed──▶ SPEAKING
    CALLING, THINKING, SPEAKING, PLAYING ──user's turn──▶ interrupted ──▶ IDLE

What the brain thinks is spoken, and the functions it wants are called, while it is THINKING.

As Gemini does, a turn stays open until its audio would have been played in real time, so that the user can
interrupt what is still to be heard.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime
from enum import Enum, auto
from typing import Final, assert_never

from antiphon.engine import playback, wire
from antiphon.engine.calling import Calling
from antiphon.engine.chat import Question, Wanted
from antiphon.engine.deliberation import NO_ANSWER, Deliberation
from antiphon.engine.effects import Ask, Effect, End, Hush, Say, Send
from antiphon.engine.hearing import Hearing, Told
from antiphon.engine.lifetime import Lifetime
from antiphon.engine.listener import Discarded, ListenerEvent, Partial, SpeechStarted, SpeechStopped
from antiphon.engine.listener import Final as FinalHeard
from antiphon.engine.memory import Memory
from antiphon.engine.meter import Meter
from antiphon.engine.phrases import Call
from antiphon.engine.responder import Answer, certain, confirm, first_line, respond, unanswered

MAX_WAITING_TURNS: Final = 8
"""User's turns that wait where the answer may not be interrupted; the oldest give way."""


class Phase(Enum):
    """Where a conversation stands."""

    IDLE = auto()
    CALLING = auto()
    THINKING = auto()
    SPEAKING = auto()
    PLAYING = auto()
    ENDED = auto()


class Conversation:
    """Everything that decides what a client is sent, and when.

    `keep` stores a memory and returns its handle, `clock` tells local time, `new_id` makes ids for calls, and
    `thinks` is whether there is a brain to ask.
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
        thinks: bool = False,
    ) -> None:
        self.phase = Phase.IDLE
        self._setup = setup
        self._memory = memory
        self._keep = keep
        self._clock = clock
        self._thinks = thinks
        self._meter = Meter(setup.tokens)
        self._lifetime = Lifetime(now, max_connection_s)
        self._input_over = False
        # The user's side.
        self._hearing = Hearing()
        self._in_activity = False
        self._speaks = False
        self._heard_words = False
        self._waiting: deque[str] = deque(maxlen=MAX_WAITING_TURNS)
        # The model's side.
        self._turn = 0
        self._calling = Calling(new_id, self._meter)
        self._deliberation: Deliberation | None = None
        self._said: list[str] = []
        self._playback = playback.Playback()

    @property
    def listens(self) -> bool:
        """Whether audio is to be heard: with activity signals of the client's, only between them."""
        return self._setup.detects_activity or self._in_activity

    def deadline(self) -> float:
        """Return when `expire` wants to be called."""
        if self.phase is Phase.ENDED:
            return float("inf")
        turn = self._playback.over_at if self.phase is Phase.PLAYING else self._calling.until
        return min(turn, self._lifetime.due_at)

    # ---- the connection

    def open(self, now: float) -> list[Effect]:
        """Answer the setup."""
        return [Send(wire.setup_complete()), *self._offer_resumption(now)]

    def expire(self, now: float) -> list[Effect]:
        """Do what is due at `now`."""
        effects: list[Effect] = []
        if self._calling.call and now >= self._calling.until:
            effects += self._give_up(self._calling.call, now)
        if self.phase is Phase.PLAYING and now >= self._playback.over_at:
            effects += self._complete_turn(now)
        if self.phase is Phase.ENDED:
            return effects
        effects += self._lifetime.expire(now)
        if effects and isinstance(effects[-1], End):
            self.phase = Phase.ENDED
        return effects

    def drain(self, time_left_s: float, now: float) -> list[Effect]:
        """Announce that the server stops in `time_left_s`, and the connection with it."""
        if self.phase is Phase.ENDED:
            return []
        self._lifetime.drain(time_left_s, now)
        return self.expire(now)

    def close_input(self, now: float) -> list[Effect]:
        """Note that the client sends nothing more and all it sent was heard: finish what is begun."""
        if self.phase is Phase.ENDED:
            return []
        self._input_over = True
        if self.phase is Phase.SPEAKING or (self.phase is Phase.THINKING and not self._calling.call):
            return []
        cancelled = self._calling.cancel()
        if self.phase is Phase.THINKING:
            return cancelled + self._end_thinking()
        return cancelled + (self._complete_turn(now) if self._turn_open else self._end_if_over())

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
        """Note `size` bytes of audio (16 kHz PCM16) that the ear is given."""
        self._meter.heard(size)

    def skipped(self, size: int) -> None:
        """Note `size` bytes of audio that came while nobody listened."""
        self._meter.skipped(size)

    def hear(self, event: ListenerEvent, now: float) -> list[Effect]:
        """Take what the ear reports."""
        if self.phase is Phase.ENDED or self._input_over or not self.listens:
            return []
        match event:
            case SpeechStarted(at_ms=at_ms) if self._setup.detects_activity:
                return [*self._voice(True, at_ms), *self._interrupt(now)]
            case SpeechStopped(at_ms=at_ms) if self._setup.detects_activity:
                return self._voice(False, at_ms)
            case Partial(text=text, confidence=confidence):
                return self._transcribe(self._hearing.partial(text, confidence))
            case FinalHeard(text=text, confidence=confidence) if self._setup.detects_activity:
                return self._utterance(self._hearing.final(text, confidence), now)
            case FinalHeard(text=text, confidence=confidence):
                return self._transcribe(self._hearing.piece(text, confidence))
            case Discarded() if self._setup.detects_activity:
                return self._utterance(self._hearing.final(), now)
            case SpeechStarted() | SpeechStopped() | Discarded():
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
        if self.phase is Phase.ENDED or self._input_over:
            return []
        self._in_activity = True
        return [*self._voice(True, self._meter.received_ms), *self._interrupt(now)]

    def end_activity(self, now: float) -> list[Effect]:
        """Answer what was heard since `start_activity`."""
        if not self._in_activity or self.phase is Phase.ENDED or self._input_over:
            return []
        self._in_activity = False
        stopped = self._voice(False, self._meter.received_ms)
        return stopped + (self._utterance(self._hearing.final(), now) or self._nothing_heard())

    # ---- the model's side

    def spoke(self, turn: int, pcm: bytes, text: str, now: float) -> list[Effect]:
        """Take a piece of the voice, 24 kHz PCM16, with the sentence that begins with it, if one does."""
        if turn != self._turn or self.phase not in (Phase.THINKING, Phase.SPEAKING):
            return []
        return self._send_audio(self._playback.add(pcm, text, now))

    def paused(self, turn: int) -> list[Effect]:
        """Note that the voice has made all sentences so far, and the next may take a while."""
        if turn != self._turn or self.phase is not Phase.THINKING:
            return []
        return self._send_audio(self._playback.flush())

    def generated(self, turn: int, now: float) -> list[Effect]:
        """Note that the voice has made all of the answer."""
        if turn != self._turn or self.phase is not Phase.SPEAKING:
            return []
        self.phase = Phase.PLAYING
        effects = [*self._send_audio(self._playback.flush()), Send(wire.generation_complete())]
        if self._input_over or self._playback.over_at <= now:
            effects += self._complete_turn(now)
        return effects

    def thought(self, turn: int, sentence: str) -> list[Effect]:
        """Take a sentence of the brain's answer."""
        if not (thinking := self._thinking(turn)):
            return []
        thinking.thought(sentence)
        return self._add(sentence)

    def thought_over(self, turn: int) -> list[Effect]:
        """Note that the brain has said all."""
        return self._end_thinking() if self._thinking(turn) else []

    def wants_tools(self, turn: int, calls: tuple[Wanted, ...], now: float) -> list[Effect]:
        """Take the calls that the brain's answer ends with."""
        if not (thinking := self._thinking(turn)):
            return []
        if self._input_over:
            return self.brain_failed(turn)
        thinking.wants(calls)
        return self._think_on(thinking, now)

    def brain_failed(self, turn: int) -> list[Effect]:
        """End the turn without the brain."""
        if not (thinking := self._thinking(turn)):
            return []
        return [*self._add(*thinking.instead().sentences), *self._end_thinking()]

    # ---- what was heard

    def _voice(self, started: bool, at_ms: float) -> list[Effect]:
        """Tell that the user begins or ceases to speak, if that is new."""
        if started is self._speaks:
            return []
        self._speaks = started
        return [Send(wire.voice_activity(started, at_ms))]

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
        self._meter.read(text)
        return self._take_turn(text, now)

    def _content(self, content: wire.Content, now: float) -> list[Effect]:
        """Add to the history, and answer if that is asked for.

        As with Gemini this ends an answer that is given, even where it adds nothing: so a user stops the
        answer without a word.
        """
        effects = self._interrupt(now)
        for entry in content.entries:
            self._meter.read(entry.text)
            self._memory = self._memory.with_entry(entry.role, entry.text)
        asked = self._memory.entries[-1:] if content.complete else ()
        if asked and asked[0].role == "user":
            self._memory = Memory(self._memory.entries[:-1])
            return effects + self._take_turn(asked[0].text, now)
        return effects + (self._offer_resumption(now) if content.entries and not self._turn_open else [])

    @property
    def _turn_open(self) -> bool:
        return self.phase not in (Phase.IDLE, Phase.ENDED)

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
        reply: Answer | Call | None
        if self._thinks:
            reply = certain(line, self._setup.grammar, self._clock())
        else:
            reply = respond(line, self._setup.grammar, self._memory, self._setup.language, self._clock())
        if told:
            final = not isinstance(reply, Call)
            effects += self._transcribe(Told(told.delta, told.hypothesis._replace(final=final)))
        before, self._memory = self._memory, self._memory.with_entry("user", line)
        self._turn += 1
        self._playback.begin(now)
        match reply:
            case Answer():
                return effects + self._say(reply)
            case Call():
                self.phase = Phase.CALLING
                return effects + self._calling.make(reply, now)
            case None:
                self.phase = Phase.THINKING
                self._deliberation = Deliberation(self._setup, before, text, self._clock())
                return [*effects, Ask(self._turn, self._deliberation.question())]
            case _:
                assert_never(reply)

    def _thinking(self, turn: int) -> Deliberation | None:
        """Return the deliberation that a report of the brain's is about, unless it is too late for it.

        While one of its calls is made, the brain has not been asked.
        """
        asked = turn == self._turn and self.phase is Phase.THINKING and not self._calling.call
        return self._deliberation if asked else None

    def _think_on(self, thinking: Deliberation, now: float) -> list[Effect]:
        """Make the brain's next call, or ask it again when all were made."""
        match thinking.next():
            case Call() as call:
                return self._calling.make(call, now)
            case Question() as question:
                return [Ask(self._turn, question)]
            case None:
                return self.brain_failed(self._turn)

    def _end_thinking(self) -> list[Effect]:
        self.phase = Phase.SPEAKING
        return [Say(self._turn, ())]

    # ---- calls

    def _tool_result(self, result: wire.ToolResult, now: float) -> list[Effect]:
        """Take a result; one that no call waits for, or no longer, is ignored."""
        if not (call := self._calling.take(result, now)):
            return []
        if result.silent and self.phase is Phase.CALLING:
            return [Send(wire.generation_complete()), *self._complete_turn(now)]
        if result.silent:
            return self._end_thinking()
        if thinking := self._thinking(self._turn):
            thinking.result(call, result.response)
            return self._think_on(thinking, now)
        return self._say(confirm(call, result.response, self._memory, self._setup.language))

    def _give_up(self, call: Call, now: float) -> list[Effect]:
        """Go on without the result of a call, which is too late."""
        cancelled = self._calling.cancel()
        if thinking := self._thinking(self._turn):
            thinking.result(call, NO_ANSWER)
            return cancelled + self._think_on(thinking, now)
        return cancelled + self._say(unanswered())

    # ---- answers

    def _say(self, answer: Answer) -> list[Effect]:
        self.phase = Phase.SPEAKING
        self._said += answer.sentences
        return [Say(self._turn, answer.sentences)]

    def _add(self, *sentences: str) -> list[Effect]:
        self._said += sentences
        return [Say(self._turn, sentences, last=False)]

    def _send_audio(self, pieces: list[playback.Piece]) -> list[Effect]:
        tells = self._setup.transcribes_output
        return [Send(wire.spoken(piece.pcm, piece.text if tells else "")) for piece in pieces]

    def _interrupt(self, now: float) -> list[Effect]:
        """End the turn that is open, if one is and it may be ended; what has begun to sound was said."""
        if not self._turn_open or not self._setup.interruptible:
            return []
        stop = self._calling.cancel()
        if self.phase is not Phase.CALLING:
            stop.append(Hush())
        self._said = self._playback.begun(now)
        return [*stop, Send(wire.interrupted()), *self._complete_turn(now)]

    def _complete_turn(self, now: float) -> list[Effect]:
        """End the turn; what was said in it is remembered."""
        self.phase = Phase.IDLE
        self._deliberation = None
        if self._said:
            self._memory = self._memory.with_entry("model", " ".join(self._said))
            self._said = []
        usage = self._meter.usage(self._playback.total_bytes)
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
