"""Reads the TOML file of faults. What it cannot take is refused with a sentence: a misspelt fault that never
strikes is a test that proves nothing."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args, get_origin

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import FieldInfo
from msgspec.structs import fields as struct_fields

from antiphon.engine.faults import ScriptError
from antiphon.engine.faults.kinds import KINDS, Fault

_TOP: Final = ("seed", "fault")
_MAX_CHOICES: Final = 20


class Script(Struct, frozen=True):
    """The faults of a file in their order, and the seed of their probabilities."""

    name: str
    faults: tuple[Fault, ...]
    seed: int = 0


def read(path: Path) -> Script:
    """Return the script in a file.

    Raises:
        ScriptError: there is none, or it says what cannot be.
    """
    try:
        text = path.read_bytes().decode()
    except OSError as error:
        raise ScriptError(f"The faults file {path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ScriptError(f"The faults file {path} is not valid TOML: {error}.") from error
    return parse(text, str(path))


def parse(text: str, name: str) -> Script:
    """Return the script that a TOML text is; `name` is what sentences call it.

    Raises:
        ScriptError: it says what cannot be.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScriptError(f"The faults file {name} is not valid TOML: {error}.") from error
    for key in values:
        if key not in _TOP:
            raise ScriptError(f"{name}: there is no key {key!r}{_suggestion(key, _TOP)}")
    seed = values.get("seed", 0)
    if type(seed) is not int:
        raise ScriptError(f"{name}: seed cannot be {seed!r}: Expected `int`.")
    entries = values.get("fault", [])
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise ScriptError(f"{name}: fault must be a list of tables; begin each with [[fault]].")
    if not entries:
        raise ScriptError(f"{name}: there is no fault in it; begin each with [[fault]].")
    faults = tuple(_fault(f"{name}, fault {number}", one) for number, one in enumerate(entries, start=1))
    return Script(name, faults, seed)


def describe(field: FieldInfo) -> str:
    """Return what a key means."""
    notes = [note for note in get_args(field.type)[1:] if isinstance(note, Meta)]
    return next((note.description for note in notes if note.description), "")


def _fault(where: str, entry: dict[str, Any]) -> Fault:
    kind = entry.get("kind")
    if kind is None:
        raise ScriptError(f"{where}: kind is missing; it is one of {', '.join(KINDS)}.")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ScriptError(f"{where}: there is no kind {kind!r}{_suggestion(kind, KINDS)}")
    where = f"{where} ({kind})"
    fields = {field.name: field for field in struct_fields(KINDS[kind])}
    values = {key: value for key, value in entry.items() if key != "kind"}
    for key in values:
        if key not in fields:
            raise ScriptError(f"{where}: there is no key {key!r}{_suggestion(key, fields)}")
    for key, field in fields.items():
        if field.required and key not in values:
            raise ScriptError(f"{where}: {key} is missing; it is {describe(field)}.")
    converted = {key: _convert(where, fields[key], value) for key, value in values.items()}
    try:
        return KINDS[kind](**converted)
    except ValueError as error:
        raise ScriptError(f"{where}: {error}.") from None


def _convert(where: str, field: FieldInfo, value: Any) -> Any:
    try:
        return msgspec.convert(value, field.type)
    except msgspec.ValidationError as error:
        choices = _choices(field.type)
        for one in value if isinstance(value, list) else (value,):
            if choices and isinstance(one, str) and one not in choices:
                why = _suggestion(one, choices)
                raise ScriptError(f"{where}: {field.name} cannot be {one!r}{why}") from None
        sentence = f"{where}: {field.name} cannot be {value!r}: {error} ({describe(field)})."
        raise ScriptError(sentence) from None


def _choices(kind: Any) -> tuple[str, ...]:
    """Return the words that a type names."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    if get_origin(kind) is Annotated:
        return _choices(get_args(kind)[0])
    return tuple(dict.fromkeys(word for one in get_args(kind) for word in _choices(one)))


def _suggestion(word: Any, known: Iterable[str]) -> str:
    known = tuple(known)
    close = difflib.get_close_matches(str(word), known, n=1, cutoff=0.7)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; there are {', '.join(known)}." if len(known) <= _MAX_CHOICES else "."
