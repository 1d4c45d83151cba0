"""When the connection to the model is to be renewed, and how a renewal goes on.

`Upkeep` watches a connection: it is renewed when the model announces its end or it grows old, at a moment
when nobody speaks if there is one, and when the model no longer reacts. `Renewal` is one that is under way:
it may take several attempts, with a pause before each, and is given up in the end. Times are seconds on the
caller's clock.
"""

from __future__ import annotations

from typing import Final

from antiphon import live
from antiphon.errors import ErrorCode
from antiphon.extension import RotationReason

CONNECTION_S: Final = 570.0
"""A connection is renewed when it is as old as this: Gemini ends them after ten minutes (read)."""
AGE_GRACE_S: Final = 20.0
"""How long an old connection may go on until nobody speaks."""
LEAD_S: Final = 2.0
"""Before an announced end the connection is renewed so much earlier, whoever speaks."""
LEAST_NOTICE_S: Final = 0.5
"""What the model had on its way when it announced its end may still come."""
QUIET_S: Final = 0.4
"""Nobody speaks when nobody has been loud for so long."""
POLL_S: Final = 0.1
MUTE_S: Final = 12.0
"""A model that says nothing for so long, although it was given a turn or hears speech, is taken to be mute.
"""
PATIENCE_S: Final = 30.0
"""How long a lost connection is tried to be renewed."""
PAUSES_S: Final[tuple[float, ...]] = (0.0, 0.1, 0.3, 0.6, 1.0, 2.0)
"""Before each attempt; the last again and again."""
HANDLE_TRIES: Final = 3
"""Attempts with a handle that is refused as if its old connection were still open."""
QUOTA_TRIES: Final = 3
"""Attempts that the model's quota may refuse."""
SHORT_S: Final = 5.0
MAX_SHORT: Final = 5
"""A connection that breaks within `SHORT_S`, so many times in a row, is not renewed."""

_INFINITY: Final = float("inf")
_LOUD_S: Final = 2.0
"""So much speech without any reaction is needed before a model is suspected."""
_MAX_MUTE: Final = 2


class Upkeep:
    """A connection to the model, and what tells that it is to be renewed."""

    def __init__(self, mute_s: float = MUTE_S, connection_s: float = CONNECTION_S) -> None:
        self.resumable = False
        """Whether the model's last handle is of the present state."""
        self.muted = 0
        """Renewals in a row because the model was mute."""
        self._mute_s = mute_s
        self._connection_s = connection_s
        self._opened_at = _INFINITY
        self._due_at = _INFINITY
        self._reason: RotationReason = "go_away"
        self._from = self._poll_at = _INFINITY
        self._loud_at = -_INFINITY
        self._asked_at = _INFINITY
        self._speech_at = _INFINITY
        self._speech_s = 0.0
        self._transcribes = False

    def opened(self, now: float) -> None:
        """Begin with a new connection."""
        self._opened_at = now
        self._due_at = self._from = _INFINITY
        self.resumable = False
        self._heard_nothing()

    def closed(self) -> None:
        """Note that there is no connection."""
        self._opened_at = self._due_at = self._from = _INFINITY
        self._heard_nothing()

    def is_short(self, now: float) -> bool:
        """Whether the connection broke as soon as it was there."""
        return now - self._opened_at < SHORT_S

    def going_away(self, time_left_s: float, now: float, reason: RotationReason) -> None:
        """Note that the connection will end; the earliest announcement counts."""
        due_at = now + max(LEAST_NOTICE_S, time_left_s - LEAD_S)
        if due_at < self._due_at:
            self._due_at, self._from, self._reason = due_at, now, reason
            self._poll_at = now

    def gave(self, item: live.LiveInput, loud: bool, now: float) -> None:
        """Note what the model was given."""
        match item:
            case live.Audio(pcm=pcm):
                if loud:
                    self._loud_at = now
                    self._speech_at = min(self._speech_at, now)
                    self._speech_s += len(pcm) / 2 / live.INPUT_RATE_HZ
            case live.Text() | live.ToolResult() | live.ActivityEnd():
                self._asked_at = min(self._asked_at, now)
            case live.AudioEnd() if self._speech_s:
                self._asked_at = min(self._asked_at, now)
            case _:
                pass

    def event(self, event: live.LiveEvent) -> None:
        """Note that the model has said something."""
        match event:
            case live.HandleChanged(handle=handle):
                self.resumable = handle is not None
                return
            case live.GoingAway() | live.Metered():
                return
            case live.Heard() | live.VoiceActivity():
                self.spoke(transcribes=True)
            case _:
                self.spoke(transcribes=False)

    def spoke(self, *, transcribes: bool) -> None:
        """Note that the model is at work; `transcribes`: it shows what it hears."""
        self._transcribes |= transcribes
        self._asked_at = self._speech_at = _INFINITY
        self._speech_s = 0.0
        self.muted = 0

    @property
    def deadline(self) -> float:
        """When `due()` may have something to say; infinity when nothing can be."""
        if self._opened_at == _INFINITY:
            return _INFINITY
        poll_at = self._poll_at if self._from < _INFINITY else self._opened_at + self._connection_s
        return min(poll_at, self._due_at, self._mute_at)

    def due(self, now: float, *, quiet: bool) -> RotationReason | None:
        """Return why the connection is to be renewed now; `quiet`: nothing goes on in the conversation."""
        if self._opened_at == _INFINITY:
            return None
        self._poll_at = now + POLL_S
        if now >= self._opened_at + self._connection_s:
            self.going_away(AGE_GRACE_S + LEAD_S, now, "max_duration")
        if now >= self._mute_at:
            return "mute"
        silent = quiet and now - self._loud_at >= QUIET_S
        return self._reason if now >= self._due_at or (now >= self._from and silent) else None

    @property
    def _mute_at(self) -> float:
        if self.muted >= _MAX_MUTE:
            return _INFINITY
        speech_at = self._speech_at if self._transcribes and self._speech_s >= _LOUD_S else _INFINITY
        return min(self._asked_at, speech_at) + self._mute_s

    def _heard_nothing(self) -> None:
        self._asked_at = self._speech_at = _INFINITY
        self._speech_s = 0.0


class Renewal:
    """A renewal under way: the model has not heard since `since`."""

    def __init__(self, reason: RotationReason, since: float, handle: str | None, until: float) -> None:
        self.reason = reason
        self.since = since
        self.handle = handle
        self.until = until
        self.retry_at = _INFINITY
        self.last: ErrorCode | None = None
        self._tries = 0

    def failed(self, code: ErrorCode, *, retryable: bool, now: float) -> bool:
        """Take an attempt's failure; return whether another is to be made, at `retry_at`."""
        self._tries += 1
        self.last = code
        pause_s = PAUSES_S[min(self._tries, len(PAUSES_S) - 1)]
        if code is ErrorCode.UPSTREAM_QUOTA and self._tries >= QUOTA_TRIES:
            return False
        if not retryable:
            if self.handle is None:
                return False
            # Refused as if the old connection were open, it is tried again; as unknown, it is of no use.
            if code is not ErrorCode.UPSTREAM_REFUSED or self._tries >= HANDLE_TRIES:
                self.handle, pause_s = None, 0.0
        self.retry_at = now + pause_s
        return self.retry_at < self.until
