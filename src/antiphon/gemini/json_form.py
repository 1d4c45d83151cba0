"""Gemini's messages as the WebSocket form of the service carries them: JSON, and what its close codes mean.

The JSON is that of the protobuf messages, with a few fields that the published protobuf lacks. Those are
put where the embedded engine says the same in private fields, so that `gemini_codec` is the one reader.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from google.protobuf import json_format

from antiphon import transcription, voice_activity
from antiphon.errors import ErrorCode
from antiphon.gemini.codec import ServerMessage


class MalformedError(ValueError):
    """A frame is not a server message in JSON."""


def encode(message: Any) -> str:
    """Return a client message as the text of a frame."""
    return json_format.MessageToJson(message, indent=None, ensure_ascii=False)


def decode(data: bytes | str) -> Any:
    """Return the server message of a frame; fields that nobody knows yet are skipped.

    Raises:
        MalformedError: it is not JSON, or not a server message.
    """
    message = ServerMessage()
    try:
        fields = msgspec.json.decode(data)
        if not isinstance(fields, dict):
            raise MalformedError("The frame is not a JSON object.")
        extras = _take_extras(fields)
        json_format.ParseDict(fields, message, ignore_unknown_fields=True)
    except (msgspec.DecodeError, json_format.ParseError, RecursionError) as error:
        raise MalformedError("The frame is not a message of Gemini Live.") from error
    finished, activity = extras
    if finished and message.server_content.HasField("input_transcription"):
        heard = transcription.Hypothesis(None, 0.0, final=True)
        message.server_content.input_transcription.MergeFromString(transcription.encode(heard))
    if activity and message.WhichOneof("message_type") in (None, "server_content"):
        message.server_content.SetInParent()
        message.server_content.MergeFromString(voice_activity.encode(*activity))
    return message


_CONTENT: Final = frozenset(
    {
        *("modelTurn", "generationComplete", "turnComplete", "interrupted"),
        *("inputTranscription", "outputTranscription"),
    }
)
_USAGE: Final = frozenset({"promptTokenCount", "responseTokenCount", "totalTokenCount"})
"""What is read. The rest differs between Vertex AI and others, and cannot break a conversation left out."""


def _take_extras(fields: dict[str, Any]) -> tuple[bool, tuple[bool, float | None] | None]:
    """Leave what is read, and return what the protobuf has no fields for.

    That is whether a transcription has ended, and voice activity.
    """
    usage = fields.get("usageMetadata")
    if isinstance(usage, dict):
        if "candidatesTokenCount" in usage:  # Vertex AI's name for it
            usage.setdefault("responseTokenCount", usage["candidatesTokenCount"])
        fields["usageMetadata"] = {name: usage[name] for name in _USAGE & usage.keys()}
    content = fields.get("serverContent")
    heard = None
    if isinstance(content, dict):
        fields["serverContent"] = {name: content[name] for name in _CONTENT & content.keys()}
        heard = content.get("inputTranscription")
    finished = isinstance(heard, dict) and heard.get("finished") is True
    return finished, _activity(fields.get("voiceActivity"))


def _activity(said: Any) -> tuple[bool, float | None] | None:
    if not isinstance(said, dict):
        return None
    match said.get("voiceActivityType", said.get("type")):
        case "ACTIVITY_START":
            started = True
        case "ACTIVITY_END":
            started = False
        case _:
            return None
    offset = _OFFSET.fullmatch(str(said.get("audioOffset")))
    return started, float(offset[1]) * 1000 if offset else None


_OFFSET: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")

_C = ErrorCode
_BY_CLOSE_CODE: Final = {
    1003: _C.UPSTREAM_REFUSED,
    1007: _C.UPSTREAM_REFUSED,
    1008: _C.UPSTREAM_REFUSED,
    1009: _C.UPSTREAM_REFUSED,
    1002: _C.UPSTREAM_INTERNAL,
    1011: _C.UPSTREAM_INTERNAL,
}
_UNAUTHORIZED: Final = (
    re.compile(r"api.?key|credential|unauthenticated|unregistered caller|permission|scope", re.IGNORECASE),
    _C.UPSTREAM_UNAUTHORIZED,
)
_QUOTA: Final = (re.compile(r"quota|exhausted|rate.limit", re.IGNORECASE), _C.UPSTREAM_QUOTA)
_BY_REASON: Final = {
    1007: (_UNAUTHORIZED,),
    1008: (
        _UNAUTHORIZED,
        _QUOTA,
        (re.compile(r"not found|not implemented|not supported", re.IGNORECASE), _C.UPSTREAM_UNSUPPORTED),
    ),
    1011: (
        _QUOTA,
        (re.compile(r"deadline", re.IGNORECASE), _C.UPSTREAM_TIMEOUT),
        (re.compile(r"unavailable|overloaded", re.IGNORECASE), _C.UPSTREAM_LOST),
    ),
}
"""A close code stands for several statuses; which it is, only the words tell that come with it."""

_BY_HTTP_STATUS: Final = {
    401: _C.UPSTREAM_UNAUTHORIZED,
    403: _C.UPSTREAM_UNAUTHORIZED,
    404: _C.UPSTREAM_UNSUPPORTED,
    408: _C.UPSTREAM_TIMEOUT,
    429: _C.UPSTREAM_QUOTA,
    501: _C.UPSTREAM_UNSUPPORTED,
    502: _C.UPSTREAM_LOST,
    503: _C.UPSTREAM_LOST,
    504: _C.UPSTREAM_TIMEOUT,
}


def close_meaning(code: int, reason: str) -> ErrorCode:
    """Return what the end of a conversation means; one that the service does not explain is a loss."""
    for words, meaning in _BY_REASON.get(code, ()):
        if words.search(reason):
            return meaning
    return _BY_CLOSE_CODE.get(code, _C.UPSTREAM_LOST)


def refusal_meaning(status: int) -> ErrorCode:
    """Return what it means that the service answered the handshake with an HTTP status instead."""
    default = _C.UPSTREAM_INTERNAL if status >= 500 else _C.UPSTREAM_REFUSED
    return _BY_HTTP_STATUS.get(status, default)
