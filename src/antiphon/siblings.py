"""The other workers of this machine, whose sessions a client may want to resume here.

The id of a session begins with the number of the worker that has it. Each worker listens on a socket in a
folder that only this user may enter; who can write there is believed, though a client has to show its tokens
to the session all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from antiphon.bridge import Connection
from antiphon.config import ConfigError
from antiphon.errors import ErrorCode, GatewayError
from antiphon.front import Front
from antiphon.relay import Relay, Relayed

REACH_S: Final = 2.0
"""How long another worker may take to answer before the client is told to come again."""


def socket_of(folder: Path, number: int) -> Path:
    """Return where a worker listens for the others."""
    return folder / str(number)


def prefix(number: int) -> str:
    """Return what the ids of a worker's sessions begin with."""
    return f"w{number}."


def owner(session_id: str) -> int | None:
    """Return the number of the worker that has a session; None where the id does not say so."""
    head, dot, _ = session_id.partition(".")
    number = head[1:]
    is_ours = dot and head[:1] == "w" and number.isascii() and number.isdigit() and len(number) < 5
    return int(number) if is_ours else None


class Siblings:
    """Worker `number` of `count`, and how it reaches the others. `listening()` lets them reach it."""

    def __init__(self, folder: Path, number: int, count: int) -> None:
        self._folder = folder
        self._number = number
        self._count = count

    async def reach(self, session_id: str, connection: Connection | None) -> Relay | None:
        """Return what passes a connection on to the worker that has the session; None where that is this one.

        Raises:
            GatewayError: SESSION_RESUME_REFUSED, the session has ended with its worker;
                SESSION_RESUME_UNAVAILABLE, it did not answer, or the connection was passed on to here and
                is to come anew.
        """
        number = owner(session_id)
        if number is None or number == self._number or number >= self._count:
            return None
        unavailable = GatewayError(ErrorCode.SESSION_RESUME_UNAVAILABLE, retryAfterMs=1000)
        if isinstance(connection, Relayed):
            raise unavailable  # from worker to worker without end: each one holds a part of it
        try:
            async with asyncio.timeout(REACH_S):
                return await self._connect(number)
        except (FileNotFoundError, ConnectionRefusedError):
            raise GatewayError(ErrorCode.SESSION_RESUME_REFUSED) from None
        except OSError:  # TimeoutError is one
            raise unavailable from None

    async def _connect(self, number: int) -> Relay:
        path = str(socket_of(self._folder, number))
        _, relay = await asyncio.get_running_loop().create_unix_connection(Relay, path)
        try:
            await relay.accepted
        finally:
            if not relay.accepted.done() or relay.accepted.cancelled():
                relay.abort()
        return relay

    @asynccontextmanager
    async def listening(self, front: Front) -> AsyncIterator[None]:
        """Let the others pass their clients on to this worker's sessions.

        Raises:
            ConfigError: there cannot be a socket in the folder.
        """
        path = socket_of(self._folder, self._number)
        path.unlink(missing_ok=True)  # of a worker that was killed
        try:
            listener = await asyncio.get_running_loop().create_unix_server(
                lambda: Relayed(front), str(path), backlog=1024
            )
        except OSError as error:
            raise ConfigError(
                f"The workers cannot have a socket at {path}: {error}. Is TMPDIR too long a name?"
            ) from error
        try:
            yield
        finally:
            listener.close()
            path.unlink(missing_ok=True)
