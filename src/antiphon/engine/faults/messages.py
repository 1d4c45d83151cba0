"""What the messages to the client are, to faults; and the audio in them, cut and joined."""

from __future__ import annotations

from typing import Final

from google.ai.generativelanguage_v1beta.types import generative_service

from antiphon import transcription, voice_activity
from antiphon.engine import wire
from antiphon.engine.faults.kinds import MessageKind
from antiphon.engine.playback import RATE_HZ

BYTES_PER_MS: Final = 2 * RATE_HZ / 1000
_SILENT: Final = 1

IN_ORDER: Final[frozenset[MessageKind]] = frozenset(
    {
        *("setup_complete", "audio", "generation_complete", "turn_complete", "interrupted"),
        *("waiting_for_input", "tool_call", "tool_call_cancellation", "handle"),
    }
)
"""What keeps its order whatever is late. Transcriptions and GoAway come on their own, as Gemini's do."""
MODEL_SIDE: Final[frozenset[MessageKind]] = frozenset(
    {
        *("output_transcription", "audio", "generation_complete", "turn_complete"),
        *("tool_call", "tool_call_cancellation", "handle"),
    }
)
"""What a model sends that goes on with its turn."""


def kinds_of(message: wire.ServerMessage) -> tuple[MessageKind, ...]:
    """Return what a message is, the narrowest first; nothing for what only tells when the user speaks."""
    content = message.server_content
    match message.WhichOneof("message_type"):
        case "setup_complete":
            return ("setup_complete",)
        case "tool_call":
            return ("tool_call",)
        case "tool_call_cancellation":
            return ("tool_call_cancellation",)
        case "go_away":
            return ("go_away",)
        case "session_resumption_update":
            return ("handle",)
    if content.interrupted:
        return ("interrupted",)
    if content.turn_complete:
        return ("turn_complete",)
    if content.generation_complete:
        return ("generation_complete",)
    if content.waiting_for_input:
        return ("waiting_for_input",)
    if content.HasField("model_turn"):
        return ("audio",)
    if content.HasField("output_transcription"):
        return ("output_transcription",)
    if content.HasField("input_transcription"):
        told = transcription.decode(content.input_transcription)
        final = told is not None and told.final
        return ("final_transcription", "input_transcription") if final else ("input_transcription",)
    return ()


def voice(message: wire.ServerMessage) -> tuple[bool, float] | None:
    """Return whether the user began to speak, and where in their audio in ms, if a message tells that."""
    told = voice_activity.decode(message.server_content)
    return (told[0], told[1] or 0.0) if told else None


def audio_of(message: wire.ServerMessage) -> tuple[bytes, str]:
    """Return the audio of a message (24 kHz PCM16), and the transcription that begins with it."""
    content = message.server_content
    pcm = b"".join(part.inline_data.data for part in content.model_turn.parts)
    return pcm, content.output_transcription.text


def said(text: str) -> wire.ServerMessage:
    """Send a transcription of the answer on its own."""
    message = generative_service.BidiGenerateContentServerMessage.pb()()
    message.server_content.output_transcription.text = text
    return message


def silent_result(call_id: str) -> bytes:
    """Return a client's message that ends a call so that the model says nothing to it."""
    message = generative_service.BidiGenerateContentClientMessage.pb()()
    response = message.tool_response.function_responses.add(id=call_id, scheduling=_SILENT)
    response.response.SetInParent()
    data: bytes = message.SerializeToString()
    return data


def samples(ms: float) -> int:
    """Return how many bytes of an answer's audio so many milliseconds are, in whole samples."""
    return 2 * round(ms * BYTES_PER_MS / 2)
