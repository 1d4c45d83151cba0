"""What `antiphon doctor` says of an upstream, for each transport."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import pytest

from antiphon import doctor
from antiphon.config import Config
from antiphon.gemini import websocket_transport as gemini_websocket
from antiphon.gemini.client import Upstream
from antiphon.gemini.upstream import TransportName
from antiphon.live import Setup
from fake_gemini import Conversation, Script, Serving, attentive, fake_gemini
from gateway.upstream_client import without_grpc
from grpc_client import CLIENT
from loopback_brain import chat_server, says

Code = grpc.StatusCode


async def report(
    script: Script, transport: TransportName = "auto", serving: Serving = "both", **settings: Any
) -> tuple[int, list[str]]:
    lines: list[str] = []
    async with fake_gemini(script, serving=serving) as model:
        upstream = Upstream(
            model.target, tls=False, api_key="k", tries=1, transport=transport, client=CLIENT, **settings
        )
        status = await doctor.examine_upstream(upstream, Setup("en-US"), lines.append)
    return status, [line.replace(model.target, "HOST") for line in lines]


KEY = "ok      key: one is configured, and goes along to this upstream"
ENDPOINT = "ok      endpoint: HOST can be reached"
SET_UP = "ok      set-up: gemini-3.8-live is ready for a conversation"
UNSUPPORTED = "failed  set-up: This endpoint has no such model, or does not serve Live this way."


async def test_the_brain_of_the_embedded_engine(tmp_path: Path) -> None:
    async with chat_server(says("Hello.")) as server:
        answering = Config(engine_brain=server.url, models_dir=tmp_path)
        lines: list[str] = []
        await doctor.examine(answering, lines.append)
        assert lines[-1] == f"ok      brain: {server.url} answers"
    await doctor.examine(answering, lines.append)
    assert lines[-1] == (
        f"failed  brain: {server.url} does not answer; the engine's own answers take its place."
    )


async def test_both_work() -> None:
    assert await report(attentive) == (
        0,
        [
            *(KEY, "Over gRPC:", ENDPOINT, SET_UP, "Over the WebSocket:", ENDPOINT, SET_UP),
            "ok      transport: conversations go over gRPC",
        ],
    )


async def test_grpc_is_not_served() -> None:
    assert await report(without_grpc(attentive)) == (
        0,
        [
            *(KEY, "Over gRPC:", ENDPOINT, f"{UNSUPPORTED} (UNIMPLEMENTED: not this way)"),
            *("Over the WebSocket:", ENDPOINT, SET_UP),
            "ok      transport: conversations go over the WebSocket",
        ],
    )


async def test_neither_works() -> None:
    async def refuse(conversation: Conversation) -> None:
        await conversation.fail(Code.UNIMPLEMENTED, "at all")

    status, lines = await report(refuse)
    assert status == 1
    assert lines[-1] == (
        f"{UNSUPPORTED} (closed with 1008: Operation is not implemented, or supported, or enabled. at all)"
    )


async def test_the_transport_that_is_asked_for() -> None:
    assert await report(attentive, "websocket") == (0, [KEY, ENDPOINT, SET_UP])
    status, lines = await report(without_grpc(attentive), "grpc")
    assert (status, lines[-1]) == (1, f"{UNSUPPORTED} (UNIMPLEMENTED: not this way)")


async def test_the_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemini_websocket, "is_installed", lambda: False)
    status, lines = await report(attentive, genai=True)
    assert status == 0
    assert lines[-2].startswith("failed  settings: Google is spoken to over the WebSocket by google-genai")
    assert "`pip install 'antiphon[websocket]'`" in lines[-2]
    assert lines[-1] == "ok      transport: conversations go over gRPC"


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (Config(upstream="vertex"), "failed  settings: Vertex AI needs to know whose it is"),
        (Config(upstream_transport="websocket"), "failed  settings: The embedded engine speaks gRPC only"),
    ],
)
async def test_settings_that_do_not_go_together(config: Config, told: str) -> None:
    lines: list[str] = []
    assert await doctor.examine(config, lines.append) == 1
    assert lines[-1].startswith(told)


async def test_vertex_without_a_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("google.genai")
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # it would ask the network whether this is Google's machine
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    lines: list[str] = []
    config = Config(upstream="vertex", vertex_project="p")
    assert await doctor.examine(config, lines.append) == 1
    assert lines[-1].startswith("failed  settings: Vertex AI needs Google's application default login")
