"""Task groups that end with an error, as they are meant to."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from antiphon.errors import first_of

E = TypeVar("E", bound=Exception)


async def ended_by(kind: type[E], work: Awaitable[None]) -> E | None:
    """Await what runs a task group; return the first error of this kind that it ends with.

    None where it ends without one; whatever else it ends with is raised.
    """
    found: E | None = None
    try:
        await work
    except* kind as group:
        error = first_of(group)
        assert isinstance(error, kind)
        found = error
    return found
