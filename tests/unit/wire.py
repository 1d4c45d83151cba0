"""Messages as they go over the wire, good, bad and arbitrary."""

from __future__ import annotations

import json
from typing import Any, get_args

from hypothesis import strategies as st
from msgspec import Struct, inspect

from antiphon import extension, messages

CONFIG = {"sampleRate": 16000, "format": "FLAC", "language": "en-US"}
GOOD: dict[str, dict[str, Any]] = {
    "auth": {"token": "t"},
    "audio_stream_start": {"config": CONFIG},
    "audio_chunk": {"data": "AAEC", "sequence": 7},
    "audio_stream_end": {"duration": 1234.5},
    "command": {"command": "next", "context": {"page": 3}},
}
"""One good message of each type, without `type` and `timestamp`."""

EXTENDED_CONFIG = {**CONFIG, "format": "audio/ogg;codecs=opus"}
EXTENDED_GOOD: dict[str, dict[str, Any]] = {
    **GOOD,
    "audio_stream_start": {"config": EXTENDED_CONFIG},
    "client_hello": {
        "features": ["playback_mark", "unheard_of"],
        "outputFormats": ["audio/flac"],
        "binaryAudio": True,
        "playbackBufferMs": 30_000,
    },
    "resume": {"token": "t", "sessionId": "s1", "resumeToken": "r", "received": 12, "heardMs": 250.5},
    "ping": {"id": "p1"},
    "pong": {"id": 1, "echoTime": 1_790_000_000_000.5},
    "activity_start": {},
    "activity_end": {},
    "interrupt": {"responseId": "r1"},
    "playback_mark": {"responseId": "r1", "playedMs": 1234.5},
    "tool_result": {"callId": "c1", "result": {"done": [True, None, "é"]}, "error": "It is closed."},
    "provoke": {"what": "rotation"},
}
"""The same of `antiphon.v1`, with all that may be left out."""

SERVER_GOOD: dict[str, dict[str, Any]] = {
    "auth_success": {"sessionId": "s1", "userId": "u1"},
    "recognition_result": {"transcript": "next", "confidence": 0.5, "command": "next", "isFinal": True},
    "audio_response": {
        "data": "AAEC",
        "format": "audio/pcm;rate=24000",
        "duration": 0.5,
        "text": "é",
        "language": "fr",
    },
    "error": {"code": "AUDIO_CORRUPT", "message": "m", "details": {"fatal": False, "sequence": 3}},
    "session_info": {
        "protocol": "antiphon.v1",
        "features": ["ping"],
        "inputFormats": [],
        "outputFormats": ["audio/wav", "audio/flac"],
        "limits": {
            "messageBytes": 65536,
            "playbackBufferMs": 30_000,
            "uplinkBufferMs": 10_000,
            "idleMs": 300_000,
            "sessionMs": 7_200_000,
            "resumeMs": 120_000,
        },
        "heartbeatMs": 20_000,
        "tokenExpiresAt": 1_790_000_003_600,
        "resumeToken": "r",
    },
    "resumed": {
        "sessionId": "s1",
        "resumeToken": "r",
        "nextSequence": 8,
        "replayed": 2,
        "lossy": False,
        "received": 40,
    },
    "audio_ack": {"sequence": 7, "windowMs": 9000, "stream": 1},
    "audio_heard": {"heardMs": 1234.5},
    "session_rotating": {"reason": "lost", "contextRestored": True, "gapMs": 0, "lostAudioMs": 0},
    "session_rotated": {
        "reason": "lost",
        "contextRestored": True,
        "gapMs": 150,
        "lostAudioMs": 0,
        "replayedAudioMs": 300,
        "upstream": "primary",
    },
    "go_away": {"timeLeftMs": 30_000, "reason": "idle"},
    "ping": {"id": 5},
    "pong": {"id": "p1", "echoTime": 0.5},
    "speech_started": {"streamMs": 20.5},
    "speech_stopped": {"streamMs": 1500.0},
    "response_started": {"responseId": "r1", "format": "audio/flac", "language": "fr"},
    "response_timing": {
        "responseId": "r1",
        "speechEndedAt": 1_790_000_000_000,
        "transcribedAt": 1_790_000_000_250,
        "modelAt": 1_790_000_000_400,
        "audioAt": 1_790_000_000_450,
    },
    "response_done": {"responseId": "r1", "status": "interrupted"},
    "audio_flush": {"responseId": "r1", "reason": "client"},
    "transcript_update": {
        "role": "user",
        "utteranceId": "u1",
        "revision": 1,
        "text": "next",
        "isFinal": False,
    },
    "tool_call": {"callId": "c1", "name": "open_page", "args": {"page": [3, None]}, "deadlineMs": 9000},
    "tool_cancelled": {"callId": "c1", "reason": "deadline"},
    "usage": {
        kind: {"audioInMs": 1.5, "audioOutMs": 2.5, "promptTokens": 3, "responseTokens": 4, "totalTokens": 7}
        for kind in ("turn", "session")
    },
}
"""The same of what the server sends."""

OPTIONAL: dict[str, set[str]] = {
    "command": {"context"},
    "client_hello": {"timestamp", "features", "outputFormats", "binaryAudio", "playbackBufferMs"},
    "resume": {"timestamp", "heardMs"},
    "ping": {"timestamp"},
    "pong": {"timestamp", "echoTime"},
    "activity_start": {"timestamp"},
    "activity_end": {"timestamp"},
    "interrupt": {"timestamp", "responseId"},
    "playback_mark": {"timestamp"},
    "tool_result": {"timestamp", "result", "error"},
    "provoke": {"timestamp"},
}
"""What a client may leave out of a message, by its type."""


def frame(kind: object, **fields: object) -> str:
    return json.dumps({"type": kind, "timestamp": 1_790_000_000_000, **fields})


NO_TEXT: list[object] = [None, 5, True, [], {}]
NO_NUMBER: list[object] = [None, "5", True, []]
NO_OBJECT: list[object] = [None, 5, "a", []]
BAD_FIELDS: list[tuple[str, dict[str, Any], str]] = [
    *(("auth", {"token": bad}, "$.token") for bad in NO_TEXT),
    *(("auth", {"token": "t", "timestamp": bad}, "$.timestamp") for bad in NO_NUMBER),
    *(("audio_stream_start", {"config": bad}, "$.config") for bad in NO_OBJECT),
    *(
        ("audio_stream_start", {"config": {**CONFIG, "sampleRate": bad}}, "$.config.sampleRate")
        for bad in [*NO_NUMBER, 7999, 48001, 0, -16000, 16000.5, 1e300]
    ),
    *(
        ("audio_stream_start", {"config": {**CONFIG, "format": bad}}, "$.config.format")
        for bad in [*NO_TEXT, "MP3", "flac", "", "FLAC "]
    ),
    *(
        ("audio_stream_start", {"config": {**CONFIG, "language": bad}}, "$.config.language")
        for bad in [*NO_TEXT, "", "e", "en_US", "en-", "-en", "en\n", "abcdefghi", "en" + "-abcdefgh" * 8]
    ),
    *(
        ("audio_chunk", {"data": bad, "sequence": 1}, "$.data")
        for bad in [*NO_TEXT, "A", "AA", "AAA", "*AAA", "AA-_", "AA="]
    ),
    *(
        ("audio_chunk", {"data": "", "sequence": bad}, "$.sequence")
        for bad in [*NO_NUMBER, 0.5, 2**53 + 1, -(2**53) - 1, 1e300, 10**30]
    ),
    *(("audio_stream_end", {"duration": bad}, "$.duration") for bad in NO_NUMBER),
    *(("command", {"command": bad}, "$.command") for bad in NO_TEXT),
    *(("command", {"command": "next", "context": bad}, "$.context") for bad in NO_OBJECT),
]

NO_BOOLEAN: list[object] = [None, 1, "true", []]
NO_LIST: list[object] = [None, "flac", 5, {}]
NO_ID: list[object] = [None, True, [], {}, "x" * 129]
EXTENDED_BAD_FIELDS: list[tuple[str, dict[str, Any], str]] = [
    *BAD_FIELDS,
    *(("client_hello", {"timestamp": bad}, "$.timestamp") for bad in NO_NUMBER),
    *(
        ("client_hello", {field: bad}, f"$.{field}")
        for field in ("features", "outputFormats")
        for bad in [*NO_LIST, ["x"] * 65]
    ),
    *(
        ("client_hello", {field: ["x", bad]}, f"$.{field}[1]")
        for field in ("features", "outputFormats")
        for bad in [*NO_TEXT, "x" * 129]
    ),
    *(("client_hello", {"binaryAudio": bad}, "$.binaryAudio") for bad in NO_BOOLEAN),
    *(
        ("client_hello", {"playbackBufferMs": bad}, "$.playbackBufferMs")
        for bad in [*NO_NUMBER, -1, -1e-9, 2**53 + 2, 1e300, 10**30]
    ),
    *(
        ("resume", {**EXTENDED_GOOD["resume"], field: bad}, f"$.{field}")
        for field in ("sessionId", "resumeToken")
        for bad in [*NO_TEXT, "x" * 129]
    ),
    *(("resume", {**EXTENDED_GOOD["resume"], "token": bad}, "$.token") for bad in NO_TEXT),
    *(
        ("resume", {**EXTENDED_GOOD["resume"], "received": bad}, "$.received")
        for bad in [*NO_NUMBER, -1, 0.5, 2**53 + 2, 1e300, 10**30]
    ),
    *(
        ("resume", {**EXTENDED_GOOD["resume"], "heardMs": bad}, "$.heardMs")
        for bad in [*NO_NUMBER, -1, 2**53 + 2, 1e300, 10**30]
    ),
    *((kind, {"id": bad}, "$.id") for kind in ("ping", "pong") for bad in NO_ID),
    *(("pong", {"id": 1, "echoTime": bad}, "$.echoTime") for bad in NO_NUMBER),
    *(("activity_start", {"timestamp": bad}, "$.timestamp") for bad in NO_NUMBER),
    *(("activity_end", {"timestamp": bad}, "$.timestamp") for bad in NO_NUMBER),
    *(("interrupt", {"responseId": bad}, "$.responseId") for bad in [*NO_TEXT, "x" * 129]),
    *(("playback_mark", {"responseId": bad, "playedMs": 1}, "$.responseId") for bad in [*NO_TEXT, "x" * 129]),
    *(
        ("playback_mark", {"responseId": "r", "playedMs": bad}, "$.playedMs")
        for bad in [*NO_NUMBER, -1, 1e300]
    ),
    *(("tool_result", {"callId": bad, "result": 1}, "$.callId") for bad in [*NO_TEXT, "x" * 129]),
    *(("tool_result", {"callId": "c", "error": bad}, "$.error") for bad in [*NO_TEXT, "x" * 4097]),
    *(("provoke", {"what": bad}, "$.what") for bad in [*NO_TEXT, "", "Rotation", "rotation "]),
]


words = st.text(st.characters(codec="utf-8"), max_size=20)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | words,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(words, children, max_size=4),
    max_leaves=10,
)


def _sample(kind: inspect.Type, whole: bool = False) -> st.SearchStrategy[Any]:
    """Return what a field of this type may hold, within what every JSON reader takes."""
    match kind:
        case inspect.Metadata(type=inner, extra_json_schema=extra):
            return _sample(inner, whole=extra == {"multipleOf": 1})
        case inspect.StructType(cls=cls):
            return samples(cls)
        case inspect.UnionType(types=types):
            return st.one_of([_sample(inner, whole) for inner in types])
        case inspect.LiteralType(values=values):
            return st.sampled_from(values)
        case inspect.StrType(pattern=str()):
            return st.from_regex(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,3}", fullmatch=True)
        case inspect.StrType():
            return words
        case inspect.BytesType():
            return st.binary()
        case inspect.BoolType():
            return st.booleans()
        case inspect.FloatType(ge=least, le=most) if whole:
            return st.integers(
                -(2**53) if least is None else int(least), 2**53 if most is None else int(most)
            ).map(float)
        case inspect.FloatType(ge=least, le=most):
            return st.floats(least, most, allow_nan=False, allow_infinity=False)
        case inspect.IntType():
            return st.integers(-(2**53), 2**53)
        case inspect.VarTupleType(item_type=item, max_length=most):
            return st.lists(_sample(item), max_size=min(most or 4, 4)).map(tuple)
        case inspect.DictType():
            return st.dictionaries(words, json_values, max_size=4)
        case inspect.AnyType():
            return json_values
        case _:
            raise ValueError(f"No sample is known of {kind}.")


def samples(cls: type[Struct]) -> st.SearchStrategy[Any]:
    """Return messages of a class, any of its optional fields left out."""
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType)
    required = {field.name: _sample(field.type) for field in info.fields if field.required}
    optional = {field.name: _sample(field.type) for field in info.fields if not field.required}
    return st.fixed_dictionaries(required, optional=optional).map(lambda fields: cls(**fields))


def _any_of(union: object) -> st.SearchStrategy[Any]:
    return st.one_of([samples(cls) for cls in get_args(union)])


client_messages: st.SearchStrategy[messages.ClientMessage] = _any_of(messages.ClientMessage)
server_messages: st.SearchStrategy[messages.ServerMessage] = _any_of(messages.ServerMessage)
extended_client_messages: st.SearchStrategy[extension.ClientMessage] = _any_of(extension.ClientMessage)
extended_server_messages: st.SearchStrategy[extension.ServerMessage] = _any_of(extension.ServerMessage)
