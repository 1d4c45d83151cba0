"""schema.py: JSON Schema, TypeScript and the error table say what the code does."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError
from msgspec import Struct

from antiphon import extension, messages, schema
from antiphon.errors import DISPOSITIONS, ErrorCode, GatewayError
from antiphon.messages import encode, error_message
from unit.wire import (
    CONFIG,
    EXTENDED_BAD_FIELDS,
    EXTENDED_GOOD,
    GOOD,
    OPTIONAL,
    SERVER_GOOD,
    client_messages,
    extended_client_messages,
    extended_server_messages,
    frame,
    json_values,
    server_messages,
)

ROOT = Path(__file__).parents[2]
TYPESCRIPT = ROOT / "tests/typescript"
REFERENCE = {
    "json-schema": ROOT / "docs/reference/messages.schema.json",
    "typescript": ROOT / "docs/reference/messages.d.ts",
    "errors": ROOT / "docs/reference/errors.md",
}


UNIONS = {
    "ClientMessage": messages.ClientMessage,
    "ServerMessage": messages.ServerMessage,
    "ExtendedClientMessage": extension.ClientMessage,
    "ExtendedServerMessage": extension.ServerMessage,
}


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator({**schema.json_schema(), "anyOf": [{"$ref": f"#/$defs/{name}"}]})


CLIENT, SERVER, EXTENDED_CLIENT, EXTENDED_SERVER = (validator(name) for name in UNIONS)
ANY = Draft202012Validator(schema.json_schema())


# ---- generated files


TYPES_OF_THE_CLIENT = ("typescript", ROOT / "clients/typescript/src/messages.ts")


@pytest.mark.parametrize(
    ("form", "path"), [*REFERENCE.items(), TYPES_OF_THE_CLIENT], ids=[*REFERENCE, "client"]
)
def test_the_reference_is_up_to_date(form: str, path: Path) -> None:
    shown = path.relative_to(ROOT)
    assert path.read_text("utf-8") == schema.render(form), f"run: antiphon schema --format {form} > {shown}"


@pytest.mark.parametrize("form", REFERENCE)
def test_the_command_prints_the_reference(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    schema.add_arguments(parser)
    assert schema.run(parser.parse_args(["--format", form])) == 0
    assert capsys.readouterr().out == schema.render(form)


def test_the_command_prints_json_schema_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    schema.add_arguments(parser)
    schema.run(parser.parse_args([]))
    assert json.loads(capsys.readouterr().out) == schema.json_schema()


# ---- JSON Schema


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(schema.json_schema())


def published(union: str) -> dict[str, type[Struct]]:
    """Return the names that the members of a union are published by, and their classes."""
    definitions = schema.json_schema()["$defs"]
    names = [member["$ref"].removeprefix("#/$defs/") for member in definitions[union]["anyOf"]]
    return dict(zip(names, get_args(UNIONS[union]), strict=True))


@pytest.mark.parametrize("union", UNIONS)
def test_messages_bear_the_published_names(union: str) -> None:
    definitions = schema.json_schema()["$defs"]
    for name, member in published(union).items():
        assert definitions[name]["properties"]["type"]["enum"] == [member.__struct_config__.tag]
        own = "ExtendedAudioStreamStart" if member is extension.AudioStreamStart else member.__name__
        assert name == f"{own}Message"


def test_every_message_is_published() -> None:
    listed = {entry["$ref"].removeprefix("#/$defs/") for entry in schema.json_schema()["anyOf"]}
    assert listed == UNIONS.keys()
    assert published("ExtendedServerMessage").keys() - published("ServerMessage").keys() == {
        name
        for name, cls in published("ExtendedServerMessage").items()
        if cls in get_args(extension.Extension)
    }


@given(client_messages)
def test_what_clients_send_is_valid(message: messages.ClientMessage) -> None:
    document = json.loads(encode(message))
    for valid in (CLIENT, EXTENDED_CLIENT, ANY):
        valid.validate(document)
    assert not SERVER.is_valid(document)
    assert not EXTENDED_SERVER.is_valid(document)


@given(server_messages)
def test_what_the_server_sends_is_valid(message: messages.ServerMessage) -> None:
    document = json.loads(encode(message))
    for valid in (SERVER, EXTENDED_SERVER, ANY):
        valid.validate(document)
    assert not CLIENT.is_valid(document)
    assert not EXTENDED_CLIENT.is_valid(document)


@given(extended_client_messages)
def test_what_clients_of_the_extension_send_is_valid(message: extension.ClientMessage) -> None:
    document = json.loads(encode(message))
    EXTENDED_CLIENT.validate(document)
    ANY.validate(document)
    assert not SERVER.is_valid(document)
    assert CLIENT.is_valid(document) == is_base(message, document)


def is_base(message: extension.ClientMessage, document: dict[str, Any]) -> bool:
    opus = isinstance(message, extension.AudioStreamStart) and message.config.format not in (
        "FLAC",
        "LINEAR16",
    )
    return document["type"] in GOOD and not opus


@given(extended_server_messages)
def test_what_the_server_sends_besides_is_valid(message: extension.ServerMessage) -> None:
    document = json.loads(encode(message))
    EXTENDED_SERVER.validate(document)
    ANY.validate(document)
    assert not CLIENT.is_valid(document)
    assert SERVER.is_valid(document) == isinstance(message, messages.ServerMessage)
    assert document["type"] in ("ping", "pong") or not EXTENDED_CLIENT.is_valid(document)


@pytest.mark.parametrize("code", ErrorCode)
def test_every_error_is_valid(code: ErrorCode) -> None:
    SERVER.validate(json.loads(encode(error_message(GatewayError(code), 1, "trace"))))


UNSEEN = {"$.data", "$.sequence"}
"""Where the decoder knows more than the schema: broken base64, and numbers that no double can hold."""


@pytest.mark.parametrize(
    ("kind", "fields", "path"), [bad for bad in EXTENDED_BAD_FIELDS if bad[2] not in UNSEEN]
)
def test_what_the_decoder_refuses_is_not_valid(kind: str, fields: dict[str, Any], path: str) -> None:
    document = json.loads(frame(kind, **fields))
    with pytest.raises(ValidationError):
        EXTENDED_CLIENT.validate(document)
    assert not CLIENT.is_valid(document)


def decodes(decode: Callable[[bytes], object], document: object) -> bool:
    try:
        decode(json.dumps(document).encode())
    except (GatewayError, msgspec.DecodeError):
        return False
    return True


FREE = {"context", "args", "result"}
"""Fields that hold any JSON."""


@st.composite
def altered(
    draw: st.DrawFn, sent: st.SearchStrategy[Struct], values: st.SearchStrategy[Any] = json_values
) -> dict[str, Any]:
    """Return a message with one field, perhaps an inner one, replaced or left out."""
    document: dict[str, Any] = json.loads(encode(draw(sent)))
    target = document
    name = draw(st.sampled_from(sorted(document)))
    if name not in FREE and isinstance(document[name], dict) and document[name] and draw(st.booleans()):
        target = document[name]
        name = draw(st.sampled_from(sorted(target)))
    if draw(st.booleans()):
        del target[name]
    elif f"$.{name}" not in UNSEEN:
        target[name] = draw(values)
    return document


@given(altered(client_messages))
def test_what_is_valid_is_what_the_base_takes(document: dict[str, Any]) -> None:
    assert CLIENT.is_valid(document) == decodes(messages.decode, document)


@given(altered(extended_client_messages))
def test_what_is_valid_is_what_the_extension_takes(document: dict[str, Any]) -> None:
    assert EXTENDED_CLIENT.is_valid(document) == decodes(extension.decode, document)


def is_whole(value: object) -> bool:
    return isinstance(value, float) and value.is_integer()


# 1.0 is an integer to JSON Schema, but not to msgspec; the server writes none so.
@given(altered(extended_server_messages, json_values.filter(lambda value: not is_whole(value))))
def test_what_is_valid_is_what_a_client_takes(document: dict[str, Any]) -> None:
    assert EXTENDED_SERVER.is_valid(document) == decodes(extension.decode_server, document)


@pytest.mark.parametrize("sequence", ["1", None, True, 0.5])
def test_a_sequence_that_is_not_valid(sequence: object) -> None:
    assert not CLIENT.is_valid(json.loads(frame("audio_chunk", data="", sequence=sequence)))


@pytest.mark.parametrize("kind", EXTENDED_GOOD)
def test_a_missing_field_is_not_valid(kind: str) -> None:
    good = json.loads(frame(kind, **EXTENDED_GOOD[kind]))
    EXTENDED_CLIENT.validate(good)
    for field in good:
        document = {name: value for name, value in good.items() if name != field}
        assert EXTENDED_CLIENT.is_valid(document) == (field in OPTIONAL.get(kind, ()))


def test_unknown_fields_are_valid() -> None:
    CLIENT.validate(json.loads(frame("audio_stream_start", config={**CONFIG, "channels": 1}, more=1)))
    EXTENDED_CLIENT.validate(json.loads(frame("ping", id=1, more=1)))


def test_a_description_is_one_line() -> None:
    for definition in schema.json_schema()["$defs"].values():
        assert "\n" not in definition["description"]
        assert "  " not in definition["description"]


# ---- errors


def test_every_code_is_in_the_schema_with_what_follows() -> None:
    entries = {
        entry["const"]: entry["description"] for entry in schema.json_schema()["$defs"]["ErrorCode"]["oneOf"]
    }
    assert entries.keys() == {code.value for code in ErrorCode}
    assert entries["SESSION_IDLE"].endswith("Closes with 4408; trying again may help.")
    assert entries["PROTOCOL_TOO_BIG"].endswith("Closes with 1009.")
    assert entries["AUDIO_CORRUPT"].endswith("The connection stays open.")


def test_every_code_is_a_row_of_the_table() -> None:
    rows = [line for line in schema.errors_markdown().splitlines() if line.startswith("| `")]
    assert len(rows) == len(DISPOSITIONS)
    assert (
        "| `SESSION_IDLE` | 4408 | yes | The session was idle for too long; reconnect when needed. |" in rows
    )
    assert (
        "| `AUDIO_CORRUPT` | stays open | no | Part of the audio could not be decoded and was left out. |"
        in rows
    )


# ---- TypeScript


@pytest.mark.parametrize(
    "odd",
    [
        {"type": "array", "prefixItems": []},
        {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "number"}]}},
        {"default": None, "not": {"type": "null"}},
        {},
    ],
)
def test_a_keyword_that_has_no_type_is_not_passed_over(
    odd: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "json_schema", lambda: {"$defs": {"Odd": odd}})
    with pytest.raises(ValueError, match=re.escape(str(odd))):
        schema.typescript()


def literals() -> dict[str, str]:
    """Return, by the names of their types, checks of messages with all their fields and with the least."""
    definitions = schema.json_schema()["$defs"]
    checks = {}
    for union, good in (("ExtendedClientMessage", EXTENDED_GOOD), ("ExtendedServerMessage", SERVER_GOOD)):
        for (name, cls), (kind, fields) in zip(published(union).items(), good.items(), strict=True):
            assert cls.__struct_config__.tag == kind
            full = json.loads(frame(kind, **fields))
            least = {field: value for field, value in full.items() if field in definitions[name]["required"]}
            checks[name] = " ".join(
                f"({json.dumps(document)}) satisfies {name} satisfies {union};" for document in (full, least)
            )
    return checks


CHECKS = ("assignable.ts", "extended.ts")


def compile_with(types: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Compile the checks against other declarations than the committed ones."""
    compiler = TYPESCRIPT / "node_modules/.bin/tsc"
    if not compiler.exists():
        pytest.fail("TypeScript is not installed: run npm ci --prefix tests/typescript, as make test does")
    (folder / "messages.d.ts").write_text(types)
    checks = literals()
    names = ", ".join(["ExtendedClientMessage", "ExtendedServerMessage", *checks])
    lines = [f'import type {{ {names} }} from "antiphon";', *checks.values()]
    (folder / "literals.ts").write_text("\n".join(lines))
    config = {
        "extends": str(TYPESCRIPT / "tsconfig.json"),
        "compilerOptions": {"paths": {"antiphon": [str(folder / "messages.d.ts")]}},
        "files": [*(str(TYPESCRIPT / name) for name in CHECKS), "literals.ts"],
    }
    (folder / "tsconfig.json").write_text(json.dumps(config))
    return subprocess.run([compiler, "-p", folder], capture_output=True, text=True, check=False)


@pytest.mark.node
def test_the_types_are_the_request_s_and_fit_what_is_sent(tmp_path: Path) -> None:
    result = compile_with(schema.typescript(), tmp_path)
    assert result.returncode == 0, result.stdout


SABOTAGE = [
    ("AuthMessage", "  token: string;", "  token: number;", "the first is not assignable"),
    ("AuthSuccessMessage", "  userId: ", "  userId?: ", "the first is not assignable"),
    ("CommandMessage", "  context?: ", "  context: ", "the second is not assignable"),
    ("AudioStreamEndMessage", "  duration: number;", "  duration: number;\n  x?: 1;", "the first has fields"),
    ("RecognitionResultMessage", "  command?: string;", "", "the second has fields"),
]
EXTENDED_SABOTAGE = [
    ("ExtendedAudioStreamStartMessage", ' | "audio/ogg;codecs=opus"', ""),
    ("ClientHelloMessage", "  features?: string[];", "  features?: string;"),
    ("PongMessage", "  id: string | number;\n  echo", "  id: string;\n  echo"),
    ("InterruptMessage", "  responseId?: ", "  responseId: "),
    ("ToolResultMessage", "  result?: unknown;\n", ""),
    ("SessionInfoMessage", "  sessionMs: number;\n", ""),
    ("TranscriptUpdateMessage", '"model" | "user"', '"model"'),
    ("UsageUpdateMessage", "  session: Usage;", "  session: SessionLimits;"),
]


@pytest.mark.node
def test_other_types_are_not(tmp_path: Path) -> None:
    types = schema.typescript()
    for right, wrong in [each[1:3] for each in (*SABOTAGE, *EXTENDED_SABOTAGE)]:
        assert right in types
        types = types.replace(right, wrong, 1)
    result = compile_with(types, tmp_path)
    assert result.returncode != 0
    errors = result.stdout.splitlines()
    checks = (TYPESCRIPT / "assignable.ts").read_text().splitlines()
    for name, _, _, said in SABOTAGE:
        line = checks.index(f"check<ours.{name}, theirs.{name}>(true);") + 1
        assert any(f"assignable.ts({line}," in error and said in error for error in errors), name
    refused = {
        name
        for name, line in zip(literals(), count(2))
        if any(f"literals.ts({line}," in error for error in errors)
    }
    of_the_base = {"AuthMessage", "CommandMessage", "RecognitionResultMessage"}  # the others were made wider
    assert refused == of_the_base | {name for name, _, _ in EXTENDED_SABOTAGE}
