"""A conversation with the application: by itself, and mounted in those of FastAPI and Starlette."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin, Subprotocol

import built_page
from antiphon import __version__
from antiphon.messages import MAX_MESSAGE_BYTES
from asgi.mounting import Place, by_fastapi, by_starlette, served
from fake_gemini import ANSWER
from gateway.extended import extended
from gateway.running import faultless
from gateway.talker import Talker, connected, talking
from gateway.test_resume import connected as returning

Build = Callable[..., Any] | None
WAYS = pytest.mark.parametrize(
    "build", [None, by_fastapi, by_starlette], ids=["alone", "fastapi", "starlette"]
)
PCM = bytes(range(256)) * 40


async def speak(talker: Talker) -> bytes:
    """Speak, be heard, and return the answer's audio."""
    await talker.speak(PCM)
    heard = await talker.until("recognition_result", isFinal=True)
    assert heard[-1]["transcript"] == "hello there"
    audio = b""
    while len(audio) < len(ANSWER):
        message = await talker.receive("audio_response")
        assert message["format"] == "audio/pcm;rate=24000"
        audio += base64.b64decode(message["data"])
    return audio


@WAYS
async def test_a_spoken_turn_is_heard_and_answered(build: Build) -> None:
    async with served(build) as place:
        with faultless():
            async with talking(place) as talker:
                assert await speak(talker) == ANSWER
        assert place.upstream.conversations[0].heard == PCM


@WAYS
async def test_a_cut_connection_is_resumed(build: Build) -> None:
    async with served(build) as place, returning(place) as first:
        await first.auth(place.token())
        await first.start()
        await first.chunk(PCM)
        await first.until("audio_ack")
        first.cut()
        async with returning(place, first) as second:
            resumed = await second.resume(place.token())
            assert (resumed["type"], resumed["lossy"], resumed["nextSequence"]) == ("resumed", False, 1)
            second.sequence = 1
            await second.chunk(PCM)
            await second.end()
            await second.until("response_done")
        assert bytes(place.upstream.conversations[0].heard).endswith(PCM)


async def test_several_talk_at_once() -> None:
    async with served(by_fastapi) as place:

        async def one(user: str) -> bytes:
            async with talking(place, user) as talker:
                return await speak(talker)

        answers = await asyncio.gather(*(one(f"user {number}") for number in range(8)))
    assert answers == [ANSWER] * 8


@WAYS
async def test_errors_and_closes_are_those_of_the_stand_alone_server(build: Build) -> None:
    async with served(build, auth_timeout_s=0.3) as place:
        async with connected(place) as talker:
            await talker.chunk(bytes(2))
            await talker.refused("AUTH_REQUIRED")
            await talker.socket.send("nope")
            await talker.refused("PROTOCOL_BAD_JSON")
            await talker.socket.send(b"\x00")
            await talker.refused("PROTOCOL_BINARY_UNEXPECTED")
            await talker.send("auth", token="no token")
            await talker.closed("AUTH_TOKEN_INVALID", 4401)
        async with connected(place) as talker:
            await talker.closed("AUTH_TIMEOUT", 4401)
        async with talking(place) as talker:
            await talker.socket.send(" " * (MAX_MESSAGE_BYTES + 1))
            await talker.closed("PROTOCOL_TOO_BIG", 1009)
        async with talking(place) as talker:
            await talker.socket.send("ä" * (MAX_MESSAGE_BYTES // 2 + 1))
            await talker.closed("PROTOCOL_TOO_BIG", 1009)


@WAYS
async def test_who_may_connect_and_where(build: Build) -> None:
    async with served(build, origins=("https://app.example",)) as place:
        foreign = await place.refused(place.url, origin="https://evil.example")
        assert foreign == (403, "AUTH_ORIGIN_REFUSED")
        async with connect(place.url, origin=Origin("https://app.example")):
            pass
        async with connect(place.url, origin=Origin(f"http://127.0.0.1:{place.port}")):
            pass
        assert await place.refused(f"{place.url}/more") == (
            404,
            "Not found: the page is /, the WebSocket /ws.\n",
        )


@WAYS
async def test_the_subprotocol_is_chosen_where_it_is_offered(build: Build) -> None:
    async with served(build) as place:
        offers = {None: None, "chat": None, "antiphon.v1": "antiphon.v1", "chat, antiphon.v1": "antiphon.v1"}
        for offered, chosen in offers.items():
            names = [Subprotocol(name) for name in offered.split(", ")] if offered else None
            async with connect(place.url, subprotocols=names) as socket:
                assert socket.subprotocol == chosen


@WAYS
async def test_plain_requests(build: Build, console: Path) -> None:
    async with served(build) as place:
        for path, part in built_page.PARTS.items():
            answer = await place.get(place.root + path)
            assert (answer.status_code, answer.content) == (200, part.body)
            assert answer.headers["content-type"] == part.content_type
            assert answer.headers.get("content-encoding") == ("gzip" if part.gzipped else None)
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            head = await place.get(place.root + path, "HEAD")
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers["content-length"] == answer.headers["content-length"]
        assert (await place.get(f"{place.root}/healthz")).text == "ok\n"
        about = (await place.get(f"{place.root}/about")).json()
        assert (about["name"], about["version"]) == ("antiphon", __version__)
        async with asyncio.timeout(10):
            while (await place.get(f"{place.root}/readyz")).status_code != 200:
                await asyncio.sleep(0.01)
        assert (await place.get(f"{place.root}/nothing")).status_code == 404
        assert (await place.get(f"{place.root}/ws")).status_code == 426
        assert (await place.get(f"{place.root}/", "POST")).status_code == 405
        if build is by_fastapi:
            assert (await place.get("/own")).json() == "mine"


async def drained(place: Place) -> None:
    async with extended(place) as talker, talking(place, "bob") as base:
        draining = asyncio.create_task(place.voice.drain())
        assert (await talker.receive("go_away"))["reason"] == "drain"
        async with asyncio.timeout(10):
            while (await place.get(f"{place.root}/readyz")).text != "stopping\n":
                await asyncio.sleep(0.01)
        balanced = await place.refused(place.url, additional_headers={"X-Forwarded-For": "192.0.2.1"})
        assert balanced == (503, "SERVER_STOPPING")
        async with connected(place) as late:
            await late.closed("SERVER_STOPPING", 1013)
        assert (await talker.until("error"))[-1]["code"] == "SERVER_DRAINING"
        await base.closed("SERVER_DRAINING", 1001)
        await draining


@WAYS
async def test_clients_are_told_and_have_time(build: Build) -> None:
    async with served(build, drain_s=1.0) as place:
        await drained(place)


async def test_a_server_that_stops_at_once_ends_its_clients() -> None:
    async with served(by_starlette) as place:
        socket = await connect(place.url)
        await Talker(socket).auth(place.token())
    with pytest.raises(ConnectionClosed):
        await socket.recv()
    assert socket.close_code == 1012
