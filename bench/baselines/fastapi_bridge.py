"""A bridge as a competent user would write it: FastAPI, uvicorn, grpc.aio.

    python bench/baselines/fastapi_bridge.py TARGET

Prints its port. No limits, no resumption, no tokens; but it has what makes such a bridge fast: uvloop,
httptools, no compression, one HTTP/2 connection, raw protobuf classes (not proto-plus), a task for
each direction, no log.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import uvicorn
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from google.ai.generativelanguage_v1beta import types

METHOD = "/google.ai.generativelanguage.v1beta.GenerativeService/BidiGenerateContent"
ClientMessage: Any = types.BidiGenerateContentClientMessage.pb()
ServerMessage: Any = types.BidiGenerateContentServerMessage.pb()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with grpc.aio.insecure_channel(sys.argv[1]) as channel:
        app.state.converse = channel.stream_stream(
            METHOD,
            request_serializer=ClientMessage.SerializeToString,
            response_deserializer=ServerMessage.FromString,
        )
        yield


def now_ms() -> int:
    return int(time.time() * 1000)


async def serve(client: WebSocket) -> None:
    await client.accept()
    call: Any = None
    listening: asyncio.Task[None] | None = None
    try:
        while True:
            message = json.loads(await client.receive_text())
            match message["type"]:
                case "auth":
                    answer = {
                        "type": "auth_success",
                        "timestamp": now_ms(),
                        "sessionId": "s",
                        "userId": "u",
                    }
                    await client.send_text(json.dumps(answer))
                case "audio_stream_start":
                    call = client.app.state.converse()
                    request = ClientMessage()
                    request.setup.model = "models/gemini-live"
                    request.setup.input_audio_transcription.SetInParent()
                    await call.write(request)
                    listening = asyncio.create_task(listen(call, client))
                case "audio_chunk":
                    request = ClientMessage()
                    audio = request.realtime_input.audio
                    audio.mime_type = "audio/pcm;rate=16000"
                    audio.data = base64.b64decode(message["data"])
                    await call.write(request)
                case "audio_stream_end":
                    request = ClientMessage()
                    request.realtime_input.audio_stream_end = True
                    await call.write(request)
    except WebSocketDisconnect:
        pass
    finally:
        if call is not None:
            call.cancel()
        if listening is not None:
            listening.cancel()


async def listen(call: Any, client: WebSocket) -> None:
    async for response in call:
        content = response.server_content
        if content.HasField("input_transcription"):
            answer: dict[str, object] = {
                "type": "recognition_result",
                "timestamp": now_ms(),
                "transcript": content.input_transcription.text,
                "confidence": 0.0,
                "isFinal": False,
            }
            await client.send_text(json.dumps(answer))
        for part in content.model_turn.parts:
            pcm = part.inline_data.data
            answer = {
                "type": "audio_response",
                "timestamp": now_ms(),
                "data": base64.b64encode(pcm).decode(),
                "format": part.inline_data.mime_type,
                "duration": len(pcm) / 48,
                "text": "",
                "language": "en-US",
            }
            await client.send_text(json.dumps(answer))


app = FastAPI(lifespan=lifespan)
app.add_api_websocket_route("/ws", serve)


def main() -> None:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
        log_level="error",
        access_log=False,
    )
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
