"""The application: what servers of ASGI call, and what starts and stops the node behind it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from antiphon import config as settings
from antiphon.asgi import endpoint, sigterm
from antiphon.asgi.protocol import Receive, Scope, Send
from antiphon.asgi.running import Running
from antiphon.config import Config, ConfigError
from antiphon.keys import MIN_SECRET_BYTES, is_weak
from antiphon.local import EngineFailed

_log = logging.getLogger(__name__)


class Application:
    """An ASGI 3 application, for one event loop at a time.

    Served by itself, the server starts and stops it (`lifespan`). Servers tell an application that is
    mounted in another one nothing of that: enter `lifespan()` in that of the outer one. Where nobody has, the
    first connection starts it, and `aclose()` has to stop it.
    """

    def __init__(self, config: Config | None = None) -> None:
        self._config = config
        self._running: Running | None = None
        self._closed = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a scope of type `lifespan`, `websocket` or `http`.

        Raises:
            ConfigError: nobody has started it before, and the settings cannot be used.
            local.EngineFailed: as before, and the embedded engine cannot be started.
            RuntimeError: it runs in another event loop, is closed, or the scope is of another type.
        """
        match scope["type"]:
            case "lifespan":
                await self._live(receive, send)
            case "websocket" | "http":
                if self._closed:
                    raise RuntimeError(
                        "The application is closed: no connection can come after its lifespan."
                    )
                front = await self._run().front()
                await endpoint.answer(front, scope, receive, send)
            case kind:
                raise RuntimeError(f"A scope of type {kind!r} is not served here.")

    @asynccontextmanager
    async def lifespan(self, _: object = None, *, drains: bool = True) -> AsyncIterator[None]:
        """Run it, for the lifespan of an application that it is mounted in.

        Can be that lifespan (`FastAPI(lifespan=voice.lifespan)`) or be entered there. With `drains`, clients
        have `drain_s` to go at SIGTERM before the server gets it.

        Raises:
            ConfigError: the settings cannot be used.
            local.EngineFailed: the embedded engine cannot be started.
            RuntimeError: it runs in another event loop.
        """
        self._closed = False
        running = self._run()
        try:
            await running.front()
            if drains:
                with sigterm.drained(running.drain):
                    yield
            else:
                yield
        finally:
            await self.aclose()

    async def drain(self) -> None:
        """Take no new client, tell those who are here, and let them go within `drain_s`."""
        if self._running:
            await self._run().drain()

    async def aclose(self) -> None:
        """End every session and stop; does nothing where nothing runs.

        Raises:
            RuntimeError: it runs in another event loop.
        """
        self._closed = True
        if self._running:
            running = self._run()
            self._running = None
            await running.aclose()

    def _run(self) -> Running:
        running, loop = self._running, asyncio.get_running_loop()
        if running and running.loop is not loop and not running.loop.is_closed():
            raise RuntimeError(
                "The application runs in another event loop; make one for each with create_app()."
            )
        if running is None or running.loop is not loop or running.over:
            self._running = running = Running(_usable(self._config))
        return running

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()  # lifespan.startup
        try:
            async with self.lifespan():
                await send({"type": "lifespan.startup.complete"})
                await receive()  # lifespan.shutdown
        except (ConfigError, EngineFailed) as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.shutdown.complete"})


def _usable(config: Config | None) -> Config:
    """Return the settings, without what is the business of the server.

    Raises:
        ConfigError: they cannot be used.
    """
    if config is None:
        config, _ = settings.load({}, os.environ)
    if config.tls_cert or config.tls_key:
        raise ConfigError(
            "TLS is the server's here, as with uvicorn --ssl-certfile: leave out tls_cert and tls_key."
        )
    if not (config.jwt_secret or config.jwt_public_key or config.jwt_jwks_url):
        raise ConfigError(
            "An application does not know who can reach it, and needs a key for tokens: "
            "set ANTIPHON_JWT_SECRET, ANTIPHON_JWT_PUBLIC_KEY or ANTIPHON_JWT_JWKS_URL."
        )
    if config.jwt_secret and is_weak(config.jwt_secret):
        raise ConfigError(
            f"ANTIPHON_JWT_SECRET is shorter than {MIN_SECRET_BYTES} bytes, and an application does not know "
            "who can reach it. `openssl rand -hex 32` makes a good one."
        )
    default = Config()
    if (config.host, config.port) != (default.host, default.port):
        _log.warning("host and port are not looked at: they are those of the server of ASGI")
    return config
