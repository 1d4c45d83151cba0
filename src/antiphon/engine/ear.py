"""The listener as a stream's ear: no faster than it hears, and with an end that can be waited for."""

from __future__ import annotations

from typing import Final

from antiphon.engine.listener import Listener

MAX_BACKLOG_S: Final = 5.0


class ListenerEar:
    """Feeds a listener; what it cannot hear yet waits with whoever feeds it."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    async def feed(self, pcm: bytes) -> None:
        """Give 16 kHz PCM16 to the listener; return once it is not far behind."""
        self._listener.feed(pcm)
        await self._listener.caught_up(MAX_BACKLOG_S)

    async def end(self) -> None:
        """End the audio; return once all of it was heard."""
        self._listener.end()
        await self._listener.caught_up()
