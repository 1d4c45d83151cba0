"""What supervisor and workers have in common: how limits are divided, who is counted, what they say.

They speak by a pair of sockets, one JSON object a line. It is a worker's standard input, so that settings,
secrets among them, stand neither on a command line nor in an environment, and so that its end tells either of
the other's.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from antiphon.config import Config, ConfigError

MAX_LINE_BYTES: Final = 1024 * 1024


class WorkersFailed(Exception):  # noqa: N818 (it reads as what happened)
    """A worker ends again and again; the text is a sentence."""


class Orders(Struct, frozen=True, tag="orders"):
    """The first line to a worker: what it is.

    `config` holds the settings of this worker, `path` is where modules are looked for, `folder` where its
    socket goes, `engine` the target of the embedded engine, where there is one.
    """

    number: int
    count: int
    config: dict[str, Any]
    path: list[str]
    folder: str
    engine: str | None


class EngineReady(Struct, frozen=True, tag="engine"):
    """To a worker: whether the embedded engine answers."""

    ready: bool


class Counted(Struct, frozen=True, tag="counted"):
    """To a worker: whether a connection may be, by the number of its question."""

    number: int
    admitted: bool


class Stage(Struct, frozen=True, tag="stage"):
    """To the supervisor: how far a worker has come: Listening, Ready or Stopping."""

    name: str


class Failed(Struct, frozen=True, tag="failed"):
    """To the supervisor: why the worker cannot work; a sentence."""

    sentence: str


class Admit(Struct, frozen=True, tag="admit"):
    """To the supervisor: may this user have one more connection?"""

    number: int
    user_id: str
    session_id: str


class Leave(Struct, frozen=True, tag="leave"):
    """To the supervisor: a connection is no more."""

    user_id: str
    session_id: str


ToWorker = EngineReady | Counted
ToSupervisor = Stage | Failed | Admit | Leave

_encoder: Final = msgspec.json.Encoder()
_orders: Final = msgspec.json.Decoder(Orders)
_to_worker: Final[msgspec.json.Decoder[ToWorker]] = msgspec.json.Decoder(ToWorker)
_to_supervisor: Final[msgspec.json.Decoder[ToSupervisor]] = msgspec.json.Decoder(ToSupervisor)


def line_of(message: Orders | ToWorker | ToSupervisor) -> bytes:
    return _encoder.encode(message) + b"\n"


def orders(line: bytes) -> Orders:
    """Raises msgspec.DecodeError where it is none."""
    return _orders.decode(line)


def to_worker(line: bytes) -> ToWorker:
    """Raises msgspec.DecodeError where it is none."""
    return _to_worker.decode(line)


def to_supervisor(line: bytes) -> ToSupervisor:
    """Raises msgspec.DecodeError where it is none."""
    return _to_supervisor.decode(line)


def written(config: Config) -> dict[str, Any]:
    """Return settings in a form that JSON has; `read()` makes them settings again."""
    plain: dict[str, Any] = msgspec.to_builtins(config, enc_hook=str)
    return plain


def read(plain: dict[str, Any]) -> Config:
    """Return settings that were `written()`."""
    return msgspec.convert(plain, Config, dec_hook=lambda kind, value: kind(value))


def share(total: int, number: int, count: int) -> int:
    """Return the part of worker `number` (from 0) of `count`; all parts are the total, and differ by one."""
    return total // count + (number < total % count)


def settings_of(config: Config, number: int, port: int) -> Config:
    """Return the settings of one of `config.workers` workers, which all listen on `port`.

    Raises:
        ConfigError: there are fewer sessions than workers.
    """
    if config.max_sessions < config.workers:
        raise ConfigError(
            f"max_sessions ({config.max_sessions}) is divided among the workers ({config.workers}): "
            "each needs one at least."
        )
    return replace(
        config, workers=1, port=port, max_sessions=share(config.max_sessions, number, config.workers)
    )


class Roll:
    """The connections of users in all workers, `limit` a user at most."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._workers: dict[tuple[str, str], int] = {}
        self._sessions: dict[str, set[str]] = {}

    def __len__(self) -> int:
        return len(self._workers)

    def admit(self, worker: int, user_id: str, session_id: str) -> bool:
        """Count a session's connection in, if there may be one more; one that is counted is no other."""
        sessions = self._sessions.get(user_id, set())
        if session_id not in sessions and len(sessions) >= self._limit:
            return False
        self._sessions.setdefault(user_id, sessions).add(session_id)
        self._workers[user_id, session_id] = worker
        return True

    def leave(self, user_id: str, session_id: str) -> None:
        """Count it out; nothing where it was not counted."""
        if self._workers.pop((user_id, session_id), None) is None:
            return
        sessions = self._sessions[user_id]
        sessions.discard(session_id)
        if not sessions:
            del self._sessions[user_id]

    def ended(self, worker: int) -> None:
        """Count out all that a worker had."""
        for user_id, session_id in [key for key, owner in self._workers.items() if owner == worker]:
            self.leave(user_id, session_id)
