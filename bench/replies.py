"""What the benchmark's upstreams answer to each 100 ms of audio, in each of their wires' forms."""

from __future__ import annotations

import base64
import json
from functools import lru_cache
from typing import Final

from antiphon.gemini.codec import ServerMessage
from antiphon.rpc import grpc
from antiphon.transcription import Hypothesis, encode

ANSWER_RATE_HZ: Final = 24_000
ANSWER_BYTES: Final = 4800
"""100 ms of an answer."""

_KEPT: Final = 8192


@lru_cache(_KEPT)
def transcription(number: int) -> bytes:
    """Return the gRPC message that says a chunk's number, as text and as the whole of the utterance."""
    answer = ServerMessage()
    heard = answer.server_content.input_transcription
    heard.text = str(number)
    heard.MergeFromString(encode(Hypothesis(str(number), 0.5, final=False)))
    return grpc.framed(answer.SerializeToString())


def audio(pcm: bytes) -> bytes:
    """Return the gRPC message that is so much of an answer."""
    answer = ServerMessage()
    blob = answer.server_content.model_turn.parts.add().inline_data
    blob.mime_type = f"audio/pcm;rate={ANSWER_RATE_HZ}"
    blob.data = pcm
    return grpc.framed(answer.SerializeToString())


def set_up() -> bytes:
    """Return the gRPC message that says that the model is ready."""
    answer = ServerMessage()
    answer.setup_complete.SetInParent()
    return grpc.framed(answer.SerializeToString())


@lru_cache(_KEPT)
def transcription_text(number: int) -> bytes:
    """Return the same as a client's message."""
    return _json(
        {
            "type": "recognition_result",
            "timestamp": 0,
            "transcript": str(number),
            "confidence": 0.5,
            "isFinal": False,
        }
    )


def audio_text(pcm: bytes) -> bytes:
    """Return so much of an answer as a client's message."""
    return _json(
        {
            "type": "audio_response",
            "timestamp": 0,
            "data": base64.b64encode(pcm).decode(),
            "format": f"audio/pcm;rate={ANSWER_RATE_HZ}",
            "duration": len(pcm) / 2 / ANSWER_RATE_HZ * 1000,
            "text": "",
            "language": "en-US",
        }
    )


def _json(message: dict[str, object]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()
