"""The wire's messages: nine base types, as JSON text frames; how they are written and read.

The records are in a module of their own, `message_types`, and can be had here.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar, cast

import msgspec
import pybase64
from msgspec import Struct

from antiphon.errors import DISPOSITIONS, ErrorCode, GatewayError
from antiphon.message_types import (
    LANGUAGE_PATTERN,
    MAX_CONTEXT_NESTING,
    MAX_MESSAGE_BYTES,
    WHOLE,
    AudioChunk,
    AudioFormat,
    AudioResponse,
    AudioStreamEnd,
    AudioStreamStart,
    Auth,
    AuthSuccess,
    ClientMessage,
    Command,
    EncodedChunk,
    EncodedResponse,
    Error,
    ErrorDetails,
    Message,
    Number,
    RecognitionResult,
    ServerMessage,
    StreamConfig,
    StreamFormat,
    travelling,
)

__all__ = [
    "LANGUAGE_PATTERN",
    "MAX_CONTEXT_NESTING",
    "MAX_MESSAGE_BYTES",
    "WHOLE",
    "AudioChunk",
    "AudioFormat",
    "AudioResponse",
    "AudioStreamEnd",
    "AudioStreamStart",
    "Auth",
    "AuthSuccess",
    "ClientMessage",
    "Command",
    "EncodedChunk",
    "EncodedResponse",
    "Error",
    "ErrorDetails",
    "Message",
    "Number",
    "RecognitionResult",
    "ServerMessage",
    "StreamConfig",
    "StreamFormat",
    "decode",
    "decode_server",
    "decode_with",
    "decoded_chunk",
    "encode",
    "error_message",
    "milliseconds",
    "require_integer",
    "require_shallow",
    "travelling",
]

T = TypeVar("T")

_client_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(travelling(ClientMessage))
_server_decoder: msgspec.json.Decoder[ServerMessage] = msgspec.json.Decoder(ServerMessage)
_encoder = msgspec.json.Encoder()
_MAX_QUOTED = 200
_PATH = re.compile(r"^(?P<what>.*?) - at `(?P<path>\$[^`]*)`$", re.DOTALL)


def encode(message: Struct) -> bytes:
    """Return a message of either side as UTF-8 JSON."""
    if type(message) is AudioResponse:
        message = EncodedResponse(
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
    # Compiled code takes what may be an int or a float for a float, and refuses the int.
    value: Any = number
    if not (abs(value) <= 2**53 and value == int(value)):
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
