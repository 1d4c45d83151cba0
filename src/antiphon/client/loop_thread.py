"""An event loop in a thread of its own, for callers in other threads."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from typing import Any, Final, TypeVar

from antiphon import event_loop
from antiphon.client.tools import MAX_CALLS

T = TypeVar("T")

_LOOK_S: Final = 0.5
"""How often a thread that waits looks whether there was a signal."""


class Stopped(Exception):  # noqa: N818 (reads as what happened)
    """The loop is stopped: nothing runs in it any more."""


class LoopThread:
    """Runs coroutines for other threads, from `with` to its end; no thread is left then."""

    def __init__(self) -> None:
        self._running: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._stopped = False
        self._lock = threading.Lock()
        # A daemon, so that the program can end though this was never left.
        self._thread = threading.Thread(target=self._main, name="antiphon client", daemon=True)
        self._workers = ThreadPoolExecutor(MAX_CALLS + 1, "antiphon client worker")

    def __enter__(self) -> LoopThread:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._workers.shutdown(cancel_futures=True)

    def run(self, coroutine: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run a coroutine to its end, and return or raise what it does. To interrupt this cancels it.

        Raises:
            TimeoutError: it takes longer.
            Stopped: the loop is stopped, or was before its end.
            RuntimeError: this is the loop's own thread, which would wait for itself.
        """
        try:
            future = self._begin(coroutine, timeout_s)
        except BaseException:
            coroutine.close()
            raise
        try:
            # The system may give a signal to another thread; then nobody wakes the one that is to look at it.
            while not future.done():
                with suppress(TimeoutError):
                    future.exception(_LOOK_S)
            return future.result()
        except CancelledError:
            raise Stopped from None
        finally:
            future.cancel()  # It is done, unless a signal came.

    @contextmanager
    def entered(self, manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """Enter a context in the loop, and leave it there."""
        value = self.run(manager.__aenter__())
        try:
            yield value
        except BaseException:
            # Not with the error itself: a loop that is handed a KeyboardInterrupt ends with it.
            self.leave(manager, RuntimeError("What is within has failed."))
            raise
        self.leave(manager)

    def leave(self, manager: AbstractAsyncContextManager[Any], error: Exception | None = None) -> None:
        """Leave a context. It must not mind that this is another task than that which entered it."""
        with suppress(Stopped):  # and all that was in the loop has been left with it
            self.run(manager.__aexit__(type(error) if error else None, error, None))

    def stop(self) -> None:
        """Cancel what runs, and end the thread. From any thread but its own; whoever waits is let go."""
        with self._lock:
            self._stopped = True
        loop, over = self._running.result()
        with suppress(RuntimeError):  # It is closed already.
            loop.call_soon_threadsafe(over.set)
        self._thread.join()

    def in_worker(self, function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
        """Return a function for the loop that calls this one in a thread beside it, and awaits its answer."""

        async def call(*args: Any, **kwargs: Any) -> Any:
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._workers, lambda: function(*args, **kwargs))
            return await answer if inspect.isawaitable(answer) else answer

        return call

    def _begin(self, coroutine: Coroutine[Any, Any, T], timeout_s: float | None) -> Future[T]:
        if threading.current_thread() is self._thread:
            raise RuntimeError(
                "The event loop's thread cannot wait for itself: on_frame, on_lost and coroutine functions "
                "must not use what waits."
            )
        if timeout_s is not None and timeout_s <= 0:
            raise TimeoutError
        with self._lock:
            if self._stopped:
                raise Stopped
            loop, _ = self._running.result()
            return asyncio.run_coroutine_threadsafe(_within(coroutine, timeout_s), loop)

    def _main(self) -> None:
        event_loop.run(self._live())

    async def _live(self) -> None:
        over = asyncio.Event()
        self._running.set_result((asyncio.get_running_loop(), over))
        await over.wait()


async def _within(coroutine: Coroutine[Any, Any, T], timeout_s: float | None) -> T:
    async with asyncio.timeout(timeout_s):
        return await coroutine
