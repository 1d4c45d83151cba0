"""While the model cannot be reached the engine answers in its place, and conversations go back to it."""

from __future__ import annotations

import pytest

from antiphon import fallback
from fake_gemini import ANSWER, Conversation, Script
from gateway.extended import ExtendedTalker, extended
from gateway.running import Gateway, running_gateway
from gateway.talker import Message, talking


def named(name: str, *, resumes: bool = True) -> Script:
    """Return a script that answers typed turns with its name, and gives handles that only it knows."""

    async def script(conversation: Conversation) -> None:
        await conversation.begin()
        handle = conversation.setup.session_resumption.handle
        assert not handle or handle.startswith(name), handle
        while True:
            message = await conversation.receive()
            if message.realtime_input.text:
                await conversation.say(name, ANSWER)
                await conversation.end_turn()
                if resumes:
                    update = {"new_handle": f"{name}-1", "resumable": True}
                    await conversation.send(session_resumption_update=update)

    return script


async def asked(talker: ExtendedTalker) -> tuple[str, list[Message]]:
    """Ask, and return who has answered, and all messages."""
    await talker.send("command", command="Who are you?")
    messages = await talker.until("response_done")
    return next(m["text"] for m in messages if m["type"] == "audio_response"), messages


def rotated(messages: list[Message]) -> list[tuple[str, str, bool]]:
    return [
        (m["reason"], m["upstream"], m["contextRestored"]) for m in messages if m["type"] == "session_rotated"
    ]


async def revived(gateway: Gateway) -> None:
    await gateway.upstream.start(int(gateway.upstream.target.rpartition(":")[2]))


async def test_a_session_that_begins_while_the_model_is_away() -> None:
    async with running_gateway(named("model"), stand_in=named("engine"), tries=1) as gateway:
        await gateway.upstream.stop()
        async with extended(gateway) as talker:
            name, messages = await asked(talker)
            assert name == "engine"
            assert rotated(messages) == [("fallback", "fallback", False)]


@pytest.mark.parametrize("resumes", [True, False])
async def test_there_and_back(monkeypatch: pytest.MonkeyPatch, *, resumes: bool) -> None:
    monkeypatch.setattr(fallback, "PROBE_AFTER_S", (0.2,))
    model, engine = named("model", resumes=resumes), named("engine", resumes=resumes)
    async with running_gateway(model, stand_in=engine, tries=1) as gateway, extended(gateway) as talker:
        assert (await asked(talker))[0] == "model"
        await gateway.upstream.stop()
        away = await talker.until("session_rotated")
        assert rotated(away) == [("fallback", "fallback", False)]
        assert (await asked(talker))[0] == "engine"
        await revived(gateway)
        back = await talker.until("session_rotated")
        assert rotated(back) == [("recovered", "primary", False)]
        assert (await asked(talker))[0] == "model"
        told = gateway.upstream.conversations[-1].texts
        assert told[:4] == ["Who are you?", "model", "Who are you?", "engine"], "it is told what was said"


async def test_a_base_client_notices_nothing() -> None:
    async with (
        running_gateway(named("model"), stand_in=named("engine"), tries=1) as gateway,
        talking(gateway) as talker,
    ):
        await talker.send("command", command="Who are you?")
        assert (await talker.until("audio_response"))[-1]["text"] == "model"
        await gateway.upstream.stop()
        await talker.during(0.5)
        await talker.send("command", command="Who are you?")
        messages = await talker.until("audio_response", text="engine")
        assert {m["type"] for m in messages} == {"audio_response"}
