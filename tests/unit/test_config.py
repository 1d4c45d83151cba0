"""Settings: which source wins, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from antiphon import config
from antiphon.config import Config, ConfigError, load, needs_engine


def write(folder: Path, text: str) -> Path:
    path = folder / "antiphon.toml"
    path.write_text(text)
    return path


def test_defaults() -> None:
    settings, shown = load({}, {})
    assert (settings.host, settings.port, settings.max_connections_per_user) == ("127.0.0.1", 8080, 5)
    assert {setting.source for setting in shown} == {"default"}
    assert {setting.name for setting in shown} == set(config.FIELDS)


def test_flag_over_environment_over_file(tmp_path: Path) -> None:
    file = write(tmp_path, 'port = 1\nhost = "::1"\nmax_sessions = 7\n')
    settings, shown = load({"port": "3", "host": None}, {"ANTIPHON_PORT": "2", "ANTIPHON_HOST": "h"}, file)
    assert (settings.port, settings.host, settings.max_sessions) == (3, "h", 7)
    sources = {setting.name: setting.source for setting in shown}
    assert (sources["port"], sources["host"], sources["max_sessions"]) == ("flag", "environment", "file")


def test_the_file_may_be_named_by_a_variable(tmp_path: Path) -> None:
    file = write(tmp_path, 'commands = "mine.toml"\norigins = ["https://a.example"]\nidle_timeout_s = 3\n')
    settings, _ = load({}, {"ANTIPHON_CONFIG": str(file)})
    assert settings.commands == Path("mine.toml")
    assert settings.origins == ("https://a.example",)
    assert settings.idle_timeout_s == 3.0


def test_lists_and_paths_of_the_environment() -> None:
    settings, _ = load({}, {"ANTIPHON_ORIGINS": "https://a, https://b,", "ANTIPHON_MODELS_DIR": "models"})
    assert settings.origins == ("https://a", "https://b")
    assert settings.models_dir == Path("models")


@pytest.mark.parametrize(("said", "meant"), [("true", True), ("1", True), ("false", False), ("0", False)])
def test_yes_and_no_of_the_environment(said: str, meant: bool) -> None:
    assert load({}, {"ANTIPHON_PROVOCATIONS": said})[0].provocations is meant


def test_an_empty_variable_counts_as_unset() -> None:
    assert load({}, {"GEMINI_API_KEY": "", "ANTIPHON_PORT": ""})[0].gemini_api_key is None


@pytest.mark.parametrize(
    ("environ", "text", "says"),
    [
        ({"ANTIPHON_PROT": "1"}, "", "did you mean ANTIPHON_PORT"),
        ({"ANTIPHON_XYZZY": "1"}, "", "no setting behind the variable ANTIPHON_XYZZY."),
        ({"ANTIPHON_PORT": "many"}, "", "The setting port (environment) cannot be 'many'"),
        ({"ANTIPHON_PORT": "70000"}, "", "65535"),
        ({"ANTIPHON_MAX_SESSIONS": "0"}, "", ">= 1"),
        ({"ANTIPHON_PROVOCATIONS": "perhaps"}, "", "'perhaps'"),
        ({"ANTIPHON_LOG_LEVEL": "loud"}, "", "'loud'"),
        ({}, "prot = 1", "no setting 'prot' (file); did you mean port?"),
        ({}, 'port = "1"', "The setting port (file) cannot be '1'"),
        ({}, "commands = 3", "The setting commands (file)"),
        ({}, "port = ", "is not valid TOML"),
    ],
)
def test_refused_in_a_sentence(tmp_path: Path, environ: dict[str, str], text: str, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load({}, environ, write(tmp_path, text))
    assert says in str(refused.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        load({}, {}, tmp_path / "none.toml")


def test_variables_that_are_not_settings_are_known() -> None:
    load({}, {"ANTIPHON_TOKEN": "x", "ANTIPHON_URL": "y", "HOME": "z"})


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    environ = {"ANTIPHON_JWT_SECRET": "hunter2" * 5, "GEMINI_API_KEY": "AIza"}
    settings, shown = load({}, environ)
    text = " ".join(setting.shown for setting in shown) + repr(settings)
    assert "hunter2" not in text
    assert "AIza" not in text
    assert {s.name: s.shown for s in shown}["jwt_secret"] == "(set)"
    assert {s.name: s.shown for s in load({}, {})[1]}["jwt_secret"] == "(not set)"


def test_a_bad_secret_is_not_quoted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        load({}, {}, write(tmp_path, "jwt_secret = 5551234"))
    assert "5551234" not in str(refused.value)


def test_how_values_are_shown() -> None:
    shown = {s.name: s.shown for s in load({}, {"ANTIPHON_ORIGINS": "a,b"})[1]}
    assert (shown["origins"], shown["commands"], shown["port"]) == ("a,b", "", "8080")


def test_every_setting_says_what_it_is() -> None:
    for name in config.FIELDS:
        assert config.describe(name)
    assert config.variable("gemini_api_key") == "GEMINI_API_KEY"
    assert config.variable("max_sessions") == "ANTIPHON_MAX_SESSIONS"


def test_the_reference_is_up_to_date() -> None:
    reference = Path(__file__).parents[2] / "docs" / "reference" / "configuration.md"
    assert config.markdown() in reference.read_text()


def test_who_needs_the_embedded_engine() -> None:
    assert needs_engine(Config())
    assert needs_engine(Config(gemini_api_key="key", fallback="local"))
    assert not needs_engine(Config(gemini_api_key="key"))
    assert not needs_engine(Config(upstream="grpc://127.0.0.1:1"))


def test_how_many_conversations_the_engine_carries() -> None:
    assert load({}, {})[0].engine_conversations is None
    assert load({}, {"ANTIPHON_ENGINE_CONVERSATIONS": "3"})[0].engine_conversations == 3
    with pytest.raises(ConfigError, match="engine_conversations"):
        load({"engine_conversations": "0"}, {})
