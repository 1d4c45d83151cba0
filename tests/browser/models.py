"""What is behind the gateway: models that do what a test says."""

from __future__ import annotations

from typing import Any

from browser.sound import pieces, tone
from fake_gemini import Conversation

WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


async def attentive(conversation: Conversation) -> None:
    """Take in what comes; the test answers."""
    await conversation.begin()
    await conversation.until_gone()


async def talkative(conversation: Conversation) -> None:
    """Answer what is typed and every stream that ends with a short tone and a sentence."""
    await conversation.begin()
    while True:
        message = await conversation.receive()
        realtime = message.realtime_input
        if realtime.text or realtime.audio_stream_end or realtime.HasField("activity_end"):
            if not realtime.text:
                await conversation.hear("Go forward ten meters.")
            await answer(conversation, f"You said {realtime.text}." if realtime.text else "So I did.")


async def counting(conversation: Conversation) -> None:
    """Answer what is typed with ten seconds of sound, a word each, all of it at once; cease when told to."""
    await conversation.begin()
    while True:
        message = await conversation.receive()
        if message.realtime_input.text:
            for place, word in enumerate(WORDS):
                await conversation.say(f"{' ' * bool(place)}{word}", tone(1))
        if message.HasField("client_content"):
            await cut_off(conversation)


async def answer(conversation: Conversation, text: str, seconds: float = 0.3) -> None:
    """Say a sentence, as a tone, and be done."""
    for place, pcm in enumerate(pieces(tone(seconds))):
        await conversation.say("" if place else text, pcm)
    await conversation.end_turn()


async def cut_off(conversation: Conversation) -> None:
    """Notice that the user speaks while it answers."""
    await conversation.send(server_content={"interrupted": True})
    await conversation.send(server_content={"turn_complete": True})


async def call(
    conversation: Conversation, name: str, args: dict[str, Any] | None = None, call_id: str = "c1"
) -> None:
    wanted = {"id": call_id, "name": name, "args": args or {}}
    await conversation.send(tool_call={"function_calls": [wanted]})
