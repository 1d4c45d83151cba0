"""A session: the pure state machine between one client and one model.

Client messages and model events go in, effects come out; nothing here waits, reads a clock or
touches a socket. `now` is always seconds since the epoch. The shell (`bridge`) performs the effects
in order, takes what goes to the model with `next_input()`, and calls `expire()` at `deadline()`.

    NEW --auth--> AUTHENTICATING --authenticated--> READY --first turn--> OPENING --opened--> LIVE
     any state --fatal error, disconnected--> CLOSED
"""

from __future__ import annotations

from collections import deque
from enum import Enum, auto
from typing import Final, assert_never

import msgspec
from msgspec import UNSET, Struct, UnsetType

from antiphon import live
from antiphon.answer import Answer
from antiphon.audio import AudioStream, Decoded
from antiphon.errors import DISPOSITIONS, ErrorCode, GatewayError
from antiphon.messages import (
    AudioChunk,
    AudioResponse,
    AudioStreamEnd,
    AudioStreamStart,
    Auth,
    AuthSuccess,
    ClientMessage,
    Command,
    RecognitionResult,
    ServerMessage,
    error_message,
)
from antiphon.uplink import Uplink
from antiphon.utterance import Utterance


class State(Enum):
    """Where a session stands."""

    NEW = auto()
    AUTHENTICATING = auto()
    READY = auto()
    OPENING = auto()
    LIVE = auto()
    CLOSED = auto()


_ANY_TURN: Final[frozenset[type]] = frozenset({Auth, AudioStreamStart, AudioChunk, AudioStreamEnd, Command})

LEGAL: Final[dict[State, frozenset[type]]] = {
    State.NEW: frozenset({Auth}),
    State.AUTHENTICATING: frozenset(),
    State.READY: _ANY_TURN,
    State.OPENING: _ANY_TURN,
    State.LIVE: _ANY_TURN,
    State.CLOSED: frozenset(),
}
"""What a client may say when. The shell holds messages back while AUTHENTICATING."""


class Limits(Struct, frozen=True):
    """Bounds of one session, in seconds unless named otherwise."""

    auth_timeout_s: float = 10.0
    idle_timeout_s: float = 300.0
    max_duration_s: float = 7200.0
    uplink_s: float = 10.0
    """Audio that may wait for the model, and how long it may wait, before UPSTREAM_SLOW."""
    answer_s: float = 120.0
    """Answer audio that may wait for the client; beyond it the model is not read."""
    protocol_errors_a_minute: int = 100


# ---- effects


class Send(Struct, frozen=True, gc=False):
    """Write a message to the client."""

    message: ServerMessage


class Verify(Struct, frozen=True):
    """Verify a token, then call `authenticated()` or `refused()`."""

    token: str


class Open(Struct, frozen=True):
    """Open the conversation with the model, then call `opened()` or `failed()`."""

    setup: live.Setup


class Close(Struct, frozen=True):
    """Close the client's connection and the conversation with the model."""

    code: int
    reason: str


Effect = Send | Verify | Open | Close


_MAX_AUDIO_BYTES: Final = 4 * live.INPUT_RATE_HZ
"""Two seconds. Silence in FLAC may hold minutes in a chunk, and servers commonly take 4 MiB a message."""
_MAX_RESULTS: Final = 64
"""Results of calls that may wait for the model."""


class Session:
    """One client's conversation. See the module for states; methods return effects to perform."""

    def __init__(self, session_id: str, setup: live.Setup, limits: Limits, now: float) -> None:
        self.id = session_id
        self.state = State.NEW
        self.user_id = ""
        self.handle: str | None = None
        self._setup = setup
        self._limits = limits
        self._language = setup.language
        self._commands = frozenset(function.name for function in setup.functions)
        self._began_at = self._active_at = now
        self._token_expires_at = float("inf")
        self._verifying = False
        self._error_times: deque[float] = deque(maxlen=limits.protocol_errors_a_minute)
        self._audio: AudioStream | None = None
        self._uplink = Uplink(limits.uplink_s)
        self._utterance = Utterance()
        self._answer = Answer()
        self._answering = False

    # ---- from the client

    def receive(self, message: ClientMessage, now: float) -> list[Effect]:
        """Take a client's message."""
        if self.state is State.CLOSED:
            return []
        if type(message) not in LEGAL[self.state]:
            return self.reject(GatewayError(ErrorCode.AUTH_REQUIRED), now)
        self._active_at = now
        match message:
            case AudioChunk():
                return self._chunk(message, now)
            case AudioStreamStart():
                return self._start(message, now)
            case AudioStreamEnd():
                return self._end(now)
            case Command():
                return self._command(message, now)
            case Auth(token=token):
                return self._verify(token, now)
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
        self.state = State.CLOSED
        return [Close(1000, "")]

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
        return [Send(AuthSuccess(timestamp=_ms(now), session_id=self.id, user_id=self.user_id))]

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
        return self._uplink.take(now) if self.state is State.LIVE else None

    @property
    def uplink_full(self) -> bool:
        """Whether the client should not be read for now: the model takes its audio too slowly."""
        return self._uplink.full

    @property
    def answer_full(self) -> bool:
        """Whether the model should not be read for now: its answer or its calls run too far ahead."""
        return self._answer.waiting_s >= self._limits.answer_s or self._uplink.results >= _MAX_RESULTS

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
            self._answer.release_at,
            self._utterance.final_at,
        )

    def expire(self, now: float) -> list[Effect]:
        """Do what has fallen due; harmless when called early."""
        limits = self._limits
        if self.state is State.CLOSED:
            return []
        if self.state in (State.NEW, State.AUTHENTICATING):
            late = now >= self._began_at + limits.auth_timeout_s
            return self._fail(GatewayError(ErrorCode.AUTH_TIMEOUT), now) if late else []
        for due_at, code in (
            (self._token_expires_at, ErrorCode.AUTH_TOKEN_EXPIRED),
            (self._began_at + limits.max_duration_s, ErrorCode.SESSION_MAX_DURATION),
            (self._uplink.deadline, ErrorCode.UPSTREAM_SLOW),
            (self._active_at + limits.idle_timeout_s, ErrorCode.SESSION_IDLE),
        ):
            if now >= due_at:
                return self._fail(GatewayError(code), now)
        effects = self._release(now)
        if now >= self._utterance.final_at:
            effects += self._finish_utterance(now)
        return effects

    # ---- from the model

    def upstream(self, event: live.LiveEvent, now: float) -> list[Effect]:
        """Take an event of the model."""
        if self.state is State.CLOSED:
            return []
        match event:
            case live.Spoke(pcm=pcm, rate_hz=rate_hz):
                effects = self._begin_answer(now)
                self._answer.add_audio(pcm, rate_hz)
                return effects + self._release(now)
            case live.Said(text=text):
                effects = self._begin_answer(now)
                self._answer.add_text(text)
                return effects
            case live.Heard():
                return self._heard(event, now)
            case live.Called():
                return self._called(event, now)
            case live.Interrupted():
                self._answer.drop()
                return self._finish_turn(now)
            case live.TurnEnded():
                self._answer.end()
                return self._finish_turn(now) + self._release(now)
            case live.Generated():
                return self._begin_answer(now)
            case live.HandleChanged(handle=handle):
                self.handle = handle or self.handle
                return []
            case live.Cancelled() | live.GoingAway() | live.Metered():
                return []
            case _:
                assert_never(event)

    # ---- tokens

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

    def _start(self, message: AudioStreamStart, now: float) -> list[Effect]:
        if self._audio:
            return self._fail(GatewayError(ErrorCode.AUDIO_STREAM_ACTIVE), now)
        config = message.config
        self._audio = AudioStream(config.format, int(config.sample_rate))
        self._language = config.language
        return self._open()

    def _chunk(self, message: AudioChunk, now: float) -> list[Effect]:
        audio = self._audio
        if not audio:
            return self._fail(GatewayError(ErrorCode.AUDIO_STREAM_INACTIVE), now)
        effects = self._decoded(audio.feed(int(message.sequence), message.data), now)
        if audio.ended:  # by what nobody can decode
            self._end_audio(now)
        return effects

    def _end(self, now: float) -> list[Effect]:
        if not self._audio:
            return self._fail(GatewayError(ErrorCode.AUDIO_STREAM_INACTIVE), now)
        effects = self._decoded(self._audio.flush(), now)
        self._end_audio(now)
        return effects

    def _end_audio(self, now: float) -> None:
        """Tell the model that no more will come, so that it answers what there was."""
        self._audio = None
        self._uplink.add(live.AudioEnd(), now)

    def _decoded(self, decoded: Decoded, now: float) -> list[Effect]:
        for start in range(0, len(decoded.pcm), _MAX_AUDIO_BYTES):
            self._uplink.add(live.Audio(decoded.pcm[start : start + _MAX_AUDIO_BYTES]), now)
        effects: list[Effect] = []
        for error in decoded.errors:
            effects += self._fail(error, now)
        return effects

    def _command(self, message: Command, now: float) -> list[Effect]:
        context = None if message.context is UNSET else message.context
        self._uplink.add(live.Text(message.command, context), now)
        self._utterance.typed(message.command)
        self._answer.supersede()
        return self._open()

    def _open(self) -> list[Effect]:
        if self.state is not State.READY:
            return []
        self.state = State.OPENING
        return [Open(msgspec.structs.replace(self._setup, language=self._language, handle=self.handle))]

    # ---- what the user said

    def _heard(self, event: live.Heard, now: float) -> list[Effect]:
        utterance = self._utterance
        if not utterance.open:
            self._answer.supersede()
        utterance.hear(event, now)
        if event.final or utterance.long:
            return self._finish_utterance(now)
        return [self._result(now, final=False)] if utterance.transcript else []

    def _finish_utterance(self, now: float, command: str | UnsetType = UNSET) -> list[Effect]:
        """Say the final result, if it is still to say, or if it is to be said again with a command."""
        if not self._utterance.finish() and command is UNSET:
            return []
        return [self._result(now, final=True, command=command)]

    def _result(self, now: float, *, final: bool, command: str | UnsetType = UNSET) -> Send:
        return Send(
            RecognitionResult(
                timestamp=_ms(now),
                transcript=self._utterance.transcript,
                confidence=self._utterance.confidence,
                command=command,
                is_final=final,
            )
        )

    def _called(self, call: live.Called, now: float) -> list[Effect]:
        known = call.name in self._commands
        result = {"output": "done"} if known else {"error": f"There is no function {call.name}."}
        self._uplink.add(live.ToolResult(call.call_id, call.name, result), now)
        effects = self._finish_utterance(now, call.name) if known else []
        return effects + self._begin_answer(now)

    # ---- the answer

    def _begin_answer(self, now: float) -> list[Effect]:
        """Note the model's output; the first of a turn shows that the user's utterance is over."""
        if self._answering:
            return []
        self._answering = True
        self._answer.begin()
        return self._finish_utterance(now)

    def _finish_turn(self, now: float) -> list[Effect]:
        self._answering = False
        return self._finish_utterance(now)

    def _release(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        while piece := self._answer.next_piece(now):
            self._active_at = now
            effects.append(
                Send(
                    AudioResponse(
                        timestamp=_ms(now),
                        data=piece.pcm,
                        format=piece.format,
                        duration=piece.duration_ms,
                        text=piece.text,
                        language=self._language,
                    )
                )
            )
        return effects

    # ---- errors

    def _fail(self, error: GatewayError, now: float) -> list[Effect]:
        """Tell the client of an error, and close where its disposition says so."""
        if self.state is State.CLOSED:
            return []
        effects: list[Effect] = [Send(error_message(error, _ms(now), trace_id=self.id))]
        if (code := DISPOSITIONS[error.code].close) is not None:
            self.state = State.CLOSED
            self._audio = None
            self._answer.drop()
            effects.append(Close(code, error.code.value))
        return effects


def _ms(now: float) -> int:
    return int(now * 1000)
