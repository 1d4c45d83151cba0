"""The parts behind an application, in a task that outlives the connection that started it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack

from antiphon import node
from antiphon.config import Config
from antiphon.front import Front

_log = logging.getLogger(__name__)


class Running:
    """Parts that run from now on, in this event loop, until `aclose()`."""

    def __init__(self, config: Config) -> None:
        self.loop = asyncio.get_running_loop()
        self._config = config
        self._started: asyncio.Future[Front] = self.loop.create_future()
        self._stop = asyncio.Event()
        self._task = self.loop.create_task(self._run())
        self._task.add_done_callback(self._ended)

    @property
    def over(self) -> bool:
        """Whether they run no more, for whatever reason."""
        return self._task.done()

    async def front(self) -> Front:
        """Return the front before them, once they are started.

        Raises:
            ConfigError: the settings do not go together.
            local.EngineFailed: the embedded engine cannot be started.
        """
        if self._started.done():
            return self._started.result()
        return await asyncio.shield(self._started)  # others wait for it too

    async def drain(self) -> None:
        """Let the clients go, within `drain_s`."""
        if self._started.done() and not self.over:
            await self._started.result().drain(self._config.drain_s)

    async def aclose(self) -> None:
        """Stop, and wait until nothing is left; that something failed has been told before."""
        self._stop.set()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        async with AsyncExitStack() as stack:
            parts = await stack.enter_async_context(node.parts(self._config))
            front = parts.front(Front)
            stack.push_async_callback(front.stop)
            self._started.set_result(front)
            await self._stop.wait()
            await front.drain(0.0)
            await parts.host.flush()

    def _ended(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if self._started.done():
            if error:
                _log.error("The application has stopped by a fault", exc_info=error)
        elif error:
            self._started.set_exception(error)
        else:
            self._started.cancel()
