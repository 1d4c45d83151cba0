"""The answer's way to the client: complete, in order, never far ahead, and silent when it is stale."""

from __future__ import annotations

import asyncio
import base64
import random
import time
from collections.abc import AsyncIterator

import numpy as np
import pytest
from msgspec import Struct

from antiphon.clock import epoch_clock
from antiphon.session import Limits
from fake_gemini import Conversation, Script
from gateway.running import running_gateway
from gateway.talker import Message, Talker, talking

LEAD_S = 0.25
JITTER_S = 0.06
"""What the test's own event loop may add to an arrival."""

RATE_HZ = 24_000
SECOND = RATE_HZ * 2
LONG = np.random.default_rng(3).integers(0, 255, 10 * SECOND, dtype=np.uint8).tobytes()


class Arrival(Struct):
    """A piece of the answer, and when it came."""

    at: float
    pcm: bytes
    text: str
    duration_s: float
    format: str


def arrived(message: Message) -> Arrival:
    pcm = base64.b64decode(message["data"])
    return Arrival(time.monotonic(), pcm, message["text"], message["duration"] / 1000, message["format"])


async def arrivals(talker: Talker) -> AsyncIterator[Arrival]:
    while True:
        message = await talker.receive()
        if message["type"] != "audio_response":
            assert message["type"] == "recognition_result", message
            continue
        yield arrived(message)


async def collected(talker: Talker, size: int) -> list[Arrival]:
    """Return pieces of the answer up to so many bytes of audio."""
    found: list[Arrival] = []
    async for arrival in arrivals(talker):
        found.append(arrival)
        if sum(len(piece.pcm) for piece in found) >= size:
            break
    return found


async def until_silent(talker: Talker, silence_s: float = 0.7) -> list[Arrival]:
    """Return pieces of the answer up to a pause in them."""
    found: list[Arrival] = []
    stream = arrivals(talker)
    try:
        while True:
            async with asyncio.timeout(silence_s if found else 5):
                found.append(await anext(stream))
    except TimeoutError:
        return found


def leads(pieces: list[Arrival]) -> list[float]:
    """Return how far the player's buffer reached ahead of its ear at each piece, in seconds."""
    heard_until = 0.0
    found = []
    for piece in pieces:
        heard_until = max(heard_until, piece.at) + piece.duration_s
        found.append(heard_until - piece.at)
    return found


def saying(pcm: bytes, sizes: list[int] | None = None) -> Script:
    """Return a script that answers each typed turn with this, in blobs of these sizes."""

    async def script(conversation: Conversation) -> None:
        await conversation.begin()
        while True:
            if not (await conversation.receive()).realtime_input.text:
                continue
            at = 0
            for size in sizes or [len(pcm)]:
                await conversation.say(f"[{at}]", pcm[at : at + size])
                at += size
            await conversation.end_turn()

    return script


def odd_sizes(total: int, longest: int) -> list[int]:
    dice = random.Random(total)
    sizes: list[int] = []
    while sum(sizes) < total:
        sizes.append(dice.randint(1, longest))
    return sizes


@pytest.mark.slow
async def test_a_long_answer_is_whole_in_order_and_in_time() -> None:
    script = saying(LONG, odd_sizes(len(LONG), 20_001))
    async with running_gateway(script) as gateway, talking(gateway) as talker:
        await talker.send("command", command="tell me a story")
        pieces = await collected(talker, len(LONG))
    assert b"".join(piece.pcm for piece in pieces) == LONG
    assert all(len(piece.pcm) / SECOND == pytest.approx(piece.duration_s, abs=1e-3) for piece in pieces)
    assert {piece.format for piece in pieces} == {"audio/pcm;rate=24000"}
    assert max(leads(pieces)) <= LEAD_S + JITTER_S
    assert min(leads(pieces)[3:]) > 0.02, "the player runs dry"
    # Each text comes with the piece in which it begins.
    at = 0
    for piece in pieces:
        for text in piece.text.replace("]", "").split("[")[1:]:
            assert at - 1 <= int(text) <= at + len(piece.pcm)
        at += len(piece.pcm)


@pytest.mark.parametrize("size", [1, 7, 962])
async def test_small_blobs_that_wait_become_pieces(size: int) -> None:
    clock = epoch_clock()
    begun_at, all_came = clock(), False
    pcm, crumbs = LONG[:SECOND], LONG[SECOND : SECOND + SECOND // 4]

    async def script(conversation: Conversation) -> None:
        await conversation.begin()
        await conversation.receive()
        await conversation.say("", pcm)
        parts = [crumbs[at : at + size] for at in range(0, len(crumbs), size)]
        for at in range(0, len(parts), 100):
            blobs = [
                {"inline_data": {"mime_type": "audio/pcm", "data": part}} for part in parts[at : at + 100]
            ]
            await conversation.send(server_content={"model_turn": {"parts": blobs}})
        await conversation.hear("that was all")
        await conversation.end_turn()
        await conversation.until_gone()

    def waiting() -> float:
        """So that all of it waits, however slow the machine, time stands still until all has come."""
        return clock() if all_came else begun_at

    async with running_gateway(script, clock=waiting) as gateway, talking(gateway) as talker:
        await talker.send("command", command="count")
        messages = await talker.until("recognition_result", transcript="that was all")
        all_came = True
        pieces = [arrived(message) for message in messages if message["type"] == "audio_response"]
        pieces += await collected(talker, len(pcm) + len(crumbs) - sum(len(piece.pcm) for piece in pieces))
    assert b"".join(piece.pcm for piece in pieces) == pcm + crumbs
    assert len(pieces) < 20


async def test_other_rates_are_told_and_paced() -> None:
    pcm = LONG[:64_000]

    async def script(conversation: Conversation) -> None:
        await conversation.begin()
        await conversation.receive()
        await conversation.say("low", pcm[:32_000], "audio/pcm;rate=16000")
        await conversation.say("high", pcm[32_000:], "audio/pcm; rate=48000")
        await conversation.end_turn()
        await conversation.until_gone()

    async with running_gateway(script) as gateway, talking(gateway) as talker:
        await talker.send("command", command="sing")
        pieces = await collected(talker, len(pcm))
    assert b"".join(piece.pcm for piece in pieces) == pcm
    assert [piece.text for piece in pieces if piece.text] == ["low", "high"]
    assert sum(piece.duration_s for piece in pieces) == pytest.approx(1 + 1 / 3, abs=0.01)
    assert pieces[0].format == "audio/pcm;rate=16000"
    assert pieces[-1].format == "audio/pcm;rate=48000"
    assert max(leads(pieces)) <= LEAD_S + JITTER_S


async def test_waiting_for_the_next_piece_costs_nothing() -> None:
    """A timer that fires before it is due would be set again at once, and spin until then."""
    calls = 0
    clock = epoch_clock()

    def counting() -> float:
        nonlocal calls
        calls += 1
        return clock()

    pcm = LONG[: 3 * SECOND]

    async def script(conversation: Conversation) -> None:
        await conversation.begin()
        await conversation.receive()
        # Pieces of 99.964 ms: each is due at another fraction of a millisecond.
        await conversation.say("one, two, three", pcm, "audio/pcm;rate=24999")
        await conversation.until_gone()

    async with running_gateway(script, clock=counting) as gateway, talking(gateway) as talker:
        await talker.send("command", command="count")
        calls = 0
        pieces = await collected(talker, len(pcm))
        assert calls < 4 * len(pieces)


# ---- barge-in


async def test_an_interruption_brings_silence() -> None:
    interrupted_at = 0.0

    async def script(conversation: Conversation) -> None:
        nonlocal interrupted_at
        await conversation.begin()
        await conversation.receive()
        await conversation.say("A long story.", LONG)
        await asyncio.sleep(1)
        interrupted_at = time.monotonic()
        await conversation.send(server_content={"interrupted": True})
        await conversation.send(server_content={"turn_complete": True})
        await conversation.receive()
        await conversation.say("Yes?", b"\x01\x02" * RATE_HZ)
        await conversation.until_gone()

    async with running_gateway(script) as gateway, talking(gateway) as talker:
        await talker.send("command", command="tell me a story")
        pieces = await until_silent(talker)
        told_s = sum(piece.duration_s for piece in pieces)
        assert 1.0 < told_s <= interrupted_at - pieces[0].at + LEAD_S + JITTER_S
        assert pieces[-1].at < interrupted_at + JITTER_S
        assert b"".join(piece.pcm for piece in pieces) == LONG[: round(told_s * SECOND)]
        await talker.send("command", command="stop")
        asked_at = time.monotonic()
        answer = await collected(talker, SECOND)
        assert answer[0].text == "Yes?"
        assert answer[0].at - asked_at < 0.2
        assert b"".join(piece.pcm for piece in answer) == b"\x01\x02" * RATE_HZ


async def test_a_new_answer_replaces_one_that_was_spoken_over() -> None:
    """A model that has said all it had to say does not call that an interruption."""

    async def script(conversation: Conversation) -> None:
        await conversation.begin()
        await conversation.receive()
        await conversation.say("A long story.", LONG)
        await conversation.end_turn()
        await conversation.until_audio_end()
        await conversation.hear("stop")
        await conversation.say("Well.", b"\x01\x02" * RATE_HZ)
        await conversation.end_turn()
        await conversation.until_gone()

    async with running_gateway(script) as gateway, talking(gateway) as talker:
        await talker.send("command", command="tell me a story")
        await collected(talker, SECOND // 2)
        await talker.speak(bytes(3200))
        pieces = await until_silent(talker)
    whole = b"".join(piece.pcm for piece in pieces)
    assert whole.endswith(b"\x01\x02" * RATE_HZ)
    assert len(whole) < SECOND * 1.5
    assert max(leads(pieces)) <= LEAD_S + JITTER_S


# ---- bounds


async def test_a_model_that_answers_endlessly_is_read_no_further_than_needed() -> None:
    sent_s = 0.0

    async def script(conversation: Conversation) -> None:
        nonlocal sent_s
        await conversation.begin()
        await conversation.receive()
        while True:
            await conversation.say("", bytes(SECOND * 5))
            sent_s += 5

    async with running_gateway(script, limits=Limits(answer_s=10)) as gateway, talking(gateway) as talker:
        await talker.send("command", command="talk")
        await talker.during(1)
        before = sent_s
        await talker.during(1)
        assert sent_s - before <= 5, "the model is still read"
        assert sent_s < 200


async def test_text_without_end_and_without_audio_is_passed_on() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.begin()
        await conversation.receive()
        for _ in range(1000):
            await conversation.send(server_content={"output_transcription": {"text": "blah " * 20}})
        await conversation.until_gone()

    async with running_gateway(script) as gateway, talking(gateway) as talker:
        await talker.send("command", command="talk")
        text = ""
        async for piece in arrivals(talker):
            text += piece.text
            assert piece.duration_s == 0
            if len(text) > 90_000:
                break
    assert text == ("blah " * 20_000)[: len(text)]


async def test_an_utterance_without_end_is_cut_in_two() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.begin()
        await conversation.receive()
        for _ in range(50):
            await conversation.hear("blah " * 200)
        await conversation.end_turn()
        await conversation.until_gone()

    async with running_gateway(script) as gateway, talking(gateway) as talker:
        await talker.send("command", command="listen")
        first = await talker.until("recognition_result", isFinal=True)
        second = await talker.until("recognition_result", isFinal=True)
    finals = [first[-1]["transcript"], second[-1]["transcript"]]
    assert " ".join(finals) == ("blah " * 10_000).strip()
    assert max(len(final) for final in finals) < 40_000


async def test_calls_without_end_are_taken_as_fast_as_their_results_are() -> None:
    calls = 0

    async def script(conversation: Conversation) -> None:
        nonlocal calls
        await conversation.begin()
        await conversation.receive()
        function_calls = [{"id": str(number), "name": "x" * 10_000} for number in range(20)]
        while True:
            await conversation.send(tool_call={"function_calls": function_calls})
            calls += len(function_calls)

    limits = Limits(uplink_s=1)
    async with running_gateway(script, limits=limits) as gateway, talking(gateway) as talker:
        await talker.send("command", command="call")
        await talker.closed("UPSTREAM_SLOW", 1011)
    assert calls < 3000
