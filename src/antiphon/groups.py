"""Task groups that end with an error, as they are meant to.

What waits while an exception is handled is here rather than in `bridge`: compiled coroutines have no state of
their own for that (ADR 18).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from antiphon.errors import first_of

E = TypeVar("E", bound=Exception)
T = TypeVar("T")


async def ended_by(
    kind: type[E],
    within: AbstractAsyncContextManager[T],
    work: Callable[[T, asyncio.TaskGroup], Awaitable[None]],
) -> E | None:
    """Run a task group within a context; return the first error of this kind that either ends with.

    None where they end without one; whatever else they end with is raised.
    """
    found: E | None = None
    try:
        async with within as entered, asyncio.TaskGroup() as tasks:
            await work(entered, tasks)
    except* kind as group:
        error = first_of(group)
        assert isinstance(error, kind)
        found = error
    return found
