"""Conversations with a brain: the engine's RPC over real gRPC, the brain's API over real HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from antiphon.engine import brain as module
from antiphon.engine.brain import Brain
from antiphon.engine.playback import RATE_HZ
from loopback_brain import ChatServer, Reply, Script, calls, chat_server, refuses, says
from loopback_engine import ALL, Call, Hum, activity, engine, pcm, said, spoken

INSTRUCTION = {"systemInstruction": {"parts": [{"text": "You sell tea."}]}}


@asynccontextmanager
async def talking(*scripts: Script, voice: Hum | None = None) -> AsyncIterator[tuple[Call, ChatServer]]:
    """Run an engine with a brain that follows scripts, and set up a call."""
    async with (
        chat_server(*scripts) as server,
        Brain(server.url, "m") as brain,
        engine(brain=brain, voice=voice) as running,
        running.call() as call,
    ):
        await call.setup(**ALL, **INSTRUCTION)
        yield call, server


async def called(call: Call) -> Any:
    """Return the next function call."""
    messages = await call.until(lambda message: message.HasField("tool_call"))
    (function,) = messages[-1].tool_call.function_calls
    return function


async def test_a_spoken_turn_is_answered_by_the_brain() -> None:
    async with talking(says("We have", " green tea. And black", " tea.")) as (call, server):
        await call.audio(pcm("Which tea?\n"))
        messages = await call.turn()
    assert said(messages) == "We have green tea. And black tea."
    assert len(spoken(messages)) == 2 * 2 * int(0.1 * RATE_HZ)
    (asked,) = server.asked
    assert asked["messages"][0]["content"].startswith("You sell tea.")
    assert asked["messages"][1:] == [{"role": "user", "content": "Which tea?"}]
    (tool,) = asked["tools"]
    assert tool["function"]["name"] == "next"
    assert tool["function"]["parameters"] == {"type": "object", "properties": {}}


async def test_the_first_sentence_is_spoken_while_the_brain_still_writes() -> None:
    go_on = asyncio.Event()

    async def script(reply: Reply) -> None:
        await reply.head()
        await reply.delta(content="One. Two")
        await go_on.wait()
        await reply.delta(content=" and three.")
        await reply.end()

    async with talking(script) as (call, _):
        await call.type("count")
        messages = await call.until(lambda message: message.server_content.HasField("model_turn"))
        assert said(messages) == "One."
        go_on.set()
        assert said(await call.turn()) == " Two and three."


async def test_functions_are_called_and_their_results_answered() -> None:
    wants = calls(("next", "{}"), ("next", ""), text="Well. ")
    async with talking(wants, says("That was two."), says("Two.")) as (call, server):
        await call.type("skip two of them")
        for _ in range(2):
            function = await called(call)
            await call.result(function.id, {"output": "done"})
        messages = await call.turn()
        assert said(messages).endswith("That was two.")
        await call.type("How many?")
        await call.turn()
    assert [len(asked["messages"]) for asked in server.asked] == [2, 5, 4]
    assert [message["role"] for message in server.asked[1]["messages"][2:]] == ["assistant", "tool", "tool"]
    assert server.asked[2]["messages"][2] == {"role": "assistant", "content": "Well. That was two."}


async def test_a_call_that_cannot_be_made_is_tried_once_more() -> None:
    async with talking(calls(("fly", "{}")), says("I cannot fly.")) as (call, server):
        await call.type("fly")
        assert said(await call.turn()) == "I cannot fly."
    assert "no such function" in server.asked[1]["messages"][-1]["content"]


async def _endless(reply: Reply) -> None:
    await reply.head()
    while True:
        await reply.delta(content="On. ")
        await asyncio.sleep(0.001)


async def _hesitant(reply: Reply) -> None:
    await reply.head()
    await asyncio.sleep(60)


@pytest.mark.parametrize("script", [_endless, _hesitant])
async def test_the_user_stops_brain_and_voice_at_once(script: Script) -> None:
    voice = Hum(seconds=60.0)
    async with talking(script, says("Yes?"), voice=voice) as (call, server):
        await call.type("tell me")
        while not server.asked or (script is _endless and not voice.pieces):
            await asyncio.sleep(0.001)
        await call.audio(pcm("st"))
        messages = await call.turn()
        async with asyncio.timeout(10):
            await server.left.wait()
        assert messages[-2].server_content.interrupted
        assert activity(messages[:-2]) == [(True, 0.0)]
        voice.seconds = 0.1
        await call.audio(pcm("op\n"))
        assert said(await call.turn()) == "Yes?"


async def test_a_message_without_content_stops_brain_and_voice() -> None:
    async with talking(_hesitant) as (call, server):
        await call.type("tell me")
        while not server.asked:
            await asyncio.sleep(0.001)
        await call.send({"clientContent": {}})
        messages = await call.turn()
        assert messages[-2].server_content.interrupted
        async with asyncio.timeout(10):
            await server.left.wait()


async def test_the_end_of_the_call_stops_the_brain() -> None:
    async with (
        chat_server(_endless) as server,
        Brain(server.url, "m") as brain,
        engine(brain=brain) as running,
    ):
        async with running.call() as call:
            await call.setup()
            await call.type("tell me")
            await call.until(lambda message: message.server_content.HasField("model_turn"))
        async with asyncio.timeout(10):
            await server.left.wait()


async def test_without_the_brain_the_built_in_answers_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_REST_S", 0.0)
    async with talking(refuses(), says("Hi!")) as (call, _):
        await call.type("hello")
        assert said(await call.turn()) == "Good morning! What can I do for you?"
        await call.type("hello")
        assert said(await call.turn()) == "Hi!"


async def test_a_brain_that_breaks_off_is_excused() -> None:
    async def script(reply: Reply) -> None:
        await reply.head()
        await reply.delta(content="Well. You s")
        raise ConnectionError

    async with talking(script) as (call, _):
        await call.type("hello")
        assert said(await call.turn()) == "Well. Sorry, I lost my thread."
