"""A node that is told to stop, and peers that are no longer there."""

from __future__ import annotations

import asyncio

import pytest

from antiphon import arrivals, server
from antiphon.gemini import probe
from antiphon.memory_store import MemoryStore
from fake_gemini import Conversation, attentive
from freezing_relay import freezing_relay
from gateway.extended import extended
from gateway.raw_socket import raw_socket
from gateway.running import running_gateway
from gateway.talker import talking
from gateway.test_resume import PCM, connected


async def test_clients_are_told_and_have_time() -> None:
    async with running_gateway() as gateway, extended(gateway) as talker, talking(gateway, "bob") as base:
        loop = asyncio.get_running_loop()
        begin = loop.time()
        draining = asyncio.create_task(gateway.server.drain(4.0))
        away = await talker.receive("go_away")
        assert (away["timeLeftMs"], away["reason"]) == (4000, "drain")
        await talker.send("command", command="still there?")
        await talker.until("response_done")
        assert (await talker.until("error"))[-1]["code"] == "SERVER_DRAINING"
        assert loop.time() - begin >= 1.0, "no balancer has noticed yet"
        await talker.socket.wait_closed()
        assert talker.socket.close_code == 1001
        await base.closed("SERVER_DRAINING", 1001)
        await draining
        assert loop.time() - begin < 4.0, "nobody is waited for who is gone"


async def test_they_do_not_all_go_at_once() -> None:
    async with running_gateway() as gateway:
        gone: list[float] = []

        async def one(user: str) -> None:
            async with talking(gateway, user) as talker:
                await talker.closed("SERVER_DRAINING", 1001)
                gone.append(asyncio.get_running_loop().time())

        talkers = [asyncio.create_task(one(f"user {n}")) for n in range(30)]
        async with asyncio.timeout(10):
            while gateway.admission.sessions < 30:
                await asyncio.sleep(0.01)
        await gateway.server.drain(2.0)
        await asyncio.gather(*talkers)
        assert max(gone) - min(gone) > 0.4


async def test_a_rolling_restart() -> None:
    """Who is sent away in mid-sentence goes on at the other node, which hears the rest."""
    store = MemoryStore()
    async with (
        running_gateway(store=store) as old,
        running_gateway(store=store) as new,
        connected(old) as first,
    ):
        await first.auth(old.token())
        await first.start()
        await first.chunk(PCM)
        await first.until("audio_ack")
        draining = asyncio.create_task(old.server.drain(1.0))
        assert (await first.until("error"))[-1]["code"] == "SERVER_DRAINING"
        async with connected(new, first) as second:
            resumed = await second.resume(new.token())
            assert (resumed["type"], resumed["lossy"], resumed["nextSequence"]) == ("resumed", False, 1)
            second.sequence = 1
            await second.chunk(PCM)
            await second.end()
            await second.until("response_done")
        await draining
        heard = [bytes(c.heard) for c in (*old.upstream.conversations, *new.upstream.conversations)]
        assert heard[0] == PCM
        assert heard[1].endswith(PCM)


@pytest.mark.interpreted
@pytest.mark.own_socket
async def test_a_client_that_is_half_gone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PING_AFTER_S", 0.2)
    monkeypatch.setattr(server, "GONE_AFTER_S", 0.6)
    async with running_gateway() as gateway, extended(gateway) as alive, raw_socket(gateway.port) as raw:
        await raw.upgrade()
        raw.reader._transport.pause_reading()  # type: ignore[attr-defined]
        async with asyncio.timeout(3):
            while gateway.server.connections > 1:
                await asyncio.sleep(0.05)
        await alive.send("command", command="still there?")
        await alive.until("response_done")


@pytest.mark.interpreted
async def test_a_model_that_is_half_gone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model's machine that answers no more is left, though nobody has noticed anything."""
    monkeypatch.setattr(arrivals, "PING_IDLE_S", 0.2)
    monkeypatch.setattr(probe, "TIMEOUT_S", 0.4)

    async def script(conversation: Conversation) -> None:
        if len(gateway.upstream.conversations) == 1:
            await conversation.begin()
            await conversation.receive()
            frozen.set()
            await conversation.until_gone()
        else:
            await attentive(conversation)

    frozen = asyncio.Event()
    async with (
        freezing_relay() as relay,
        running_gateway(script, target=f"127.0.0.1:{relay.port}") as gateway,
    ):
        relay.target = gateway.upstream.target
        async with extended(gateway) as talker:
            await talker.send("command", command="hello")
            await frozen.wait()
            await talker.during(0.5)
            relay.freeze()
            rotating = (await talker.until("session_rotating", within_s=5))[-1]
            assert rotating["reason"] == "lost"
            relay.thaw()
            await talker.until("response_done", within_s=20)
