"""The connection to the model is renewed under a living session: what was said is heard, and once.

Samples are numbered, so that what a model hears tells every one that is lost, doubled or out of order.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
from collections.abc import Awaitable, Callable

import grpc
import pytest

from antiphon.session import Limits
from fake_gemini import ANSWER, Conversation, attentive
from gateway.extended import ExtendedTalker, extended
from gateway.running import Gateway, running_gateway
from gateway.talker import Message, talking

CHUNK = 1600  # 100 ms
MARGIN_MS = 300
"""What has arrived may be said again, so much of it (`session.ring.MARGIN_S`)."""


def numbered(chunk: int) -> bytes:
    """Return 100 ms of samples, loud ones, each with its number of 65,536."""
    first = chunk * CHUNK
    return struct.pack(f"<{CHUNK}H", *(n % 65536 for n in range(first, first + CHUNK)))


def heard(gateway: Gateway) -> tuple[list[int], int]:
    """Return the numbers of what the models heard, one after the other, and how many were heard twice.

    AssertionError where one is missing.
    """
    numbers: list[int] = []
    doubled = 0
    for conversation in gateway.upstream.conversations:
        samples = struct.unpack(f"<{len(conversation.heard) // 2}H", conversation.heard)
        for _, run in itertools.groupby(enumerate(samples), lambda pair: (pair[1] - pair[0]) % 65536):
            piece = [sample for _, sample in run]
            overlap = (len(numbers) - piece[0]) % 65536 if numbers else 0
            assert overlap < 32768, f"{65536 - overlap} samples are missing before {piece[0]}"
            doubled += min(overlap, len(piece))
            numbers += piece[overlap:]
    return numbers, doubled


async def stream(talker: ExtendedTalker, chunks: range, pause_s: float = 0.1) -> None:
    for chunk in chunks:
        await talker.chunk(numbered(chunk))
        await asyncio.sleep(pause_s)


Breaking = Callable[[Conversation], Awaitable[None]]


async def resets(conversation: Conversation) -> None:
    await conversation.fail(grpc.StatusCode.UNAVAILABLE)


async def ends(conversation: Conversation) -> None:
    """End in order, as after ten minutes."""


async def goes_away(conversation: Conversation) -> None:
    await conversation.send(go_away={"time_left": {"seconds": 1}})
    await conversation.until_gone()


def breaking(how: Breaking, after: int) -> Callable[[Conversation], Awaitable[None]]:
    """Return a script that breaks each conversation but the last of four, once it has heard so much."""
    count = itertools.count(1)

    async def script(conversation: Conversation) -> None:
        if next(count) == 4:
            await attentive(conversation)
            return
        await conversation.begin()
        while len(conversation.heard) < after:
            await conversation.receive()
        await how(conversation)

    return script


@pytest.mark.slow
@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("how", [resets, ends, goes_away], ids=lambda how: str(how.__name__))
async def test_no_sample_is_lost(how: Breaking) -> None:
    async with running_gateway(breaking(how, 20_000)) as gateway, extended(gateway) as talker:
        await talker.start()
        reading = asyncio.create_task(talker.until("response_done", within_s=20))
        await stream(talker, range(50))
        await talker.end()
        messages = await reading
        numbers, doubled = heard(gateway)
        assert numbers == [n % 65536 for n in range(50 * CHUNK)]
        rotations = [m for m in messages if m["type"] == "session_rotated"]
        assert len(rotations) == 3
        replayed_ms = sum(m["replayedAudioMs"] for m in rotations)
        assert doubled / 16 <= replayed_ms <= 3 * 1000, "what may have been heard twice is told"
        assert [m["lostAudioMs"] for m in rotations] == [0, 0, 0]
        assert all(m["gapMs"] <= 300 for m in rotations)


@pytest.mark.slow
async def test_the_end_is_awaited_until_nobody_speaks() -> None:
    async def script(conversation: Conversation) -> None:
        if len(gateway.upstream.conversations) > 1:
            await attentive(conversation)
            return
        await conversation.begin()
        await conversation.receive()
        await conversation.send(go_away={"time_left": {"seconds": 30}})
        await conversation.until_gone()

    async with running_gateway(script) as gateway, extended(gateway) as talker:
        await talker.start()
        await stream(talker, range(12))
        assert len(gateway.upstream.conversations) == 1, "somebody speaks"
        for _ in range(10):
            await talker.chunk(bytes(2 * CHUNK))
            await asyncio.sleep(0.1)
        (rotated,) = [m for m in await talker.until("session_rotated") if m["type"] == "session_rotated"]
        assert rotated["reason"] == "go_away"
        heard_ms = len(gateway.upstream.conversations[0].heard) / 32
        assert 1200 <= heard_ms < 2200


async def test_a_handle_is_used_once_the_old_connection_is_closed() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.begin()
        assert gateway.upstream.open == 1, "the old connection is still there"
        if len(gateway.upstream.conversations) > 1:
            assert conversation.setup.session_resumption.handle == "good"
        await conversation.receive()
        await conversation.say("Yes.", ANSWER)
        await conversation.end_turn()
        await conversation.send(session_resumption_update={"new_handle": "good", "resumable": True})
        await conversation.send(session_resumption_update={"new_handle": "", "resumable": False})
        await conversation.send(session_resumption_update={"new_handle": "good", "resumable": True})
        await conversation.send(go_away={"time_left": {"seconds": 5}})
        await conversation.until_gone()

    async with running_gateway(script) as gateway, extended(gateway) as talker:
        await talker.send("command", command="one")
        rotated = (await talker.until("session_rotated"))[-1]
        assert (rotated["contextRestored"], rotated["reason"]) == (True, "go_away")
        await talker.send("command", command="two")
        await talker.until("response_done")


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize(
    "code", [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION]
)
async def test_a_handle_that_is_refused(code: grpc.StatusCode) -> None:
    async def script(conversation: Conversation) -> None:
        setup = (await conversation.receive()).setup
        if setup.session_resumption.handle:
            await conversation.fail(code)
        await conversation.send(setup_complete={})
        while True:
            message = await conversation.receive()
            if message.realtime_input.text:
                await conversation.say(f"You said {message.realtime_input.text}.", ANSWER)
                await conversation.end_turn()
                await conversation.send(session_resumption_update={"new_handle": "bad", "resumable": True})
                if message.realtime_input.text == "one":
                    return

    async with running_gateway(script) as gateway, extended(gateway) as talker:
        await talker.send("command", command="one")
        rotated = (await talker.until("session_rotated"))[-1]
        assert rotated["contextRestored"] is False
        await talker.send("command", command="two")
        await talker.until("audio_response", text="You said two.")
        told = gateway.upstream.conversations[-1].texts
        assert (told[0], told[-1]) == ("one", "two"), "it is told what was said"


async def test_what_was_asked_is_asked_again() -> None:
    async def script(conversation: Conversation) -> None:
        if len(gateway.upstream.conversations) == 1:
            await conversation.begin()
            await conversation.receive()
            return
        await attentive(conversation)

    async with running_gateway(script) as gateway, talking(gateway) as talker:
        await talker.send("command", command="Are you there?")
        await talker.until("audio_response")
        assert gateway.upstream.conversations[1].texts == ["Are you there?"]


async def mute(conversation: Conversation) -> None:
    """Acknowledge the set-up, and say nothing ever."""
    await conversation.begin()
    await conversation.until_gone()


async def test_a_model_that_goes_mute_is_replaced() -> None:
    async def script(conversation: Conversation) -> None:
        await (mute if len(gateway.upstream.conversations) == 1 else attentive)(conversation)

    limits = Limits(mute_s=1.0)
    async with running_gateway(script, limits=limits) as gateway, extended(gateway) as talker:
        await talker.start()
        await stream(talker, range(8), 0.01)
        await talker.end()
        messages = await talker.until("response_done")
        assert [m["reason"] for m in messages if m["type"] == "session_rotated"] == ["mute"]
        numbers, _ = heard(gateway)
        assert bytes(gateway.upstream.conversations[1].heard) == b"".join(map(numbered, range(8)))
        assert len(numbers) == 8 * CHUNK


async def test_a_model_that_stays_mute_is_not_replaced_for_ever() -> None:
    limits = Limits(mute_s=0.3)
    async with running_gateway(mute, limits=limits) as gateway, extended(gateway) as talker:
        await talker.send("command", command="Are you there?")
        await talker.during(2.5)
        assert len(gateway.upstream.conversations) == 3


async def test_an_old_connection_is_renewed() -> None:
    limits = Limits(connection_s=0.6)
    async with running_gateway(limits=limits) as gateway, extended(gateway) as talker:
        await talker.send("command", command="one")
        messages: list[Message] = await talker.until("session_rotated")
        assert messages[-1]["reason"] == "max_duration"
        assert gateway.upstream.most_open == 1
