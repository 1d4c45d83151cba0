"""SIGTERM, when another server runs the process: its clients leave before that server hears of it.

A server of ASGI closes its WebSockets as soon as it is told to stop, and tells the application only then. To
have them drained, the signal has to be had before.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def drained(drain: Callable[[], Awaitable[None]]) -> Iterator[None]:
    """At the first SIGTERM call `drain`, and the server's own handler when it is done; at a second, at once.

    Nothing is done where no handler of a server is there, or in another thread than the main one. Servers
    that have theirs in the event loop get the signal at once in any case.
    """
    theirs = signal.getsignal(signal.SIGTERM)
    if not callable(theirs) or threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()
    draining: list[asyncio.Task[None]] = []

    async def drain_and_pass_on() -> None:
        await drain()
        theirs(signal.SIGTERM, None)

    def begin() -> None:
        if not draining:
            draining.append(loop.create_task(drain_and_pass_on()))

    def handle(number: int, frame: FrameType | None) -> None:
        if draining:
            theirs(number, frame)
        else:
            loop.call_soon_threadsafe(begin)

    signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGTERM) is handle:
            signal.signal(signal.SIGTERM, theirs)
        for task in draining:
            task.cancel()
