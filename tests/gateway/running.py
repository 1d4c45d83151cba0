"""A whole gateway in the test's event loop: real sockets before and behind it."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from types import CoroutineType
from typing import Any, Protocol

from msgspec.structs import replace

import antiphon
from antiphon.admission import Admission
from antiphon.auth import AuthConfig, TokenVerifier, mint
from antiphon.bridge import Authenticate, Bridge, Connection
from antiphon.clock import Clock, epoch_clock
from antiphon.fallback import Fallback
from antiphon.gemini.client import Gemini, Upstream
from antiphon.gemini.upstream import TransportName
from antiphon.host import Host, Shared
from antiphon.live import Connect, Setup
from antiphon.plain import About
from antiphon.server import Server
from antiphon.session import Limits
from antiphon.store import SessionStore
from antiphon.tools import commands
from antiphon.tools.commands import Commands
from antiphon.tools.toolbox import Toolbox
from fake_gemini import FakeGemini, Script, Serving, attentive, fake_gemini
from gateway.uvicorn_front import AsgiServer
from grpc_client import CLIENT

TRANSPORT: TransportName = "grpc"
"""What gateways speak to their model where a test does not say; a fixture may change it."""

FRONT: type[Server] | type[AsgiServer] = AsgiServer if os.environ.get("GATEWAY_FRONT") == "asgi" else Server
"""What is before the gateways."""

_SOURCE = Path(antiphon.__file__).parent

SECRET = "a secret of this test suite, long enough for HS256"


class Reachable(Protocol):
    """Where a gateway is, and who may speak to it."""

    @property
    def url(self) -> str: ...

    def token(self, user: str = "alice", ttl_s: float = 60) -> str: ...


class Gateway:
    """A running gateway, its parts in reach."""

    def __init__(
        self,
        server: Server | AsgiServer,
        port: int,
        gemini: Gemini,
        upstream: FakeGemini,
        admission: Admission,
        host: Host,
    ) -> None:
        self.host = host
        self.server = server
        self.port = port
        self.gemini = gemini
        self.upstream = upstream
        self.admission = admission
        self.bridges: list[Bridge] = []
        self.connections: list[Connection] = []

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/ws"

    def token(self, user: str = "alice", ttl_s: float = 60) -> str:
        return mint(SECRET, user, ttl_s, time.time())

    async def deserted(self) -> None:
        """Wait until no session and no conversation is left."""
        async with asyncio.timeout(10):
            while self.admission.sessions or self.upstream.open:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running_gateway(
    script: Script = attentive,
    *,
    max_streams: int | None = None,
    limits: Limits | None = None,
    audio_speed: float = float("inf"),
    store: SessionStore | None = None,
    stand_in: Script | None = None,
    max_sessions: int = 1000,
    per_user: int = 1000,
    origins: frozenset[str] = frozenset(),
    max_connections: int = 2000,
    auth: AuthConfig | None = None,
    authenticate: Authenticate | None = None,
    clock: Clock | None = None,
    tls: ssl.SSLContext | None = None,
    configured: Commands | None = None,
    transport: TransportName | None = None,
    **upstream: Any,
) -> AsyncIterator[Gateway]:
    """Run a gateway that takes audio as fast as it comes, where nothing else is said; when it has stopped,
    nothing of it may be left and nothing may have gone wrong in it.
    """
    clock = clock or epoch_clock()
    configured = configured or commands.load_all()
    setup = Setup("en-US", "", configured.functions)
    admission = Admission(max_sessions, per_user)
    with faultless():
        async with AsyncExitStack() as stack:
            verifier = TokenVerifier(auth or AuthConfig(secret=SECRET))
            stack.push_async_callback(verifier.aclose)
            toolbox = Toolbox(configured.tools, secret=SECRET, networks=("127.0.0.0/8",))
            stack.push_async_callback(toolbox.aclose)
            transport = transport or TRANSPORT
            serving: Serving = "both" if transport == "auto" else transport
            model = await stack.enter_async_context(fake_gemini(script, max_streams, serving))
            settings = Upstream(
                model.target, tls=False, api_key="the-key", backoff_s=0.01, transport=transport, client=CLIENT
            )
            settings = replace(settings, **upstream)
            gemini = Gemini(settings)
            stack.push_async_callback(gemini.aclose)
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            watch = tasks.create_task(gemini.watch())
            stack.callback(watch.cancel)

            connect: Connect = gemini.connect
            if stand_in:
                second = await stack.enter_async_context(fake_gemini(stand_in))
                local = Gemini(Upstream(second.target, tls=False, client=CLIENT))
                stack.push_async_callback(local.aclose)
                fallback = Fallback(gemini.connect, local.connect, setup)
                connect = fallback.connect
                probe = tasks.create_task(fallback.watch())
                stack.callback(probe.cancel)
            host = Host(
                Shared(
                    setup,
                    replace(limits or Limits(), audio_speed=audio_speed),
                    configured.tools,
                    authenticate or verifier.verify,
                    admission,
                    connect,
                    toolbox,
                    clock,
                    store,
                    per_user,
                )
            )
            await stack.enter_async_context(host.running())

            def make_bridge(connection: Connection, *, extended: bool) -> Bridge:
                bridge = host.bridge(connection, extended=extended)
                gateway.bridges.append(bridge)
                gateway.connections.append(connection)
                return bridge

            server = FRONT(
                make_bridge,
                ready=lambda: gemini.ready,
                about=About("a fake"),
                origins=origins,
                max_connections=max_connections,
                end_sessions=host.sessions.abandon,
            )
            port = await server.start("127.0.0.1", 0, tls)
            gateway = Gateway(server, port, gemini, model, admission, host)
            before = asyncio.all_tasks()
            _running.append(gateway)
            stack.push_async_callback(_all_gone, gateway, before)
            stack.push_async_callback(server.stop)
            yield gateway


_running: list[Gateway] = []


async def _all_gone(gateway: Gateway, before: set[asyncio.Task[Any]]) -> None:
    """Check that what began with the clients ended with them."""
    _running.remove(gateway)
    await gateway.deserted()
    assert gateway.admission.sessions == 0
    if _running:
        return  # whose tasks they are is not to be told
    give_up_at = asyncio.get_running_loop().time() + 10
    while left := {task for task in asyncio.all_tasks() - before if _is_ours(task)}:
        assert asyncio.get_running_loop().time() < give_up_at, f"these tasks are left: {left}"
        await asyncio.sleep(0.01)


def _is_ours(task: asyncio.Task[Any]) -> bool:
    """Whether a task is one of the gateway's, and not one that tries again to reach the model for all."""
    coroutine = task.get_coro()
    if not isinstance(coroutine, CoroutineType):
        return False
    code = coroutine.cr_code
    return _SOURCE in Path(code.co_filename).parents and code.co_qualname != "Channel._attempt"


@contextmanager
def faultless() -> Iterator[None]:
    """Fail the test if a traceback is logged or the event loop is handed an exception."""
    faults: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # grpc's own are about the fake model, which the gateway leaves in the middle of a word.
            if record.exc_info and not record.name.startswith("grpc"):
                faults.append(f"{record.getMessage()}: {record.exc_info[1]!r}")

    def note(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # grpc.aio wakes every loop of the process, those of other tests too, and they find nothing.
        if "PollerCompletionQueue" not in context["message"]:
            faults.append(repr(context))

    loop = asyncio.get_running_loop()
    collector = Collector()
    logging.getLogger().addHandler(collector)
    loop.set_exception_handler(note)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(collector)
        loop.set_exception_handler(None)
    assert not faults
