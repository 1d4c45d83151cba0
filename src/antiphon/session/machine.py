"""A session: the pure state machine between one client and one model.

Client messages and model events go in, effects come out; nothing here waits, reads a clock or
touches a socket. `now` is always seconds since the epoch. The shell (`bridge`) performs the effects
in order, takes what goes to the model with `next_input()`, and calls `expire()` at `deadline()`.

    NEW --auth--> AUTHENTICATING --authenticated--> READY --first turn--> OPENING --opened--> LIVE
     NEW --resume--> AUTHENTICATING --another session takes the connection over--> CLOSED
     LIVE --the connection to the model breaks, or is to be renewed--> OPENING
     LIVE --the client is gone for a while--> READY
     any state --fatal error; a client gone that cannot, or does not, come back--> CLOSED

READY, OPENING and LIVE tell of the model's side, `link`. The client's side, `presence`, is there or gone
beside that: a client of `antiphon.v1` that is gone may resume its session, and finds what it has missed.

What is said lies with the two sides of the conversation, `user_side` and `model_side`; both tell everything
in messages of `antiphon.v1`, and a client that has not negotiated it is sent the base messages among them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple, Protocol, assert_never

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
from antiphon.session.calls import Calls
from antiphon.session.clocks import Clocks
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
from antiphon.session.kept import dump, load
from antiphon.session.link import Link
from antiphon.session.metering import Meter
from antiphon.session.microphone import Microphone
from antiphon.session.model_side import ModelSide
from antiphon.session.negotiation import Limits, Wishes
from antiphon.session.outbox import Frame
from antiphon.session.pace import Pace
from antiphon.session.piece import Piece
from antiphon.session.presence import Presence
from antiphon.session.renewal import Upkeep
from antiphon.session.states import LEGAL, NOT_ACTIVE, NOT_COUNTED, State, out_of_place
from antiphon.session.timing import UserTurn
from antiphon.session.uplink import Uplink
from antiphon.session.user_side import Timeline, UserSide
from antiphon.tools.call import Tool

__all__ = ["Mark", "Session"]


Outcome = extension.ServerMessage | live.LiveInput | GatewayError | Run | Abort | Open | HangUp
"""What the parts of a session want done."""

_MAX_RESULTS: Final = 64
"""Results of calls that may wait for the model."""
_PROVOKED_NOTICE_S: Final = 5.0
"""How much earlier the model seems to announce its end, so that the renewal may wait until nobody speaks."""
_ENDING: Final = frozenset({ErrorCode.SESSION_IDLE, ErrorCode.SESSION_MAX_DURATION})
"""Errors that end a session for good; after others that close the connection it can be resumed."""
_TOLD: Final = frozenset({Send, SendBinary})
_STANDING: Final = frozenset({State.READY, State.OPENING, State.LIVE})


class Mark(NamedTuple):
    """A place in the audio: the last chunk that was taken of a stream, None where none was."""

    stream: int
    sequence: int | None


class Logged(Protocol):
    """A part of a session that is written down by entries: those from `first` to before `end` are kept."""

    @property
    def first(self) -> int: ...

    @property
    def end(self) -> int: ...

    def entries(self, begin: int) -> list[bytes]: ...

    def restore(self, entries: Iterable[bytes]) -> None: ...


class Session:
    """One client's conversation. See the module for states; methods return effects to perform.

    `extended` says that the client speaks `antiphon.v1`; `tools` are the commands that are carried out.
    """

    KEPT: ClassVar[dict[str, Any]] = {
        "user_id": str,
        "_wishes": Wishes,
        "_language": str,
        "_clocks": Clocks,
        "_pings": int,
        "_frames_sent": int,
        "_framed": bool,
        "_usage_due": bool,
        "_presence": Presence,
        "_uplink": Uplink,
        "_link": Link,
        "_timeline": Timeline,
        "_turn": UserTurn,
        "_meter": Meter,
        "_microphone": Microphone,
        "_user": UserSide,
        "_model": ModelSide,
        "_calls": Calls,
    }

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
        self.extended = extended
        self.user_id = ""
        self._stage: State | None = State.NEW
        self._setup = setup
        self._limits = limits
        self._wishes = Wishes()
        self._language = setup.language
        self._clocks = Clocks(limits, now, extended=extended)
        self._verifying = False
        self._error_times: deque[float] = deque(maxlen=limits.protocol_errors_a_minute)
        self._pings = self._frames_sent = 0
        self._framed = False
        """Whether the audio of this response travels as binary frames."""
        self._presence = Presence()
        self._pace = Pace(limits.audio_speed)
        self._uplink = Uplink(limits.uplink_s, limits.gather_s)
        self._link = Link(self._setup_now, self._uplink, Upkeep(limits.mute_s, limits.connection_s))
        self._timeline = Timeline()
        self._meter = Meter()
        self._microphone = Microphone(self._timeline)
        self._turn = UserTurn()
        self._user = UserSide(self._timeline, self._turn, tells_updates=extended)
        self._model = ModelSide(self._turn, can_flush=extended)
        self._commands = frozenset(function.name for function in setup.functions)
        self._calls = Calls(self._commands, tools or {}, calls_client=extended)
        self._usage_due = self._parting = False
        self.paced = False
        """Whether the client is not read since it sends much faster than real time."""
        self.saved_elsewhere = False
        """Whether what is acknowledged has to be saved first, which `safe()` tells of."""
        self.unsaved = False
        """Whether it cannot be for now: the client is told what the model has heard instead."""

    @property
    def state(self) -> State:
        """Where the session stands."""
        return self._stage or self._link.state

    @property
    def handle(self) -> str | None:
        """What resumes the conversation with the model, as it said last."""
        return self._link.handle

    @property
    def attached(self) -> bool:
        """Whether the client is there."""
        return self._presence.attached

    @property
    def detached_at(self) -> float:
        """When the client went away; infinity while it is there."""
        return self._presence.detached_at

    # ---- from the client

    def receive(self, message: messages.ClientMessage | extension.ClientMessage, now: float) -> list[Effect]:
        """Take a client's message."""
        state, kind, presence = self._stage or self._link.state, type(message), self._presence
        if state is State.CLOSED or not presence.attached:
            return []
        if kind not in NOT_COUNTED:
            presence.received += 1
        if kind not in LEGAL[state]:
            return self._reject(out_of_place(message), now)
        if kind not in NOT_ACTIVE:
            self._clocks.active_at = now
        if len(presence.digests) > 1:
            presence.confirm()
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
            case extension.Resume():
                return self._resume(message)
            case extension.ClientHello():
                return self._hello(message)
            case extension.Ping(id=ping_id, timestamp=timestamp):
                return self._act(
                    [extension.ServerPong(timestamp=milliseconds(now), id=ping_id, echo_time=timestamp)], now
                )
            case extension.Pong(id=ping_id):
                self._presence.outbox.ponged(ping_id)
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
            case extension.Provoke(what=what):
                return self._provoke(what, now)
            case _:
                assert_never(message)

    def reject(self, error: GatewayError, now: float) -> list[Effect]:
        """Answer something that is no message."""
        self._presence.received += 1
        return self._reject(error, now)

    def _reject(self, error: GatewayError, now: float) -> list[Effect]:
        """Answer something that cannot be done, and cut a client that keeps sending it."""
        errors = self._error_times
        if len(errors) == errors.maxlen and now - errors[0] < 60:
            return self._fail(GatewayError(ErrorCode.PROTOCOL_TOO_MANY_ERRORS), now)
        errors.append(now)
        return self._fail(error, now)

    def disconnected(self, now: float, *, clean: bool = False) -> list[Effect]:
        """Note that the client is gone; `clean`: it has said so. It may come back."""
        if self.state is State.CLOSED or not self.attached:
            return []
        if self._resumable:
            return self._detach(now, clean=clean)
        if self._microphone.pressed:
            self._act(self._microphone.release(), now)
        self._parting = self.state is State.LIVE and self._microphone.push_to_talk
        return self._close(1000, "")

    # ---- from the shell

    def authenticated(
        self, user_id: str, expires_at: float, now: float, resume_token: str = ""
    ) -> list[Effect]:
        """Begin the session, or go on with a renewed token of the same user, until `expires_at`.

        A session that begins can be resumed with the `resume_token`, if there is one.
        """
        self._verifying = False
        if self.state is State.CLOSED or not self.attached:
            return []
        if self.state is State.AUTHENTICATING:
            self._stage = None
            self.user_id = user_id
            self._clocks.began(now)
            if self.extended and resume_token and self._limits.resume_s:
                self._presence.issue(resume_token)
        elif user_id != self.user_id:
            return self._fail(GatewayError(ErrorCode.AUTH_USER_CHANGED), now)
        self._clocks.took_token(expires_at, now)
        success = AuthSuccess(timestamp=milliseconds(now), session_id=self.id, user_id=self.user_id)
        info = negotiation.session_info(self._limits, expires_at, self._presence.token, now)
        return self._act([success, info], now)

    def unfound(self, error: GatewayError, now: float) -> list[Effect]:
        """Take the verdict that nothing can be resumed; an auth may begin a new session."""
        if self.state is State.CLOSED:
            return []
        self._stage = State.NEW
        self._verifying = False
        return self._fail(error, now)

    def moved(self) -> None:
        """Note that another session has taken the connection over."""
        self._stage = State.CLOSED
        self._presence.attached = False

    def admits(self, user_id: str, resume_digest: str) -> bool:
        """Whether a client that shows this may resume the session."""
        return self._resumable and user_id == self.user_id and self._presence.admits(resume_digest)

    def attach(
        self,
        received: int,
        expires_at: float,
        resume_token: str,
        spent: str,
        now: float,
        heard_ms: float = 0.0,
    ) -> list[Effect]:
        """Go on with the client on another connection, which it came to with the token of digest `spent`.

        It has `received` so many messages, and was told that the model has heard so much; `resume_token` is
        its next one. The connection that it had, if that is still open, is not closed here.
        """
        self._uplink.heard(heard_ms)
        presence = self._presence
        missed = presence.outbox.missed(received)
        presence.attach(resume_token, spent)
        self._clocks.took_token(expires_at, now)
        self._clocks.active_at = now
        self._clocks.held(False, now)
        resumed = extension.Resumed(
            timestamp=milliseconds(now),
            session_id=self.id,
            resume_token=resume_token,
            next_sequence=presence.next_sequence,
            replayed=len(missed.frames),
            lossy=missed.lossy,
            received=presence.received,
        )
        effects: list[Effect] = [Send(resumed), *[Again(frame) for frame in missed.frames]]
        effects += self._act(self._model.hold(False, now), now)
        if self._outstanding or self._uplink.unanswered:
            effects += self._open(now)
        if self.unsaved and self._uplink.heard_ms:
            effects += self._act([self._heard(now)], now)
        return [*effects, *self._ping(now)]

    def evicted(self, now: float) -> list[Effect]:
        """Note that the session goes on elsewhere, and no longer here."""
        if self.state is State.CLOSED:
            return []
        effects = self._tell(GatewayError(ErrorCode.SESSION_TAKEN_OVER), now) if self.attached else []
        return effects + self._close(4409, ErrorCode.SESSION_TAKEN_OVER)

    # ---- written down, for another node to go on

    @property
    def digests(self) -> tuple[str, ...]:
        """Of the resume tokens that are good."""
        return self._presence.digests

    @property
    def logs(self) -> tuple[Logged, Logged, Logged]:
        """What goes to the model, what went to the client, what is still to go to it."""
        return self._uplink, self._presence.outbox, self._model.answer

    @property
    def rewritten(self) -> bool:
        """Whether entries of the logs are others than they were; asking is taking note."""
        changed = (self._uplink.changed, self._presence.outbox.changed)
        return any(changed)

    def dump(self) -> bytes:
        """Return the state, all but the logs."""
        return dump(self)

    def restore(self, state: bytes, logs: Sequence[Iterable[bytes]], spent: str, now: float) -> None:
        """Become the session that was written down; its client is about to be attached.

        Should that fail, it may come again with the token of digest `spent`.

        Raises:
            msgspec.DecodeError: it was written by a version with another form.
        """
        load(self, state)
        for part, entries in zip(self.logs, logs, strict=True):
            part.restore(entries)
        self._stage = None
        self._presence.detach(now)
        self._presence.digests = (spent,)
        self._user.begin_connection()
        recovered = [*self._model.recover(now), *self._calls.recover()]
        self._act([*recovered, *self._model.hold(True, now)], now)

    def replaced(self, now: float) -> list[Effect]:
        """Tell the client's old connection that another one takes its place."""
        error = GatewayError(ErrorCode.SESSION_TAKEN_OVER)
        return [
            Send(error_message(error, milliseconds(now), trace_id=self.id)),
            Close(4409, error.code.value),
        ]

    def drain(self, time_left_s: float, now: float) -> list[Effect]:
        """Tell the client that its connection will be closed, as the node stops."""
        if self.state not in _STANDING:
            return []
        return self._act([self._go_away("drain", time_left_s, now)], now)

    def safe(self, mark: Mark, now: float) -> list[Effect]:
        """Note that the audio up to a mark is safe, whatever becomes of this node; see `mark()`."""
        if mark.stream != self._presence.streams:
            return []  # the next one numbers its chunks anew
        self._presence.safe(mark.sequence)
        acks = self._acks(now)
        return self._act(acks, now) if acks else []

    def mark(self) -> Mark:
        """Return the place in the audio that has been taken, for `safe()`."""
        return Mark(self._presence.streams, self._presence.mark())

    def refused(self, error: GatewayError, now: float) -> list[Effect]:
        """Take the verdict that a token is no good. The token in force is not touched by it."""
        self._verifying = False
        if self.state in (State.NEW, State.AUTHENTICATING):
            return self._fail(error, now)
        return self._fail(GatewayError(ErrorCode.AUTH_RENEWAL_REFUSED), now)

    def opened(self, now: float, upstream: live.Upstream = "primary") -> list[Effect]:
        """Note that the model is ready; what waited for it may be taken."""
        if self.state is not State.OPENING:
            return []
        told = self._link.opened(upstream, now)
        if not self._link.restored:
            self._calls.forgotten()
        self._timeline.begin_connection(self._uplink.audio_ms)
        self._meter.begin_connection()
        return self._act(told, now)

    def lost(self, error: GatewayError, now: float) -> list[Effect]:
        """Note that the conversation with the model broke, or could not be opened."""
        if self.state is State.CLOSED:
            return []
        was_live = self.state is State.LIVE
        try:
            told = self._link.lost(error, now)
        except GatewayError as final:
            return [HangUp(), *self._fail(final, now)]
        return self._leave_model(now) + self._act(told, now) if was_live else self._act(told, now)

    def failed(self, error: GatewayError, now: float) -> list[Effect]:
        """Take a failure of the connection to the client, or of the gateway itself."""
        return self._fail(error, now)

    def end(self, error: GatewayError, now: float) -> list[Effect]:
        """End the session for good, for this reason."""
        if self.state is State.CLOSED:
            return []
        effects = self._act(self._model.fail(now), now) + self._tell(error, now)
        code = DISPOSITIONS[error.code].close
        assert code, "an error that ends a session closes its connection"
        return [*effects, HangUp(), *self._close(code, error.code.value)]

    def next_input(self, now: float) -> live.LiveInput | None:
        """Take what goes to the model next, or None. Nothing is given before `opened()`.

        Nor is it where nobody could tell another node of it, neither a store nor the client.
        """
        if self.unsaved and self._is_unobserved:
            self._uplink.touch(now)
            return None
        self._uplink.is_careful = self.unsaved
        is_live = self._stage is None and self._link.state is State.LIVE
        item = self._link.next_input(now) if is_live or self.last_words else None
        if isinstance(item, live.Audio):
            self._meter.audio_in_ms += len(item.pcm) * 500 / live.INPUT_RATE_HZ
        return item

    @property
    def given(self) -> int:
        """The number of what `next_input()` gave last, for `arrived()`."""
        return self._uplink.taken_number

    @property
    def gathers_until(self) -> float:
        """When small pieces of audio that wait for others are given all the same; infinity where none do."""
        return self._uplink.gathers_until

    @property
    def in_flight(self) -> bool:
        """Whether something that was given is not known to have arrived."""
        return self._uplink.in_flight

    @property
    def behind(self) -> bool:
        """Whether something waits to be given to the model."""
        return self._uplink.waiting > 0

    def arrived(self, number: int, now: float, trip_s: float = 0.0) -> list[Effect]:
        """Note that what was given up to this number has reached the model's machine."""
        is_live = self._stage is None and self._link.state is State.LIVE
        if not is_live and not self._parting:
            return []
        before_ms = self._uplink.heard_ms if self.unsaved else 0.0
        self._link.arrived(number, now, trip_s)
        if self._presence.left and not self._outstanding and is_live:
            return self._park(now)
        if not (self.unsaved and self.attached and self._uplink.heard_ms > before_ms):
            return []
        return self._act([self._heard(now)], now)

    def _heard(self, now: float) -> extension.AudioHeard:
        return extension.AudioHeard(timestamp=milliseconds(now), heard_ms=self._uplink.heard_ms)

    @property
    def _outstanding(self) -> bool:
        """Whether something that was said is not known to have reached the model's machine."""
        return self._uplink.waiting > 0 or self._uplink.in_flight

    @property
    def _is_unobserved(self) -> bool:
        return self.unsaved and not self.attached

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
        self._clocks.held(held, now)
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
        return self._parting and self._uplink.waiting > 0

    @property
    def client_full(self) -> bool:
        """Whether the client should not be read for now: the model takes its audio too slowly, it sends much
        faster than real time, or it is not known who it is.
        """
        return self._uplink.full or self.paced or self._stage is State.AUTHENTICATING

    @property
    def answer_full(self) -> bool:
        """Whether the model should not be read for now: its answer or its calls run too far ahead."""
        return self._model.answer.waiting_s >= self._limits.answer_s or self._uplink.results >= _MAX_RESULTS

    # ---- time

    def deadline(self) -> float | None:
        """Return when `expire()` wants to be called, or None."""
        if self.state is State.CLOSED:
            return None
        if self.state in (State.NEW, State.AUTHENTICATING):
            return self._clocks.auth_at
        return min(
            self._clocks.over_at,
            self._client_deadline,
            self._link.deadline,
            self._model.deadline,
            self._user.final_at,
            self._calls.deadline,
        )

    @property
    def _client_deadline(self) -> float:
        presence, limits = self._presence, self._limits
        if presence.attached:
            return min(self._clocks.deadline, self._pace.resume_at if self.paced else float("inf"))
        parked = self._link.state is State.READY
        return min(presence.detached_at + limits.resume_s, float("inf") if parked else self._park_at)

    @property
    def _park_at(self) -> float:
        """When the model is left, with the client away."""
        return self._presence.detached_at + self._limits.park_s

    def expire(self, now: float) -> list[Effect]:
        """Do what has fallen due; harmless when called early."""
        limits = self._limits
        if self.state is State.CLOSED:
            return []
        if self.state in (State.NEW, State.AUTHENTICATING):
            return [] if now < self._clocks.auth_at else self._fail(GatewayError(ErrorCode.AUTH_TIMEOUT), now)
        if now >= self._clocks.over_at:
            return self._fail(GatewayError(ErrorCode.SESSION_MAX_DURATION), now)
        gone = not self.attached
        if gone and now >= self._presence.detached_at + limits.resume_s:
            return [HangUp(), *self._act(self._model.fail(now), now), *self._close(1000, "")]
        if not gone and (code := self._clocks.expired(now)):
            return self._fail(GatewayError(code), now)
        if self._is_unobserved:
            self._uplink.touch(now)
        try:
            told = self._link.expire(now, quiet=self._quiet)
        except GatewayError as error:
            return [HangUp(), *self._fail(error, now)]
        effects = self._leave_model(now) if told and self._link.renewing else []
        effects += self._act(
            [*told, *self._model.expire(now), *self._user.expire(now), *self._calls.expire(now)], now
        )
        if gone:
            return effects + (self._park(now) if now >= self._park_at else [])
        if now >= self._pace.resume_at:
            self.paced = False
        if now >= self._clocks.ping_at:
            effects += self._ping(now)
        notices = [self._go_away(reason, left_s, now) for reason, left_s in self._clocks.notices(now)]
        return effects + (self._act(notices, now) if notices else [])

    def _ping(self, now: float) -> list[Effect]:
        if not (self.extended and self.attached):
            return []
        self._pings += 1
        self._clocks.sent_at = now
        effects = self._send(extension.ServerPing(timestamp=milliseconds(now), id=self._pings))
        self._presence.outbox.pinged(self._pings)
        return effects

    # ---- from the model

    def upstream(self, event: live.LiveEvent, now: float) -> list[Effect]:
        """Take an event of the model."""
        if self._stage is not None or self._link.state is not State.LIVE:
            return []
        self._link.event(event, now)
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
                told = self._model.interrupted(now) + self._user.finish(now)
                self._turn_over()
                return self._act(told, now)
            case live.TurnEnded():
                self._usage_due = True
                told = self._user.finish(now) + self._model.ended(now)
                self._turn_over()
                return self._act(told, now)
            case live.Generated():
                told = self._begin_turn(now)
                self._model.generated()
                return self._act(told, now)
            case live.HandleChanged() | live.GoingAway():
                return []
            case live.Cancelled(call_ids=call_ids):
                return self._act(self._calls.cancel(call_ids, "cancelled", now), now)
            case live.Metered():
                self._meter.count(event)
                self._usage_due |= not self._model.turn_open
                return self._act([], now)
            case _:
                assert_never(event)

    def _begin_turn(self, now: float) -> list[extension.ServerMessage]:
        """Note the model's output; the first of a turn shows that the user's utterance is over."""
        if self._model.turn_open:
            self._link.continued()
            return []
        self._link.answered()
        return self._model.begin_turn(now) + self._user.finish(now)

    def _turn_over(self) -> None:
        """Note that the model's turn has ended; one that waits for the results of calls is gone on with."""
        if not self._calls.pending:
            self._user.answered()

    # ---- negotiation

    def _hello(self, message: extension.ClientHello) -> list[Effect]:
        self._wishes = wishes = negotiation.heard(message, self._wishes, self._limits)
        self._model.format = wishes.encoding
        self._model.marks |= wishes.marks
        self._model.tells_timing = wishes.timing
        self._calls.client_carries_out = wishes.tools
        self._model.set_lead(wishes.lead_s)
        return []

    def _verify(self, token: str, now: float) -> list[Effect]:
        """Have a token verified, one at a time: verifying may wait for a key server."""
        if self._verifying:
            text = "Another token is being verified; wait for its answer."
            return self._reject(GatewayError(ErrorCode.AUTH_RENEWAL_REFUSED, text), now)
        self._verifying = True
        if self.state is State.NEW:
            self._stage = State.AUTHENTICATING
        return [Verify(token)]

    def _resume(self, message: extension.Resume) -> list[Effect]:
        self._stage, self._verifying = State.AUTHENTICATING, True
        return [Find(message)]

    # ---- the client's connections

    @property
    def _resumable(self) -> bool:
        return self.state in _STANDING and bool(self._presence.digests)

    def _detach(self, now: float, *, clean: bool) -> list[Effect]:
        self._presence.detach(now, clean=clean)
        self._clocks.held(False, now)
        effects = self._act(self._model.hold(True, now), now)
        return effects + (self._park(now) if clean and not self._outstanding else [])

    def _park(self, now: float) -> list[Effect]:
        """Leave the model while the client is away; what was going on there is over."""
        return self._leave_model(now) + self._act(self._link.close(), now)

    def _leave_model(self, now: float) -> list[Effect]:
        """Note that the model's connection is no more; another one goes on with the conversation."""
        self._user.begin_connection()
        return self._act(self._model.cut_off(now), now)

    @property
    def _quiet(self) -> bool:
        """Whether nothing is going on between user and model at the moment."""
        busy = self._model.turn_open or self._calls.pending or self._microphone.pressed or self._user.open
        return not busy and not self._uplink.waiting and not self._uplink.unanswered

    def _acks(self, now: float, *, at_once: bool = False) -> list[Outcome]:
        sequence = self._presence.ack(at_once=at_once)
        if sequence is None:
            return []
        return [
            extension.AudioAck(
                timestamp=milliseconds(now),
                sequence=sequence,
                window_ms=round(self._uplink.room_ms),
                stream=self._presence.streams,
            )
        ]

    def _go_away(self, reason: extension.GoAwayReason, left_s: float, now: float) -> extension.GoAway:
        left_ms = milliseconds(max(0.0, left_s))
        return extension.GoAway(timestamp=milliseconds(now), time_left_ms=left_ms, reason=reason)

    # ---- audio and typed turns

    def _start(
        self, message: messages.AudioStreamStart | extension.AudioStreamStart, now: float
    ) -> list[Effect]:
        if self._microphone.open:
            return self._fail(GatewayError(ErrorCode.AUDIO_STREAM_ACTIVE), now)
        config = message.config
        self._microphone.start(config.format, int(config.sample_rate))
        self._presence.begin_stream()
        self._turn.stream_begun()
        self._language = config.language
        # Whether an extended client pushes to talk shows only with what it sends next.
        return [] if self.extended else self._open(now)

    def _chunk(self, message: AudioChunk, now: float) -> list[Effect]:
        sequence, before_ms = int(message.sequence), self._timeline.position_ms
        audio = self._microphone.verbatim(sequence, message.data)
        if audio is None and not self._microphone.open:
            return self._listen(self._microphone.chunk(sequence, message.data), now)
        effects = self._open(now) if self._link.state is State.READY else []
        heard: list[Outcome] = []
        if audio is None:
            heard += self._microphone.chunk(sequence, message.data)
        elif skipped_ms := self._uplink.add(audio, now):
            self._timeline.skip(skipped_ms)
        audio_ms = self._timeline.position_ms - before_ms
        self._presence.chunk(sequence, audio_ms)
        if self._wishes.timing:
            self._timeline.came(before_ms, now)
        if self._pace.add(audio_ms / 1000, now):
            heard.append(GatewayError(ErrorCode.AUDIO_TOO_FAST))
        self.paced = now < self._pace.resume_at
        if heard:
            if any(isinstance(item, GatewayError) for item in heard):
                self._uplink.doubt()
            effects += self._listen(heard, now)
        if self.saved_elsewhere or not self.extended:
            return effects
        self._presence.safe(self._presence.mark())
        acks = self._acks(now)
        return effects + self._act(acks, now) if acks else effects

    def _end(self, now: float) -> list[Effect]:
        effects = self._open(now) if self._microphone.open else []
        if self._microphone.open:
            self._turn.stream_ended(now)
        effects += self._listen(self._microphone.end(), now)
        return effects + self._act(self._acks(now, at_once=True), now)

    def _listen(self, heard: Sequence[Outcome], now: float) -> list[Effect]:
        """Pass on what the microphone gives; the talk button may have been released with it."""
        released = any(isinstance(item, live.ActivityEnd) for item in heard)
        told = self._user.press(pressed=False, now=now) if released else []
        return self._act([*heard, *told], now)

    def _command(self, message: Command, now: float) -> list[Effect]:
        context = None if message.context is UNSET else message.context
        self._user.typed(message.command, now)
        self._model.supersede()
        self._link.typed(message.command)
        return self._act([live.Text(message.command, context)], now) + self._open(now)

    def _press(self, now: float) -> list[Effect]:
        automatic = not self._microphone.push_to_talk
        pressed = self._microphone.press()
        if not isinstance(pressed[0], live.ActivityStart):
            return self._act(pressed, now)
        told = self._model.stop("activity", now) + self._user.press(pressed=True, now=now)
        effects = self._act(told, now)
        if automatic:
            effects += self._open(now) or self._reopen(now)
        else:
            effects += self._open(now)
        return effects + self._act(pressed, now)

    def _open(self, now: float) -> list[Effect]:
        """Open the conversation with the model, if it is not."""
        if self._link.state is not State.READY:
            return []
        return self._act(self._link.open(now), now)

    def _reopen(self, now: float) -> list[Effect]:
        """Open another conversation: whether the model detects speech is said once, at the beginning."""
        told = [
            *self._model.interrupted(now),
            *self._user.finish(now),
            *self._calls.cancel_all("session", now),
        ]
        # The new one hears what is said with the button pressed, and knows nothing of the old one's calls.
        self._uplink.discard(live.Audio, live.AudioEnd, live.ToolResult)
        return self._act(told, now) + self._act(self._link.reopen(now), now)

    def _setup_now(self) -> live.Setup:
        push_to_talk = self._microphone.push_to_talk
        return msgspec.structs.replace(self._setup, language=self._language, push_to_talk=push_to_talk)

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
        self._link.answered()
        told = self._model.begin_turn(now)
        told += self._user.finish(now, call.name) if call.name in self._commands else self._user.finish(now)
        return self._act([*told, *self._calls.call(call, self.id, self.user_id, now)], now)

    def _tool_result(self, message: extension.ToolResult, now: float) -> list[Effect]:
        try:
            return self._act(self._calls.answer(message), now)
        except GatewayError as error:
            return self._fail(error, now)

    # ---- what is provoked

    def _provoke(self, what: extension.Provocation, now: float) -> list[Effect]:
        if not self._limits.provocations:
            return self._fail(GatewayError(ErrorCode.PROTOCOL_PROVOKE_REFUSED), now)
        if what == "token_expiry":
            return self._fail(GatewayError(ErrorCode.AUTH_TOKEN_EXPIRED), now)
        if self._link.state is State.LIVE:
            self._link.event(live.GoingAway(_PROVOKED_NOTICE_S), now)
        return []

    # ---- what comes of it

    def _act(self, outcomes: Sequence[Outcome], now: float) -> list[Effect]:
        """Do what the parts of the session want: tell the client, the model, the workers."""
        effects: list[Effect] = []
        for outcome in outcomes:
            match outcome:
                case extension.ServerExtension():
                    if isinstance(outcome, extension.ResponseStarted):
                        self._framed = self.binary
                    self._link.note(outcome)
                    if self.extended:
                        effects += self._send(outcome)
                case AudioResponse():
                    self._meter.audio_out_ms += outcome.duration
                    self._clocks.active_at = now
                    effects += self._sound(outcome)
                case messages.Message():
                    effects += self._send(outcome)
                case Run() | Abort() | Open() | HangUp():
                    effects.append(outcome)
                case GatewayError():
                    effects += self._fail(outcome, now)
                case _:
                    self._timeline.skip(self._uplink.add(outcome, now))
        if self._model.answer.unencoded:
            effects += [Encode(piece) for piece in self._model.take_unencoded()]
        if self._usage_due and not self._model.talking:
            self._usage_due = False
            usage = self._meter.take(now)
            if usage and self.extended:
                effects += self._send(usage)
        if self.extended and self._presence.outbox.wants_ping:
            effects += self._ping(now)
        for effect in effects:
            if type(effect) in _TOLD:
                self._clocks.sent_at = now
                break
        return effects

    def _send(self, message: messages.Message, *, passing: bool = False) -> list[Effect]:
        """Tell the client, now or when it is there again."""
        if not self.extended:
            return [Send(message)]
        data = messages.encode(message)
        if self._stage is None and not isinstance(message, extension.ServerPong):
            # Sent again, an acknowledgement might be taken for one of the stream that has begun since.
            passing |= isinstance(message, extension.AudioAck | extension.AudioHeard)
            self._presence.outbox.add(Frame(data, passing=passing))
        return [Send(message, data)] if self.attached else []

    def _sound(self, message: AudioResponse) -> list[Effect]:
        if not self._framed:
            return self._send(message)
        kind, timestamp_ms = frames.AUDIO_RESPONSE, int(message.timestamp)
        frame = frames.Frame(kind, self._frames_sent, timestamp_ms, message.data)
        self._frames_sent += 1
        data = frames.pack(frame)
        self._presence.outbox.add(Frame(data, binary=True))
        return [SendBinary(data)] if self.attached else []

    # ---- errors and the end

    def _fail(self, error: GatewayError, now: float) -> list[Effect]:
        """Tell the client of an error, and close where its disposition says so."""
        if self.state is State.CLOSED:
            return []
        code = DISPOSITIONS[error.code].close
        if code is None:
            return self._tell(error, now)
        if not self._resumable or error.code in _ENDING:
            effects = self._act(self._model.fail(now), now) + self._tell(error, now)
            return effects + self._close(code, error.code.value)
        upstream = error.code.startswith("UPSTREAM_")
        effects = self._act(self._model.fail(now) + self._user.finish(now), now) if upstream else []
        if not self.attached:
            return effects
        effects += [*self._tell(error, now, passing=True), Close(code, error.code.value)]
        return effects + self._detach(now, clean=False)

    def _tell(self, error: GatewayError, now: float, *, passing: bool = False) -> list[Effect]:
        return self._send(error_message(error, milliseconds(now), trace_id=self.id), passing=passing)

    def _close(self, code: int, reason: str) -> list[Effect]:
        self._stage = State.CLOSED
        return [Close(code, reason)]
