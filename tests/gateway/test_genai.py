"""What goes through google-genai: TLS alone, and the addresses and logins of Google."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from antiphon import live
from antiphon.errors import ErrorCode
from antiphon.gemini.client import Gemini, Upstream, Vertex, explain
from antiphon.gemini.profiles import Voice
from antiphon.live import Setup
from fake_gemini import ANSWER, Conversation, FakeGemini, Script, attentive, fake_gemini
from fake_socket import PATHS
from gateway.certificates import self_signed
from gateway.token_endpoint import token_endpoint
from gateway.upstream_client import client, fails, until

Code = grpc.StatusCode


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    return path


@asynccontextmanager
async def through_genai(
    script: Script, certificate: Path, **settings: Any
) -> AsyncIterator[tuple[Gemini, FakeGemini]]:
    pytest.importorskip("google.genai")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate)
    async with fake_gemini(script, serving="websocket", tls=tls) as model:
        known: dict[str, Any] = {"genai": True, "transport": "websocket", "tries": 2, "backoff_s": 0.01}
        talker = Gemini(Upstream(**{"target": model.target, **known, **settings}))
        try:
            yield talker, model
        finally:
            await talker.aclose()


async def test_google_is_asked_by_its_own_client(certificate: Path) -> None:
    parameter = live.Parameter("string", "how", required=True, enum=("slow", "fast"))
    functions = (live.Function("pace", "Set the pace.", ("go {pace}",), {"pace": parameter}),)
    setup = Setup("pt-BR", "Be brief.", functions, "h", push_to_talk=True)
    voice = Voice("gemini-live-2.5-flash", "Kore")
    async with through_genai(attentive, certificate, api_key="the-key", voice=voice) as (talker, model):
        async with talker.connect(setup) as stream:
            await stream.send(live.Audio(b"\1\2"))
            await stream.send(live.AudioEnd())
            events = await until(stream, live.TurnEnded)
        await model.idle()
        [conversation] = model.conversations
    assert live.Spoke(ANSWER) in events
    assert conversation.setup == await sent_by_grpc(setup, voice), "nothing of the set-up is lost or changed"
    assert conversation.metadata[":path"] == PATHS[0]
    assert conversation.metadata["x-goog-api-key"] == "the-key"
    assert conversation.heard == b"\1\2"


async def sent_by_grpc(setup: Setup, voice: Voice) -> Any:
    async with client(attentive, "grpc", voice=voice) as (talker, model), talker.connect(setup):
        pass
    return model.conversations[0].setup


async def test_it_may_acknowledge_the_set_up_late(certificate: Path) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.receive()
        await conversation.send(session_resumption_update={})
        await conversation.send(setup_complete={})
        await conversation.end_turn()
        await conversation.until_gone()

    async with (
        through_genai(script, certificate, api_key="k") as (talker, _),
        talker.connect(Setup("en-US")) as stream,
    ):
        assert await until(stream, live.TurnEnded) == [live.Generated(), live.TurnEnded()]


async def test_what_google_refuses(certificate: Path) -> None:
    async def script(conversation: Conversation) -> None:
        if len(model.conversations) == 1:
            await conversation.fail(Code.UNAVAILABLE)
        await conversation.receive()
        await conversation.fail(Code.PERMISSION_DENIED)

    async with through_genai(script, certificate, api_key="k") as (talker, model):
        error = await fails(talker)
        assert error.code is ErrorCode.UPSTREAM_UNAUTHORIZED
        assert explain(error) == "closed with 1008: The caller does not have permission."
        assert len(model.conversations) == 2, "the first was worth another try"
        model.refuses_with = 404
        error = await fails(talker)
        assert (error.code, explain(error)) == (ErrorCode.UPSTREAM_UNSUPPORTED, "HTTP 404")


@pytest.mark.parametrize("frame", [b"{", b'{"serverContent": 5}'])
async def test_a_first_frame_that_is_no_message(frame: bytes, certificate: Path) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.receive()
        await conversation.send_raw(frame)
        await conversation.until_gone()

    async with through_genai(script, certificate, api_key="k") as (talker, model):
        assert (await fails(talker)).code is ErrorCode.UPSTREAM_UNAVAILABLE
        assert len(model.conversations) == 2


async def test_a_google_that_hangs(certificate: Path) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.until_gone()

    async with through_genai(script, certificate, api_key="k", setup_timeout_s=0.2, tries=1) as (
        talker,
        model,
    ):
        assert (await fails(talker)).code is ErrorCode.UPSTREAM_UNAVAILABLE
        await model.idle()


async def test_a_certificate_that_nobody_vouches_for(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(self_signed(tmp_path / "other")))
    async with through_genai(attentive, certificate, api_key="k") as (talker, model):
        error = await fails(talker)
        assert error.code is ErrorCode.UPSTREAM_UNAVAILABLE
        assert "certificate verify failed" in explain(error)
        assert not model.conversations


# ---- Vertex AI


async def test_vertex_is_asked_with_the_machines_login(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.begin()
        await conversation.receive()
        usage = {"promptTokenCount": 1, "candidatesTokenCount": 2, "totalTokenCount": 3}
        await conversation.send_raw(json.dumps({"usageMetadata": usage}).encode())
        await conversation.until_gone()

    functions = (live.Function("go", "Go."),)
    settings: dict[str, Any] = {"vertex": Vertex("a-project", "europe-west4"), "api_key": "not for Vertex"}
    async with token_endpoint(tmp_path) as (account, issued):
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account))
        async with through_genai(script, certificate, **settings) as (talker, model):
            for _ in range(2):
                async with talker.connect(Setup("en-US", functions=functions)) as stream:
                    await stream.send(live.ToolResult("", "go", {"output": "done"}))
                    assert await until(stream, live.Metered) == [live.Metered(1, 2, 3)]
    assert len(issued) == 1, "a token serves until it expires"
    for conversation in model.conversations:
        assert conversation.metadata[":path"] == PATHS[1]
        assert conversation.metadata["authorization"] == f"Bearer {issued[0]}"
        assert "x-goog-api-key" not in conversation.metadata
        assert conversation.setup.model == (
            "projects/a-project/locations/europe-west4/publishers/google/models/gemini-3.8-live"
        )
        assert conversation.setup.tools[0].function_declarations[0].behavior == 1


async def test_a_login_that_is_refused(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with token_endpoint(tmp_path, refuses=True) as (account, _):
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account))
        async with through_genai(attentive, certificate, vertex=Vertex("p", "global")) as (talker, model):
            error = await fails(talker)
            assert error.code is ErrorCode.UPSTREAM_UNAUTHORIZED
            assert "invalid_grant" in explain(error)
            assert not model.conversations


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("us-central1", "us-central1-aiplatform.googleapis.com:443"),
        ("global", "aiplatform.googleapis.com:443"),
        ("eu", "aiplatform.eu.rep.googleapis.com:443"),
    ],
)
def test_where_vertex_is(location: str, target: str) -> None:
    assert Vertex("p", location).target == target
