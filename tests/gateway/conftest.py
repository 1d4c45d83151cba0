"""A whole gateway in the test's event loop: real sockets before and behind it."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from antiphon import commands
from antiphon.admission import Admission
from antiphon.auth import AuthConfig, TokenVerifier, mint
from antiphon.bridge import Bridge, Connection
from antiphon.clock import epoch_clock
from antiphon.gemini import Gemini, Upstream
from antiphon.live import Setup
from antiphon.server import About, Server
from antiphon.session import Limits, Session
from fake_gemini import FakeGemini, Script, attentive, fake_gemini

SECRET = "a secret of this test suite, long enough for HS256"


class Gateway:
    """A running gateway, its parts in reach."""

    def __init__(self, server: Server, port: int, gemini: Gemini, upstream: FakeGemini, admission: Admission) -> None:
        self.server = server
        self.port = port
        self.gemini = gemini
        self.upstream = upstream
        self.admission = admission

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    def token(self, user: str = "alice", ttl_s: float = 60) -> str:
        return mint(SECRET, user, ttl_s, time.time())


Start = Callable[..., Any]


@asynccontextmanager
async def running_gateway(
    script: Script = attentive,
    *,
    max_streams: int | None = None,
    limits: Limits | None = None,
    max_sessions: int = 1000,
    per_user: int = 1000,
    origins: frozenset[str] = frozenset(),
    max_connections: int = 2000,
    **upstream: Any,
) -> AsyncIterator[Gateway]:
    clock = epoch_clock()
    setup = Setup("en-US", "", commands.load())
    verifier = TokenVerifier(AuthConfig(secret=SECRET))
    admission = Admission(max_sessions, per_user)
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(fake_gemini(script, max_streams))
        settings = replace(Upstream(model.target, tls=False, api_key="the-key", backoff_s=0.01), **upstream)
        gemini = Gemini(settings)
        stack.push_async_callback(gemini.aclose)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        watch = tasks.create_task(gemini.watch())
        stack.callback(watch.cancel)

        def make_bridge(connection: Connection) -> Bridge:
            return Bridge(
                Session(secrets.token_urlsafe(18), setup, limits or Limits(), clock()),
                connection,
                authenticate=verifier.verify,
                admission=admission,
                connect=gemini.connect,
                clock=clock,
            )

        server = Server(
            make_bridge,
            ready=lambda: gemini.ready,
            about=About("a fake"),
            origins=origins,
            max_connections=max_connections,
        )
        port = await server.start("127.0.0.1", 0)
        stack.push_async_callback(server.stop)
        yield Gateway(server, port, gemini, model, admission)


@pytest.fixture
async def gateway() -> AsyncIterator[Gateway]:
    """A gateway in front of a model that answers everything alike."""
    async with running_gateway() as running:
        yield running
