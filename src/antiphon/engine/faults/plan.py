"""What all connections share: how many there were, how often each fault struck, and whose the handles are."""

from __future__ import annotations

import hashlib
from collections import Counter, OrderedDict
from typing import Final

from msgspec import Struct

from antiphon.engine.faults.kinds import Fault
from antiphon.engine.faults.script import Script

MAX_HANDLES: Final = 4_096
"""That are known; the oldest are forgotten, and then count as nobody's."""


class Plan:
    """Decides which fault strikes which connection.

    Chance is a function of seed, fault, connection and occasion: the order in which connections that run at
    the same time come to their moments changes nothing.
    """

    def __init__(self, script: Script) -> None:
        self.book = HandleBook()
        self._script = script
        self._connections = 0
        self._struck: Counter[int] = Counter()

    def connect(self) -> int:
        """Return the number of a new connection, from 1."""
        self._connections += 1
        return self._connections

    def faults_for(self, connection: int) -> list[tuple[int, Fault]]:
        """Return the faults that are for a connection, each with its number in the file, from 1."""
        numbered = enumerate(self._script.faults, start=1)
        return [(number, fault) for number, fault in numbered if fault.is_for(connection)]

    def strikes(self, number: int, connection: int, occasion: int) -> bool:
        """Whether a fault strikes on an occasion (of the connection, from 1); if so it is counted."""
        fault = self._script.faults[number - 1]
        if fault.times is not None and self._struck[number] >= fault.times:
            return False
        if self._chance(number, connection, occasion) >= fault.probability:
            return False
        self._struck[number] += 1
        return True

    def _chance(self, number: int, connection: int, occasion: int) -> float:
        drawn = hashlib.blake2b(
            f"{self._script.seed}/{number}/{connection}/{occasion}".encode(), digest_size=6
        )
        return int.from_bytes(drawn.digest()) / 2**48


class _Given(Struct):
    connection: int
    at: float


class HandleBook:
    """Which connection holds a handle, and when it was given."""

    def __init__(self) -> None:
        self._given: OrderedDict[str, _Given] = OrderedDict()
        self._closed: OrderedDict[int, float] = OrderedDict()

    def given(self, handle: str, connection: int, now: float) -> None:
        """Note that a connection was given a handle."""
        self._given[handle] = _Given(connection, now)
        if len(self._given) > MAX_HANDLES:
            self._given.popitem(last=False)

    def resumed(self, handle: str, connection: int) -> None:
        """Note that a connection goes on with a handle, which keeps its age."""
        if given := self._given.get(handle):
            given.connection = connection

    def closed(self, connection: int, now: float) -> None:
        """Note the end of a connection."""
        self._closed[connection] = now
        if len(self._closed) > MAX_HANDLES:
            self._closed.popitem(last=False)

    def age_s(self, handle: str, now: float) -> float:
        """Return how old a handle is; 0 where it is not known."""
        given = self._given.get(handle)
        return now - given.at if given else 0.0

    def free_for_s(self, handle: str, now: float) -> float:
        """Return since when a handle's connection is over: negative while it is open, infinite where there
        is none."""
        given = self._given.get(handle)
        if given is None:
            return float("inf")
        closed = self._closed.get(given.connection)
        return -1.0 if closed is None else now - closed
