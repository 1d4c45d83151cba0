"""What goes to a client through `await send()`: at once where that does not wait, else in order behind it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Final

from antiphon.asgi.protocol import Event, Send
from antiphon.front import UNSENT_BYTES

_LOW_BYTES: Final = UNSENT_BYTES // 4

_log = logging.getLogger(__name__)


class Outgoing:
    """The events on their way to a server of ASGI.

    An event is sent in the very call that brings it: its coroutine is begun by hand, outside of any task.
    Only one that has to wait, since the server's buffer is full, is left to a task, and then what comes after
    it waits here. That is bounded by whoever puts it: `writable(False)` is called beyond `UNSENT_BYTES`, and
    `writable(True)` when most is gone; `unsent_bytes` tells how much there is. `lost` is called when the
    server takes no more, because the client is gone.
    """

    def __init__(self, send: Send, *, writable: Callable[[bool], None], lost: Callable[[], None]) -> None:
        self.unsent_bytes = 0
        self._send = send
        self._writable = writable
        self._lost = lost
        self._waiting: deque[tuple[Event, int]] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._held = False
        self._over = False

    def put(self, event: Event, size: int) -> None:
        """Send an event, which holds `size` bytes."""
        if self._over:
            return
        if self._sender:
            self._waiting.append((event, size))
        else:
            begun = self._send(event).__await__()
            try:
                waits_for = next(begun)
            except StopIteration:
                return
            except (OSError, RuntimeError) as error:
                self._lose(error)
                return
            self._sender = asyncio.get_running_loop().create_task(self._go_on(_Begun(begun, waits_for), size))
            self._sender.add_done_callback(self._ended)
        self.unsent_bytes += size
        if self.unsent_bytes > UNSENT_BYTES and not self._held:
            self._held = True
            self._writable(False)

    async def aclose(self) -> None:
        """Give up what is not sent."""
        self._over = True
        if self._sender:
            self._sender.cancel()
            await asyncio.wait([self._sender])

    async def _go_on(self, begun: _Begun, size: int) -> None:
        try:
            await begun
            self._sent(size)
            while self._waiting:
                event, size = self._waiting.popleft()
                await self._send(event)
                self._sent(size)
        except (OSError, RuntimeError) as error:
            self._lose(error)
        finally:
            self._sender = None

    def _sent(self, size: int) -> None:
        self.unsent_bytes -= size
        if self._held and self.unsent_bytes <= _LOW_BYTES:
            self._held = False
            self._writable(True)

    def _lose(self, error: Exception) -> None:
        """Send no more.

        OSError is what ASGI has for a client that is gone; servers raise RuntimeError where they have closed
        the connection themselves and nobody has been told yet.
        """
        _log.debug("A client takes no more: %s", error)
        self._over = True
        self._waiting.clear()
        self.unsent_bytes = 0
        self._lost()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            _log.error("A message could not be sent by a fault of the server", exc_info=error)
            self._over = True
            self._lost()


class _Begun(Generator[Any, Any, Any]):
    """The rest of an awaitable that has been begun by hand, and waits for what it has yielded."""

    def __init__(self, begun: Any, waits_for: Any) -> None:
        self._begun = begun
        self._waits_for = [waits_for]

    def __await__(self) -> _Begun:
        return self

    def __next__(self) -> Any:
        return self._waits_for.pop() if self._waits_for else next(self._begun)

    def send(self, value: Any) -> Any:
        return next(self) if value is None else self._begun.send(value)

    def throw(self, *error: Any) -> Any:
        return self._begun.throw(*error)

    def close(self) -> None:
        self._begun.close()
