"""A session's way to the model: one connection after the other, and what goes over it.

    READY --the first turn--> OPENING --opened--> LIVE
    LIVE --it breaks, is to be renewed--> OPENING --opened--> LIVE
    OPENING --it cannot be opened--> OPENING again, after a pause; or given up
    LIVE --the client is gone for long--> READY

What the model is to hear waits while there is no connection. What comes of an event is returned, in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, Final

from msgspec.structs import replace

from antiphon import live
from antiphon.errors import DISPOSITIONS, ErrorCode, GatewayError
from antiphon.extension import (
    RotationReason,
    ServerExtension,
    SessionRotated,
    SessionRotating,
    TranscriptUpdate,
)
from antiphon.live import Upstream
from antiphon.messages import milliseconds
from antiphon.session.effects import HangUp, Open
from antiphon.session.history import History
from antiphon.session.renewal import MAX_SHORT, PATIENCE_S, Renewal, Upkeep
from antiphon.session.states import State
from antiphon.session.uplink import Uplink

Outcome = Open | HangUp | SessionRotating | SessionRotated

MAX_HANDLE: Final = 8 * 1024
"""Characters; it is saved with every change. A longer one is not kept."""
_MAX_TYPED: Final = 16
"""Typed turns that wait to be answered and would not be in the history of a model that has to begin anew."""
_CHANGES: Final[dict[Upstream, RotationReason]] = {"primary": "recovered", "fallback": "fallback"}
_PLAIN: Final = frozenset({live.Heard, live.Said, live.Spoke})
"""Events that come many times a second."""
_NOT_MENDED: Final = frozenset({ErrorCode.UPSTREAM_SLOW})


class Link:
    """Opens, renews and closes the connection to the model. `setup` makes the set-up of one."""

    KEPT: ClassVar[dict[str, Any]] = {
        "handle": str | None,
        "history": History,
        "replayed_ms": float,
        "_began": bool,
        "_rotating": bool,
        "_typed": list[str],
    }

    def __init__(self, setup: Callable[[], live.Setup], uplink: Uplink, upkeep: Upkeep) -> None:
        self.state: State = State.READY
        """READY where there is no connection, OPENING or LIVE."""
        self.restored = False
        """Whether the model remembers by itself what was before its connection."""
        self.handle: str | None = None
        """What resumes the conversation, as the model said last."""
        self.history = History()
        self.replayed_ms = 0.0
        """Audio that the model heard again, in the whole session."""
        self._setup = setup
        self._uplink = uplink
        self._upkeep = upkeep
        self._typed: deque[str] = deque(maxlen=_MAX_TYPED)
        self._renewal: Renewal | None = None
        self._began = False
        self._rotating = False
        """Whether the client was told that the model does not hear, and not yet that it hears again."""
        self._upstream: Upstream = "primary"
        self._short = 0
        self._heard_at = 0.0
        self._trip_at = 0.0

    @property
    def renewing(self) -> bool:
        """Whether a connection that was there is being renewed."""
        return self._renewal is not None

    @property
    def deadline(self) -> float:
        """When `expire()` has something to do; infinity when nothing is due."""
        if self._renewal:
            return min(self._renewal.retry_at, self._renewal.until)
        slow_at = self._uplink.deadline if self.state is not State.READY else float("inf")
        return min(slow_at, self._upkeep.deadline)

    # ---- from the session

    def open(self, now: float) -> list[Outcome]:
        """Open a connection, if there is none."""
        if self.state is not State.READY:
            return []
        if self._began:
            return self._renew("lost", now, now)
        self._began = True
        self._uplink.touch(now)
        return [self._connect(self.handle)]

    def reopen(self, now: float) -> list[Outcome]:
        """Open another connection in place of the one there is, as something in its set-up has changed.

        A renewal that is under way goes on with it.
        """
        self._uplink.touch(now)
        if self._renewal:
            self._renewal.retry_at = float("inf")
            return [self._connect(self._renewal.handle)]
        return [self._connect(self.handle)]

    def close(self) -> list[Outcome]:
        """Leave the model, until something is to be said to it again."""
        was, self.state, self._renewal = self.state, State.READY, None
        self._upkeep.closed()
        return [] if was is State.READY else [HangUp()]

    def renew(self, reason: RotationReason, now: float) -> list[Outcome]:
        """Renew the connection."""
        return self._renew(reason, now, self._heard_at if reason == "mute" else now)

    # ---- from the shell

    def opened(self, upstream: Upstream, now: float) -> list[Outcome]:
        """Note that the model is ready."""
        if self.state is not State.OPENING:
            return []
        self.state = State.LIVE
        self._upkeep.opened(now)
        renewal, self._renewal = self._renewal, None
        self.restored = (renewal.handle if renewal else self.handle) is not None
        if not self.restored:
            self.handle = None
        again = self._uplink.rewind(
            now,
            mute=renewal is not None and renewal.reason == "mute",
            refused=renewal is not None and renewal.reason == "refused",
            restored=self.restored,
            manual=self._setup().push_to_talk,
        )
        self.replayed_ms += again.replayed_ms
        changed, self._upstream = upstream != self._upstream, upstream
        if renewal is None:
            # The first connection is with the engine already: its client is told as of a change.
            return self._change(upstream, now) if changed else []
        if changed:
            renewal.reason = _CHANGES[upstream]
        self._rotating = False
        return [
            SessionRotated(
                timestamp=milliseconds(now),
                reason=renewal.reason,
                context_restored=self.restored,
                gap_ms=milliseconds(max(0.0, now - renewal.since)),
                lost_audio_ms=round(again.lost_ms),
                replayed_audio_ms=round(again.replayed_ms),
                upstream=upstream,
            )
        ]

    def _change(self, upstream: Upstream, now: float) -> list[Outcome]:
        at, reason = milliseconds(now), _CHANGES[upstream]
        return [
            SessionRotating(timestamp=at, reason=reason, context_restored=False, gap_ms=0, lost_audio_ms=0),
            SessionRotated(
                timestamp=at,
                reason=reason,
                context_restored=False,
                gap_ms=0,
                lost_audio_ms=0,
                replayed_audio_ms=0,
                upstream=upstream,
            ),
        ]

    def lost(self, error: GatewayError, now: float) -> list[Outcome]:
        """Note that the connection broke, or could not be opened.

        Raises:
            GatewayError: it cannot be mended; the connection is closed.
        """
        renewal = self._renewal
        if self.state is State.READY:
            return []
        if self.state is State.LIVE and error.code not in _NOT_MENDED:
            self._short = self._short + 1 if self._upkeep.is_short(now) else 0
            if self._short < MAX_SHORT:
                reason: RotationReason = "refused" if error.code is ErrorCode.UPSTREAM_REFUSED else "lost"
                return self._renew(reason, now, now)
        elif renewal and renewal.failed(error.code, retryable=DISPOSITIONS[error.code].retryable, now=now):
            return []
        self.close()
        raise error

    def next_input(self, now: float) -> live.LiveInput | None:
        """Take what goes to the model next, or None."""
        entry = self._uplink.take(now)
        if entry is None:
            return None
        if entry.loud or not entry.size:
            self._upkeep.gave(entry.item, entry.loud, now)
        return entry.item

    def arrived(self, number: int, now: float, trip_s: float = 0.0) -> None:
        """Note that what was taken up to this number has arrived; to ask so took `trip_s`."""
        self._heard_at = now
        # What took long was perhaps held up, and all beside it; the way itself changes little by little.
        if trip_s < self._uplink.trip_s or now - trip_s > self._trip_at:
            self._uplink.trip_s = min(trip_s, self._uplink.trip_s * 1.5 + 0.02)
            self._trip_at = now
        self._uplink.arrived(number)

    def event(self, event: live.LiveEvent, now: float) -> None:
        """Note that the model has said something."""
        if type(event) in _PLAIN:
            self._upkeep.spoke(transcribes=type(event) is live.Heard)
            self._heard_at = now
            self._short = 0
            self._uplink.reacted()
            return
        self._upkeep.event(event)
        match event:
            case live.HandleChanged(handle=handle):
                if handle and len(handle) <= MAX_HANDLE:
                    self.handle = handle
            case live.GoingAway(time_left_s=time_left_s, reason=reason):
                self._upkeep.going_away(time_left_s, now, reason)
            case live.Metered():
                pass
            case _:
                self._heard_at = now
                self._short = 0
                self._uplink.reacted()

    # ---- what is said, for a model that has to begin anew

    def typed(self, text: str) -> None:
        """Note a typed turn, which is said once the model answers it."""
        self._typed.append(text)

    def answered(self) -> None:
        """Note that the model begins to answer what it was given."""
        self._uplink.answered()
        while self._typed:
            self.history.add(live.Turn("user", self._typed.popleft()))

    def continued(self) -> None:
        """Note that the model goes on with an answer."""
        self._uplink.continued()

    def note(self, message: ServerExtension) -> None:
        """Note what the client is told that somebody has said."""
        if isinstance(message, TranscriptUpdate) and message.is_final:
            self.history.add(live.Turn(message.role, message.text))

    # ---- time

    def expire(self, now: float, *, quiet: bool) -> list[Outcome]:
        """Do what has fallen due.

        Raises:
            GatewayError: the model takes nothing, or cannot be reached.
        """
        renewal = self._renewal
        if renewal:
            if now >= renewal.until:
                self.close()
                raise GatewayError(renewal.last or ErrorCode.UPSTREAM_TIMEOUT)
            if now >= renewal.retry_at:
                renewal.retry_at = float("inf")
                return [self._connect(renewal.handle)]
            return []
        if self.state is not State.READY and now >= self._uplink.deadline:
            self.close()
            raise GatewayError(ErrorCode.UPSTREAM_SLOW)
        reason = self._upkeep.due(now, quiet=quiet and (self._upkeep.resumable or self.handle is None))
        if reason is None:
            return []
        self._upkeep.muted += reason == "mute"
        return self.renew(reason, now)

    # ---- within

    def _renew(self, reason: RotationReason, now: float, since: float) -> list[Outcome]:
        self._renewal = Renewal(reason, since, self.handle, now + PATIENCE_S)
        if self._rotating:
            return [self._connect(self.handle)]
        self._rotating = True
        told = SessionRotating(
            timestamp=milliseconds(now),
            reason=reason,
            context_restored=self.handle is not None,
            gap_ms=milliseconds(max(0.0, now - since)),
            lost_audio_ms=0,
        )
        return [told, self._connect(self.handle)]

    def _connect(self, handle: str | None) -> Open:
        self.state = State.OPENING
        self._upkeep.closed()
        history = () if handle else self.history.turns
        return Open(replace(self._setup(), handle=handle, history=history))
