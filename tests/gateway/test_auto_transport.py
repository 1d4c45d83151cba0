"""Whichever transport works is taken."""

from __future__ import annotations

import grpc
import pytest

from antiphon import live, node
from antiphon.config import Config, ConfigError
from antiphon.errors import ErrorCode
from antiphon.gemini import client as gemini
from antiphon.gemini import websocket_transport as gemini_websocket
from antiphon.gemini.client import Gemini, Upstream
from antiphon.live import Setup
from fake_gemini import Conversation, attentive
from gateway.running import running_gateway
from gateway.talker import talking
from gateway.upstream_client import client, fails, until, watched, ways, without_grpc
from grpc_client import CLIENT

Code = grpc.StatusCode


async def test_grpc_is_taken_where_it_works() -> None:
    async with client(attentive, "auto") as (talker, model):
        for _ in range(2):
            async with talker.connect(Setup("en-US")):
                pass
        assert ways(model) == ["grpc", "grpc"]


@pytest.mark.parametrize("code", [Code.UNIMPLEMENTED, Code.NOT_FOUND], ids=lambda code: str(code.name))
async def test_the_websocket_is_taken_where_grpc_is_not_served(
    code: grpc.StatusCode, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with client(without_grpc(attentive, code), "auto") as (talker, model):
        for _ in range(3):
            async with talker.connect(Setup("en-US")) as stream:
                await stream.send(live.Text("hi"))
                await until(stream, live.TurnEnded)
        assert ways(model) == ["grpc", "websocket", "websocket", "websocket"], "and that is remembered"
        monkeypatch.setattr(gemini, "GRPC_AGAIN_S", 0.0)
        talker = Gemini(Upstream(model.target, tls=False, transport="auto", client=CLIENT))
        for _ in range(2):
            async with talker.connect(Setup("en-US")):
                pass
        await talker.aclose()
        assert ways(model)[4:] == ["grpc", "websocket", "grpc", "websocket"], "but not for ever"
    warnings = [record for record in caplog.records if "does not serve gRPC" in record.message]
    assert len(warnings) == 2, "one for each client"


@pytest.mark.parametrize("code", [Code.PERMISSION_DENIED, Code.UNAVAILABLE], ids=lambda code: str(code.name))
async def test_another_error_is_no_reason_to_change(code: grpc.StatusCode) -> None:
    async with client(without_grpc(attentive, code), "auto") as (talker, model):
        await fails(talker)
        assert ways(model) == ["grpc"]


async def test_a_model_that_neither_knows_is_not_taken_for_the_transports_fault() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.fail(Code.NOT_FOUND)

    async with client(script, "auto") as (talker, model):
        for _ in range(2):
            assert (await fails(talker)).code is ErrorCode.UPSTREAM_UNSUPPORTED
        assert ways(model) == ["grpc", "websocket"] * 2


async def test_either_transport_makes_it_ready() -> None:
    async with client(attentive, "auto", "websocket") as (talker, _):
        assert await watched(talker) is True


async def test_without_google_genai_it_is_grpc_or_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gemini_websocket, "is_installed", lambda: False)
    async with client(without_grpc(attentive), "auto", genai=True) as (talker, model):
        assert (await fails(talker)).code is ErrorCode.UPSTREAM_UNSUPPORTED
        assert ways(model) == ["grpc"]
    with pytest.raises(ConfigError, match=r"pip install 'antiphon\[websocket\]'"):
        async with node.upstream(Config(gemini_api_key="k", upstream_transport="websocket")):
            pass


async def test_a_gateway_does_not_show_which_it_is() -> None:
    async with (
        running_gateway(without_grpc(attentive), transport="auto") as gateway,
        talking(gateway) as talker,
    ):
        for _ in range(2):
            await talker.answered()
        assert ways(gateway.upstream) == ["grpc", "websocket"]
