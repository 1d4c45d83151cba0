"""A client that knows the nine base messages gets for ever, byte for byte, what it got on the first day.

`base_conversation.txt` was recorded from the gateway as it was before there were any extensions. To look at
what a change does to it: `ANTIPHON_RECORD=1 pytest tests/gateway/test_base_client.py`, and the diff.
"""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

from websockets.asyncio.client import connect

from fake_gemini import ANSWER, Conversation
from gateway.running import running_gateway
from gateway.talker import chunk, message

RECORDING = Path(__file__).with_name("base_conversation.txt")


async def model(conversation: Conversation) -> None:
    """Do all that a model does, each time when the client has asked for it."""
    await conversation.begin()
    await conversation.until_audio_end()
    await conversation.hear(" turn")
    await conversation.hear(" it up")
    await conversation.send(tool_call={"function_calls": [{"id": "c1", "name": "next"}]})
    while not conversation.results:
        await conversation.receive()
    await conversation.say("One.", ANSWER[:4800])
    await conversation.say(" Two.", ANSWER[:4800])
    await conversation.end_turn()
    while not conversation.texts:
        await conversation.receive()
    await conversation.say("Typed.", ANSWER[:2400], "audio/pcm;rate=16000")
    await conversation.send(server_content={"output_transcription": {"text": " Unsaid."}})
    await conversation.end_turn()
    await conversation.until_audio_end()
    await conversation.hear("stop")
    await conversation.send(server_content={"interrupted": True})
    await conversation.send(server_content={"turn_complete": True})
    await conversation.send(usage_metadata={"prompt_token_count": 7, "total_token_count": 9})
    await conversation.send(go_away={"time_left": {"seconds": 50}})
    while len(conversation.texts) < 2:
        await conversation.receive()
    await conversation.send(tool_call={"function_calls": [{"id": "c2", "name": "pause"}]})
    await conversation.send(tool_call_cancellation={"ids": ["c2"]})
    await conversation.say("Last.", ANSWER[:4800])
    await conversation.end_turn()
    await conversation.until_gone()


async def converse(url: str, token: str) -> list[str]:
    """Return every frame of a conversation that meets all a base client can meet."""
    frames: list[str] = []
    async with connect(url) as socket:

        async def until(text: str) -> None:
            async with asyncio.timeout(10):
                while True:
                    frame = await socket.recv()
                    frames.append(frame if isinstance(frame, str) else f"binary: {frame!r}")
                    if text in frames[-1]:
                        return

        await socket.send(message("command", command="too early"))
        await until("AUTH_REQUIRED")
        await socket.send(message("auth", token=token))
        await until("auth_success")
        for kind in ("client_hello", "ping", "activity_start", "interrupt", "tool_result"):
            await socket.send(message(kind, id=1, features=[], callId="c1", result={}))
            await until("PROTOCOL_UNKNOWN_TYPE")
        await socket.send(b"\x01\x01" + bytes(14))
        await until("PROTOCOL_BINARY_UNEXPECTED")
        opus = {"sampleRate": 48_000, "format": "audio/ogg;codecs=opus", "language": "en-US"}
        await socket.send(message("audio_stream_start", config=opus))
        await until("PROTOCOL_BAD_MESSAGE")
        for last in (3, 1):
            config = {"sampleRate": 16_000, "format": "LINEAR16", "language": "en-GB"}
            await socket.send(message("audio_stream_start", config=config, features=["unknown"]))
            await socket.send(message("audio_stream_start", config=config))
            await until("AUDIO_STREAM_ACTIVE")
            for sequence in (0, last):
                await socket.send(chunk(sequence, bytes(3200)))
            if last == 3:
                await until("AUDIO_SEQUENCE_GAP")
                await socket.send(message("audio_stream_end", duration=200))
                await until('"text":" Two."')
                await socket.send(message("command", command="type", context={"a": 1}))
                await until('"text":" Unsaid."')
            else:
                await socket.send(message("audio_stream_end", duration=200))
                await until('"isFinal":true')
        await socket.send(message("command", command="last"))
        await until('"text":"Last."')
        await socket.send("{")
        await until("PROTOCOL_BAD_JSON")
        await socket.send(message("auth", token="no token"))
        await until("AUTH_RENEWAL_REFUSED")
        await socket.send(message("auth", token=token))
        await until("auth_success")
        assert socket.subprotocol is None
    return frames


def without_chance(frame: str) -> str:
    frame = re.sub(r'"timestamp":\d+', '"timestamp":0', frame)
    return re.sub(r'"(sessionId|traceId)":"[\w-]{24}"', r'"\1":"..."', frame)


async def test_the_conversation_is_byte_for_byte_what_it_was() -> None:
    async with running_gateway(model) as gateway:
        frames = await converse(gateway.url, gateway.token())
    told = "".join(f"{without_chance(frame)}\n" for frame in frames)
    if os.environ.get("ANTIPHON_RECORD"):
        RECORDING.write_text(told)
    assert told == RECORDING.read_text()
