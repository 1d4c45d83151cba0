"""A session: the pure state machine between one client and one model.

Client messages and model events go in, effects come out; nothing here waits, reads a clock or
touches a socket. `now` is always seconds since the epoch. The shell (`bridge`) performs the effects
in order, takes what goes to the model with `next_input()`, and calls `expire()` at `deadline()`.

    NEW --auth--> AUTHENTICATING --authenticated--> READY --first turn--> OPENING --opened--> LIVE
     LIVE --first activity_start of a session that detected speech by itself--> OPENING
     any state --fatal error, disconnected--> CLOSED

What is said lies with its two sides, `user_side` and `model_side`; both tell everything in messages of
`antiphon.v1`, and a client that has not negotiated it is sent the base messages among them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Any, Final, assert_never

import msgspec
from msgspec import UNSET, UnsetType

from antiphon import extension, frames, live, messages
from antiphon.errors import DISPOSITIONS, ErrorCode, GatewayError
from antiphon.messages import (
    AudioChunk,
    AudioResponse,
    AudioStreamEnd,
    Auth,
    AuthSuccess,
    Command,
    error_message,
    milliseconds,
)
from antiphon.session import negotiation
from antiphon.session.answer import Piece
from antiphon.session.calls import Calls
from antiphon.session.effects import Abort, Close, Effect, Encode, Open, Run, Send, SendBinary, Verify
from antiphon.session.metering import Meter
from antiphon.session.microphone import Microphone
from antiphon.session.model_side import ModelSide
from antiphon.session.negotiation import Limits, Wishes
from antiphon.session.uplink import Uplink
from antiphon.session.user_side import Timeline, UserSide
from antiphon.tools.call import Tool

__all__ = ["LEGAL", "Limits", "Session", "State"]


class State(Enum):
    """Where a session stands."""

    NEW = auto()
    AUTHENTICATING = auto()
    READY = auto()
    OPENING = auto()
    LIVE = auto()
    CLOSED = auto()


_HELLO: Final[frozenset[type]] = frozenset({extension.ClientHello})
_ANY_TURN: Final[frozenset[type]] = _HELLO | {
    Auth,
    messages.AudioStreamStart,
    AudioChunk,
    AudioStreamEnd,
    Command,
    extension.AudioStreamStart,
    extension.Ping,
    extension.Pong,
    extension.ActivityStart,
    extension.ActivityEnd,
    extension.Interrupt,
    extension.PlaybackMark,
    extension.ToolResult,
}

LEGAL: Final[dict[State, frozenset[type]]] = {
    State.NEW: _HELLO | {Auth},
    State.AUTHENTICATING: frozenset(),
    State.READY: _ANY_TURN,
    State.OPENING: _ANY_TURN,
    State.LIVE: _ANY_TURN,
    State.CLOSED: frozenset(),
}
"""What a client may say when. The shell holds messages back while AUTHENTICATING."""


Outcome = extension.ServerMessage | live.LiveInput | GatewayError | Run | Abort
"""What the parts of a session want done."""

_MAX_RESULTS: Final = 64
"""Results of calls that may wait for the model."""
_NOT_ACTIVE: Final = (extension.Ping, extension.Pong)
"""What does not keep an idle session open."""


class Session:
    """One client's conversation. See the module for states; methods return effects to perform.

    `extended` says that the client speaks `antiphon.v1`; `tools` are the commands that are carried out.
    """

    def __init__(
        self,
        session_id: str,
        setup: live.Setup,
        limits: Limits,
        now: float,
        *,
        extended: bool = False,
        tools: Mapping[str, Tool] | None = None,
    ) -> None:
        self.id = session_id
        self.state = State.NEW
        self.extended = extended
        self.user_id = ""
        self.handle: str | None = None
        self._setup = setup
        self._limits = limits
        self._wishes = Wishes()
        self._language = setup.language
        self._began_at = self._active_at = self._sent_at = now
        self._token_expires_at = float("inf")
        self._verifying = False
        self._error_times: deque[float] = deque(maxlen=limits.protocol_errors_a_minute)
        self._pings = self._frames_sent = 0
        self._framed = False
        """Whether the audio of this response travels as binary frames."""
        self._uplink = Uplink(limits.uplink_s)
        self._timeline = Timeline()
        self._meter = Meter()
        self._microphone = Microphone(self._timeline)
        self._user = UserSide(self._timeline)
        self._model = ModelSide(can_flush=extended)
        self._commands = frozenset(function.name for function in setup.functions)
        self._calls = Calls(self._commands, tools or {}, calls_client=extended)
        self._usage_due = self._parting = False
        self._held_at: float | None = None

    # ---- from the client

    def receive(self, message: messages.ClientMessage | extension.ClientMessage, now: float) -> list[Effect]:
        """Take a client's message."""
        if self.state is State.CLOSED:
            return []
        if type(message) not in LEGAL[self.state]:
            return self.reject(GatewayError(ErrorCode.AUTH_REQUIRED), now)
        if not isinstance(message, _NOT_ACTIVE):
            self._active_at = now
        match message:
            case AudioChunk():
                return self._chunk(message, now)
            case messages.AudioStreamStart() | extension.AudioStreamStart():
                return self._start(message, now)
            case AudioStreamEnd():
                return self._end(now)
            case Command():
                return self._command(message, now)
            case Auth(token=token):
                return self._verify(token, now)
            case extension.ClientHello():
                return self._hello(message)
            case extension.Ping(id=ping_id, timestamp=timestamp):
                return self._act(
                    [extension.ServerPong(timestamp=milliseconds(now), id=ping_id, echo_time=timestamp)], now
                )
            case extension.Pong():
                return []
            case extension.ActivityStart():
                return self._press(now)
            case extension.ActivityEnd():
                return self._listen(self._microphone.release(), now)
            case extension.Interrupt(response_id=response_id):
                return self._interrupt(response_id, now)
            case extension.PlaybackMark():
                return self._mark(message, now)
            case extension.ToolResult():
                return self._tool_result(message, now)
            case _:
                assert_never(message)

    def reject(self, error: GatewayError, now: float) -> list[Effect]:
        """Answer something that is no message, or not now, and cut a client that keeps sending it."""
        errors = self._error_times
        if len(errors) == errors.maxlen and now - errors[0] < 60:
            return self._fail(GatewayError(ErrorCode.PROTOCOL_TOO_MANY_ERRORS), now)
        errors.append(now)
        return self._fail(error, now)

    def disconnected(self, now: float) -> list[Effect]:
        """Note that the client is gone."""
        if self.state is State.CLOSED:
            return []
        if self._microphone.pressed:
            self._act(self._microphone.release(), now)
        self._parting = self.state is State.LIVE and self._microphone.push_to_talk
        return self._close(1000, "")

    # ---- from the shell

    def authenticated(self, user_id: str, expires_at: float, now: float) -> list[Effect]:
        """Begin the session, or go on with a renewed token of the same user, until `expires_at`."""
        self._verifying = False
        if self.state is State.CLOSED:
            return []
        if self.state is State.AUTHENTICATING:
            self.state = State.READY
            self.user_id = user_id
            self._began_at = self._active_at = now
        elif user_id != self.user_id:
            return self._fail(GatewayError(ErrorCode.AUTH_USER_CHANGED), now)
        self._token_expires_at = expires_at
        success = AuthSuccess(timestamp=milliseconds(now), session_id=self.id, user_id=self.user_id)
        info = negotiation.session_info(self._limits, expires_at, now)
        return self._act([success, info], now)

    def refused(self, error: GatewayError, now: float) -> list[Effect]:
        """Take the verdict that a token is no good. The token in force is not touched by it."""
        self._verifying = False
        if self.state in (State.NEW, State.AUTHENTICATING):
            return self._fail(error, now)
        return self._fail(GatewayError(ErrorCode.AUTH_RENEWAL_REFUSED), now)

    def opened(self, now: float) -> list[Effect]:
        """Note that the model is ready; what waited for it may be taken."""
        if self.state is State.OPENING:
            self.state = State.LIVE
            self._uplink.touch(now)
        return []

    def failed(self, error: GatewayError, now: float) -> list[Effect]:
        """Take a failure of the model, or of the gateway itself."""
        return self._fail(error, now)

    def next_input(self, now: float) -> live.LiveInput | None:
        """Take what goes to the model next, or None. Nothing is given before `opened()`."""
        item = self._uplink.take(now) if self.state is State.LIVE or self.last_words else None
        if isinstance(item, live.Audio):
            self._meter.audio_in_ms += len(item.pcm) * 500 / live.INPUT_RATE_HZ
        return item

    def encoded(self, piece: Piece, data: bytes, now: float) -> list[Effect]:
        """Take what became of `Encode`."""
        return self._act(self._model.encoded(piece, data, now), now)

    def ran(self, call_id: str, result: dict[str, Any], now: float) -> list[Effect]:
        """Take what became of `Run`, unless nobody waits for it any more."""
        return self._act(self._calls.finish(call_id, result), now)

    def hold(self, held: bool, now: float) -> list[Effect]:
        """Keep answers back while what was sent is still on its way: here they can still be dropped."""
        if not self.extended or self.state is State.CLOSED:
            return []
        self._held_at = now if held else None
        return self._act(self._model.hold(held, now), now)

    @property
    def binary(self) -> bool:
        """Whether audio may travel as binary frames."""
        return self._wishes.binary

    @property
    def parting(self) -> bool:
        """Whether the client left a conversation that it had pushed to talk in."""
        return self._parting

    @property
    def last_words(self) -> bool:
        """Whether the session is closed and the model still is to be told how the user's turn ended."""
        return self._parting and not self._uplink.empty

    @property
    def uplink_full(self) -> bool:
        """Whether the client should not be read for now: the model takes its audio too slowly."""
        return self._uplink.full

    @property
    def answer_full(self) -> bool:
        """Whether the model should not be read for now: its answer or its calls run too far ahead."""
        return self._model.waiting_s >= self._limits.answer_s or self._uplink.results >= _MAX_RESULTS

    # ---- time

    def deadline(self) -> float | None:
        """Return when `expire()` wants to be called, or None."""
        limits = self._limits
        if self.state is State.CLOSED:
            return None
        if self.state in (State.NEW, State.AUTHENTICATING):
            return self._began_at + limits.auth_timeout_s
        return min(
            self._token_expires_at,
            self._began_at + limits.max_duration_s,
            self._active_at + limits.idle_timeout_s,
            self._uplink.deadline,
            self._model.deadline,
            self._user.final_at,
            self._calls.deadline,
            self._slow_at,
            self._ping_at,
        )

    def expire(self, now: float) -> list[Effect]:
        """Do what has fallen due; harmless when called early."""
        limits = self._limits
        if self.state is State.CLOSED:
            return []
        if self.state in (State.NEW, State.AUTHENTICATING):
            if now < self._began_at + limits.auth_timeout_s:
                return []
            return self._fail(GatewayError(ErrorCode.AUTH_TIMEOUT), now)
        for due_at, code in (
            (self._token_expires_at, ErrorCode.AUTH_TOKEN_EXPIRED),
            (self._began_at + limits.max_duration_s, ErrorCode.SESSION_MAX_DURATION),
            (self._uplink.deadline, ErrorCode.UPSTREAM_SLOW),
            (self._slow_at, ErrorCode.SESSION_CLIENT_SLOW),
            (self._active_at + limits.idle_timeout_s, ErrorCode.SESSION_IDLE),
        ):
            if now >= due_at:
                return self._fail(GatewayError(code), now)
        effects = self._act(
            [*self._model.expire(now), *self._user.expire(now), *self._calls.expire(now)], now
        )
        if now >= self._ping_at:
            self._pings += 1
            effects += self._act([extension.ServerPing(timestamp=milliseconds(now), id=self._pings)], now)
        return effects

    @property
    def _ping_at(self) -> float:
        return self._sent_at + self._limits.heartbeat_s if self.extended else float("inf")

    @property
    def _slow_at(self) -> float:
        return float("inf") if self._held_at is None else self._held_at + self._limits.unread_s

    # ---- from the model

    def upstream(self, event: live.LiveEvent, now: float) -> list[Effect]:
        """Take an event of the model."""
        if self.state is State.CLOSED:
            return []
        match event:
            case live.Spoke(pcm=pcm, rate_hz=rate_hz):
                told = self._begin_turn(now)
                return self._act(told + self._model.speak(pcm, rate_hz, self._language, now), now)
            case live.Said(text=text):
                told = self._begin_turn(now)
                self._model.say(text, self._language, now)
                return self._act(told, now)
            case live.Heard():
                if not self._user.open:
                    self._model.supersede()
                return self._act(self._user.hear(event, now), now)
            case live.VoiceActivity():
                return self._act(self._user.voice(event, now), now)
            case live.Called():
                return self._called(event, now)
            case live.Interrupted():
                return self._act(self._model.interrupted(now) + self._user.finish(now), now)
            case live.TurnEnded():
                self._usage_due = True
                return self._act(self._user.finish(now) + self._model.ended(now), now)
            case live.Generated():
                told = self._begin_turn(now)
                self._model.generated()
                return self._act(told, now)
            case live.HandleChanged(handle=handle):
                self.handle = handle or self.handle
                return []
            case live.Cancelled(call_ids=call_ids):
                return self._act(self._calls.cancel(call_ids, "cancelled", now), now)
            case live.Metered():
                self._meter.count(event)
                self._usage_due |= not self._model.turn_open
                return self._act([], now)
            case live.GoingAway():
                return []
            case _:
                assert_never(event)

    def _begin_turn(self, now: float) -> list[extension.ServerMessage]:
        """Note the model's output; the first of a turn shows that the user's utterance is over."""
        return [] if self._model.turn_open else self._model.begin_turn(now) + self._user.finish(now)

    # ---- negotiation

    def _hello(self, message: extension.ClientHello) -> list[Effect]:
        self._wishes = wishes = negotiation.heard(message, self._wishes, self._limits)
        self._model.format = wishes.encoding
        self._model.marks |= wishes.marks
        self._calls.client_carries_out = wishes.tools
        self._model.set_lead(wishes.lead_s)
        return []

    def _verify(self, token: str, now: float) -> list[Effect]:
        """Have a token verified, one at a time: verifying may wait for a key server."""
        if self._verifying:
            text = "Another token is being verified; wait for its answer."
            return self.reject(GatewayError(ErrorCode.AUTH_RENEWAL_REFUSED, text), now)
        self._verifying = True
        if self.state is State.NEW:
            self.state = State.AUTHENTICATING
        return [Verify(token)]

    # ---- audio and typed turns

    def _start(
        self, message: messages.AudioStreamStart | extension.AudioStreamStart, now: float
    ) -> list[Effect]:
        if self._microphone.open:
            return self._fail(GatewayError(ErrorCode.AUDIO_STREAM_ACTIVE), now)
        config = message.config
        self._microphone.start(config.format, int(config.sample_rate))
        self._language = config.language
        # Whether an extended client pushes to talk shows only with what it sends next.
        return [] if self.extended else self._open()

    def _chunk(self, message: AudioChunk, now: float) -> list[Effect]:
        effects = self._open() if self._microphone.open else []
        heard = self._microphone.chunk(int(message.sequence), message.data)
        return effects + self._listen(heard, now)

    def _end(self, now: float) -> list[Effect]:
        effects = self._open() if self._microphone.open else []
        return effects + self._listen(self._microphone.end(), now)

    def _listen(self, heard: Sequence[Outcome], now: float) -> list[Effect]:
        """Pass on what the microphone gives; the talk button may have been released with it."""
        released = any(isinstance(item, live.ActivityEnd) for item in heard)
        told = self._user.press(pressed=False, now=now) if released else []
        return self._act([*heard, *told], now)

    def _command(self, message: Command, now: float) -> list[Effect]:
        context = None if message.context is UNSET else message.context
        self._user.typed(message.command)
        self._model.supersede()
        return self._act([live.Text(message.command, context)], now) + self._open()

    def _press(self, now: float) -> list[Effect]:
        automatic = not self._microphone.push_to_talk
        pressed = self._microphone.press()
        if not isinstance(pressed[0], live.ActivityStart):
            return self._act(pressed, now)
        told = self._model.stop("activity", now) + self._user.press(pressed=True, now=now)
        effects = self._act(told, now)
        if automatic:
            effects += self._open() or self._reopen(now)
        return effects + self._act(pressed, now)

    def _open(self) -> list[Effect]:
        """Open the conversation with the model, if it is not."""
        return self._connect() if self.state is State.READY else []

    def _reopen(self, now: float) -> list[Effect]:
        """Open another conversation: whether the model detects speech is said once, at the beginning."""
        told = [
            *self._model.interrupted(now),
            *self._user.finish(now),
            *self._calls.cancel_all("session", now),
        ]
        # The new one hears what is said with the button pressed, and knows nothing of the old one's calls.
        self._uplink.discard(live.Audio, live.AudioEnd, live.ToolResult)
        self._uplink.touch(now)
        return self._act(told, now) + self._connect()

    def _connect(self) -> list[Effect]:
        self.state = State.OPENING
        self._timeline.begin_connection(self._uplink.audio_ms)
        self._meter.begin_connection()
        push_to_talk = self._microphone.push_to_talk
        setup = msgspec.structs.replace(
            self._setup, language=self._language, handle=self.handle, push_to_talk=push_to_talk
        )
        return [Open(setup)]

    # ---- the answer

    def _interrupt(self, response_id: str | UnsetType, now: float) -> list[Effect]:
        try:
            if response_id is not UNSET and not self._model.talks(response_id):
                return []
        except GatewayError as error:
            return self._fail(error, now)
        is_running = self._model.talking and self._model.turn_open
        told: list[Outcome] = [*self._model.stop("client", now)]
        return self._act([*told, live.Interrupt()] if is_running else told, now)

    def _mark(self, message: extension.PlaybackMark, now: float) -> list[Effect]:
        try:
            return self._act(self._model.mark(message.response_id, message.played_ms / 1000, now), now)
        except GatewayError as error:
            return self._fail(error, now)

    # ---- tools

    def _called(self, call: live.Called, now: float) -> list[Effect]:
        told = self._model.begin_turn(now)
        told += self._user.finish(now, call.name) if call.name in self._commands else self._user.finish(now)
        return self._act([*told, *self._calls.call(call, self.id, self.user_id, now)], now)

    def _tool_result(self, message: extension.ToolResult, now: float) -> list[Effect]:
        try:
            return self._act(self._calls.answer(message), now)
        except GatewayError as error:
            return self._fail(error, now)

    # ---- what comes of it

    def _act(self, outcomes: Sequence[Outcome], now: float) -> list[Effect]:
        """Do what the parts of the session want: tell the client, the model, the workers."""
        effects: list[Effect] = []
        for outcome in outcomes:
            match outcome:
                case AudioResponse():
                    self._meter.audio_out_ms += outcome.duration
                    self._active_at = now
                    effects.append(self._sound(outcome))
                case extension.ServerExtension():
                    if isinstance(outcome, extension.ResponseStarted):
                        self._framed = self.binary
                    if self.extended:
                        effects.append(Send(outcome))
                case messages.Message():
                    effects.append(Send(outcome))
                case Run() | Abort():
                    effects.append(outcome)
                case GatewayError():
                    effects += self._fail(outcome, now)
                case _:
                    self._uplink.add(outcome, now)
        effects += [Encode(piece) for piece in self._model.take_unencoded()]
        if self._usage_due and not self._model.talking:
            self._usage_due = False
            usage = self._meter.take(now)
            if usage and self.extended:
                effects.append(Send(usage))
        if any(isinstance(effect, Send | SendBinary) for effect in effects):
            self._sent_at = now
        return effects

    def _sound(self, message: AudioResponse) -> Effect:
        if not self._framed:
            return Send(message)
        kind, timestamp_ms = frames.AUDIO_RESPONSE, int(message.timestamp)
        frame = frames.Frame(kind, self._frames_sent, timestamp_ms, message.data)
        self._frames_sent += 1
        return SendBinary(frames.pack(frame))

    # ---- errors and the end

    def _fail(self, error: GatewayError, now: float) -> list[Effect]:
        """Tell the client of an error, and close where its disposition says so."""
        if self.state is State.CLOSED:
            return []
        code = DISPOSITIONS[error.code].close
        effects = [] if code is None else self._act(self._model.fail(now), now)
        effects += self._act([error_message(error, milliseconds(now), trace_id=self.id)], now)
        return effects if code is None else effects + self._close(code, error.code.value)

    def _close(self, code: int, reason: str) -> list[Effect]:
        self.state = State.CLOSED
        return [Close(code, reason)]
