"""A client of the fake Gemini by itself, without a gateway around it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from antiphon.errors import GatewayError
from antiphon.gemini.client import Gemini, Upstream
from antiphon.gemini.stream import ModelStream
from antiphon.gemini.upstream import TransportName
from antiphon.live import LiveEvent, Setup
from fake_gemini import Conversation, FakeGemini, Script, Serving, fake_gemini
from grpc_client import CLIENT

Code = grpc.StatusCode


@asynccontextmanager
async def client(
    script: Script, transport: TransportName, serving: Serving | None = None, **settings: Any
) -> AsyncIterator[tuple[Gemini, FakeGemini]]:
    serving = serving or ("both" if transport == "auto" else transport)
    async with fake_gemini(script, serving=serving) as model:
        known = {
            "api_key": "the-key",
            "backoff_s": 0.01,
            "tries": 1,
            "transport": transport,
            "client": CLIENT,
        }
        upstream = Upstream(**{"target": model.target, "tls": False, **known, **settings})
        talker = Gemini(upstream)
        try:
            yield talker, model
        finally:
            await talker.aclose()


async def until(stream: ModelStream, kind: type[LiveEvent], within_s: float = 5) -> list[LiveEvent]:
    """Return the events up to one of a kind."""
    events: list[LiveEvent] = []
    async with asyncio.timeout(within_s):
        async for event in stream:
            events.append(event)
            if isinstance(event, kind):
                break
    return events


async def fails(talker: Gemini) -> GatewayError:
    """Open a conversation, listen to its end, and return what ended it."""
    with pytest.raises(GatewayError) as caught:
        async with asyncio.timeout(5), talker.connect(Setup("en-US")) as stream:
            async for _ in stream:
                pass
    return caught.value


async def watched(talker: Gemini) -> bool:
    """Return whether a client is ready once it has reached its upstream."""
    watch = asyncio.create_task(talker.watch())
    async with asyncio.timeout(5):
        await talker.reached.wait()
    ready = talker.ready
    watch.cancel()
    await asyncio.wait([watch])
    return ready


def without_grpc(script: Script, code: grpc.StatusCode = Code.UNIMPLEMENTED) -> Script:
    async def refusing(conversation: Conversation) -> None:
        if ":path" in conversation.metadata:  # it has come by the WebSocket
            await script(conversation)
        else:
            await conversation.fail(code, "not this way")

    return refusing


def ways(model: FakeGemini) -> list[str]:
    return ["websocket" if ":path" in each.metadata else "grpc" for each in model.conversations]
