"""The product as a whole: `serve`, its engine and `talk`, each a process, on human speech."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from antiphon.auth import mint
from antiphon.client import connect
from antiphon.extension import PROVOKE, GoAway, ResponseDone, SessionRotated
from antiphon.messages import AudioResponse, Error, RecognitionResult
from fake_gemini import attentive, fake_gemini

from .running import antiphon, clean_environ, serving

SPEECH = Path(__file__).parents[1] / "speech"
FORWARD = SPEECH / "ps_goforward.wav"


def spoken(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.speech
@pytest.mark.slow
async def test_a_file_is_spoken_and_answered(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await gateway.until_line("#token=")
        assert await gateway.get("/readyz") == (200, "ready\n")
        assert json.loads((await gateway.get("/about"))[1])["upstream"] == "embedded engine"
        for audio_format in ("LINEAR16", "FLAC"):
            status, out, err = await gateway.antiphon(
                *("talk", str(FORWARD), "--url", gateway.ws_url, "--format", audio_format),
                *("--json", "--save", str(tmp_path)),
            )
            assert status == 0, err
            messages = spoken(out)
            finals = [m for m in messages if m["type"] == "recognition_result" and m["isFinal"]]
            assert [m["transcript"].lower().strip(".") for m in finals] == ["go forward ten meters"]
            assert 0.5 < finals[0]["confidence"] <= 1
            assert any(m["type"] == "recognition_result" and not m["isFinal"] for m in messages)
            assert sum(m["duration"] for m in messages if m["type"] == "audio_response") > 500
        assert list(tmp_path.glob("*.wav"))
        assert await gateway.stop() == 0


@pytest.mark.speech
@pytest.mark.slow
async def test_the_engine_is_killed_in_mid_speech(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await gateway.until_line("#token=")
        async with connect(gateway.ws_url, gateway.token) as client:
            await client.start(format="LINEAR16", rate_hz=16_000, language="en-US")
            await client.send_audio(FORWARD.read_bytes()[44:])
            killed = renewed = False
            async for message in client:
                assert not isinstance(message, Error)
                if isinstance(message, RecognitionResult) and not killed:
                    killed = True
                    gateway.engine().kill()
                if isinstance(message, SessionRotated):
                    renewed = True
                    await client.send_audio(FORWARD.read_bytes()[44:])
                    await client.end()
                if renewed and isinstance(message, ResponseDone):
                    break
        status, out, err = await gateway.antiphon(
            "talk", str(FORWARD), "--url", gateway.ws_url, "--json", "--fast"
        )
        assert status == 0, err
        assert "go forward" in out.lower()
        await gateway.until_ready()


@pytest.mark.speech
@pytest.mark.slow
async def test_an_engine_never_outlives_its_gateway(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await gateway.until_line("#token=")
        engine = gateway.engine()
        await gateway.stop(signal.SIGKILL)
        await asyncio.to_thread(engine.wait, 10)
        assert not engine.is_running()


async def test_a_second_terminal_needs_no_configuration(tmp_path: Path) -> None:
    async with (
        fake_gemini(attentive) as model,
        serving(tmp_path, "--upstream", f"grpc://{model.target}") as gateway,
    ):
        await gateway.until_line("#token=")
        status, out, err = await gateway.antiphon(
            "talk", str(FORWARD), "--url", gateway.ws_url, "--json", "--fast"
        )
        assert status == 0, err
        assert {"recognition_result", "audio_response"} <= {message["type"] for message in spoken(out)}
        status, token, _ = await gateway.antiphon("token", "--user", "bob", "--port", str(gateway.port))
        assert status == 0
        async with connect(gateway.ws_url, token.strip()) as client:
            assert client.user_id == "bob"


@pytest.mark.parametrize(
    ("arguments", "keyed", "allowed"),
    [
        ((), False, True),
        (("--workers", "2"), False, True),
        (("--provocations", "false"), False, False),
        ((), True, False),
        (("--provocations", "true"), True, True),
    ],
)
async def test_who_may_provoke_what_goes_wrong(
    tmp_path: Path, arguments: tuple[str, ...], *, keyed: bool, allowed: bool
) -> None:
    secret = "a secret of this test suite, long enough for HS256"
    variables = {"ANTIPHON_JWT_SECRET": secret} if keyed else {}
    async with (
        fake_gemini(attentive) as model,
        serving(tmp_path, "--upstream", f"grpc://{model.target}", *arguments, **variables) as gateway,
    ):
        await gateway.until_line("Ready" if keyed else "#token=")
        token = mint(secret, "alice", 60, time.time()) if keyed else gateway.token
        async with connect(gateway.ws_url, token) as client:
            assert client.info
            assert (PROVOKE in client.info.features) is allowed


async def test_stopping_tells_the_clients(tmp_path: Path) -> None:
    async with (
        fake_gemini(attentive) as model,
        serving(tmp_path, "--upstream", f"grpc://{model.target}") as gateway,
    ):
        await gateway.until_line("#token=")
        async with connect(gateway.ws_url, gateway.token, reconnect=None) as client:
            gateway.process.send_signal(signal.SIGTERM)
            (away, error) = [message async for message in client]
        assert isinstance(away, GoAway)
        assert isinstance(error, Error)
        assert error.code == "SERVER_DRAINING"
        assert client.close_code == 1001
        async with asyncio.timeout(10):
            assert await gateway.process.wait() == 0


async def test_not_ready_before_the_upstream_is(tmp_path: Path) -> None:
    async with serving(tmp_path, "--upstream", "grpc://127.0.0.1:1") as gateway:
        assert (await gateway.get("/healthz"))[0] == 200
        assert json.loads((await gateway.get("/about"))[1])["upstream"] == "a model server"
        assert await gateway.get("/readyz") == (503, "the upstream is not ready\n")


async def test_a_port_that_is_taken(tmp_path: Path) -> None:
    async with (
        fake_gemini(attentive) as model,
        serving(tmp_path, "--upstream", f"grpc://{model.target}") as gateway,
    ):
        status, _, err = await antiphon(
            *("serve", "--port", str(gateway.port), "--upstream", f"grpc://{model.target}"),
            environ=clean_environ(tmp_path),
        )
        assert status == 1
        assert f"Cannot listen on 127.0.0.1 port {gateway.port}" in err
        assert "Traceback" not in err


async def test_an_engine_that_cannot_start_ends_the_gateway_with_a_sentence(tmp_path: Path) -> None:
    environ = clean_environ(tmp_path, ANTIPHON_MODELS_DIR=str(tmp_path / "none"))
    status, _, err = await antiphon("serve", "--port", "0", environ=environ)
    assert status == 1
    assert "antiphon models pull" in err
    assert "Traceback" not in err


@pytest.mark.speech
@pytest.mark.slow
async def test_an_answer_plays_out_and_says_what_was_heard(tmp_path: Path) -> None:
    async with serving(tmp_path) as gateway:
        await gateway.until_line("#token=")
        async with connect(gateway.ws_url, gateway.token) as client:
            await client.command("next", {"item": 3})
            text, command = "", None
            async for message in client:
                if isinstance(message, RecognitionResult):
                    command = message.command
                if isinstance(message, AudioResponse):
                    text += message.text
                    if text.rstrip().endswith("."):
                        break
        assert command == "next"
        assert "next" in text.lower()
