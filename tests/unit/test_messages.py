"""messages.py: what goes over the wire, and what is said of what should not have."""

from __future__ import annotations

import base64
import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from antiphon.errors import DISPOSITIONS, ErrorCode, GatewayError
from antiphon.messages import (
    MAX_CONTEXT_NESTING,
    AudioChunk,
    AudioResponse,
    AudioStreamEnd,
    AudioStreamStart,
    Auth,
    AuthSuccess,
    ClientMessage,
    Command,
    Error,
    RecognitionResult,
    ServerMessage,
    StreamConfig,
    decode,
    decode_server,
    decode_with,
    encode,
    error_message,
    require_integer,
    require_shallow,
)
from unit.wire import BAD_FIELDS, CONFIG, GOOD, client_messages, frame, json_values, server_messages


def refusal(data: bytes | str) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        decode(data)
    assert caught.value.message[0].isupper()
    assert caught.value.message.endswith(".")
    return caught.value


# ---- good messages


def test_client_messages_as_a_client_writes_them() -> None:
    at = 1_790_000_000_000
    config = StreamConfig(sample_rate=16000, format="FLAC", language="en-US")
    assert [decode(frame(kind, **fields)) for kind, fields in GOOD.items()] == [
        Auth(timestamp=at, token="t"),
        AudioStreamStart(timestamp=at, config=config),
        AudioChunk(timestamp=at, data=b"\x00\x01\x02", sequence=7),
        AudioStreamEnd(timestamp=at, duration=1234.5),
        Command(timestamp=at, command="next", context={"page": 3}),
    ]


def test_server_messages_as_a_client_reads_them() -> None:
    messages: list[ServerMessage] = [
        AuthSuccess(timestamp=1, session_id="s", user_id="u"),
        RecognitionResult(timestamp=2, transcript="go on", confidence=0.5, is_final=False),
        RecognitionResult(timestamp=3, transcript="next", confidence=0.0, command="next", is_final=True),
        AudioResponse(
            timestamp=4, data=b"\xff", format="audio/pcm;rate=24000", duration=0.5, text="é", language="fr"
        ),
        Error(timestamp=5, code="SERVER_INTERNAL", message="m"),
    ]
    assert [json.loads(encode(message)) for message in messages] == [
        {"type": "auth_success", "timestamp": 1, "sessionId": "s", "userId": "u"},
        {
            "type": "recognition_result",
            "timestamp": 2,
            "transcript": "go on",
            "confidence": 0.5,
            "isFinal": False,
        },
        {
            "type": "recognition_result",
            "timestamp": 3,
            "transcript": "next",
            "confidence": 0.0,
            "command": "next",
            "isFinal": True,
        },
        {
            "type": "audio_response",
            "timestamp": 4,
            "data": "/w==",
            "format": "audio/pcm;rate=24000",
            "duration": 0.5,
            "text": "é",
            "language": "fr",
        },
        {"type": "error", "timestamp": 5, "code": "SERVER_INTERNAL", "message": "m"},
    ]
    assert [decode_server(encode(message)) for message in messages] == messages


@pytest.mark.parametrize("text", [frame(kind, **fields) for kind, fields in GOOD.items()], ids=GOOD)
def test_all_that_holds_bytes_is_decoded_alike(text: str) -> None:
    raw = text.encode()
    assert decode(text) == decode(raw) == decode(bytearray(raw)) == decode(memoryview(raw))


@pytest.mark.parametrize("kind", GOOD)
def test_unknown_fields_are_ignored(kind: str) -> None:
    more = {"x": {"y": [1, None, "z"]}, "Token": 1}
    assert decode(frame(kind, **GOOD[kind], **more)) == decode(frame(kind, **GOOD[kind]))
    if kind == "audio_stream_start":
        assert decode(frame(kind, config={**CONFIG, "channels": 2})) == decode(frame(kind, **GOOD[kind]))


def test_a_token_is_not_shown() -> None:
    message = decode(frame("auth", token="tell-nobody"))
    assert "tell-nobody" not in repr(message)
    assert "tell-nobody" not in f"{message}"


@pytest.mark.parametrize("number", [0, -3, 16.0, 1e3, 2**53, -(2**53)])
def test_whole_numbers_may_be_written_either_way(number: float) -> None:
    message = decode(frame("audio_chunk", data="", sequence=number))
    assert isinstance(message, AudioChunk)
    assert message.sequence == number


@pytest.mark.parametrize("rate_hz", [8000, 11025, 22050.0, 44100, 48000])
def test_sample_rates(rate_hz: float) -> None:
    message = decode(frame("audio_stream_start", config={**CONFIG, "sampleRate": rate_hz}))
    assert isinstance(message, AudioStreamStart)
    assert message.config.sample_rate == rate_hz


@pytest.mark.parametrize("language", ["en", "en-US", "zh-Hant-TW", "es-419", "de-CH-1996"])
def test_languages(language: str) -> None:
    message = decode(frame("audio_stream_start", config={**CONFIG, "language": language}))
    assert isinstance(message, AudioStreamStart)
    assert message.config.language == language


# ---- round trips


@given(client_messages)
def test_client_messages_survive_the_wire(message: ClientMessage) -> None:
    assert decode(encode(message)) == message


@given(server_messages)
def test_server_messages_survive_the_wire(message: ServerMessage) -> None:
    assert decode_server(encode(message)) == message


def test_the_nine_types_are_those_of_the_request() -> None:
    client = [member.__struct_config__.tag for member in get_args(ClientMessage)]
    server = [member.__struct_config__.tag for member in get_args(ServerMessage)]
    assert client == ["auth", "audio_stream_start", "audio_chunk", "audio_stream_end", "command"]
    assert server == ["auth_success", "recognition_result", "audio_response", "error"]


# ---- messages that are refused


@pytest.mark.parametrize(("kind", "fields", "path"), BAD_FIELDS)
def test_a_bad_field_is_named(kind: str, fields: dict[str, Any], path: str) -> None:
    error = refusal(frame(kind, **fields))
    assert error.code is ErrorCode.PROTOCOL_BAD_MESSAGE
    assert error.details == {"path": path}
    assert path in error.message


MISSING = [
    *(
        (kind, field, f"$.{field}")
        for kind, fields in GOOD.items()
        for field in ["timestamp", "type", *fields]
        if field != "context"
    ),
    *(("audio_stream_start", f"config.{field}", f"$.config.{field}") for field in CONFIG),
]


@pytest.mark.parametrize(("kind", "field", "path"), MISSING)
def test_a_missing_field_is_named(kind: str, field: str, path: str) -> None:
    message = json.loads(frame(kind, **GOOD[kind]))
    parent, _, name = field.rpartition(".")
    del (message[parent] if parent else message)[name]
    error = refusal(json.dumps(message))
    assert error.code is ErrorCode.PROTOCOL_BAD_MESSAGE
    assert error.details == {"path": path}


def test_the_context_may_be_left_out() -> None:
    message = decode(frame("command", command="next"))
    assert isinstance(message, Command)
    assert message.context is UNSET


@pytest.mark.parametrize("kind", ["", "Auth", "auth ", "ping", "auth_success", "error", "x" * 1000])
def test_unknown_types(kind: str) -> None:
    error = refusal(frame(kind))
    assert error.code is ErrorCode.PROTOCOL_UNKNOWN_TYPE
    assert error.details == {"path": "$.type"}


@pytest.mark.parametrize("kind", [None, 5, [], {}, True])
def test_a_type_that_is_no_text_is_a_bad_field(kind: object) -> None:
    error = refusal(frame(kind))
    assert error.code is ErrorCode.PROTOCOL_BAD_MESSAGE
    assert error.details == {"path": "$.type"}


@pytest.mark.parametrize("text", ["[]", "5", "null", '""', "true", '["auth"]'])
def test_what_is_no_object_is_a_bad_message(text: str) -> None:
    error = refusal(text)
    assert error.code is ErrorCode.PROTOCOL_BAD_MESSAGE
    assert error.details == {"path": "$"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        "}",
        "{'type':'auth'}",
        "NaN",
        "\ufeff{}",
        frame("auth", token="t") + "{}",
        frame("auth", token="t")[:-1],
        '{"type":"auth","timestamp":NaN,"token":"t"}',
        '{"type":"auth","timestamp":01,"token":"t"}',
        '{"type":"auth","timestamp":1,"token":"\\ud800"}',
        '{"type":"auth","timestamp":1,"token":"\n"}',
    ],
)
def test_what_is_no_json(text: str) -> None:
    assert refusal(text).code is ErrorCode.PROTOCOL_BAD_JSON
    assert refusal(text.encode()).code is ErrorCode.PROTOCOL_BAD_JSON


@pytest.mark.parametrize(
    "data",
    [
        b"\xff",
        b'{"type":"auth","timestamp":1,"token":"\xff"}',
        b'{"type":"auth","timestamp":1,"token":"t","more":"\xff"}',
        b'{"\xff":1,"type":"auth"}',
        b'{"type":"\xff"}',
        b'{"type":"auth","timestamp":1,"token":"\xed\xa0\x80"}',
        b"\xc0\x80",
        "\ud800",
    ],
)
def test_what_is_no_utf8(data: bytes | str) -> None:
    assert refusal(data).code is ErrorCode.PROTOCOL_BAD_ENCODING


@pytest.mark.parametrize("number", ["1" + "0" * 5000, "1e999", "-1e999"])
def test_numbers_out_of_all_range(number: str) -> None:
    error = refusal(f'{{"type":"audio_stream_end","timestamp":1,"duration":{number}}}')
    assert error.code is ErrorCode.PROTOCOL_BAD_MESSAGE
    assert error.details == {"path": "$.duration"}


@pytest.mark.parametrize("where", ["context", "more"])
@pytest.mark.parametrize("bracket", ["[", '{"a":'])
def test_json_without_a_bottom(where: str, bracket: str) -> None:
    text = f'{{"type":"command","timestamp":1,"command":"x","{where}":{{"a":{bracket * 1_000_000}'
    error = refusal(text)
    assert error.code is ErrorCode.PROTOCOL_BAD_JSON
    assert "deeply" in error.message


@pytest.mark.parametrize(
    "wrap", [lambda inner: [inner], lambda inner: {"a": inner}], ids=["arrays", "objects"]
)
def test_a_context_may_be_nested_64_deep(wrap: Any) -> None:
    context: Any = 1
    for _ in range(MAX_CONTEXT_NESTING - 2):
        context = wrap(context)
    assert isinstance(decode(frame("command", command="x", context={"a": context})), Command)
    error = refusal(frame("command", command="x", context={"a": wrap(context)}))
    assert error.code is ErrorCode.PROTOCOL_BAD_MESSAGE
    assert error.details == {"path": "$.context"}


def test_an_answer_quotes_little_and_is_not_led_astray() -> None:
    error = refusal(frame("audio_stream_start", config={**CONFIG, "format": "x" * 60_000}))
    assert len(error.message) < 300
    for trick in [
        "missing required field `token`",
        "Object missing required field `token`",
        "X - at `$.token`",
        "X' - at `$.token",
    ]:
        error = refusal(frame("audio_stream_start", config={**CONFIG, "format": trick}))
        assert error.details == {"path": "$.config.format"}


# ---- what the extension shares

lists: msgspec.json.Decoder[list[int | float]] = msgspec.json.Decoder(list[int | float])


def test_other_messages_are_decoded_alike() -> None:
    for data in ("[1, 0.5]", b"[1, 0.5]", bytearray(b"[1, 0.5]"), memoryview(b"[1, 0.5]")):
        assert decode_with(lists, data) == [1, 0.5]


@pytest.mark.parametrize(
    ("data", "code", "details"),
    [
        ("{}", ErrorCode.PROTOCOL_BAD_MESSAGE, {"path": "$"}),
        ('[1, "x"]', ErrorCode.PROTOCOL_BAD_MESSAGE, {"path": "$[1]"}),
        ("[1e999]", ErrorCode.PROTOCOL_BAD_MESSAGE, {"path": "$[0]"}),
        ("[NaN]", ErrorCode.PROTOCOL_BAD_JSON, {}),
        ("[1", ErrorCode.PROTOCOL_BAD_JSON, {}),
        (b"[1]\xff", ErrorCode.PROTOCOL_BAD_ENCODING, {}),
    ],
)
def test_other_messages_are_refused_alike(
    data: bytes | str, code: ErrorCode, details: dict[str, Any]
) -> None:
    with pytest.raises(GatewayError) as caught:
        decode_with(lists, data)
    assert (caught.value.code, caught.value.details) == (code, details)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 0.5, 2**53 + 1, -(2.0**54)])
def test_what_is_no_whole_number(number: float) -> None:
    with pytest.raises(GatewayError, match=r"whole number at \$\.x\.") as caught:
        require_integer(number, "$.x")
    assert caught.value.details == {"path": "$.x"}


@given(json_values, st.integers(1, 6))
def test_depth_is_counted_alike_in_lists_and_objects(value: Any, levels: int) -> None:
    def depth(inner: Any) -> int:
        children = inner.values() if isinstance(inner, dict) else inner if isinstance(inner, list) else ()
        return 1 + max(map(depth, children), default=0)

    if depth(value) <= levels:
        require_shallow(value, "result", levels)
    else:
        with pytest.raises(GatewayError, match=r"result is nested too deeply at \$\.result\.") as caught:
            require_shallow(value, "result", levels)
        assert caught.value.details == {"path": "$.result"}


# ---- anything at all

fields = st.dictionaries(
    st.sampled_from(
        ["type", "timestamp", "token", "config", "data", "sequence", "duration", "command", "context"]
    ),
    json_values | st.sampled_from([*GOOD, CONFIG, "AAEC", 1]),
)


def outcome(data: bytes | str) -> ClientMessage | GatewayError:
    try:
        return decode(data)
    except GatewayError as error:
        return error


@given(st.binary() | st.text() | fields.map(json.dumps) | json_values.map(json.dumps))
def test_anything_is_a_message_or_a_refusal(data: bytes | str) -> None:
    result = outcome(data)
    if isinstance(result, GatewayError):
        assert result.code.value.startswith("PROTOCOL_")
        assert DISPOSITIONS[result.code].close is None
        assert isinstance(decode_server(encode(error_message(result, 1))), Error)
    else:
        assert decode(encode(result)) == result


@given(st.data())
def test_a_damaged_message_is_a_message_or_a_refusal(data: st.DataObject) -> None:
    raw = bytearray(encode(data.draw(client_messages)))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    result = outcome(bytes(raw))
    assert not isinstance(result, GatewayError) or result.code.value.startswith("PROTOCOL_")


# ---- errors on the wire


@pytest.mark.parametrize("code", ErrorCode)
def test_an_error_on_the_wire_carries_its_disposition(code: ErrorCode) -> None:
    text = json.loads(encode(error_message(GatewayError(code), 7)))
    disposition = DISPOSITIONS[code]
    assert text == {
        "type": "error",
        "timestamp": 7,
        "code": code.value,
        "message": disposition.message,
        "details": {"fatal": disposition.close is not None, "retryable": disposition.retryable},
    }


def test_an_error_on_the_wire_carries_its_details() -> None:
    error = GatewayError(ErrorCode.AUDIO_SEQUENCE_GAP, "A gap.", expected=3, received=5, sequence=5)
    message = error_message(error, 7, trace_id="t1")
    assert json.loads(encode(message))["details"] == {
        "fatal": False,
        "retryable": False,
        "expected": 3,
        "received": 5,
        "sequence": 5,
        "traceId": "t1",
    }
    quota = error_message(GatewayError(ErrorCode.QUOTA_CONNECTIONS, retryAfterMs=500), 7)
    assert json.loads(encode(quota))["details"]["retryAfterMs"] == 500


def test_a_client_refuses_what_is_no_server_message() -> None:
    for text in ["{}", "[", frame("auth", token="t"), frame("error", code=1, message="m")]:
        with pytest.raises(msgspec.DecodeError):
            decode_server(text)


def test_base64_of_any_length_is_decoded() -> None:
    for length in range(8):
        raw = bytes(range(length))
        message = decode(frame("audio_chunk", data=base64.b64encode(raw).decode(), sequence=1))
        assert isinstance(message, AudioChunk)
        assert message.data == raw
