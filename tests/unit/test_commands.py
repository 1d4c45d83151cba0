"""The file of commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from antiphon.commands import CommandsError, load
from antiphon.live import Parameter


def test_the_examples_that_ship() -> None:
    assert [function.name for function in load()] == ["next", "previous", "repeat", "pause", "slower"]
    assert all(function.description and function.phrases for function in load())


def test_a_file_with_parameters(tmp_path: Path) -> None:
    path = tmp_path / "commands.toml"
    path.write_text(
        """
        [[command]]
        name = "skip"
        description = "Skip some."
        phrases = ["skip {count}"]
        [command.parameters.count]
        type = "integer"
        description = "how many"
        required = true
        """
    )
    (function,) = load(path)
    assert function.parameters == {"count": Parameter("integer", "how many", True)}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[command]]\nname = 'two words'\ndescription = 'x'", "$.command[0].name"),
        ("[[command]]\nname = 'a'", "missing required field `description`"),
        ("[[command]]\nname = 'a'\ndescription = 'x'\nphrase = ['x']", "unknown field `phrase`"),
        ("[[command]]\nname = 'a'\ndescription = 'x'\n" * 2, "names 'a' twice"),
        ("[[command]]\nname = 'a'\ndescription = 'x'\nphrases = ['go {far}']", "placeholder {far}"),
        ("[[command]]\nname = 'a'\ndescription = 'x'\nparameters = {n = {type = 'list'}}", "'list'"),
        ("command = 1", "Expected `array`"),
        ("[[command", "not valid TOML"),
        ("\x00", "not valid TOML"),
    ],
)
def test_refused_in_a_sentence(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "commands.toml"
    path.write_text(text)
    with pytest.raises(CommandsError) as refused:
        load(path)
    assert says in str(refused.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CommandsError, match="cannot be read: No such file"):
        load(tmp_path / "none.toml")
