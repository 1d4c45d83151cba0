"""The gateway's other front: the application of ASGI, under a real uvicorn in the test's event loop."""

from __future__ import annotations

import asyncio
import socket
import ssl
from functools import partial
from typing import Any

import uvicorn

from antiphon.asgi import endpoint
from antiphon.front import Front
from antiphon.messages import MAX_MESSAGE_BYTES


class Uvicorn:
    """uvicorn as the documentation says it should be run, which leaves signals to pytest."""

    def __init__(self, app: Any, **settings: Any) -> None:
        settings = {
            "lifespan": "on",
            "loop": "uvloop",
            "http": "httptools",
            "ws": "websockets-sansio",
            "ws_per_message_deflate": False,
            "ws_max_size": 2 * MAX_MESSAGE_BYTES,
            "log_config": None,
            "access_log": False,
            "timeout_graceful_shutdown": 1,
            **settings,
        }
        self._server = uvicorn.Server(uvicorn.Config(app, interface="asgi3", **settings))
        self._task: asyncio.Task[None] | None = None

    async def start(self, host: str = "127.0.0.1") -> int:
        """Serve, and return the port."""
        listener = socket.create_server((host, 0))
        port: int = listener.getsockname()[1]
        # Not serve(), which takes the signals.
        self._task = asyncio.get_running_loop().create_task(self._server._serve([listener]))
        async with asyncio.timeout(10):
            while not self._server.started:
                assert not self._task.done(), "uvicorn did not start"
                await asyncio.sleep(0.01)
        return port

    async def aclose(self) -> None:
        """Do as after SIGTERM, and wait for the end."""
        self._server.should_exit = True
        if self._task:
            await self._task


class AsgiServer(Front):
    """A front that is called by uvicorn."""

    _server: Uvicorn | None = None

    async def start(self, host: str, _: int, tls: ssl.SSLContext | None = None) -> int:
        assert tls is None, "TLS is uvicorn's own"
        self._server = Uvicorn(partial(endpoint.answer, self), lifespan="off")
        return await self._server.start(host)

    async def stop(self) -> None:
        await super().stop()
        if self._server:
            await self._server.aclose()
