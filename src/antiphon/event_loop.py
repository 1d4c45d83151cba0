"""The event loop everything of ours runs on: uvloop where there is one (15 to 20% less CPU with gRPC)."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Coroutine
from typing import Final, TypeVar

T = TypeVar("T")


YOUNG: Final = 20_000
"""Objects that are made before the collector looks at them: a chunk of audio leaves none, a session 300."""


def settle() -> None:
    """Let the collector leave alone what is there now, which stays; to be called once all parts are made."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 100)


def run(main: Coroutine[object, object, T]) -> T:
    """Run a coroutine to its end on a loop of its own."""
    if sys.platform == "win32":
        return asyncio.run(main)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
