"""The client's clocks: how old the session is, how long it was idle, its token, the pings, what lies unread.

Times are seconds on the caller's clock. What falls due is told by its error code or by its reason for
`go_away`; what becomes of it is the session's.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final

from antiphon.errors import ErrorCode
from antiphon.extension import GoAwayReason
from antiphon.session.negotiation import Limits
from antiphon.session.notices import Limit, Notices

_INFINITY: Final = float("inf")


class Clocks:
    """When something is due to the client, or to be ended for it. `extended`: it speaks `antiphon.v1`."""

    KEPT: ClassVar[dict[str, Any]] = {"_began_at": float, "active_at": float}

    def __init__(self, limits: Limits, now: float, *, extended: bool) -> None:
        self._limits = limits
        self._extended = extended
        self._notices = Notices()
        self.active_at = now
        """When something went on in the conversation, last."""
        self.sent_at = now
        """When the client was sent something, last."""
        self._began_at = self._token_at = now
        self._token_expires_at = _INFINITY
        self._held_at = _INFINITY

    # ---- what happens

    def began(self, now: float) -> None:
        """Note that the session begins."""
        self._began_at = self.active_at = now

    def took_token(self, expires_at: float, now: float) -> None:
        """Note the token that is in force from now on."""
        self._token_expires_at, self._token_at = expires_at, now

    def held(self, held: bool, now: float) -> None:
        """Note whether what was sent lies unread."""
        self._held_at = now if held else _INFINITY

    # ---- what falls due

    @property
    def auth_at(self) -> float:
        """Until when the client has to prove who it is."""
        return self._began_at + self._limits.auth_timeout_s

    @property
    def over_at(self) -> float:
        """When the session has lasted as long as one may."""
        return self._began_at + self._limits.max_duration_s

    @property
    def ping_at(self) -> float:
        """When the client is to be pinged."""
        return self.sent_at + self._limits.heartbeat_s if self._extended else _INFINITY

    @property
    def deadline(self) -> float:
        """When something is due to a client that is there."""
        notice_at = self._notices.next_at(self._ahead()) if self._extended else _INFINITY
        return min(notice_at, self.ping_at, *(at for at, _ in self._bounds()))

    def expired(self, now: float) -> ErrorCode | None:
        """Return what a client that is there may no longer go on for, if anything."""
        return next((code for at, code in self._bounds() if now >= at), None)

    def notices(self, now: float) -> list[tuple[GoAwayReason, float]]:
        """Return what limits are to be told of, with the seconds left; each is returned once."""
        return self._notices.due(self._ahead(), now) if self._extended else []

    def _bounds(self) -> tuple[tuple[float, ErrorCode], ...]:
        return (
            (self._token_expires_at, ErrorCode.AUTH_TOKEN_EXPIRED),
            (self._held_at + self._limits.unread_s, ErrorCode.SESSION_CLIENT_SLOW),
            (self.active_at + self._limits.idle_timeout_s, ErrorCode.SESSION_IDLE),
        )

    def _ahead(self) -> dict[GoAwayReason, Limit]:
        limits = self._limits
        return {
            "max_duration": Limit(self.over_at, limits.max_duration_s),
            "token": Limit(self._token_expires_at, self._token_expires_at - self._token_at),
            "idle": Limit(self.active_at + limits.idle_timeout_s, limits.idle_timeout_s),
        }
