"""The token that says who speaks: a text, or what gives one when it is needed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from antiphon.client.errors import ClientError

TokenSource = str | Callable[[], str] | Callable[[], Awaitable[str]]
"""A token, or a function or coroutine function that returns one that is good for some time."""

RENEW_S: Final = 30.0
"""How long before a token expires another is asked for."""

_AGAIN_S: Final = 5.0

_log = logging.getLogger(__name__)


class NoToken(Exception):  # noqa: N818 (reads as what happened)
    """The application's function failed; it may not the next time."""


class Tokens:
    """The token in force; another is asked for only when it is needed."""

    def __init__(self, source: TokenSource) -> None:
        self._source = source
        self._token = source if isinstance(source, str) else None
        self._asking = asyncio.Lock()

    @property
    def in_force(self) -> str | None:
        """The token in force; None where one is to be asked for."""
        return self._token

    @property
    def renewable(self) -> bool:
        """Whether there is another when one expires."""
        return not isinstance(self._source, str)

    @property
    def asks(self) -> bool:
        """Whether `get()` would ask for one."""
        return self._token is None

    async def get(self) -> str:
        """Return the token in force. What the application's function raises is raised."""
        async with self._asking:
            if self._token is None:
                assert not isinstance(self._source, str)
                answer = self._source()
                self._token = answer if isinstance(answer, str) else await answer
            return self._token

    async def try_get(self) -> str:
        """Return the token in force.

        Raises:
            NoToken: the application's function failed, which is logged.
            ClientError: it raised that, to say that there will be none.
        """
        try:
            return await self.get()
        except ClientError:
            raise
        except Exception as error:  # whatever the application's code raises
            _log.exception("No token could be had")
            raise NoToken("No token could be had.") from error

    def use(self, token: str) -> None:
        """Let another token be in force."""
        self._token = token

    def expire(self) -> None:
        """Let the next one be asked for, where there is one."""
        if self.renewable:
            self._token = None


class Renewal:
    """Asks for another token before the one in force expires, and lets `show` send it."""

    def __init__(self, tokens: Tokens, show: Callable[[str], Awaitable[object]]) -> None:
        self._tokens = tokens
        self._show = show
        self._at = 0.0
        self._moved = asyncio.Event()

    def expires(self, at_ms: int) -> None:
        """Note when the token in force expires, in milliseconds since the Unix epoch."""
        left_s = at_ms / 1000 - time.time()
        # A token of less than that is renewed, too, but not at once: the next may be no better.
        self.due_in(left_s - RENEW_S if left_s > RENEW_S else max(left_s / 2, 1.0))

    def due_in(self, seconds: float) -> None:
        """Note when another token is wanted, if there is another."""
        if self._tokens.renewable:
            self._at = asyncio.get_running_loop().time() + seconds
            self._moved.set()

    async def run(self) -> None:
        """Renew the token whenever that is due."""
        while True:
            await self._moved.wait()
            self._moved.clear()
            try:
                async with asyncio.timeout_at(self._at):
                    await self._moved.wait()
            except TimeoutError:
                await self._renew()

    async def _renew(self) -> None:
        self._tokens.expire()
        try:
            token = await self._tokens.try_get()
        except (NoToken, ClientError):
            self.due_in(_AGAIN_S)  # The one in force goes on counting.
        else:
            await self._show(token)
