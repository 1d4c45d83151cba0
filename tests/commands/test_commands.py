"""The commands that answer at once: what they print, and what they say when something is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from antiphon.auth import AuthConfig, TokenVerifier
from antiphon.cli import main
from fake_gemini import Conversation, attentive, fake_gemini

from .running import antiphon, clean_environ

SECRET = "a secret of this test suite, long enough for HS256"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("GEMINI_API_KEY", "ANTIPHON_JWT_SECRET", "ANTIPHON_UPSTREAM", "ANTIPHON_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


@pytest.mark.parametrize(
    "command", ["", "serve", "engine", "talk", "token", "models", "config", "doctor", "schema"]
)
def test_help_is_there(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*command.split(), "--help"])
    assert end.value.code == 0
    assert "usage: antiphon" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["config"]])
def test_a_command_loads_what_it_runs_and_no_more(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from antiphon.cli import main\n"
        "try:\n"
        "    main(sys.argv[1:])\n"
        "finally:\n"
        "    print({'grpc', 'google', 'numpy', 'av', 'httpx', 'rich', 'websockets'} & {*sys.modules})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("\nset()\n")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.startswith("antiphon 0.")


async def test_a_token_is_good_for_a_gateway_with_the_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANTIPHON_JWT_SECRET", SECRET)
    assert main(["token", "--user", "alice", "--ttl", "60"]) == 0
    token = capsys.readouterr().out.strip()
    principal = await TokenVerifier(AuthConfig(secret=SECRET)).verify(token, time.time())
    assert principal.user_id == "alice"
    assert 50 < principal.expires_at - time.time() <= 60


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["token", "--user", "alice"], "There is no secret to sign with"),
        (["serve", "--host", "0.0.0.0"], "only a loopback address may be served"),
        (["serve", "--upstream", "openai"], "is none of local, gemini, grpc://HOST:PORT"),
        (["serve", "--upstream", "grpc://models.example.com:1"], "Use grpcs://"),
        (["serve", "--upstream", "grpc://127.0.0.1"], "is none of local"),
        (["serve", "--upstream", "grpc://127.0.0.1:port"], "is none of local"),
        (["serve", "--config", "no-such-file.toml"], "cannot be read: No such file"),
        (["serve", "--commands", "no-such-file.toml"], "file of commands no-such-file.toml cannot be read"),
        (["serve", "--tls-cert", "cert.pem"], "TLS needs both"),
        (["serve", "--tls-cert", "a.pem", "--tls-key", "b.pem"], "certificate or its key cannot be used"),
        (["serve", "--jwt-public-key", "no-such-file.pem"], "no-such-file.pem"),
        (["serve", "--max-sessions", "none"], "The setting max_sessions (flag) cannot be 'none'"),
        (["serve", "--host", "192.0.2.1", "--jwt-jwks-url", "https://127.0.0.1:1/"], "Cannot listen on"),
        (["doctor", "--upstream", "grpc://8.8.8.8:1"], "failed  settings"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if arguments[0] == "serve" and "--upstream" not in arguments:
        arguments = [*arguments, "--upstream", "grpc://127.0.0.1:1"]
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert says in captured.err + captured.out
    assert "Traceback" not in captured.err


def test_a_weak_secret_is_for_loopback_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ANTIPHON_JWT_SECRET", "hunter2")
    assert main(["serve", "--host", "0.0.0.0", "--upstream", "grpc://127.0.0.1:1"]) == 1
    assert "shorter than 32 bytes" in capsys.readouterr().err


def test_config_prints_what_is_in_force_and_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "antiphon.toml"
    file.write_text("max_sessions = 9\n")
    monkeypatch.setenv("ANTIPHON_JWT_SECRET", SECRET)
    monkeypatch.setenv("GEMINI_API_KEY", "AIza-secret")
    assert main(["config", "--config", str(file), "--port", "9000"]) == 0
    out = capsys.readouterr().out
    assert 'max_sessions = "9"  # file' in out
    assert 'port = "9000"  # flag' in out
    assert 'jwt_secret = "(set)"  # environment' in out
    assert SECRET not in out
    assert "AIza" not in out


def test_config_prints_its_reference(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--markdown"]) == 0
    assert "| `max_sessions` |" in capsys.readouterr().out


@pytest.mark.parametrize("form", ["json-schema", "typescript", "errors"])
def test_schema(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--format", form]) == 0
    out = capsys.readouterr().out
    assert "AUDIO_CORRUPT" in out or "RecognitionResult" in out
    if form == "json-schema":
        json.loads(out)


def test_gemini_without_a_key_or_a_login(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # it would ask the network whether this is Google's machine
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    assert main(["serve", "--upstream", "gemini"]) == 1
    assert "Neither GEMINI_API_KEY is set nor" in capsys.readouterr().err
    assert main(["doctor", "--upstream", "gemini"]) == 1
    assert "failed  settings: Neither" in capsys.readouterr().out


class TestDoctor:
    async def test_all_is_well(self, tmp_path: Path) -> None:
        async with fake_gemini(attentive) as model:
            environ = clean_environ(tmp_path, GEMINI_API_KEY="the-key")
            status, out, _ = await antiphon("doctor", "--upstream", f"grpc://{model.target}", environ=environ)
            assert status == 0, out
            assert out.count("ok  ") == 4
            assert model.conversations[0].metadata["x-goog-api-key"] == "the-key"
            assert "the-key" not in out

    async def test_a_refused_key(self, tmp_path: Path) -> None:
        async def refuse(conversation: Conversation) -> None:
            import grpc

            await conversation.fail(grpc.StatusCode.PERMISSION_DENIED, "the key is not known")

        async with fake_gemini(refuse) as model:
            status, out, err = await antiphon(
                *("doctor", "--upstream", f"grpc://{model.target}"), environ=clean_environ(tmp_path)
            )
        assert status == 1
        assert "failed  set-up: The key or the login was refused" in out
        assert "PERMISSION_DENIED: the key is not known" in out
        assert "Traceback" not in err

    async def test_nobody_there(self, tmp_path: Path) -> None:
        status, out, _ = await antiphon(
            "doctor", "--upstream", "grpc://127.0.0.1:1", environ=clean_environ(tmp_path)
        )
        assert status == 1
        assert "nothing answers at 127.0.0.1:1" in out

    async def test_the_models_are_missing(self, tmp_path: Path) -> None:
        environ = clean_environ(tmp_path, ANTIPHON_MODELS_DIR=str(tmp_path / "none"))
        status, out, _ = await antiphon("doctor", "--upstream", "local", environ=environ)
        assert status == 1
        assert "antiphon models pull" in out
