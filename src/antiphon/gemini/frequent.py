"""The messages that a model sends many times a second: a piece of a transcription or of voice, nothing else.

They are read as they travel (Protocol Buffers, "Encoding"): a tag and a length stand before what they hold,
one within the other, each to the end of the message. That takes 0.4 µs, compiled, for a transcription, where
the library takes 5.0 to parse it and to be asked for its fields, and 0.8 in place of 8.5 for 100 ms of voice
(2026-11-27). Whatever looks otherwise in any way is the library's.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Final

from google.ai.generativelanguage_v1beta import types as _types

from antiphon import live, transcription

_ANSWER_RATE_HZ: Final = 24_000
_MAX_LENGTH_BYTES: Final = 4
"""So long a length may be written: more than any message is."""
_MAX_TYPE_BYTES: Final = 64
"""Types are remembered with what they mean; longer ones are not."""


def _tag(message: type, field: str) -> int:
    """Return the byte that stands before a field which has a length."""
    number: int = message.pb().DESCRIPTOR.fields_by_name[field].number  # type: ignore[attr-defined]
    assert number < 16, "its tag is one byte"
    return number << 3 | 2


_CONTENT: Final = _tag(_types.BidiGenerateContentServerMessage, "server_content")
_HEARD: Final = _tag(_types.BidiGenerateContentServerContent, "input_transcription")
_SAID: Final = _tag(_types.BidiGenerateContentServerContent, "output_transcription")
_MODEL_TURN: Final = _tag(_types.BidiGenerateContentServerContent, "model_turn")
_TEXT: Final = _tag(_types.BidiGenerateContentTranscription, "text")
_PART: Final = _tag(_types.Content, "parts")
_BLOB: Final = _tag(_types.Part, "inline_data")
_MIME_TYPE: Final = _tag(_types.Blob, "mime_type")
_DATA: Final = _tag(_types.Blob, "data")

_HEARD_WITHIN: Final[tuple[int, ...]] = (_CONTENT, _HEARD)
_SAID_WITHIN: Final[tuple[int, ...]] = (_CONTENT, _SAID, _TEXT)
_SPOKEN_WITHIN: Final[tuple[int, ...]] = (_CONTENT, _MODEL_TURN, _PART, _BLOB)
_CONFIDENCE, _FINAL, _WHOLE = transcription.TAGS
_FLOAT: Final = struct.Struct("<f")


def frequent(data: bytes) -> live.Heard | live.Said | live.Spoke | None:
    """Return what a message says that says one of these three, and nothing else; None for any other."""
    if (at := _within(data, _HEARD_WITHIN)) > 0:
        return _heard(data, at)
    if (at := _within(data, _SPOKEN_WITHIN)) > 0:
        return _spoke(data, at)
    if (at := _within(data, _SAID_WITHIN)) > 0:
        text = _decoded(data[at:])
        return live.Said(text) if text else None
    return None


def _heard(data: bytes, at: int) -> live.Heard | None:
    """Return what a transcription says, behind its text the private fields of `transcription.encode`."""
    begin, at = _field(data, at, _TEXT)
    text = _decoded(data[begin:at]) if begin else None
    if text is None:
        return None
    end = len(data)
    if at == end:
        return live.Heard(text)
    final_at = at + len(_CONFIDENCE) + _FLOAT.size
    last_at = final_at + len(_FINAL) + 1
    if last_at > end or not (data.startswith(_CONFIDENCE, at) and data.startswith(_FINAL, final_at)):
        return None
    confidence: float = _FLOAT.unpack_from(data, at + len(_CONFIDENCE))[0]
    final = data[last_at - 1]
    if final > 1 or not 0.0 <= confidence <= 1.0:
        return None
    if last_at == end:
        return live.Heard(text, confidence, final == 1)
    whole_at = last_at + len(_WHOLE) - 1
    begin, at = _field(data, whole_at, _WHOLE[-1]) if data.startswith(_WHOLE, last_at) else (0, 0)
    whole = _decoded(data[begin:]) if begin and at == end else None
    return live.Heard(text, confidence, final == 1, whole) if whole is not None else None


def _spoke(data: bytes, at: int) -> live.Spoke | None:
    """Return what a blob says: its type and its data, in this order."""
    type_begin, type_end = _field(data, at, _MIME_TYPE)
    begin, end = _field(data, type_end, _DATA) if type_begin else (0, 0)
    if begin == end or end != len(data) or type_end - type_begin > _MAX_TYPE_BYTES:
        return None
    rate_hz = _known_rate_hz(data[type_begin:type_end])
    return live.Spoke(data[begin:], rate_hz) if rate_hz is not None else None


def _within(data: bytes, tags: tuple[int, ...]) -> int:
    """Return where the last field's content begins, each being all that the one before holds; else 0."""
    at = 0
    for tag in tags:
        at, end = _field(data, at, tag)
        if end != len(data):
            return 0
    return at


def _field(data: bytes, at: int, tag: int) -> tuple[int, int]:
    """Return where the content of the field at a place begins and ends; zeros if it is another one."""
    end = len(data)
    if at >= end or data[at] != tag:
        return 0, 0
    size = shift = 0
    last = min(end, at + 1 + _MAX_LENGTH_BYTES)
    at += 1
    while at < last:
        byte = data[at]
        at += 1
        size |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (at, at + size) if at + size <= end else (0, 0)
        shift += 7
    return 0, 0


def _decoded(text: bytes) -> str | None:
    try:
        return str(text, "utf-8")
    except UnicodeDecodeError:
        return None


@lru_cache(maxsize=64)
def _known_rate_hz(mime_type: bytes) -> int | None:
    name = _decoded(mime_type)
    return None if name is None else pcm_rate_hz(name)


def pcm_rate_hz(mime_type: str) -> int | None:
    """Return the rate of a PCM MIME type, 24 kHz where it names none; None for anything else."""
    kind, *parameters = [part.strip() for part in mime_type.lower().split(";")]
    if kind not in ("audio/pcm", "audio/l16"):
        return None
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "rate":
            return int(value) if value.isdecimal() and 4_000 <= int(value) <= 192_000 else None
    return _ANSWER_RATE_HZ
