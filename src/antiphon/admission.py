"""Who may come in: sessions a node holds, connections a user has."""

from __future__ import annotations

from collections import Counter

from antiphon.errors import ErrorCode, GatewayError

RETRY_AFTER_MS = 5_000


class Admission:
    """Counts of what is open on this node. Each `admit()` that returns is undone by one `leave()`."""

    def __init__(self, max_sessions: int, max_connections_per_user: int) -> None:
        self._max_sessions = max_sessions
        self._max_connections_per_user = max_connections_per_user
        self._connections_by_user: Counter[str] = Counter()
        self.sessions = 0

    def admit(self, user_id: str) -> None:
        """Count a session of the user in.

        Raises:
            GatewayError: SERVER_AT_CAPACITY or QUOTA_CONNECTIONS, with `retryAfterMs`.
        """
        if self.sessions >= self._max_sessions:
            raise GatewayError(ErrorCode.SERVER_AT_CAPACITY, retryAfterMs=RETRY_AFTER_MS)
        if self._connections_by_user[user_id] >= self._max_connections_per_user:
            raise GatewayError(ErrorCode.QUOTA_CONNECTIONS, retryAfterMs=RETRY_AFTER_MS)
        self._connections_by_user[user_id] += 1
        self.sessions += 1

    def leave(self, user_id: str) -> None:
        """Count a session of the user out."""
        self.sessions -= 1
        self._connections_by_user[user_id] -= 1
        if not self._connections_by_user[user_id]:
            del self._connections_by_user[user_id]
