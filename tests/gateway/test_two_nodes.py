"""Two nodes that share a store: a session goes on at the other one, whatever was going on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from antiphon.memory_store import MemoryStore
from antiphon.store import SessionStore
from antiphon.valkey_store import ValkeyStore
from fake_gemini import Script, attentive
from gateway.running import Gateway, running_gateway
from gateway.test_resume import LONG, PCM, attached, connected, sound, tells
from valkey_server import ValkeyServer


@asynccontextmanager
async def two_nodes(
    script: Script = attentive, first: SessionStore | None = None, second: SessionStore | None = None
) -> AsyncIterator[tuple[Gateway, Gateway]]:
    first = first or MemoryStore()
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(running_gateway(script, store=first))
        other = await stack.enter_async_context(running_gateway(script, store=second or first))
        yield one, other


async def test_mid_sentence() -> None:
    async with two_nodes() as (a, b), connected(a) as first:
        await first.auth(a.token())
        await first.start()
        await first.chunk(PCM)
        await first.until("audio_ack")
        async with connected(b, first) as second:
            resumed = await second.resume(b.token())
            assert (resumed["type"], resumed["lossy"], resumed["nextSequence"]) == ("resumed", False, 1)
            assert (await first.until("error"))[-1]["code"] == "SESSION_TAKEN_OVER"
            second.sequence = resumed["nextSequence"]
            await second.chunk(PCM)
            await second.end()
            messages = await second.until("response_done")
            (rotated,) = [m for m in messages if m["type"] == "session_rotated"]
            assert (rotated["reason"], rotated["lostAudioMs"]) == ("lost", 0)
        # It was acknowledged, so one of them hears it, however far the first one had got: what the second one
        # says again begins no later than where the first one's model is known to have stopped.
        before, after = bytes(a.upstream.conversations[0].heard), bytes(b.upstream.conversations[0].heard)
        assert PCM.startswith(before)
        assert (2 * PCM).endswith(after)
        assert len(before) + len(after) >= 2 * len(PCM)


async def test_the_end_of_a_stream_is_acknowledged() -> None:
    async with two_nodes() as (a, _), connected(a) as talker:
        await talker.auth(a.token())
        await talker.start()
        for _ in range(3):
            await talker.chunk(bytes(640))
        await talker.end()
        assert (await talker.until("audio_ack"))[-1]["sequence"] == 2


async def test_mid_answer() -> None:
    async with two_nodes(tells) as (a, b):
        async with connected(a) as first:
            await first.auth(a.token())
            await first.send("command", command="tell")
            for _ in range(3):
                await first.until("audio_response")
            first.cut()
        async with connected(b, first) as second:
            assert (await second.resume(b.token()))["lossy"] is False
            await second.until("response_done")
            assert sound(second.got) == LONG
            assert second.got[-1]["status"] == "completed"


async def test_a_message_that_was_refused_before_the_session_is_not_of_it() -> None:
    async with two_nodes() as (a, b):
        async with connected(a) as first:
            first.session_id, first.resume_token = "unknown", "unknown"
            assert (await first.resume(a.token()))["code"] == "SESSION_RESUME_REFUSED"
            first.received = 0
            await first.auth(a.token())
            first.cut()
        async with connected(b, first) as second:
            resumed = await second.resume(b.token())
            assert (resumed["type"], resumed["replayed"], resumed["lossy"]) == ("resumed", 0, False)


async def test_connections_of_a_user_are_counted_on_both() -> None:
    store = MemoryStore()
    async with (
        running_gateway(store=store, per_user=1) as a,
        running_gateway(store=store, per_user=1) as b,
        connected(a) as first,
    ):
        await first.auth(a.token())
        async with connected(b) as second:
            await second.send("auth", token=b.token())
            assert (await second.receive())["code"] == "QUOTA_CONNECTIONS"
        async with connected(b, first) as again:
            assert (await again.resume(b.token()))["type"] == "resumed", "it is the same session"


async def test_the_store_is_away_for_a_while() -> None:
    """Sessions go on; what cannot be kept is not acknowledged; elsewhere they are resumed later."""
    with ValkeyServer() as server:
        stores = [ValkeyStore(server.url, young_s=0, timeout_s=0.5) for _ in range(2)]
        try:
            async with two_nodes(attentive, *stores) as (a, b), connected(a) as first:
                await first.auth(a.token())
                server.pause()
                await asyncio.sleep(0.4)
                loop = asyncio.get_running_loop()
                begin = loop.time()
                await first.send("command", command="Are you there?")
                await first.until("response_done")
                assert loop.time() - begin < 1.5
                async with connected(b, first) as second:
                    refused = await second.resume(b.token())
                    assert refused["code"] == "SESSION_RESUME_UNAVAILABLE"
                    assert refused["details"]["retryable"] is True
                await first.start()
                await first.chunk(PCM)
                told = {m["type"] for m in await first.during(1.0)}
                assert "audio_ack" not in told
                assert "audio_heard" in told, "so that another node need not say it again"
                server.resume()
                await first.until("audio_ack")
                answer: dict[str, Any] = {}
                async with asyncio.timeout(10):
                    while answer.get("type") != "resumed":
                        await asyncio.sleep(0.2)  # the other node has to find out, and to believe it
                        async with connected(b, first) as third:
                            answer = await third.resume(b.token(), received=first.received)
                            assert answer.get("code") in (None, "SESSION_RESUME_UNAVAILABLE")
                assert answer["lossy"] is False
        finally:
            server.resume()
            for store in stores:
                await store.aclose()


async def test_whoever_is_taken_for_dead_writes_nothing() -> None:
    """An owner that comes back finds that it is none: its client's connection ends, the record stays."""
    store = MemoryStore()
    async with two_nodes(first=store) as (a, b), connected(a) as first:
        await first.auth(a.token())
        async with connected(b, first) as second:
            await second.resume(b.token())
            assert (await first.until("error"))[-1]["code"] == "SESSION_TAKEN_OVER"
            async with asyncio.timeout(5):
                while len(a.host.sessions):
                    await asyncio.sleep(0.01)
            await second.send("command", command="Are you there?")
            await second.until("response_done")


class Slow(MemoryStore):
    """A store that takes its time to count somebody in, once it is asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.hold = asyncio.Event()
        self.hold.set()
        self.asked = asyncio.Event()

    async def admit(self, user_id: str, member: str, limit: int, now: float) -> bool:
        self.asked.set()
        await self.hold.wait()
        return await super().admit(user_id, member, limit, now)


@pytest.mark.slow
async def test_a_client_that_vanishes_while_room_is_made_for_it_comes_again() -> None:
    store = Slow()
    async with running_gateway(store=store) as gateway, connected(gateway) as first:
        await first.auth(gateway.token())
        first.cut()
        await attached(gateway, False)
        store.hold.clear()
        store.asked.clear()
        async with connected(gateway, first) as second:
            fields = {"token": gateway.token(), "sessionId": first.session_id, "received": first.received}
            await second.send("resume", resumeToken=first.resume_token, **fields)
            await store.asked.wait()
            second.cut()
            while gateway.server.connections:
                await asyncio.sleep(0.01)
            store.hold.set()
        async with connected(gateway, first) as third:
            assert (await third.resume(gateway.token()))["type"] == "resumed"


async def test_of_two_that_come_with_one_token_one_is_let_in() -> None:
    store = Slow()
    async with running_gateway(store=store) as gateway, connected(gateway) as first:
        await first.auth(gateway.token())
        first.cut()
        await attached(gateway, False)
        store.hold.clear()
        async with connected(gateway, first) as one, connected(gateway, first) as other:
            both = [asyncio.create_task(each.resume(gateway.token())) for each in (one, other)]
            await asyncio.sleep(0.1)
            store.hold.set()
            answers = {(await answer)["type"] for answer in both}
        assert answers == {"resumed", "error"}
