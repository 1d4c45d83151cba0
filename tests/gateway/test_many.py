"""Many sessions at once, before servers that allow fewer streams a connection."""

from __future__ import annotations

import asyncio

import pytest

from antiphon.gemini import probe
from fake_gemini import Conversation
from gateway.running import Gateway, running_gateway
from gateway.talker import talking

PCM = bytes(range(200)) * 32  # 200 ms


async def settled(gateway: Gateway) -> None:
    """Wait until the pool has shrunk to the one connection that is kept."""
    await gateway.deserted()
    async with asyncio.timeout(5):
        while gateway.gemini.connections > 1:
            await asyncio.sleep(0.01)


async def all_answered(gateway: Gateway, sessions: int) -> None:
    """Let sessions speak, and leave when everyone has been answered."""
    everyone = asyncio.Barrier(sessions)

    async def session(number: int) -> None:
        async with talking(gateway, f"user {number % 100}", open_timeout=30) as talker:
            await talker.speak(PCM)
            messages = await talker.until("audio_response", within_s=30)
            assert "error" not in {message["type"] for message in messages}
            await everyone.wait()

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        for number in range(sessions):
            tasks.create_task(session(number))


@pytest.mark.slow
async def test_250_sessions_before_a_server_that_allows_100_streams_a_connection() -> None:
    async with running_gateway(max_streams=100, setup_timeout_s=20) as gateway:
        await all_answered(gateway, 250)
        assert gateway.upstream.most_open == 250
        assert all(conversation.heard == PCM for conversation in gateway.upstream.conversations)
        assert len(gateway.upstream.conversations) == 250, "some set-up had to be tried again"
        await settled(gateway)


async def test_30_sessions_before_a_server_that_allows_fewer_streams_than_assumed() -> None:
    async with running_gateway(max_streams=10, setup_timeout_s=1) as gateway:
        await all_answered(gateway, 30)
        await settled(gateway)
        # What was learned about the first connection is forgotten when it is empty, and learned again.
        await all_answered(gateway, 15)
        await settled(gateway)


async def test_connections_are_kept_while_they_are_used() -> None:
    async def patient(conversation: Conversation) -> None:
        await conversation.begin()
        await conversation.until_gone()

    async with running_gateway(patient, streams_a_channel=2) as gateway:
        async with talking(gateway) as first, talking(gateway) as second:
            await first.start()
            await second.start()
            async with talking(gateway) as third:
                await third.start()
                async with asyncio.timeout(5):
                    while gateway.upstream.open < 3:
                        await asyncio.sleep(0.01)
                assert gateway.gemini.connections == 2
                await first.socket.close()
                await second.socket.close()
                async with asyncio.timeout(5):
                    while gateway.upstream.open > 1:
                        await asyncio.sleep(0.01)
                assert await third.during(0.1) == []
        await settled(gateway)


async def test_a_server_that_is_full_to_the_last_stream_is_not_taken_for_dead(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has no room for the question whether it is there, and shows it by what it says."""
    monkeypatch.setattr(probe, "TIMEOUT_S", 0.4)
    async with running_gateway(max_streams=3) as gateway:

        async def session(number: int) -> None:
            async with talking(gateway, f"user {number}") as talker:
                for _ in range(8):
                    await talker.send("command", command="Are you there?")
                    await talker.until("audio_response")
                    await talker.during(0.2)

        async with asyncio.TaskGroup() as tasks:
            for number in range(3):
                tasks.create_task(session(number))
                await asyncio.sleep(0.05)
        assert len(gateway.upstream.conversations) == 3
