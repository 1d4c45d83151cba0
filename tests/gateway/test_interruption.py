"""Interruption: what is stale is dropped at once, the client is told first, and the transcript ends there."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from fake_gemini import Conversation
from gateway.extended import ExtendedTalker, extended
from gateway.running import running_gateway
from gateway.talker import Message, talking

SECOND = b"\x01\x02" * 24_000
WORDS = "one two three four five six seven eight nine ten"


async def long_answer(conversation: Conversation) -> None:
    """Speak ten seconds, a word each, to every command; be interrupted when the user speaks."""
    await conversation.begin()
    while True:
        message = await conversation.receive()
        if message.realtime_input.text:
            for place, word in enumerate(WORDS.split()):
                await conversation.say(f"{' ' * bool(place)}{word}", SECOND)
        if message.realtime_input.audio.data:
            await conversation.send(server_content={"interrupted": True})
            await conversation.send(server_content={"turn_complete": True})
            await conversation.hear("stop")


async def interrupted(talker: ExtendedTalker) -> list[Message]:
    """Speak, and return the messages from the flush to the end of the response."""
    await talker.start()
    await talker.chunk(bytes(3200))
    messages = [(await talker.until("audio_flush"))[-1]]
    return messages + await talker.until("transcript_update", role="model", isFinal=True)


class TestByTheModel:
    async def test_the_flush_comes_first_and_nothing_after_it(self) -> None:
        async with running_gateway(long_answer) as gateway, extended(gateway) as talker:
            await talker.hello(playbackBufferMs=5000)
            await talker.send("command", command="count")
            messages = await talker.during(0.3)
            assert sum(m["type"] == "audio_response" for m in messages) >= 50
            flush, done, final = await interrupted(talker)
            assert flush["reason"] == "interrupted"
            assert (done["type"], done["status"]) == ("response_done", "interrupted")
            assert final["text"] in ("", "one")
            later = await talker.during(0.3)
            assert {m["type"] for m in later} <= {
                *("recognition_result", "transcript_update", "speech_started", "usage", "speech_stopped")
            }
            await talker.answered()

    async def test_a_base_client_has_at_most_250_ms_to_play(self) -> None:
        async with running_gateway(long_answer) as gateway, talking(gateway) as talker:
            began_at = time.monotonic()
            await talker.send("command", command="count")
            messages = await talker.during(0.5)
            await talker.start()
            await talker.chunk(bytes(3200))
            messages += await talker.until("recognition_result")
            played_s = time.monotonic() - began_at
            sent_s = sum(m["duration"] for m in messages if m["type"] == "audio_response") / 1000
            assert sent_s - played_s <= 0.25
            assert not [m for m in await talker.during(0.4) if m["type"] == "audio_response"]

    @pytest.mark.own_socket
    async def test_what_waits_for_a_client_that_does_not_read_is_dropped_too(self) -> None:
        async with running_gateway(long_answer) as gateway:
            raw = socket.create_connection(("127.0.0.1", gateway.port))
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            protocols = [Subprotocol("antiphon.v1")]
            opened = connect(gateway.url, subprotocols=protocols, sock=raw, max_queue=1, close_timeout=0.1)
            async with opened as connection:
                talker = ExtendedTalker(connection)
                await talker.auth(gateway.token())
                await talker.hello(playbackBufferMs=10_000)
                await talker.send("command", command="count")
                async with asyncio.timeout(10):  # ten seconds of the answer are 640 KB
                    while not (gateway.connections and gateway.connections[0].unread_bytes):
                        await asyncio.sleep(0.01)
                await talker.start()
                await talker.chunk(bytes(3200))
                async with asyncio.timeout(10):
                    while not gateway.upstream.conversations[0].heard:
                        await asyncio.sleep(0.01)
                messages = await talker.until("response_done")
                pieces = [m for m in messages if m["type"] == "audio_response"]
                assert sum(len(m["data"]) for m in pieces) < 400_000


class TestByTheClient:
    async def test_interrupt_stops_what_the_model_still_says(self) -> None:
        async with running_gateway(long_answer) as gateway, extended(gateway) as talker:
            await talker.send("command", command="count")
            await talker.until("audio_response")
            await talker.send("interrupt")
            flush = (await talker.until("audio_flush"))[-1]
            assert flush["reason"] == "client"
            assert (await talker.receive("response_done"))["status"] == "interrupted"
            assert not [m for m in await talker.during(0.3) if m["type"] == "audio_response"]

    async def test_the_model_is_told_and_the_next_turn_is_answered(self) -> None:
        told = asyncio.Event()

        async def talkative(conversation: Conversation) -> None:
            await conversation.begin()
            await conversation.receive()
            await conversation.say("Never ending", SECOND)
            message = await conversation.receive()
            assert message.WhichOneof("message_type") == "client_content"
            told.set()
            await conversation.say(" story", SECOND)
            await conversation.send(server_content={"interrupted": True})
            await conversation.send(server_content={"turn_complete": True})
            await conversation.receive()
            await conversation.say("Next.", SECOND[:4800])
            await conversation.end_turn()
            await conversation.until_gone()

        async with running_gateway(talkative) as gateway, extended(gateway) as talker:
            await talker.send("command", command="go")
            await talker.until("audio_response")
            await talker.send("interrupt", responseId="r1")
            await talker.until("response_done", status="interrupted")
            await asyncio.wait_for(told.wait(), 5)
            await talker.send("command", command="next")
            messages = await talker.until("response_done", status="completed")
            assert messages[-1]["responseId"] == "r2"
            assert "story" not in str(messages)

    async def test_interrupting_what_is_not_talking(self) -> None:
        async with running_gateway() as gateway, extended(gateway) as talker:
            await talker.send("interrupt")
            await talker.send("interrupt", responseId="r1")
            await talker.refused("PROTOCOL_UNKNOWN_RESPONSE")
            await talker.send("command", command="hello")
            await talker.until("response_done", status="completed")
            await talker.send("interrupt", responseId="r1")
            await talker.send("interrupt")
            await talker.answered()

    async def test_the_next_turn_supersedes_what_is_not_heard_yet(self) -> None:
        async def quick(conversation: Conversation) -> None:
            await conversation.begin()
            for word in ("First", "Second"):
                await conversation.receive()
                await conversation.say(word, SECOND * 3)
                await conversation.end_turn()
            await conversation.until_gone()

        async with running_gateway(quick) as gateway, extended(gateway) as talker:
            await talker.hello(playbackBufferMs=10_000)
            await talker.send("command", command="one")
            await talker.during(0.3)
            await talker.send("command", command="two")
            messages = await talker.until("audio_response", text="Second")
            flushes = [m for m in messages if m["type"] == "audio_flush"]
            assert [(m["responseId"], m["reason"]) for m in flushes] == [("r1", "superseded")]


class TestPlaybackMarks:
    @pytest.mark.parametrize(("played_ms", "heard"), [(0, ""), (2600, "one two"), (99_999, WORDS[:23])])
    async def test_the_transcript_is_cut_where_the_user_stopped_hearing(
        self, played_ms: int, heard: str
    ) -> None:
        async with running_gateway(long_answer) as gateway, extended(gateway) as talker:
            await talker.hello(features=["playback_mark"], playbackBufferMs=5000)
            await talker.send("command", command="count")
            await talker.until("audio_response", text=" six")
            await talker.start()
            await talker.chunk(bytes(3200))
            await talker.until("audio_flush")
            await talker.send("playback_mark", responseId="r1", playedMs=played_ms)
            final = (await talker.until("transcript_update", role="model", isFinal=True))[-1]
            assert final["text"] == heard

    async def test_without_a_mark_the_clock_tells(self) -> None:
        async with running_gateway(long_answer) as gateway, extended(gateway) as talker:
            await talker.hello(features=["playback_mark"], playbackBufferMs=5000)
            await talker.send("command", command="count")
            await talker.during(0.2)
            assert (await interrupted(talker))[-1]["text"] in ("", "one")

    async def test_marks_move_the_clock(self) -> None:
        """A client that has played all of it gets more, and the response is complete at once."""
        async with running_gateway() as gateway, extended(gateway) as talker:
            await talker.hello(playbackBufferMs=30_000)
            began_at = time.monotonic()
            await talker.send("command", command="hello")
            await talker.until("audio_response", duration=20.0)
            await talker.send("playback_mark", responseId="r1", playedMs=320)
            await talker.until("response_done", status="completed")
            assert time.monotonic() - began_at < 0.3

    async def test_a_mark_for_what_never_was(self) -> None:
        async with running_gateway() as gateway, extended(gateway) as talker:
            for response_id in ("r1", "r0", "x", "r1\n"):
                await talker.send("playback_mark", responseId=response_id, playedMs=1)
                await talker.refused("PROTOCOL_UNKNOWN_RESPONSE")
            await talker.answered()
