"""Which upstream the settings mean."""

from __future__ import annotations

import pytest

from antiphon.config import Config, ConfigError
from antiphon.gemini.profiles import EMBEDDED, Voice
from antiphon.gemini.upstream import GOOGLE, Upstream, Vertex
from antiphon.upstreams import describe_upstream, engine_upstream, gemini_upstream, public_upstream

VOICE = Voice("gemini-3.8-live")
OWN = Voice("gemini-3.8-live", names_language=True)


@pytest.mark.parametrize(
    ("config", "upstream"),
    [
        (
            Config(upstream="gemini", gemini_api_key="k"),
            Upstream(GOOGLE, api_key="k", voice=VOICE, transport="auto", genai=True),
        ),
        (
            Config(gemini_api_key="k", upstream_transport="grpc", voice="Kore", setup_timeout_s=1),
            Upstream(
                GOOGLE, api_key="k", voice=Voice("gemini-3.8-live", "Kore"), setup_timeout_s=1, genai=True
            ),
        ),
        (
            Config(gemini_api_key="k", upstream_transport="websocket"),
            Upstream(GOOGLE, api_key="k", voice=VOICE, transport="websocket", genai=True),
        ),
        (Config(upstream="gemini"), Upstream(GOOGLE, adc=True, voice=VOICE)),
        (
            Config(upstream="vertex", vertex_project="p", gemini_api_key="k"),
            Upstream(
                "us-central1-aiplatform.googleapis.com:443",
                adc=True,
                voice=VOICE,
                transport="websocket",
                genai=True,
                vertex=Vertex("p", "us-central1"),
            ),
        ),
        (Config(upstream="grpc://127.0.0.1:50051"), Upstream("127.0.0.1:50051", tls=False, voice=OWN)),
        (
            Config(upstream="grpcs://gemini.test:443", upstream_transport="grpc"),
            Upstream("gemini.test:443", voice=OWN),
        ),
        (
            Config(upstream="ws://10.1.2.3:8000"),
            Upstream("10.1.2.3:8000", tls=False, voice=OWN, transport="websocket"),
        ),
        (
            Config(upstream="wss://gemini.test:443/", gemini_api_key="k", upstream_transport="websocket"),
            Upstream("gemini.test:443", api_key="k", voice=OWN, transport="websocket"),
        ),
    ],
    ids=lambda value: value.upstream if isinstance(value, Config) else "",
)
def test_what_is_meant(config: Config, upstream: Upstream) -> None:
    assert gemini_upstream(config) == upstream


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (Config(upstream="gemini", upstream_transport="websocket"), "set GEMINI_API_KEY"),
        (Config(upstream="vertex"), "set vertex_project"),
        (Config(upstream="vertex", vertex_project="p", upstream_transport="grpc"), "has a WebSocket only"),
        (Config(upstream="grpc://127.0.0.1:1", upstream_transport="websocket"), "cannot be websocket"),
        (Config(upstream="ws://127.0.0.1:1", upstream_transport="grpc"), "cannot be grpc"),
        (Config(upstream="grpc://gemini.test:1"), "Use grpcs://"),
        (Config(upstream="ws://8.8.8.8:1"), "Use wss://"),
        *((Config(upstream=name), "none of local, gemini") for name in ("nobody", "http://a:1")),
        *((Config(upstream=name), "none of local, gemini") for name in ("ws://127.0.0.1", "ws://:1")),
        *((Config(upstream=name), "none of local, gemini") for name in ("ws://a:99999", "wss://a:1/path")),
    ],
)
def test_what_cannot_be_meant(config: Config, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        gemini_upstream(config)


def test_the_embedded_engine() -> None:
    upstream = engine_upstream(Config(setup_timeout_s=2), "127.0.0.1:5")
    assert (upstream.target, upstream.tls, upstream.wait_for_ready) == ("127.0.0.1:5", False, True)
    assert (upstream.voice.model, upstream.transport, upstream.setup_timeout_s) == (EMBEDDED, "grpc", 2)
    with pytest.raises(ConfigError, match="speaks gRPC only"):
        engine_upstream(Config(upstream_transport="websocket"), "127.0.0.1:5")


@pytest.mark.parametrize(
    ("config", "operator", "anybody"),
    [
        (Config(), "embedded engine", "embedded engine"),
        (Config(gemini_api_key="k"), "Gemini (gemini-3.8-live)", "Gemini (gemini-3.8-live)"),
        (Config(upstream="vertex"), *["Gemini on Vertex AI (gemini-3.8-live)"] * 2),
        (Config(upstream="ws://10.0.0.1:1"), "ws://10.0.0.1:1", "a model server"),
    ],
)
def test_how_it_is_called(config: Config, operator: str, anybody: str) -> None:
    assert (describe_upstream(config), public_upstream(config)) == (operator, anybody)
