"""schema.py: JSON Schema, TypeScript and the error table say what the code does."""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from jsonschema import Draft202012Validator, ValidationError

from antiphon import schema
from antiphon.errors import DISPOSITIONS, ErrorCode, GatewayError
from antiphon.messages import ClientMessage, ServerMessage, encode, error_message
from unit.wire import BAD_FIELDS, CONFIG, GOOD, client_messages, frame, server_messages

ROOT = Path(__file__).parents[2]
TYPESCRIPT = ROOT / "tests/typescript"
REFERENCE = {
    "json-schema": ROOT / "docs/reference/messages.schema.json",
    "typescript": ROOT / "docs/reference/messages.d.ts",
    "errors": ROOT / "docs/reference/errors.md",
}


def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator({**schema.json_schema(), "oneOf": [{"$ref": f"#/$defs/{name}"}]})


CLIENT, SERVER, ANY = (
    validator("ClientMessage"),
    validator("ServerMessage"),
    Draft202012Validator(schema.json_schema()),
)


# ---- generated files


@pytest.mark.parametrize(("form", "path"), REFERENCE.items(), ids=REFERENCE)
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


def test_messages_bear_the_published_names() -> None:
    definitions = schema.json_schema()["$defs"]
    for members in (get_args(ClientMessage), get_args(ServerMessage)):
        for member in members:
            assert definitions[f"{member.__name__}Message"]["properties"]["type"]["enum"] == [
                member.__struct_config__.tag
            ]


@given(client_messages)
def test_what_clients_send_is_valid(message: ClientMessage) -> None:
    document = json.loads(encode(message))
    CLIENT.validate(document)
    ANY.validate(document)
    assert not SERVER.is_valid(document)


@given(server_messages)
def test_what_the_server_sends_is_valid(message: ServerMessage) -> None:
    document = json.loads(encode(message))
    SERVER.validate(document)
    ANY.validate(document)
    assert not CLIENT.is_valid(document)


@pytest.mark.parametrize("code", ErrorCode)
def test_every_error_is_valid(code: ErrorCode) -> None:
    SERVER.validate(json.loads(encode(error_message(GatewayError(code), 1, "trace"))))


UNSEEN = {"$.data", "$.sequence"}
"""Where the decoder knows more than the schema: broken base64, and numbers that no double can hold."""


@pytest.mark.parametrize(("kind", "fields", "path"), [bad for bad in BAD_FIELDS if bad[2] not in UNSEEN])
def test_what_the_decoder_refuses_is_not_valid(kind: str, fields: dict[str, Any], path: str) -> None:
    with pytest.raises(ValidationError):
        CLIENT.validate(json.loads(frame(kind, **fields)))


@pytest.mark.parametrize("sequence", ["1", None, True, 0.5])
def test_a_sequence_that_is_not_valid(sequence: object) -> None:
    assert not CLIENT.is_valid(json.loads(frame("audio_chunk", data="", sequence=sequence)))


@pytest.mark.parametrize("kind", GOOD)
def test_a_missing_field_is_not_valid(kind: str) -> None:
    CLIENT.validate(json.loads(frame(kind, **GOOD[kind])))
    for field in ["type", "timestamp", *(GOOD[kind].keys() - {"context"})]:
        document = json.loads(frame(kind, **GOOD[kind]))
        del document[field]
        assert not CLIENT.is_valid(document)


def test_unknown_fields_are_valid() -> None:
    CLIENT.validate(json.loads(frame("audio_stream_start", config={**CONFIG, "channels": 1}, more=1)))


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


def test_a_keyword_that_has_no_type_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    document = {"$defs": {"Odd": {"type": "array", "prefixItems": []}}}
    monkeypatch.setattr(schema, "json_schema", lambda: document)
    with pytest.raises(ValueError, match="prefixItems"):
        schema.typescript()


def compile_with(types: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Compile the check of assignability against other declarations than the committed ones."""
    compiler = TYPESCRIPT / "node_modules/.bin/tsc"
    if not compiler.exists():
        pytest.fail("TypeScript is not installed: run npm ci --prefix tests/typescript, as make test does")
    (folder / "messages.d.ts").write_text(types)
    config = {
        "extends": str(TYPESCRIPT / "tsconfig.json"),
        "compilerOptions": {"paths": {"antiphon": [str(folder / "messages.d.ts")]}},
        "files": [str(TYPESCRIPT / "assignable.ts")],
    }
    (folder / "tsconfig.json").write_text(json.dumps(config))
    return subprocess.run([compiler, "-p", folder], capture_output=True, text=True, check=False)


@pytest.mark.node
def test_types_and_the_request_s_interfaces_are_mutually_assignable(tmp_path: Path) -> None:
    result = compile_with(schema.typescript(), tmp_path)
    assert result.returncode == 0, result.stdout


SABOTAGE = [
    ("AuthMessage", "  token: string;", "  token: number;", "the first is not assignable"),
    ("AuthSuccessMessage", "  userId: ", "  userId?: ", "the first is not assignable"),
    ("CommandMessage", "  context?: ", "  context: ", "the second is not assignable"),
    ("AudioStreamEndMessage", "  duration: number;", "  duration: number;\n  x?: 1;", "the first has fields"),
    ("RecognitionResultMessage", "  command?: string;", "", "the second has fields"),
]


@pytest.mark.node
def test_other_types_are_not(tmp_path: Path) -> None:
    types = schema.typescript()
    for _, right, wrong, _ in SABOTAGE:
        assert right in types
        types = types.replace(right, wrong, 1)
    result = compile_with(types, tmp_path)
    assert result.returncode != 0
    checks = (TYPESCRIPT / "assignable.ts").read_text().splitlines()
    for name, _, _, said in SABOTAGE:
        line = checks.index(f"check<ours.{name}, theirs.{name}>(true);") + 1
        assert any(f"({line}," in error and said in error for error in result.stdout.splitlines()), name
