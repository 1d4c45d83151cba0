"""`antiphon bench` as its users run it: before a real `antiphon serve`, whose model answers at once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bench.grpc_upstream import GrpcUpstream

from .running import Serving, antiphon, clean_environ, serving

SECRET = "a secret of more than thirty-two bytes"


@asynccontextmanager
async def gateway(home: Path, **variables: str) -> AsyncIterator[Serving]:
    server = await asyncio.get_running_loop().create_server(lambda: GrpcUpstream(3200, None), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        upstream = f"grpc://127.0.0.1:{port}"
        async with serving(
            home, ANTIPHON_UPSTREAM=upstream, ANTIPHON_JWT_SECRET=SECRET, **variables
        ) as running:
            await running.until_ready()
            yield running


def row(out: str, name: str) -> list[float]:
    """Return the numbers of a row of the table."""
    line = next(line for line in out.splitlines() if name in line)
    return [float(number) for number in re.findall(r"\d+\.?\d*", line.partition("│")[2].partition("│")[2])]


BUSY = "The generator could not keep up"
"""What it says, and fails for, where the machine has not the time to send when it is due."""


async def test_acknowledgements(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    async with gateway(tmp_path) as running:
        status, out, err = await running.antiphon(
            "bench", running.ws_url, "--sessions", "6", "--seconds", "2", "--html", str(page)
        )
    assert (status, err) == (1 if BUSY in out else 0, ""), out
    assert "6 sessions, 2 s, 120 chunks." in out
    assert "100.00% of the chunks were answered." in out
    assert "No errors." in out
    p50, p90, p99, p999, most, count = row(out, "its acknowledgement")
    assert 0 < p50 <= p90 <= p99 <= p999 <= most
    assert count == 120
    assert row(out, "auth_success")[-1] == 6
    assert f"The page is {page}." in out
    assert page.read_text().count("<svg") == 2


@pytest.mark.parametrize("arguments", [["--base"], ["--binary"], ["--format", "FLAC"]])
async def test_a_model_that_answers_each_chunk(tmp_path: Path, arguments: list[str]) -> None:
    async with gateway(tmp_path) as running:
        status, out, err = await running.antiphon(
            *("bench", running.ws_url, "--sessions", "3", "--seconds", "2", "--answers", "number"), *arguments
        )
    assert (status, err) == (1 if BUSY in out else 0, ""), out
    assert row(out, "its transcript")[-1] == 60


async def test_slower_than_it_may_be(tmp_path: Path) -> None:
    async with gateway(tmp_path) as running:
        status, out, _ = await running.antiphon(
            *("bench", running.ws_url, "--sessions", "2", "--seconds", "1", "--answers", "number"),
            *("--p99-ms", "0.0001"),
        )
    assert status == 1
    assert re.search(r"p99 is \d+\.\d ms\.|could not keep up", out)


async def test_a_user_may_have_too_few_connections(tmp_path: Path) -> None:
    async with gateway(tmp_path) as running:
        status, out, err = await running.antiphon("token", "--user", "alice")
        assert (status, err) == (0, "")
        status, out, err = await running.antiphon(
            "bench", running.ws_url, "--sessions", "6", "--seconds", "1", "--token", out.strip()
        )
    assert (status, out) == (1, "")
    assert re.fullmatch(r"antiphon: The gateway refused the session: .+ \(\w+\)\n", err)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["http://127.0.0.1:1"], "http://127.0.0.1:1 is not the address of a gateway"),
        (["ws://127.0.0.1:1/ws", "--token", "t"], "Nothing listens at ws://127.0.0.1:1/ws"),
        (["ws://127.0.0.1:1/ws"], "There is no token: give --token"),
        (["ws://127.0.0.1:1/ws", "--token", "t", "--base", "--binary"], "--binary is of antiphon.v1"),
        (["ws://127.0.0.1:1/ws", "--token", "t", "--base", "--answers", "ack"], "Acknowledgements are"),
        (["wss://127.0.0.1:1/ws", "--token", "t", "--ca", "no file"], "no file cannot be used: No such file"),
        (
            ["ws://127.0.0.1:1/ws", "--token", "t", "--file", "no file"],
            "no file cannot be read: No such file",
        ),
    ],
)
async def test_what_cannot_be(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    status, out, err = await antiphon("bench", *arguments, environ=clean_environ(tmp_path))
    assert (status, out) == (1, "")
    assert err.startswith(f"antiphon: {sentence}")
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--sessions", "0"], ["--seconds", "-1"], ["--chunk-ms", "30"]])
async def test_wrongly_called(tmp_path: Path, arguments: list[str]) -> None:
    status, _, err = await antiphon("bench", *arguments, environ=clean_environ(tmp_path))
    assert status == 2
    assert f"argument {arguments[0]}: invalid" in err
