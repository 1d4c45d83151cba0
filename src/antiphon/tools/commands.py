"""The file of commands: what a user can ask the application to do."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from antiphon.live import Function, Parameter
from antiphon.tools.call import PythonTool, Tool

EXAMPLES = "commands.toml"

_Name = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


class CommandsError(Exception):
    """The file of commands cannot be used; the text is a sentence that says why."""


class _Command(Struct, frozen=True, forbid_unknown_fields=True):
    name: _Name
    description: Annotated[str, Meta(min_length=1, max_length=1000)]
    phrases: tuple[Annotated[str, Meta(min_length=1, max_length=200)], ...] = ()
    parameters: dict[_Name, Parameter] = {}
    tool: Tool | None = None


class _File(Struct, frozen=True, forbid_unknown_fields=True):
    command: Annotated[tuple[_Command, ...], Meta(max_length=128)] = ()


class Commands(Struct, frozen=True):
    """The commands in force; `tools` says of those that are carried out, by their names, who does it."""

    functions: tuple[Function, ...]
    tools: dict[str, Tool]


def load(path: Path | None = None) -> tuple[Function, ...]:
    """Return what `load_all` does, without the tools."""
    return load_all(path).functions


def load_all(path: Path | None = None) -> Commands:
    """Return the commands of a TOML file, or the examples that ship.

    Raises:
        CommandsError: the file is missing, is no TOML, or says something that makes no sense.
    """
    where = str(path) if path else "the shipped commands"
    try:
        source = path.read_bytes() if path else files("antiphon.tools").joinpath(EXAMPLES).read_bytes()
        content = msgspec.convert(tomllib.loads(source.decode()), _File)
    except OSError as error:
        raise CommandsError(f"The file of commands {where} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CommandsError(f"The file of commands {where} is not valid TOML: {error}.") from error
    except msgspec.ValidationError as error:
        raise CommandsError(f"The file of commands {where} is not right: {error}.") from error
    seen: set[str] = set()
    for command in content.command:
        if command.name in seen:
            raise CommandsError(f"The file of commands {where} names {command.name!r} twice.")
        seen.add(command.name)
        if isinstance(command.tool, PythonTool) and "context" in command.parameters:
            raise CommandsError(
                f"The command {command.name!r} in {where} has a parameter named context, "
                "which is what a Python function gets the call's circumstances by; give it another name."
            )
        for phrase in command.phrases:
            for name in _PLACEHOLDER.findall(phrase):
                if name not in command.parameters:
                    raise CommandsError(
                        f"The phrase {phrase!r} of the command {command.name!r} in {where} "
                        f"has a placeholder {{{name}}} that is none of its parameters."
                    )
    functions = tuple(
        Function(command.name, command.description, command.phrases, command.parameters)
        for command in content.command
    )
    return Commands(functions, {command.name: command.tool for command in content.command if command.tool})
