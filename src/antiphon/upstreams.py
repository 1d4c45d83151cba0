"""Which upstream the settings mean: the embedded engine, Google, Vertex AI or an address of one's own."""

from __future__ import annotations

from typing import Final
from urllib.parse import SplitResult, urlsplit

from msgspec.structs import replace

from antiphon.config import Config, ConfigError, resolve_upstream
from antiphon.gemini.profiles import EMBEDDED, Voice
from antiphon.gemini.upstream import GOOGLE, Upstream, Vertex, is_private

SCHEMES: Final = {"grpc": "grpc", "grpcs": "grpc", "ws": "websocket", "wss": "websocket"}
_PLAINTEXT: Final = {"grpc": "grpcs", "ws": "wss"}


def describe_upstream(config: Config) -> str:
    """Return which upstream answers, for the operator."""
    name = resolve_upstream(config)
    return public_upstream(config) if name in ("local", "gemini", "vertex") else name


def public_upstream(config: Config) -> str:
    """Return which upstream answers, for anybody: an address of the operator's own is not told."""
    match resolve_upstream(config):
        case "local":
            return "embedded engine"
        case "gemini":
            return f"Gemini ({config.model})"
        case "vertex":
            return f"Gemini on Vertex AI ({config.model})"
        case _:
            return "a model server"


def engine_upstream(config: Config, target: str) -> Upstream:
    """Return the settings of the client for the embedded engine.

    Raises:
        ConfigError: another transport than gRPC is asked for.
    """
    _check_transport(config, "grpc", "The embedded engine speaks gRPC only")
    return Upstream(
        target,
        tls=False,
        voice=Voice(EMBEDDED),
        setup_timeout_s=config.setup_timeout_s,
        wait_for_ready=True,
        client=config.grpc_client,
    )


def gemini_upstream(config: Config) -> Upstream:
    """Return the settings of the client for an upstream that is not `local`.

    Raises:
        ConfigError: the upstream is none of the known forms, plaintext is asked for across a network, or
            a transport that it does not have.
    """
    name = resolve_upstream(config)
    settings = Upstream(
        api_key=config.gemini_api_key,
        voice=Voice(config.model, config.voice),
        setup_timeout_s=config.setup_timeout_s,
        client=config.grpc_client,
    )
    match name:
        case "gemini":
            return _google(config, settings)
        case "vertex":
            return _vertex(config, settings)
        case _:
            return _own(config, name, settings)


def _google(config: Config, settings: Upstream) -> Upstream:
    if config.gemini_api_key:
        return replace(settings, target=GOOGLE, transport=config.upstream_transport, genai=True)
    if config.upstream_transport == "websocket":
        raise ConfigError("Gemini's WebSocket needs an API key: set GEMINI_API_KEY, or let it be gRPC.")
    return replace(settings, target=GOOGLE, transport="grpc", adc=True)


def _vertex(config: Config, settings: Upstream) -> Upstream:
    if not config.vertex_project:
        raise ConfigError("Vertex AI needs to know whose it is: set vertex_project.")
    _check_transport(config, "websocket", "Vertex AI has a WebSocket only")
    vertex = Vertex(config.vertex_project, config.vertex_location)
    return replace(
        settings,
        target=vertex.target,
        api_key=None,
        adc=True,
        transport="websocket",
        genai=True,
        vertex=vertex,
    )


def _own(config: Config, name: str, settings: Upstream) -> Upstream:
    url = urlsplit(name)
    host, port = _address(url)
    if url.scheme not in SCHEMES or not host or not port or url.path.strip("/"):
        raise ConfigError(
            f"The upstream {name!r} is none of local, gemini, grpc://HOST:PORT, grpcs://HOST:PORT, "
            "ws://HOST:PORT, wss://HOST:PORT and vertex."
        )
    if url.scheme in _PLAINTEXT and not is_private(host):
        raise ConfigError(
            f"The upstream {name} would be spoken to in plaintext; {url.scheme}:// is taken for loopback and "
            f"private addresses only. Use {_PLAINTEXT[url.scheme]}://."
        )
    kind: Final = "grpc" if SCHEMES[url.scheme] == "grpc" else "websocket"
    _check_transport(config, kind, f"The upstream {name} names another transport itself")
    voice = replace(settings.voice, names_language=True)
    return replace(settings, target=url.netloc, tls=url.scheme not in _PLAINTEXT, transport=kind, voice=voice)


def _address(url: SplitResult) -> tuple[str | None, int | None]:
    try:
        return url.hostname, url.port
    except ValueError:
        return None, None


def _check_transport(config: Config, only: str, because: str) -> None:
    if config.upstream_transport not in ("auto", only):
        raise ConfigError(f"{because}; upstream_transport cannot be {config.upstream_transport}.")
