"""What a client's bytes mean."""

from contextlib import suppress
from typing import Any

import pytest
from google.ai.generativelanguage_v1beta.types import generative_service
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from antiphon.engine import wire
from antiphon.engine.memory import Entry
from antiphon.engine.phrases import MAX_PHRASES, Call, Function, Grammar, Parameter
from antiphon.engine.wire import (
    ActivityEnded,
    ActivityStarted,
    Audio,
    AudioEnded,
    Content,
    Invalid,
    Setup,
    ToolResult,
    Typed,
)

ClientMessage = generative_service.BidiGenerateContentClientMessage.pb()
GRAMMAR = Grammar()


def parse(message: dict[str, Any]) -> list[wire.ClientInput]:
    """Parse a client message given in protobuf's JSON form."""
    return wire.parse(json_format.ParseDict(message, ClientMessage()).SerializeToString())


def parse_setup(**fields: Any) -> Setup:
    (setup,) = parse({"setup": {"model": "models/any", **fields}})
    assert isinstance(setup, Setup)
    return setup


def declared(*declarations: dict[str, Any]) -> tuple[Function, ...]:
    return parse_setup(tools=[{"functionDeclarations": list(declarations)}]).grammar.functions


def test_a_bare_setup() -> None:
    setup = parse_setup()
    assert replace(setup, grammar=GRAMMAR) == Setup(GRAMMAR)
    assert setup.grammar.functions == ()


def test_a_full_setup() -> None:
    setup = parse_setup(
        generationConfig={"responseModalities": ["AUDIO"], "speechConfig": {"languageCode": "de-DE"}},
        systemInstruction={"parts": [{"text": "12345678"}]},
        realtimeInputConfig={
            "automaticActivityDetection": {"disabled": True},
            "activityHandling": "NO_INTERRUPTION",
        },
        sessionResumption={"handle": "h"},
        inputAudioTranscription={},
        outputAudioTranscription={},
        tools=[{"googleSearch": {}}],
    )
    assert replace(setup, grammar=GRAMMAR, tokens=0) == Setup(
        GRAMMAR,
        language="de-DE",
        transcribes_input=True,
        transcribes_output=True,
        detects_activity=False,
        interruptible=False,
        resumable=True,
        handle="h",
        instruction="12345678",
    )
    assert setup.tokens >= 2
    assert not parse_setup(sessionResumption={}).handle


def test_functions_with_their_phrases_and_parameters() -> None:
    assert declared(
        {"name": "next", "description": 'Skip. Said as: "next", "skip".'},
        {
            "name": "go",
            "parameters": {
                "type": "OBJECT",
                "properties": {
                    "count": {"type": "INTEGER"},
                    "where": {"type": "STRING", "enum": ["home", "back"]},
                    "level": {"type": "NUMBER"},
                    "on": {"type": "BOOLEAN"},
                    "list": {"type": "ARRAY"},
                },
                "required": ["count"],
            },
        },
    ) == (
        Function("next", ("next", "skip")),
        Function(
            "go",
            (),
            {
                "count": Parameter("integer", required=True),
                "where": Parameter("string", enum=("home", "back")),
                "level": Parameter("number"),
                "on": Parameter("boolean"),
                "list": Parameter("other"),
            },
        ),
    )


def test_parameters_by_json_schema() -> None:
    (function,) = declared(
        {
            "name": "go",
            "parametersJsonSchema": {
                "type": "object",
                "properties": {
                    "count": {"type": "integer"},
                    "where": {"type": "string", "enum": ["home", 3]},
                    "odd": {"type": ["string", "null"]},
                    "any": True,
                },
                "required": ["count"],
            },
        }
    )
    assert function.parameters == {
        "count": Parameter("integer", required=True),
        "where": Parameter("string", enum=("home",)),
        "odd": Parameter("other"),
        "any": Parameter("other"),
    }
    assert declared({"name": "go", "parametersJsonSchema": {"type": "object"}}) == (Function("go"),)


def test_functions_are_kept_as_a_chat_api_declares_them() -> None:
    stops = {"type": "ARRAY", "description": "where", "items": {"type": "STRING", "enum": ["a", "b"]}}
    setup = parse_setup(
        tools=[
            {
                "functionDeclarations": [
                    {
                        "name": "go",
                        "description": "Go there.",
                        "parameters": {
                            "type": "OBJECT",
                            "properties": {"stops": stops},
                            "required": ["stops"],
                        },
                    },
                    {
                        "name": "stop",
                        "parametersJsonSchema": {"type": "object", "additionalProperties": False},
                    },
                    {"name": "wait"},
                ]
            }
        ]
    )
    assert {tool["type"] for tool in setup.tools} == {"function"}
    assert [tool["function"] for tool in setup.tools] == [
        {
            "name": "go",
            "description": "Go there.",
            "parameters": {
                "type": "object",
                "properties": {
                    "stops": {
                        "type": "array",
                        "description": "where",
                        "items": {"type": "string", "enum": ["a", "b"]},
                    }
                },
                "required": ["stops"],
            },
        },
        {"name": "stop", "description": "", "parameters": {"type": "object", "additionalProperties": False}},
        {"name": "wait", "description": "", "parameters": {"type": "object", "properties": {}}},
    ]


def test_phrases_become_a_grammar() -> None:
    setup = parse_setup(
        tools=[{"functionDeclarations": [{"name": "next", "description": 'Said as: "skip this".'}]}]
    )
    assert setup.grammar.match("Skip this, please.") == Call("next", {}, "skip this")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"model": ""}, "setup.model is missing"),
        ({"generationConfig": {"responseModalities": ["TEXT"]}}, "answers with audio"),
        ({"generationConfig": {"responseModalities": ["AUDIO", "IMAGE"]}}, "answers with audio"),
        ({"tools": [{"functionDeclarations": [{"name": ""}]}]}, "without a name"),
        ({"tools": [{"functionDeclarations": [{"name": "a"}]}] * 2}, "with one name"),
        ({"tools": [{"functionDeclarations": [{"name": f"f{n}"} for n in range(257)]}]}, "At most 256"),
        (
            {"tools": [{"functionDeclarations": [{"name": "a", "parametersJsonSchema": [1]}]}]},
            "does not describe an object",
        ),
        (
            {"tools": [{"functionDeclarations": [{"name": "a", "parametersJsonSchema": {"properties": 1}}]}]},
            "does not describe an object",
        ),
        (
            {
                "tools": [
                    {
                        "functionDeclarations": [
                            {
                                "name": "a",
                                "description": "Said as: "
                                + ", ".join(f'"phrase {n}"' for n in range(MAX_PHRASES)),
                            }
                        ]
                    }
                ]
            },
            "at most 500 phrases",
        ),
    ],
)
def test_a_setup_that_cannot_be(fields: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence):
        parse_setup(**fields)


@pytest.mark.parametrize(
    ("mime_type", "rate_hz"),
    [
        ("audio/pcm;rate=16000", 16_000),
        ("audio/pcm; rate=48000", 48_000),
        ("Audio/PCM ;channels=1; Rate=8000;x", 8_000),
        ("audio/pcm", 16_000),
    ],
)
def test_audio(mime_type: str, rate_hz: int) -> None:
    assert parse({"realtimeInput": {"audio": {"mimeType": mime_type, "data": "AAEC/w=="}}}) == [
        Audio(b"\x00\x01\x02\xff", rate_hz)
    ]


@pytest.mark.parametrize(
    ("mime_type", "data"),
    [
        ("audio/pcm;rate=16000", ""),
        ("audio/pcm;rate=16000", "AA=="),
        ("audio/pcm;rate=16000", "AAEC"),
        ("audio/pcm;rate=7999", "AAE="),
        ("audio/pcm;rate=48001", "AAE="),
        ("audio/pcm;rate=0", "AAE="),
        ("audio/pcm;rate=-16000", "AAE="),
        ("audio/pcm;rate=16000.5", "AAE="),
        ("audio/pcm;rate=٤٨٠٠٠", "AAE="),
        ("audio/pcm;rate=999999999999999999", "AAE="),
        ("audio/pcm;rate=", "AAE="),
        ("audio/pcm;rate=16000;channels=2", "AAE="),
        ("audio/flac", "AAE="),
        ("", "AAE="),
        ("video/mp4", "AAE="),
    ],
)
def test_audio_that_cannot_be(mime_type: str, data: str) -> None:
    with pytest.raises(Invalid, match="Audio must "):
        parse({"realtimeInput": {"audio": {"mimeType": mime_type, "data": data}}})


def test_realtime_input_in_the_order_it_makes_sense() -> None:
    audio = {"mimeType": "audio/pcm;rate=16000", "data": "AAE="}
    assert parse(
        {"realtimeInput": {"activityEnd": {}, "activityStart": {}, "audio": audio, "text": "hi"}}
    ) == [ActivityStarted(), Audio(b"\x00\x01", 16_000), Typed("hi"), ActivityEnded()]
    assert parse({"realtimeInput": {"audioStreamEnd": True}}) == [AudioEnded()]
    assert parse({"realtimeInput": {"audioStreamEnd": False, "text": "  "}}) == []


@pytest.mark.parametrize(
    ("realtime", "sentence"),
    [
        ({"mediaChunks": [{"mimeType": "audio/pcm", "data": "AAE="}]}, "media_chunks"),
        ({"video": {"mimeType": "image/jpeg", "data": "AAE="}}, "no video"),
        ({"text": "x" * 16_001}, "16000 characters"),
    ],
)
def test_realtime_input_that_cannot_be(realtime: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence):
        parse({"realtimeInput": realtime})


def test_client_content() -> None:
    turns = [
        {"role": "user", "parts": [{"text": "one"}, {"text": "two"}]},
        {"role": "model", "parts": [{"text": "three"}]},
        {"parts": [{"text": "four"}]},
        {"role": "user", "parts": []},
    ]
    assert parse({"clientContent": {"turns": turns, "turnComplete": True}}) == [
        Content((Entry("user", "one\ntwo"), Entry("model", "three"), Entry("user", "four")), complete=True)
    ]
    with pytest.raises(Invalid, match="role"):
        parse({"clientContent": {"turns": [{"role": "system"}]}})


def test_tool_responses() -> None:
    responses = [
        {"id": "1", "name": "a", "response": {"output": {"deep": [1, None]}}, "scheduling": "SILENT"},
        {"id": "2", "name": "b", "willContinue": True, "scheduling": "INTERRUPT"},
    ]
    assert parse({"toolResponse": {"functionResponses": responses}}) == [
        ToolResult("1", "a", {"output": {"deep": [1, None]}}, silent=True, more_to_come=False),
        ToolResult("2", "b", {}, silent=False, more_to_come=True),
    ]


def test_a_tool_response_with_what_json_does_not_have() -> None:
    message = ClientMessage()
    response = message.tool_response.function_responses.add(id="1").response
    response.fields["x"].number_value = float("nan")
    with pytest.raises(Invalid, match="finite"):
        wire.parse(message.SerializeToString())


def test_a_message_of_another_kind() -> None:
    with pytest.raises(Invalid, match="neither setup"):
        wire.parse(b"")
    with pytest.raises(Invalid, match="not a BidiGenerateContentClientMessage"):
        wire.parse(b"\xff\xff\xff")


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_understood_or_invalid(data: bytes) -> None:
    with suppress(Invalid):
        wire.parse(data)
