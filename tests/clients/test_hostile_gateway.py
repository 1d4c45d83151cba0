"""What a gateway should never send: the call says so, and goes on."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from antiphon import frames
from clients.typescript import Closed, typescript_call

pytestmark = pytest.mark.node

INFO: dict[str, Any] = {
    "type": "session_info",
    "timestamp": 1,
    "protocol": "antiphon.v1",
    "features": ["binary_audio"],
    "inputFormats": ["LINEAR16"],
    "outputFormats": ["audio/pcm;rate=24000"],
    "limits": {"resumeMs": 1000},
    "heartbeatMs": 15000,
    "resumeToken": "t",
}
RESPONSE = {
    "type": "response_started",
    "responseId": "r1",
    "format": "audio/pcm;rate=24000",
    "language": "en",
}
GOOD: list[dict[str, Any]] = [
    RESPONSE,
    {"type": "response_done", "responseId": "r1", "status": "completed"},
    {"type": "audio_response", "data": "AAAA", "format": "audio/pcm;rate=24000", "duration": 1, "text": "a"},
    {"type": "audio_flush", "responseId": "r1", "reason": "client"},
    {"type": "transcript_update", "role": "user", "utteranceId": "u", "text": "a", "isFinal": True},
    {"type": "recognition_result", "transcript": "a", "confidence": 0, "isFinal": True, "command": "a"},
    {"type": "tool_call", "callId": "c", "name": "n", "args": {}, "deadlineMs": 1},
    {"type": "tool_cancelled", "callId": "c", "reason": "session"},
    {"type": "audio_ack", "sequence": 1, "windowMs": 1, "stream": 1},
    {"type": "session_rotated", "reason": "lost"},
    {"type": "response_timing", "responseId": "r1", "modelAt": 1, "audioAt": 1},
    {"type": "speech_stopped", "streamMs": 1},
    {"type": "usage", "turn": {}, "session": {}},
    {"type": "error", "code": "X", "message": "m", "details": {"path": "$.config"}},
    {"type": "pong", "id": 1},
    {"type": "ping", "id": 1},
    {"type": "go_away", "timeLeftMs": 1, "reason": "token"},
    {"type": "resumed", "sessionId": "s"},
    {"type": "session_info", "limits": {"resumeMs": 1000}, "features": []},
    {"type": "something_new", "deep": {"a": [1]}},
]
JUNK: list[Any] = [None, 0, -1, 1e300, "", "x" * 1000, [], {}, True]
FRAMES: list[Any] = [
    "",
    "{",
    "[]",
    "null",
    '"text"',
    "1",
    '{"type": 1}',
    b"",
    b"\x01",
    bytes(16),
    b"\xff" * 40,
]


@asynccontextmanager
async def hostile(talk: Callable[[ServerConnection], Any]) -> AsyncIterator[str]:
    """Run a server that lets a call in, and then does as it likes; yield its address."""

    async def run(connection: ServerConnection) -> None:
        await connection.recv()
        start = {"type": "auth_success", "timestamp": 1, "sessionId": "s", "userId": "u"}
        await connection.send(json.dumps(start))
        await connection.send(json.dumps(INFO))
        await talk(connection)
        async for _ in connection:
            pass

    async with serve(run, "127.0.0.1", 0, subprotocols=[Subprotocol("antiphon.v1")]) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/ws"


def damaged(chance: random.Random) -> str | bytes:
    """Return a message of the protocol with one thing wrong with it, or no message at all."""
    if chance.random() < 0.2:
        frame: str | bytes = chance.choice(FRAMES)
        return frame
    message = {**chance.choice(GOOD), "timestamp": 1}
    field = chance.choice([name for name in message if name != "type"])
    if chance.random() < 0.5:
        del message[field]
    else:
        message[field] = chance.choice(JUNK)
    return json.dumps(message)


@pytest.mark.parametrize("sockets", ["runtime", "node"])
async def test_messages_that_are_not_of_the_protocol(sockets: str) -> None:
    for seed in range(6):
        chance = random.Random(seed)

        async def talk(connection: ServerConnection, chance: random.Random = chance) -> None:
            for _ in range(300):
                await connection.send(damaged(chance))
            await connection.send(json.dumps({**RESPONSE, "responseId": "last"}))
            await connection.send(frames.pack(frames.Frame(frames.AUDIO_RESPONSE, 1, 1, b"\1\2\3")))
            await connection.send(json.dumps({**RESPONSE, "responseId": "very last"}))

        async with hostile(talk) as url, typescript_call(url, "t", sockets=sockets, tools={}) as call:
            await call.do("connect")
            await call.until("response", responseId="very last")
            assert call.of("reconnecting") == [], seed
            assert await call.do("get", "state") == "connected"


async def test_a_result_that_is_no_json(tmp_path: Any) -> None:
    """The model is told that the tool failed; the program goes on."""
    told: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()

    async def talk(connection: ServerConnection) -> None:
        call = {
            "type": "tool_call",
            "timestamp": 1,
            "callId": "c",
            "name": "n",
            "args": {},
            "deadlineMs": 9000,
        }
        await connection.send(json.dumps(call))
        async for frame in connection:
            if isinstance(frame, str) and (message := json.loads(frame))["type"] == "tool_result":
                told.set_result(message)

    async with hostile(talk) as url, typescript_call(url, "t", tools={}) as call:
        await call.do("circularTool", "n")
        await call.do("connect")
        async with asyncio.timeout(10):
            result = await told
        assert "circular" in result["error"]
        await call.until("toolDone", callId="c")


@pytest.mark.parametrize("sockets", ["runtime", "node"])
async def test_no_gateway(sockets: str) -> None:
    """A server of WebSockets that speaks something else, and one that speaks HTTP only."""

    async def chat(connection: ServerConnection) -> None:
        await connection.send("welcome to the chat")
        async for _ in connection:
            pass

    async with serve(chat, "127.0.0.1", 0) as server:
        url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/ws"
        async with typescript_call(url, "t", sockets=sockets) as call:
            with pytest.raises(Closed) as refused:
                await call.do("connect")
            assert refused.value.error["code"] == "PROTOCOL_MISMATCH"

    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    listener = await asyncio.start_server(http, "127.0.0.1", 0)
    async with listener:
        url = f"ws://127.0.0.1:{listener.sockets[0].getsockname()[1]}/ws"
        async with typescript_call(url, "t", sockets=sockets) as call:
            with pytest.raises(Closed) as refused:
                await call.do("connect")
            assert refused.value.error["code"] == "CONNECT_FAILED"
