"""What a conversation remembers, and the handles that bring it back on a new connection."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from typing import Final, Literal

from msgspec import Struct

Role = Literal["user", "model"]

MAX_ENTRIES: Final = 32
MAX_ENTRY_CHARS: Final = 1_000
MAX_HANDLES: Final = 4_096
HANDLE_LIFETIME_S: Final = 2 * 3_600.0
"""As long as Gemini's."""


class Entry(Struct, frozen=True):
    """One thing said in a conversation."""

    role: Role
    text: str


class Memory(Struct, frozen=True):
    """The last entries of a conversation."""

    entries: tuple[Entry, ...] = ()

    def with_entry(self, role: Role, text: str) -> Memory:
        """Return the memory with an entry more, the oldest gone where there are too many."""
        entry = Entry(role, text.strip()[:MAX_ENTRY_CHARS])
        return Memory((*self.entries, entry)[-MAX_ENTRIES:])

    def last(self, role: Role) -> str | None:
        """Return the last thing that one side said."""
        return next((entry.text for entry in reversed(self.entries) if entry.role == role), None)


class HandleUnknown(Exception):  # noqa: N818 (it reads as what happened)
    """The handle was never given out, is too old, or gave way to newer ones."""


class HandleInUse(Exception):  # noqa: N818
    """The conversation behind the handle is still connected."""


class _Kept(Struct):
    memory: Memory
    owner: object
    until: float


class Handles:
    """Memories by handle, for `HANDLE_LIFETIME_S` each and at most `MAX_HANDLES`; the oldest goes first.

    An owner stands for one connection. Each keeps its last two handles: the client may be gone before it has
    read the last.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._latest: dict[object, tuple[str, ...]] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, memory: Memory, owner: object, now: float) -> str:
        """Return a new, unguessable handle for a memory."""
        self._forget_old(now)
        handle = secrets.token_urlsafe(24)
        self._kept[handle] = _Kept(memory, owner, now + HANDLE_LIFETIME_S)
        held = (*self._latest.get(owner, ()), handle)
        for spent in held[:-2]:
            self._kept.pop(spent, None)
        self._latest[owner] = held[-2:]
        return handle

    def resume(self, handle: str, owner: object, now: float) -> Memory:
        """Return the memory behind a handle, which now belongs to `owner` and stays good.

        Raises:
            HandleUnknown: it is not, or no longer, known.
            HandleInUse: the connection that it belongs to has not been released.
        """
        self._forget_old(now)
        kept = self._kept.get(handle)
        if kept is None:
            raise HandleUnknown
        if kept.owner in self._latest:
            raise HandleInUse
        kept.owner = owner
        self._latest[owner] = (handle,)
        return kept.memory

    def release(self, owner: object) -> None:
        """Note that a connection is over, so that its handles may be used."""
        self._latest.pop(owner, None)

    def _forget_old(self, now: float) -> None:
        while self._kept:
            handle = next(iter(self._kept))
            if self._kept[handle].until > now and len(self._kept) < MAX_HANDLES:
                return
            del self._kept[handle]
