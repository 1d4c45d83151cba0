"""The nine base messages as records.

Names and types are those of the published TypeScript interfaces; Python attributes are their
snake_case. `timestamp` is milliseconds since the Unix epoch, every `duration` milliseconds of audio.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, Union, get_args

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

MAX_MESSAGE_BYTES: Final = 64 * 1024
MAX_CONTEXT_NESTING: Final = 64
LANGUAGE_PATTERN: Final = r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*(?!\n)$"
"""The shape of a BCP 47 tag. Python's `$` alone lets a final newline through, ECMAScript's does not."""

Number = int | float
AudioFormat = Literal["FLAC", "LINEAR16"]
StreamFormat = Literal["FLAC", "LINEAR16", "audio/ogg;codecs=opus"]
"""What a client of `antiphon.v1` may send."""
WHOLE = Meta(extra_json_schema={"multipleOf": 1})  # 16000.0 is whole too; decode() sees to it


class Message(Struct, frozen=True, kw_only=True, rename="camel", tag_field="type"):
    """What every message has."""

    timestamp: Number


# ---- from the client


class Auth(Message, tag="auth", frozen=True, kw_only=True):
    """Prove who is speaking; first, and again to renew the token."""

    token: str

    def __repr__(self) -> str:
        return "Auth(token=...)"


class StreamConfig(Struct, frozen=True, kw_only=True, rename="camel"):
    """How the audio of a stream is encoded: mono, LINEAR16 being 16-bit little-endian."""

    sample_rate: Annotated[float, Meta(ge=8000, le=48000), WHOLE]
    format: AudioFormat
    language: Annotated[str, Meta(pattern=LANGUAGE_PATTERN, max_length=64)]


class AudioStreamStart(Message, tag="audio_stream_start", frozen=True, kw_only=True):
    """Open the session's one audio stream."""

    config: StreamConfig


class AudioChunk(Message, tag="audio_chunk", frozen=True, kw_only=True):
    """A piece of the stream; `sequence` rises by one from the first value seen."""

    data: bytes
    sequence: Annotated[Number, WHOLE]


class AudioStreamEnd(Message, tag="audio_stream_end", frozen=True, kw_only=True):
    """The stream is over: everything sent is to be recognised and answered."""

    duration: Number


class Command(Message, tag="command", frozen=True, kw_only=True):
    """A turn typed instead of spoken; `context` goes to the model with it."""

    command: str
    context: dict[str, Any] | UnsetType = UNSET


ClientMessage = Auth | AudioStreamStart | AudioChunk | AudioStreamEnd | Command


# ---- from the server


class AuthSuccess(Message, tag="auth_success", frozen=True, kw_only=True):
    """The token is good; the session begins, or goes on with the new token."""

    session_id: str
    user_id: str


class RecognitionResult(Message, tag="recognition_result", frozen=True, kw_only=True):
    """The whole utterance so far; `confidence` is 0.0 where the engine gave none."""

    transcript: str
    confidence: float
    command: str | UnsetType = UNSET
    is_final: bool


class AudioResponse(Message, tag="audio_response", frozen=True, kw_only=True):
    """A piece of the answer; `format` is a MIME type, `text` what is said in this piece."""

    data: bytes
    format: str
    duration: float
    text: str
    language: str


class ErrorDetails(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What an error means for the client. `fatal`: the server closes the connection next."""

    fatal: bool | UnsetType = UNSET
    retryable: bool | UnsetType = UNSET
    retry_after_ms: int | UnsetType = UNSET
    sequence: int | UnsetType = UNSET
    expected: int | UnsetType = UNSET
    received: int | UnsetType = UNSET
    path: str | UnsetType = UNSET
    trace_id: str | UnsetType = UNSET


class Error(Message, tag="error", frozen=True, kw_only=True):
    """Something went wrong; `code` is one of `ErrorCode`, `message` is for a person."""

    code: str
    message: str
    details: ErrorDetails | UnsetType = UNSET


ServerMessage = AuthSuccess | RecognitionResult | AudioResponse | Error


# ---- base64, which msgspec reads and writes byte by byte: 5 µs for 100 ms of audio where 1 will do


class EncodedChunk(Message, tag="audio_chunk", frozen=True, kw_only=True):
    """An `AudioChunk` as it travels."""

    data: str
    sequence: Annotated[Number, WHOLE]


class EncodedResponse(Message, tag="audio_response", frozen=True, kw_only=True):
    """An `AudioResponse` as it travels."""

    data: msgspec.Raw
    format: str
    duration: float
    text: str
    language: str


def travelling(union: Any) -> Any:
    """Return the type of the messages of a union as they travel."""
    return Union[tuple(EncodedChunk if kind is AudioChunk else kind for kind in get_args(union))]  # noqa: UP007
