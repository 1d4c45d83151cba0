"""The file of commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from antiphon.live import Parameter
from antiphon.tools.call import ClientTool, HttpTool, PythonTool
from antiphon.tools.commands import CommandsError, load, load_all


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


def test_a_file_with_tools(tmp_path: Path) -> None:
    path = tmp_path / "commands.toml"
    path.write_text(
        """
        command = [
          { name = "next", description = "x" },
          { name = "show", description = "x", tool = { by = "client" } },
          { name = "move", description = "x", tool = { by = "client", deadline_s = 20 } },
          { name = "order", description = "x", tool = { by = "http", url = "https://example.com/order" } },
          { name = "stock", description = "x", tool = { by = "python", function = "shop.tools:stock" } },
        ]
        """
    )
    commands = load_all(path)
    assert [function.name for function in commands.functions] == ["next", "show", "move", "order", "stock"]
    assert commands.tools == {
        "show": ClientTool(30),
        "move": ClientTool(20),
        "order": HttpTool("https://example.com/order", 10),
        "stock": PythonTool("shop.tools:stock", 10),
    }
    assert load(path) == commands.functions


@pytest.mark.parametrize(
    ("tool", "says"),
    [
        ("'client'", "Expected `object | null`, got `str` - at `$.command[0].tool`"),
        ("{}", "missing required field `by`"),
        ("{ by = 'phone' }", "Invalid value 'phone' - at `$.command[0].tool.by`"),
        ("{ by = 'client', deadline_s = 0 }", "> 0.0 - at `$.command[0].tool.deadline_s`"),
        ("{ by = 'client', deadline_s = 601 }", "<= 600.0"),
        ("{ by = 'client', deadline_s = nan }", "> 0.0"),
        ("{ by = 'client', url = 'https://x/' }", "unknown field `url`"),
        ("{ by = 'http' }", "missing required field `url`"),
        ("{ by = 'http', url = 'shop.example.com' }", "begins with https://"),
        ("{ by = 'python' }", "missing required field `function`"),
        ("{ by = 'python', function = 'order' }", "named as package.module:name"),
    ],
)
def test_tools_refused_in_a_sentence(tmp_path: Path, tool: str, says: str) -> None:
    path = tmp_path / "commands.toml"
    path.write_text(f"[[command]]\nname = 'a'\ndescription = 'x'\ntool = {tool}")
    with pytest.raises(CommandsError) as refused:
        load_all(path)
    assert says in str(refused.value)
    assert str(refused.value).endswith(".")


def test_a_parameter_that_a_python_function_could_not_get(tmp_path: Path) -> None:
    path = tmp_path / "commands.toml"
    text = "[[command]]\nname = 'a'\ndescription = 'x'\nparameters.context.type = 'string'\n"
    path.write_text(text + "tool = { by = 'python', function = 'shop:a' }")
    with pytest.raises(CommandsError, match="has a parameter named context"):
        load_all(path)
    path.write_text(text + "tool = { by = 'client' }")
    load_all(path)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CommandsError, match="cannot be read: No such file"):
        load(tmp_path / "none.toml")
