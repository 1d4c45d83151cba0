"""The wire's messages: nine base types, as JSON text frames.

Names and types are those of the published TypeScript interfaces; Python attributes are their
snake_case. `timestamp` is milliseconds since the Unix epoch, every `duration` milliseconds of audio.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal, TypeVar, Union, cast, get_args

import msgspec
import pybase64
from msgspec import UNSET, Meta, Struct, UnsetType

from antiphon.errors import DISPOSITIONS, ErrorCode, GatewayError

MAX_MESSAGE_BYTES: Final = 64 * 1024
MAX_CONTEXT_NESTING: Final = 64
LANGUAGE_PATTERN: Final = r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*(?!\n)$"
"""The shape of a BCP 47 tag. Python's `$` alone lets a final newline through, ECMAScript's does not."""

T = TypeVar("T")

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


class _EncodedResponse(Message, tag="audio_response", frozen=True, kw_only=True):
    """An `AudioResponse` as it travels."""

    data: msgspec.Raw
    format: str
    duration: float
    text: str
    language: str


def travelling(union: Any) -> Any:
    """Return the type of the messages of a union as they travel."""
    return Union[tuple(EncodedChunk if kind is AudioChunk else kind for kind in get_args(union))]  # noqa: UP007


_client_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(travelling(ClientMessage))
_server_decoder: msgspec.json.Decoder[ServerMessage] = msgspec.json.Decoder(ServerMessage)
_encoder = msgspec.json.Encoder()
_MAX_QUOTED = 200
_PATH = re.compile(r"^(?P<what>.*?) - at `(?P<path>\$[^`]*)`$", re.DOTALL)


def encode(message: Struct) -> bytes:
    """Return a message of either side as UTF-8 JSON."""
    if type(message) is AudioResponse:
        message = _EncodedResponse(
            timestamp=message.timestamp,
            data=msgspec.Raw(b'"%b"' % pybase64.b64encode(message.data)),
            format=message.format,
            duration=message.duration,
            text=message.text,
            language=message.language,
        )
    return _encoder.encode(message)


def decode(data: bytes | bytearray | memoryview | str) -> ClientMessage:
    """Return the client message in a text frame.

    Raises:
        GatewayError: PROTOCOL_BAD_ENCODING, PROTOCOL_BAD_JSON, PROTOCOL_UNKNOWN_TYPE, or
            PROTOCOL_BAD_MESSAGE with the offending field in `details["path"]`.
    """
    message = decode_with(_client_decoder, data)
    if type(message) is EncodedChunk:  # as nearly all are
        return decoded_chunk(message)
    match message:
        case AudioStreamStart(config=StreamConfig(sample_rate=number)):
            require_integer(number, "$.config.sampleRate")
        case Command(context=dict(context)):
            require_shallow(context, "context")
        case _:
            pass
    return cast(ClientMessage, message)


def decoded_chunk(message: EncodedChunk) -> AudioChunk:
    """Return the chunk that has travelled.

    Raises:
        GatewayError: PROTOCOL_BAD_MESSAGE, its data is no base64, or its sequence no whole number.
    """
    try:
        data = pybase64.b64decode(message.data, validate=True)
    except ValueError:
        sentence = "Invalid base64 encoded string at $.data."
        raise GatewayError(ErrorCode.PROTOCOL_BAD_MESSAGE, sentence, path="$.data") from None
    sequence = message.sequence
    if type(sequence) is not int or not 0 <= sequence <= 2**53:
        require_integer(sequence, "$.sequence")
    return AudioChunk(timestamp=message.timestamp, data=data, sequence=sequence)


def decode_with(decoder: msgspec.json.Decoder[T], data: bytes | bytearray | memoryview | str) -> T:
    """Return the message in a text frame; numbers and nesting are still to be checked.

    Raises:
        GatewayError: as `decode`.
    """
    try:
        # msgspec does not look at the encoding of what it skips, so the whole text is checked first.
        return decoder.decode(data if isinstance(data, str) else str(data, "utf-8"))
    except msgspec.ValidationError as error:
        raise _validation_error(str(error)) from None
    except msgspec.DecodeError:
        raise GatewayError(ErrorCode.PROTOCOL_BAD_JSON) from None
    except UnicodeError:
        raise GatewayError(ErrorCode.PROTOCOL_BAD_ENCODING) from None
    except RecursionError:
        raise GatewayError(ErrorCode.PROTOCOL_BAD_JSON, "The JSON is nested too deeply.") from None


def decode_server(data: bytes | str) -> ServerMessage:
    """Return the server message in a text frame, for clients.

    Raises:
        msgspec.DecodeError: it is not one of the base messages.
    """
    return _server_decoder.decode(data)


def milliseconds(seconds: float) -> int:
    """Return seconds in the wire's unit."""
    return int(seconds * 1000)


def error_message(error: GatewayError, timestamp: int, trace_id: str | None = None) -> Error:
    """Return the wire form of an error, its disposition in `details`."""
    disposition = DISPOSITIONS[error.code]
    details = msgspec.convert(
        {
            "fatal": disposition.close is not None,
            "retryable": disposition.retryable,
            **({"traceId": trace_id} if trace_id else {}),
            **error.details,
        },
        ErrorDetails,
    )
    return Error(timestamp=timestamp, code=error.code.value, message=error.message, details=details)


def _validation_error(text: str) -> GatewayError:
    found = _PATH.match(text)
    what, path = (found["what"], found["path"]) if found else (text, "$")
    if path == "$.type" and what.startswith("Invalid value"):
        return GatewayError(ErrorCode.PROTOCOL_UNKNOWN_TYPE, path=path)
    if missing := re.fullmatch(r"Object missing required field `(\w+)`", what):
        path = f"{path}.{missing[1]}"
    # What is quoted of the message must not make the answer as long as the message.
    return GatewayError(ErrorCode.PROTOCOL_BAD_MESSAGE, f"{what[:_MAX_QUOTED]} at {path}.", path=path)


def require_integer(number: Number, path: str) -> None:
    """Raise PROTOCOL_BAD_MESSAGE unless the number is whole and exact."""
    if type(number) is int and -(2**53) <= number <= 2**53:
        return
    if number != number or abs(number) > 2**53 or number != int(number):
        raise GatewayError(ErrorCode.PROTOCOL_BAD_MESSAGE, f"Expected a whole number at {path}.", path=path)


def require_shallow(value: object, field: str, levels: int = MAX_CONTEXT_NESTING) -> None:
    """Keep out what others could not encode again: what may be nested there depends on the stack.

    Raises:
        GatewayError: PROTOCOL_BAD_MESSAGE, naming the field.
    """
    if levels == 0:
        sentence = f"The {field} is nested too deeply at $.{field}."
        raise GatewayError(ErrorCode.PROTOCOL_BAD_MESSAGE, sentence, path=f"$.{field}")
    if isinstance(value, dict | list):
        for child in value.values() if isinstance(value, dict) else value:
            require_shallow(child, field, levels - 1)
