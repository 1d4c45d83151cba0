"""Messages as they go over the wire, good, bad and arbitrary."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st
from msgspec import UNSET

from antiphon.errors import ErrorCode
from antiphon.messages import (
    AudioChunk,
    AudioResponse,
    AudioStreamEnd,
    AudioStreamStart,
    Auth,
    AuthSuccess,
    ClientMessage,
    Command,
    Error,
    ErrorDetails,
    RecognitionResult,
    ServerMessage,
    StreamConfig,
)

CONFIG = {"sampleRate": 16000, "format": "FLAC", "language": "en-US"}
GOOD: dict[str, dict[str, Any]] = {
    "auth": {"token": "t"},
    "audio_stream_start": {"config": CONFIG},
    "audio_chunk": {"data": "AAEC", "sequence": 7},
    "audio_stream_end": {"duration": 1234.5},
    "command": {"command": "next", "context": {"page": 3}},
}
"""One good message of each type, without `type` and `timestamp`."""


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


numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
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
client_messages: st.SearchStrategy[ClientMessage] = st.one_of(
    st.builds(Auth, timestamp=numbers, token=words),
    st.builds(
        AudioStreamStart,
        timestamp=numbers,
        config=st.builds(
            StreamConfig,
            sample_rate=st.integers(8000, 48000).map(float),
            format=st.sampled_from(["FLAC", "LINEAR16"]),
            language=st.from_regex(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,3}", fullmatch=True),
        ),
    ),
    st.builds(AudioChunk, timestamp=numbers, data=st.binary(), sequence=st.integers(-(2**53), 2**53)),
    st.builds(AudioStreamEnd, timestamp=numbers, duration=numbers),
    st.builds(
        Command,
        timestamp=numbers,
        command=words,
        context=st.just(UNSET) | st.dictionaries(words, json_values, max_size=4),
    ),
)
server_messages: st.SearchStrategy[ServerMessage] = st.one_of(
    st.builds(AuthSuccess, timestamp=numbers, session_id=words, user_id=words),
    st.builds(
        RecognitionResult,
        timestamp=numbers,
        transcript=words,
        confidence=st.floats(0, 1),
        command=st.just(UNSET) | words,
        is_final=st.booleans(),
    ),
    st.builds(
        AudioResponse,
        timestamp=numbers,
        data=st.binary(),
        format=words,
        duration=st.floats(0, 1e6),
        text=words,
        language=words,
    ),
    st.builds(
        Error,
        timestamp=numbers,
        code=st.sampled_from([code.value for code in ErrorCode]),
        message=words,
        details=st.just(UNSET)
        | st.builds(
            ErrorDetails,
            fatal=st.just(UNSET) | st.booleans(),
            retryable=st.just(UNSET) | st.booleans(),
            retry_after_ms=st.just(UNSET) | st.integers(0, 2**53),
            path=st.just(UNSET) | words,
        ),
    ),
)
