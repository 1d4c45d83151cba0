"""extension.py: the messages of `antiphon.v1`, and what is said of what should not have been sent."""

from __future__ import annotations

import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from antiphon import messages
from antiphon.errors import DISPOSITIONS, ErrorCode, GatewayError
from antiphon.extension import (
    FEATURES,
    ActivityEnd,
    ActivityStart,
    AudioStreamStart,
    ClientHello,
    ClientMessage,
    Extension,
    Interrupt,
    Ping,
    PlaybackMark,
    Pong,
    Provoke,
    Resume,
    ServerMessage,
    StreamConfig,
    ToolResult,
    decode,
    decode_server,
)
from antiphon.messages import MAX_CONTEXT_NESTING, encode, error_message
from unit.wire import (
    CONFIG,
    EXTENDED_BAD_FIELDS,
    EXTENDED_CONFIG,
    EXTENDED_GOOD,
    GOOD,
    OPTIONAL,
    SERVER_GOOD,
    extended_client_messages,
    extended_server_messages,
    frame,
    json_values,
    server_messages,
)


def refusal(data: bytes | str) -> GatewayError:
    with pytest.raises(GatewayError) as caught:
        decode(data)
    assert caught.value.message[0].isupper()
    assert caught.value.message.endswith(".")
    return caught.value


# ---- good messages


def test_messages_as_a_client_writes_them() -> None:
    at = 1_790_000_000_000
    config = StreamConfig(sample_rate=16000, format="audio/ogg;codecs=opus", language="en-US")
    extended = [kind for kind in EXTENDED_GOOD if EXTENDED_GOOD[kind] != GOOD.get(kind)]
    assert [decode(frame(kind, **EXTENDED_GOOD[kind])) for kind in extended] == [
        AudioStreamStart(timestamp=at, config=config),
        ClientHello(
            timestamp=at,
            features=("playback_mark", "unheard_of"),
            output_formats=("audio/flac",),
            binary_audio=True,
            playback_buffer_ms=30_000,
        ),
        Resume(timestamp=at, token="t", session_id="s1", resume_token="r", received=12, heard_ms=250.5),
        Ping(timestamp=at, id="p1"),
        Pong(timestamp=at, id=1, echo_time=at + 0.5),
        ActivityStart(timestamp=at),
        ActivityEnd(timestamp=at),
        Interrupt(timestamp=at, response_id="r1"),
        PlaybackMark(timestamp=at, response_id="r1", played_ms=1234.5),
        ToolResult(timestamp=at, call_id="c1", result={"done": [True, None, "é"]}, error="It is closed."),
        Provoke(timestamp=at, what="rotation"),
    ]


@pytest.mark.parametrize("kind", SERVER_GOOD)
def test_messages_as_a_client_reads_them(kind: str) -> None:
    text = frame(kind, **SERVER_GOOD[kind])
    message = decode_server(text)
    assert message.__struct_config__.tag == kind
    assert json.loads(encode(message)) == json.loads(text)


@pytest.mark.parametrize(
    "kind", [kind for kind in EXTENDED_GOOD if kind not in GOOD or kind == "audio_stream_start"]
)
def test_the_base_knows_none_of_them(kind: str) -> None:
    with pytest.raises(GatewayError) as caught:
        messages.decode(frame(kind, **EXTENDED_GOOD[kind]))
    unknown = kind not in GOOD
    expected = ErrorCode.PROTOCOL_UNKNOWN_TYPE if unknown else ErrorCode.PROTOCOL_BAD_MESSAGE
    assert caught.value.code is expected
    assert caught.value.details == {"path": "$.type" if unknown else "$.config.format"}


@pytest.mark.parametrize("kind", GOOD)
def test_what_the_base_takes_is_taken(kind: str) -> None:
    text = frame(kind, **GOOD[kind])
    assert encode(decode(text)) == encode(messages.decode(text))


@pytest.mark.parametrize("kind", EXTENDED_GOOD)
def test_all_that_holds_bytes_is_decoded_alike(kind: str) -> None:
    text = frame(kind, **EXTENDED_GOOD[kind])
    raw = text.encode()
    assert decode(text) == decode(raw) == decode(bytearray(raw)) == decode(memoryview(raw))


@pytest.mark.parametrize("kind", EXTENDED_GOOD)
def test_unknown_fields_are_ignored(kind: str) -> None:
    more = {"x": {"y": [1, None, "z"]}, "Id": 1, "played_ms": 1}
    fields = EXTENDED_GOOD[kind]
    assert decode(frame(kind, **fields, **more)) == decode(frame(kind, **fields))


@pytest.mark.parametrize("kind", EXTENDED_GOOD)
def test_what_may_be_left_out(kind: str) -> None:
    message = json.loads(frame(kind, **EXTENDED_GOOD[kind]))
    for field in OPTIONAL.get(kind, ()):
        del message[field]
    decoded = decode(json.dumps(message))
    assert isinstance(decoded, ToolResult) or json.loads(encode(decoded)) == message


def test_a_result_that_is_left_out_is_null() -> None:
    message = ToolResult(call_id="c", result=None)
    assert decode('{"type":"tool_result","callId":"c"}') == message
    assert decode('{"type":"tool_result","callId":"c","result":null}') == message
    assert message.error is UNSET


@pytest.mark.parametrize("ping_id", ["", "x" * 128, "é\U0001f600", 0, -1, 2**64, 1.5, 1e300])
def test_a_ping_s_id_comes_back_as_it_was(ping_id: str | float) -> None:
    message = decode(frame("ping", id=ping_id))
    assert isinstance(message, Ping)
    assert message.id == ping_id
    assert type(message.id) is type(ping_id)


@pytest.mark.parametrize("played_ms", [0, -0.0, 0.25, 2**53])
def test_times(played_ms: float) -> None:
    message = decode(frame("playback_mark", responseId="r", playedMs=played_ms))
    assert isinstance(message, PlaybackMark)
    assert message.played_ms == played_ms


@pytest.mark.parametrize("received", [0, 1, 3.0, 2**53])
def test_counts(received: float) -> None:
    message = decode(frame("resume", token="t", sessionId="s", resumeToken="r", received=received))
    assert isinstance(message, Resume)
    assert message.received == received


def test_secrets_are_not_shown() -> None:
    message = Resume(token="secret", session_id="s", resume_token="secret, too", received=3)
    assert "secret" not in repr(message)
    assert repr(message) == "Resume(session_id='s', received=3)"


@pytest.mark.parametrize("field", ["features", "outputFormats"])
@pytest.mark.parametrize("names", [[], ["x" * 128] * 64, [""], ["a", "a"]])
def test_lists(field: str, names: list[str]) -> None:
    message = decode(frame("client_hello", **{field: names}))
    assert isinstance(message, ClientHello)
    assert (message.features if field == "features" else message.output_formats) == tuple(names)


# ---- round trips


@given(extended_client_messages)
def test_client_messages_survive_the_wire(message: ClientMessage) -> None:
    assert decode(encode(message)) == message


@given(extended_server_messages)
def test_server_messages_survive_the_wire(message: ServerMessage) -> None:
    assert decode_server(encode(message)) == message


@given(server_messages)
def test_base_messages_are_read_by_both_clients(message: messages.ServerMessage) -> None:
    assert decode_server(encode(message)) == messages.decode_server(encode(message)) == message


def test_a_client_refuses_what_is_no_server_message() -> None:
    for text in ["{}", "[", frame("client_hello"), frame("ping"), '{"type":"ping","id":1}']:
        with pytest.raises(msgspec.DecodeError):
            decode_server(text)


def tags(union: object) -> list[object]:
    return [member.__struct_config__.tag for member in get_args(union)]


def test_the_extensions_are_beside_the_base_messages() -> None:
    assert tags(ClientMessage) == list(EXTENDED_GOOD)
    assert tags(ClientMessage)[:5] == tags(messages.ClientMessage)
    assert tags(ServerMessage) == list(SERVER_GOOD)
    assert tags(ServerMessage) == tags(messages.ServerMessage) + tags(Extension)
    assert list(FEATURES) == sorted(set(FEATURES))


# ---- messages that are refused


@pytest.mark.parametrize(("kind", "fields", "path"), EXTENDED_BAD_FIELDS)
def test_a_bad_field_is_named(kind: str, fields: dict[str, Any], path: str) -> None:
    error = refusal(frame(kind, **fields))
    assert error.code is ErrorCode.PROTOCOL_BAD_MESSAGE
    assert error.details == {"path": path}
    assert path in error.message


MISSING = [
    *(
        (kind, field, f"$.{field}")
        for kind, fields in EXTENDED_GOOD.items()
        for field in ["timestamp", "type", *fields]
        if field not in OPTIONAL.get(kind, ())
    ),
    *(("audio_stream_start", f"config.{field}", f"$.config.{field}") for field in EXTENDED_CONFIG),
]


@pytest.mark.parametrize(("kind", "field", "path"), MISSING)
def test_a_missing_field_is_named(kind: str, field: str, path: str) -> None:
    message = json.loads(frame(kind, **EXTENDED_GOOD[kind]))
    parent, _, name = field.rpartition(".")
    del (message[parent] if parent else message)[name]
    error = refusal(json.dumps(message))
    assert error.code is ErrorCode.PROTOCOL_BAD_MESSAGE
    assert error.details == {"path": path}


SERVER_ONLY = [tag for tag in tags(ServerMessage) if tag not in tags(ClientMessage)]


@pytest.mark.parametrize("kind", ["", "Ping", "ping ", "activity", *SERVER_ONLY])
def test_unknown_types(kind: str) -> None:
    error = refusal(frame(kind, id=1))
    assert error.code is ErrorCode.PROTOCOL_UNKNOWN_TYPE
    assert error.details == {"path": "$.type"}


@pytest.mark.parametrize("config", [{**CONFIG, "format": "audio/ogg"}, {**CONFIG, "format": "OPUS"}])
def test_other_stream_formats(config: dict[str, Any]) -> None:
    assert refusal(frame("audio_stream_start", config=config)).details == {"path": "$.config.format"}


@pytest.mark.parametrize(
    ("kind", "rest", "path"),
    [
        ("client_hello", '"playbackBufferMs":{}', "$.playbackBufferMs"),
        ("client_hello", '"timestamp":{}', "$.timestamp"),
        ("resume", '"token":"t","sessionId":"s","resumeToken":"r","received":{}', "$.received"),
        ("ping", '"id":{}', "$.id"),
        ("pong", '"id":1,"echoTime":{}', "$.echoTime"),
        ("playback_mark", '"responseId":"r","playedMs":{}', "$.playedMs"),
        ("tool_result", '"callId":"c","result":{}', "$.result"),
        ("tool_result", '"callId":"c","result":[{}]', "$.result[0]"),
        ("tool_result", '"callId":"c","result":{{"a":{}}}', "$.result[...]"),
    ],
)
def test_numbers_out_of_all_range(kind: str, rest: str, path: str) -> None:
    for number in ["1" + "0" * 5000, "1e999", "-1e999"]:
        error = refusal(f'{{"type":"{kind}",{rest.format(number)}}}')
        assert error.code is ErrorCode.PROTOCOL_BAD_MESSAGE
        assert error.details == {"path": path}
    for number in ["NaN", "Infinity", "-Infinity", "01", "+1", "1."]:
        assert refusal(f'{{"type":"{kind}",{rest.format(number)}}}').code is ErrorCode.PROTOCOL_BAD_JSON


@pytest.mark.parametrize("number", [10**30, -(10**4000)])
def test_a_result_holds_any_whole_number(number: int) -> None:
    message = decode(f'{{"type":"tool_result","callId":"c","result":[{number}]}}')
    assert isinstance(message, ToolResult)
    assert message.result == [number]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"type":"ping","id":1}{}',
        '{"type":"ping","id":"\\ud800"}',
        '{"type":"interrupt","responseId":"\\udc00\\ud800"}',
        '{"type":"client_hello","features":["\\ud800x"]}',
        '{"type":"tool_result","callId":"c","result":"\\ud800"}',
        '{"type":"tool_result","callId":"c","result":{"\\ud800":1}}',
        '{"type":"tool_result","callId":"c","result":"\n"}',
    ],
)
def test_what_is_no_json(text: str) -> None:
    assert refusal(text).code is ErrorCode.PROTOCOL_BAD_JSON
    assert refusal(text.encode()).code is ErrorCode.PROTOCOL_BAD_JSON


@pytest.mark.parametrize(
    "data",
    [
        b'{"type":"ping","id":"\xff"}',
        b'{"type":"ping","id":1,"more":"\xff"}',
        b'{"type":"tool_result","callId":"c","result":"\xed\xa0\x80"}',
        b'{"type":"tool_result","callId":"c","result":{"\xc0\x80":1}}',
        '{"type":"ping","id":"\ud800"}',
    ],
)
def test_what_is_no_utf8(data: bytes | str) -> None:
    assert refusal(data).code is ErrorCode.PROTOCOL_BAD_ENCODING


@pytest.mark.parametrize("bracket", ["[", '{"a":'])
@pytest.mark.parametrize("kind", ["tool_result", "ping"])
def test_json_without_a_bottom(kind: str, bracket: str) -> None:
    error = refusal(f'{{"type":"{kind}","callId":"c","result":{bracket * 1_000_000}')
    assert error.code is ErrorCode.PROTOCOL_BAD_JSON
    assert "deeply" in error.message


@pytest.mark.parametrize(
    ("kind", "field"), [("tool_result", "result"), ("command", "context")], ids=["result", "context"]
)
@pytest.mark.parametrize(
    "wrap", [lambda inner: [inner], lambda inner: {"a": inner}], ids=["arrays", "objects"]
)
def test_values_may_be_nested_64_deep(kind: str, field: str, wrap: Any) -> None:
    value: Any = 1
    for _ in range(MAX_CONTEXT_NESTING - 2):
        value = wrap(value)
    fields = {**EXTENDED_GOOD[kind], field: {"a": value}}
    decode(frame(kind, **fields))
    error = refusal(frame(kind, **{**fields, field: {"a": wrap(value)}}))
    assert error.code is ErrorCode.PROTOCOL_BAD_MESSAGE
    assert error.details == {"path": f"$.{field}"}
    assert field in error.message


def test_an_answer_quotes_little_and_is_not_led_astray() -> None:
    error = refusal(frame("interrupt", responseId=["x" * 60_000]))
    assert len(error.message) < 300
    for trick in ["Object missing required field `id`", "X - at `$.id`", "X` - at `$.id"]:
        error = refusal(frame("audio_stream_start", config={**EXTENDED_CONFIG, "format": trick}))
        assert error.details == {"path": "$.config.format"}


# ---- anything at all

fields = st.dictionaries(
    st.sampled_from(["type", "timestamp", *{field for good in EXTENDED_GOOD.values() for field in good}]),
    json_values | st.sampled_from([*EXTENDED_GOOD, EXTENDED_CONFIG, ["a"], 1]),
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
        assert isinstance(decode_server(encode(error_message(result, 1))), messages.Error)
    else:
        assert decode(encode(result)) == result


@given(st.data())
def test_a_damaged_message_is_a_message_or_a_refusal(data: st.DataObject) -> None:
    raw = bytearray(encode(data.draw(extended_client_messages)))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    result = outcome(bytes(raw))
    assert not isinstance(result, GatewayError) or result.code.value.startswith("PROTOCOL_")
