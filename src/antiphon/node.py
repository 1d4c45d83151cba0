"""A node: the parts of `antiphon serve` put together, started, watched and stopped."""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Final
from urllib.parse import urlsplit

from msgspec.structs import replace

from antiphon import commands, development
from antiphon.admission import Admission
from antiphon.auth import AuthConfig, TokenVerifier, mint
from antiphon.bridge import Bridge, Connection
from antiphon.clock import epoch_clock
from antiphon.config import Config, ConfigError
from antiphon.errors import GatewayError, first_of
from antiphon.gemini import GOOGLE, Gemini, Upstream, is_private
from antiphon.gemini_codec import Voice
from antiphon.keys import MIN_SECRET_BYTES, is_weak
from antiphon.live import Function, Setup
from antiphon.local import EngineProcess
from antiphon.server import About, Server
from antiphon.session import Limits, Session

DEVELOPMENT_USER: Final = "developer"
DEVELOPMENT_TOKEN_TTL_S: Final = 12 * 3600
UNAUTHENTICATED_CONNECTIONS: Final = 256
"""Connections beyond `max_sessions` that may be about to authenticate."""
READY_POLL_S: Final = 0.05
SLOW_START_S: Final = 15.0

_log = logging.getLogger(__name__)


async def serve(config: Config, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `announce` gets the lines a person is to see.

    Raises:
        ConfigError: the settings do not go together, or the address cannot be listened on.
        local.EngineFailed: the embedded engine cannot be started.
    """
    secret = _development_secret(config)
    verifier = _verifier(config, secret)
    setup = Setup(config.language, config.instruction, _functions(config))
    limits = Limits(
        auth_timeout_s=config.auth_timeout_s,
        idle_timeout_s=config.idle_timeout_s,
        max_duration_s=config.max_session_s,
        uplink_s=config.uplink_buffer_s,
    )
    admission = Admission(config.max_sessions, config.max_connections_per_user)
    clock = epoch_clock()
    tls = _tls(config)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(verifier.aclose)
        stopping = stack.enter_context(_signals())
        gemini, ready = await stack.enter_async_context(upstream(config))

        def make_bridge(connection: Connection) -> Bridge:
            return Bridge(
                Session(secrets.token_urlsafe(18), setup, limits, clock()),
                connection,
                authenticate=verifier.verify,
                admission=admission,
                connect=gemini.connect,
                clock=clock,
            )

        server = Server(
            make_bridge,
            ready=ready,
            about=About(public_upstream(config)),
            origins=frozenset(config.origins),
            max_connections=config.max_sessions + UNAUTHENTICATED_CONNECTIONS,
        )
        try:
            port = await server.start(config.host, config.port, tls)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigError(f"Cannot listen on {config.host} port {config.port}: {reason}.") from error
        stack.push_async_callback(server.stop)
        url = _url(config, port)
        announce(f"Listening on {url} (upstream: {describe_upstream(config)}).")
        if secret:
            _publish(secret, port, stack)
        if await _until_ready(ready, stopping):
            announce(_invitation(url, secret, config))
            await stopping.wait()
        announce("Stopping.")
        server.drain()


def describe_upstream(config: Config) -> str:
    """Return which upstream answers, for the operator."""
    name = resolve_upstream(config)
    return public_upstream(config) if name in ("local", "gemini") else name


def public_upstream(config: Config) -> str:
    """Return which upstream answers, for anybody: an address of the operator's own is not told."""
    match resolve_upstream(config):
        case "local":
            return "embedded engine"
        case "gemini":
            return f"Gemini ({config.model})"
        case _:
            return "a model server"


def resolve_upstream(config: Config) -> str:
    """Return the upstream in force: what `auto` stands for is decided by the key."""
    if config.upstream != "auto":
        return config.upstream
    return "gemini" if config.gemini_api_key else "local"


def gemini_upstream(config: Config) -> Upstream:
    """Return the settings of the client for an upstream that is not `local`.

    Raises:
        ConfigError: the upstream is none of the known forms, or plaintext is asked for across a network.
    """
    name = resolve_upstream(config)
    voice = Voice(config.model, config.voice)
    settings = Upstream(api_key=config.gemini_api_key, voice=voice, setup_timeout_s=config.setup_timeout_s)
    if name == "gemini":
        return replace(settings, target=GOOGLE, adc=not config.gemini_api_key)
    url = urlsplit(name)
    try:
        host, port = url.hostname, url.port
    except ValueError:
        host = port = None
    if url.scheme not in ("grpc", "grpcs") or not host or not port or url.path.strip("/"):
        raise ConfigError(
            f"The upstream {name!r} is none of local, gemini, grpc://HOST:PORT and grpcs://HOST:PORT."
        )
    if url.scheme == "grpc" and not is_private(host):
        raise ConfigError(
            f"The upstream {name} would be spoken to in plaintext; grpc:// is taken for loopback and "
            "private addresses only. Use grpcs://."
        )
    return replace(settings, target=url.netloc, tls=url.scheme == "grpcs")


@asynccontextmanager
async def upstream(config: Config) -> AsyncIterator[tuple[Gemini, Callable[[], bool]]]:
    """Run the client of the configured upstream, and the embedded engine where that is it.

    Yields the client, and whether the upstream can take a conversation.
    """
    engine = EngineProcess(config.models_dir) if resolve_upstream(config) == "local" else None
    if engine:
        settings = Upstream(
            engine.target, tls=False, setup_timeout_s=config.setup_timeout_s, wait_for_ready=True
        )
    else:
        settings = gemini_upstream(config)
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


def _development_secret(config: Config) -> str | None:
    """Return a random secret where no key is configured; a stranger must then not reach the gateway."""
    if config.jwt_secret or config.jwt_public_key or config.jwt_jwks_url:
        return None
    if not development.is_loopback(config.host):
        raise ConfigError(
            f"Without a key for tokens only a loopback address may be served, and {config.host} is none. "
            "Set ANTIPHON_JWT_SECRET, ANTIPHON_JWT_PUBLIC_KEY or ANTIPHON_JWT_JWKS_URL."
        )
    return development.new_secret()


def _publish(secret: str, port: int, stack: AsyncExitStack) -> None:
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


def _functions(config: Config) -> tuple[Function, ...]:
    try:
        return commands.load(config.commands)
    except commands.CommandsError as error:
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


@contextmanager
def _signals() -> Iterator[asyncio.Event]:
    """Set the event at the first SIGTERM or SIGINT; a second one ends the process at once."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGTERM, signal.SIGINT)

    def stop() -> None:
        stopping.set()
        for number in numbers:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in numbers:
        loop.add_signal_handler(number, stop)
    try:
        yield stopping
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _until_ready(ready: Callable[[], bool], stopping: asyncio.Event) -> bool:
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


def _url(config: Config, port: int) -> str:
    host = f"[{config.host}]" if ":" in config.host else config.host
    return f"{'https' if config.tls_cert else 'http'}://{host}:{port}"


def _invitation(url: str, secret: str | None, config: Config) -> str:
    if secret is None:
        return f"Ready. The page is {url}/ ; `antiphon token --user NAME` makes a token for it."
    token = mint(
        *(secret, DEVELOPMENT_USER, DEVELOPMENT_TOKEN_TTL_S, time.time()),
        *(config.jwt_issuer, config.jwt_audience),
    )
    return f"Ready. Open this link, press the button and speak:\n\n    {url}/#token={token}\n"
