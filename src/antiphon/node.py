"""A node: the parts of `antiphon serve` put together, started, watched and stopped."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Final, Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from antiphon import development, event_loop
from antiphon.admission import Admission
from antiphon.auth import AuthConfig, TokenVerifier, mint
from antiphon.bridge import Census
from antiphon.clock import epoch_clock
from antiphon.config import Config, ConfigError, resolve_upstream
from antiphon.engine.brain import BUILTIN, base_url
from antiphon.errors import GatewayError, first_of
from antiphon.fallback import Fallback
from antiphon.front import Front
from antiphon.gemini.client import Gemini
from antiphon.host import Host, Shared
from antiphon.keys import MIN_SECRET_BYTES, is_weak
from antiphon.live import Connect, Setup
from antiphon.local import engine_process
from antiphon.plain import About
from antiphon.server import Server
from antiphon.session import Limits
from antiphon.siblings import Siblings
from antiphon.store import StoreAway, StoreMisconfigured
from antiphon.tools import commands
from antiphon.tools.commands import Commands
from antiphon.tools.toolbox import Toolbox, ToolboxError
from antiphon.upstreams import (
    describe_upstream,
    engine_upstream,
    gemini_upstream,
    public_upstream,
)
from antiphon.valkey_store import ValkeyStore

DEVELOPMENT_TOKEN_TTL_S: Final = 12 * 3600
UNAUTHENTICATED_CONNECTIONS: Final = 256
"""Connections beyond `max_sessions` that may be about to authenticate."""
READY_POLL_S: Final = 0.05
SLOW_START_S: Final = 15.0

F = TypeVar("F", bound=Front)

_log = logging.getLogger(__name__)


class Engine(Protocol):
    """An embedded engine: ours, or one that the supervisor of several workers runs."""

    @property
    def target(self) -> str: ...

    @property
    def ready(self) -> bool: ...

    async def run(self) -> None:
        """Keep it running, or only see whether it does, until cancelled."""


class Worker(Struct, frozen=True):
    """What a node has that is one of several workers.

    Where there is a store, neither siblings nor census are needed: all know of all by it.
    """

    prefix: str
    siblings: Siblings | None
    census: Census | None


async def serve(
    config: Config,
    announce: Callable[[str], None],
    engine: Engine | None = None,
    worker: Worker | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; `announce` gets the lines a person is to see, `engine` may be prepared.

    As a `worker` it shares its port with others.

    Raises:
        ConfigError: the settings do not go together, or the address cannot be listened on.
        local.EngineFailed: the embedded engine cannot be started.
    """
    secret = development_secret(config)
    tls = _tls(config)
    async with AsyncExitStack() as stack:
        stopping = stack.enter_context(signals())
        running = await stack.enter_async_context(parts(config, secret, engine, worker))
        host, server = running.host, running.front(Server)
        try:
            port = await server.start(config.host, config.port, tls, reuse_port=worker is not None)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigError(f"Cannot listen on {config.host} port {config.port}: {reason}.") from error
        stack.push_async_callback(server.stop)
        if worker and worker.siblings:
            await stack.enter_async_context(worker.siblings.listening(server))
        url = url_of(config, port)
        announce(f"Listening on {url} (upstream: {describe_upstream(config)}).")
        if secret:
            publish(secret, port, stack)
        if await until_ready(running.ready, stopping):
            event_loop.settle()
            announce(invitation(url, secret, config))
            await stopping.wait()
        drain_s = config.drain_s if stopping.orderly else 0.0
        grace = f"; connections have {drain_s:g} s" if drain_s and server.connections else ""
        announce(f"Stopping{grace}.")
        await server.drain(drain_s)
        await host.flush()


class Parts(Struct, frozen=True):
    """What is behind a front, running; `ready` says whether conversations can be had."""

    config: Config
    host: Host
    ready: Callable[[], bool]

    def front(self, make: type[F]) -> F:
        """Return a front before them."""
        return make(
            self.host.bridge,
            ready=self.ready,
            about=About(public_upstream(self.config)),
            origins=frozenset(self.config.origins),
            max_connections=self.config.max_sessions + UNAUTHENTICATED_CONNECTIONS,
            end_sessions=self.host.sessions.abandon,
        )


@asynccontextmanager
async def parts(
    config: Config, secret: str | None = None, engine: Engine | None = None, worker: Worker | None = None
) -> AsyncIterator[Parts]:
    """Run what is behind a front; `secret` signs tokens where no key is configured.

    Raises:
        ConfigError: the settings do not go together.
        local.EngineFailed: the embedded engine cannot be started.
    """
    verifier = _verifier(config, secret)
    configured = _commands(config)
    toolbox = _toolbox(config, configured)
    setup = Setup(config.language, config.instruction, configured.functions)
    limits = Limits(
        auth_timeout_s=config.auth_timeout_s,
        idle_timeout_s=config.idle_timeout_s,
        max_duration_s=config.max_session_s,
        uplink_s=config.uplink_buffer_s,
        gather_s=config.audio_gather_ms / 1000,
        resume_s=config.resume_window_s,
        mute_s=config.mute_timeout_s,
        connection_s=config.connection_age_s,
        audio_speed=config.audio_speed,
        provocations=provocations(config, secret),
    )
    clock = epoch_clock()
    store = _store(config)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(verifier.aclose)
        stack.push_async_callback(toolbox.aclose)
        if store:
            stack.push_async_callback(store.aclose)
            await _check(store)
        connect, ready = await stack.enter_async_context(answering(config, setup, engine))
        host = Host(
            Shared(
                setup,
                limits,
                configured.tools,
                verifier.verify,
                Admission(config.max_sessions, config.max_connections_per_user),
                connect,
                toolbox,
                clock,
                store,
                config.max_connections_per_user,
                config.max_sessions,
                *((worker.siblings, worker.census, worker.prefix) if worker else ()),
            )
        )
        await stack.enter_async_context(host.running())
        yield Parts(config, host, ready)


@asynccontextmanager
async def answering(
    config: Config, setup: Setup, engine: Engine | None = None
) -> AsyncIterator[tuple[Connect, Callable[[], bool]]]:
    """Run what answers: the configured upstream, and the engine that stands in for it where that is wanted.

    Yields what opens conversations, and whether any can be had.
    """
    async with AsyncExitStack() as stack:
        gemini, ready = await stack.enter_async_context(upstream(config, engine))
        if config.fallback == "none" or resolve_upstream(config) == "local":
            yield gemini.connect, ready
            return
        stand_in = replace(config, upstream="local", upstream_transport="auto")
        local, engine_ready = await stack.enter_async_context(upstream(stand_in, engine))
        fallback = Fallback(gemini.connect, local.connect, setup)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        watch = tasks.create_task(fallback.watch())
        stack.callback(watch.cancel)
        yield fallback.connect, lambda: ready() or engine_ready()


@asynccontextmanager
async def upstream(
    config: Config, engine: Engine | None = None
) -> AsyncIterator[tuple[Gemini, Callable[[], bool]]]:
    """Run the client of the configured upstream, and the embedded engine where that is it.

    Yields the client, and whether the upstream can take a conversation.
    """
    engine = _engine(config, engine) if resolve_upstream(config) == "local" else None
    settings = engine_upstream(config, engine.target) if engine else gemini_upstream(config)
    try:
        gemini = Gemini(settings)
    except GatewayError as error:
        raise ConfigError(error.message) from error

    def ready() -> bool:
        return gemini.ready and (engine is None or engine.ready)

    try:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(gemini.watch())]
            if engine:
                running.append(tasks.create_task(engine.run()))
            try:
                yield gemini, ready
            finally:
                for task in running:
                    task.cancel()
                await gemini.aclose()
    except BaseExceptionGroup as group:
        raise first_of(group) from None


def _store(config: Config) -> ValkeyStore | None:
    try:
        return ValkeyStore(config.valkey_url) if config.valkey_url else None
    except StoreMisconfigured as error:
        raise ConfigError(str(error)) from error


async def _check(store: ValkeyStore) -> None:
    """See that the store takes what it is asked; one that is away is waited for while sessions are served."""
    try:
        await store.ping()
    except StoreMisconfigured as error:
        raise ConfigError(str(error)) from error
    except StoreAway as error:
        _log.warning("The session store is away (%s); no session survives this node until it is there", error)


def _engine(config: Config, prepared: Engine | None) -> Engine:
    if config.engine_brain != BUILTIN:
        try:
            base_url(config.engine_brain)
        except ValueError as error:
            raise ConfigError(str(error)) from None
    return prepared or engine_process(config)


def development_secret(config: Config) -> str | None:
    """Return a random secret where no key is configured; a stranger must then not reach the gateway."""
    if config.jwt_secret or config.jwt_public_key or config.jwt_jwks_url:
        return None
    if not development.is_loopback(config.host):
        raise ConfigError(
            f"Without a key for tokens only a loopback address may be served, and {config.host} is none. "
            "Set ANTIPHON_JWT_SECRET, ANTIPHON_JWT_PUBLIC_KEY or ANTIPHON_JWT_JWKS_URL."
        )
    return development.new_secret()


def provocations(config: Config, secret: str | None) -> bool:
    """Whether clients may provoke what goes wrong; unasked, only those whom the random `secret` lets in."""
    return secret is not None if config.provocations is None else config.provocations


def publish(secret: str, port: int, stack: AsyncExitStack) -> None:
    """Keep the secret where the same user's commands find it, until the stack is left."""
    try:
        stack.enter_context(development.published(secret, port))
    except OSError as error:
        _log.warning("`antiphon talk` will need a --token: its secret cannot be kept in a file (%s)", error)


def _verifier(config: Config, secret: str | None) -> TokenVerifier:
    if config.jwt_secret and is_weak(config.jwt_secret):
        if not development.is_loopback(config.host):
            raise ConfigError(
                f"ANTIPHON_JWT_SECRET is shorter than {MIN_SECRET_BYTES} bytes: good for loopback only. "
                "`openssl rand -hex 32` makes a good one."
            )
        _log.warning("ANTIPHON_JWT_SECRET is shorter than %d bytes and can be guessed", MIN_SECRET_BYTES)
    auth = AuthConfig(
        secret=config.jwt_secret or secret,
        public_key=config.jwt_public_key,
        jwks_url=config.jwt_jwks_url,
        issuer=config.jwt_issuer,
        audience=config.jwt_audience,
    )
    try:
        return TokenVerifier(auth)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _commands(config: Config) -> Commands:
    try:
        return commands.load_all(config.commands)
    except commands.CommandsError as error:
        raise ConfigError(str(error)) from error


def _toolbox(config: Config, configured: Commands) -> Toolbox:
    try:
        return Toolbox(configured.tools, secret=config.tool_secret, networks=config.tool_networks)
    except ToolboxError as error:
        raise ConfigError(str(error)) from error


def _tls(config: Config) -> ssl.SSLContext | None:
    if not config.tls_cert and not config.tls_key:
        return None
    if not config.tls_cert or not config.tls_key:
        raise ConfigError("TLS needs both tls_cert and tls_key.")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(config.tls_cert, config.tls_key)
    except OSError as error:
        raise ConfigError(f"The certificate or its key cannot be used: {error}.") from error
    return context


class Stopping(asyncio.Event):
    """Set when the node is to stop; `orderly`: by SIGTERM, with time for its clients to go."""

    orderly = False


@contextmanager
def signals() -> Iterator[Stopping]:
    """Set the event at the first SIGTERM or SIGINT; a second one ends the process at once."""
    stopping = Stopping()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)

    def stop(number: signal.Signals) -> None:
        stopping.orderly = number is signal.SIGTERM
        stopping.set()
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in numbers:
        loop.add_signal_handler(number, stop, number)
    try:
        yield stopping
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def until_ready(ready: Callable[[], bool], stopping: asyncio.Event) -> bool:
    """Wait until the upstream is ready; return False when the node is to stop first."""
    slow_at = time.monotonic() + SLOW_START_S
    while not ready() and not stopping.is_set():
        if time.monotonic() > slow_at:
            _log.warning("The upstream is still not ready")
            slow_at = float("inf")
        try:
            async with asyncio.timeout(READY_POLL_S):
                await stopping.wait()
        except TimeoutError:
            pass
    return not stopping.is_set()


def url_of(config: Config, port: int) -> str:
    """Return where a gateway is that listens on this port."""
    host = f"[{config.host}]" if ":" in config.host else config.host
    return f"{'https' if config.tls_cert else 'http'}://{host}:{port}"


def invitation(url: str, secret: str | None, config: Config) -> str:
    """Return what a person is told once the gateway is ready."""
    if secret is None:
        return f"Ready. The page is {url}/ ; `antiphon token --user NAME` makes a token for it."
    token = mint(
        *(secret, development.USER, DEVELOPMENT_TOKEN_TTL_S, time.time()),
        *(config.jwt_issuer, config.jwt_audience),
    )
    return f"Ready. Open this link, press the button and speak:\n\n    {url}/#token={token}\n"
