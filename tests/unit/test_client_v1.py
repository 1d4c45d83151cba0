"""The Python client's side of antiphon.v1, against a real WebSocket server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from antiphon import extension, frames, messages
from antiphon.client import MAX_UNREAD, BaseOnly, Client, ClientError, Closed, connect
from antiphon.client.tools import MAX_CALLS
from antiphon.extension import SUBPROTOCOL, ServerMessage, ToolResult
from antiphon.messages import AudioResponse
from scripted_gateway import EXTENDED, Peer, Script, scripted_gateway


@asynccontextmanager
async def connected(script: Script, **options: Any) -> AsyncIterator[Client]:
    async with scripted_gateway(script, **EXTENDED) as url, connect(url, "a token", **options) as client:
        yield client


async def accepting(peer: Peer) -> None:
    await peer.accept()


class Listener:
    """A script that accepts, then notes what comes."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.heard = asyncio.Event()
        self.messages: list[dict[str, Any]] = []

    async def __call__(self, peer: Peer) -> None:
        await peer.accept()
        while len(peer.received) <= self.count:
            await peer.receive()
        self.messages = peer.received[1:]
        self.heard.set()


class TestNegotiation:
    async def test_it_is_said_what_the_gateway_offers(self) -> None:
        async with connected(accepting) as client:
            assert client.extended
            assert client.info is not None
            assert client.info.protocol == SUBPROTOCOL
            assert client.info.limits.playback_buffer_ms == 30_000
            assert not client.binary_audio

    async def test_a_gateway_that_does_not_select_it(self) -> None:
        async with scripted_gateway(accepting) as url, connect(url, "a token", binary_audio=True) as client:
            assert not client.extended
            assert client.info is None
            assert not client.binary_audio
            for refused in (
                client.ping(),
                client.activity_start(),
                client.activity_end(),
                client.interrupt(),
                client.playback_mark("a", 1),
                client.tool_result("a", 1),
                client.tool_error("a", "No."),
            ):
                with pytest.raises(BaseOnly, match="has the base messages only"):
                    await refused

    async def test_by_choice(self) -> None:
        async with connected(accepting, base=True) as client:
            assert not client.extended

    async def test_nothing_is_said_of_defaults(self) -> None:
        listener = Listener(1)
        async with connected(listener) as client:
            await client.command("next")
            await listener.heard.wait()
        assert [message["type"] for message in listener.messages] == ["command"]

    async def test_hello(self) -> None:
        listener = Listener(1)
        wishes = {
            "features": ["playback_mark"],
            "output_formats": ["audio/flac", "audio/wav"],
            "binary_audio": True,
            "playback_buffer_ms": 0,
        }
        async with connected(listener, **wishes) as client:
            await listener.heard.wait()
            assert client.binary_audio
        assert listener.messages == [
            {
                "type": "client_hello",
                "features": ["playback_mark"],
                "outputFormats": ["audio/flac", "audio/wav"],
                "binaryAudio": True,
                "playbackBufferMs": 0,
            }
        ]

    async def test_a_renewal_brings_the_offer_again(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.accept()

        async with connected(script) as client:
            first = client.info
            await client.renew("another")
            assert isinstance(await anext(client), messages.AuthSuccess)
            assert isinstance(await anext(client), extension.SessionInfo)
            assert client.info is not first

    async def test_refused_after_the_token_was_accepted(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.receive()
            await peer.send("auth_success", sessionId="a session", userId="alice")
            await peer.fail("SERVER_DRAINING", "Going.", 1001)

        with pytest.raises(ClientError, match=r"^Going.$"):
            async with connected(script):
                pass


class TestSending:
    async def test_every_message(self) -> None:
        listener = Listener(8)
        async with connected(listener) as client:
            await client.start("audio/ogg;codecs=opus", 48_000)
            await client.activity_start()
            await client.activity_end()
            await client.interrupt()
            await client.interrupt("r1")
            await client.playback_mark("r1", 1500.5)
            await client.tool_result("c1", {"count": [1, None]})
            await client.tool_error("c2", "There is none.")
            await listener.heard.wait()
        start, *others = listener.messages
        assert start["config"]["format"] == "audio/ogg;codecs=opus"
        assert others == [
            {"type": "activity_start"},
            {"type": "activity_end"},
            {"type": "interrupt"},
            {"type": "interrupt", "responseId": "r1"},
            {"type": "playback_mark", "responseId": "r1", "playedMs": 1500.5},
            {"type": "tool_result", "callId": "c1", "result": {"count": [1, None]}},
            {"type": "tool_result", "callId": "c2", "result": None, "error": "There is none."},
        ]

    async def test_binary_audio(self) -> None:
        audio = bytes(range(256)) * 200
        heard: asyncio.Future[tuple[bytes, list[dict[str, Any]]]] = asyncio.get_running_loop().create_future()

        async def script(peer: Peer) -> None:
            await peer.accept()
            heard.set_result((await peer.hear(), peer.received))

        async with connected(script, binary_audio=True) as client:
            await client.start()
            await client.send_audio(audio)
            await client.end()
            arrived, received = await heard
        assert arrived == audio
        assert [message["sequence"] for message in received if message["type"] == "binary"] == [0, 1]
        assert received[-1]["duration"] == len(audio) / 32


class TestPings:
    async def test_there_and_back_while_nobody_iterates(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            for _ in range(2):
                ping = await peer.until(extension.Ping)
                await peer.send("pong", id="another's")
                await peer.send("pong", id=ping.id, echoTime=ping.timestamp)

        async with connected(script) as client:
            async with asyncio.timeout(5):
                assert 0 < await client.ping() < 5
                message, seconds = await asyncio.gather(anext(client), client.ping())
                assert 0 < seconds < 5
            assert isinstance(message, extension.ServerPong), "and they are iterated over"

    async def test_the_gateways_are_answered(self) -> None:
        answered: asyncio.Future[extension.Pong] = asyncio.get_running_loop().create_future()

        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.send("ping", id=7)
            answered.set_result(await peer.until(extension.Pong))

        async with connected(script) as client, asyncio.timeout(5):
            assert (await answered) == extension.Pong(id=7, echo_time=0)
            assert isinstance(await anext(client), extension.ServerPing)

    async def test_no_pong_will_come(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.until(extension.Ping)
            await peer.socket.close(1001, "SERVER_DRAINING")

        async with connected(script) as client:
            with pytest.raises(Closed, match="is stopping"):
                await client.ping()


class TestReceiving:
    async def test_binary_answers_are_answers(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.send("response_started", responseId="r1", format="audio/flac", language="de")
            await peer.update("model", "Yes.", final=False)
            await peer.socket.send(frames.pack(frames.Frame(frames.AUDIO_RESPONSE, 0, 5, b"fLaC")))
            await peer.socket.close()

        seen: list[bytes] = []
        async with connected(script, binary_audio=True, on_frame=seen.append) as client:
            *_, piece = [message async for message in client]
        assert piece == AudioResponse(
            timestamp=5, data=b"fLaC", format="audio/flac", duration=0, text="Yes.", language="de"
        )
        assert seen[-1][-4:] == b"fLaC"

    async def test_what_nobody_iterates_over_is_bounded(self) -> None:
        sent = 0

        async def script(peer: Peer) -> None:
            nonlocal sent
            await peer.accept()
            for number in range(1500):
                sent = number
                await peer.result("blah " * 10_000)
            await peer.socket.close(1000)

        async with connected(script) as client:
            async with asyncio.timeout(10):
                before = -1
                while sent != before:
                    before = sent
                    await asyncio.sleep(0.2)
            assert MAX_UNREAD <= sent < 1000, "the gateway waits"
            count = 0
            async for _ in client:
                count += 1
            assert count == 1500

    async def test_closed_with_a_reason_alone(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.socket.close(4440, "AUTH_TOKEN_EXPIRED")

        async with connected(script) as client:
            assert [message async for message in client] == []
            assert str(client.closed()).startswith("The gateway closed the connection: The token has expired")


class TestTools:
    @staticmethod
    async def result(call: dict[str, Any], caplog: pytest.LogCaptureFixture, **tools: Any) -> ToolResult:
        """Return what a client with such tools answers to a call."""
        answered: asyncio.Future[ToolResult] = asyncio.get_running_loop().create_future()

        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.send("tool_call", **{"callId": "c1", "args": {}, "deadlineMs": 5000, **call})
            answered.set_result(await peer.until(ToolResult))

        with caplog.at_level(logging.ERROR):
            async with connected(script, tools=tools), asyncio.timeout(5):
                return await answered

    async def test_plain_and_async_functions(self, caplog: pytest.LogCaptureFixture) -> None:
        def skip(count: int) -> dict[str, int]:
            return {"skipped": count}

        async def later(count: int) -> list[int]:
            await asyncio.sleep(0)
            return [count]

        call = {"name": "skip", "args": {"count": 3}}
        assert await self.result(call, caplog, skip=skip) == ToolResult(call_id="c1", result={"skipped": 3})
        assert await self.result(call, caplog, skip=later) == ToolResult(call_id="c1", result=[3])
        assert not caplog.records

    async def test_what_fails_is_a_general_sentence(self, caplog: pytest.LogCaptureFixture) -> None:
        def fails() -> None:
            raise KeyError("a secret path")

        def unsendable() -> object:
            return object()

        def waits_in_vain() -> None:
            raise TimeoutError

        for tool in (fails, unsendable, waits_in_vain, lambda unknown: None):
            caplog.clear()
            result = await self.result({"name": "next"}, caplog, next=tool)
            assert result == ToolResult(call_id="c1", error="next could not be carried out.")
            assert [record.getMessage() for record in caplog.records] == ["The tool next failed"]

    async def test_a_result_that_is_too_long(self, caplog: pytest.LogCaptureFixture) -> None:
        result = await self.result({"name": "next"}, caplog, next=lambda: "x" * 70_000)
        assert result == ToolResult(call_id="c1", error="The result of next is too long.")
        assert "too long: 70" in caplog.text

    async def test_calls_of_others_are_only_told_of(self) -> None:
        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.send("tool_call", callId="c1", name="other", args={"a": 1}, deadlineMs=5000)
            result = await peer.until(ToolResult)
            await peer.send("tool_cancelled", callId=result.call_id, reason="deadline")

        async with connected(script, tools={"next": lambda: None}) as client, asyncio.timeout(5):
            call = await anext(client)
            assert isinstance(call, extension.ToolCall)
            assert (call.name, call.args) == ("other", {"a": 1})
            await client.tool_result("c1", "done")
            assert isinstance(await anext(client), extension.ToolCancelled)

    @pytest.mark.parametrize("how", ["cancelled", "deadline", "left"])
    async def test_work_stops(self, how: str) -> None:
        began, stopped = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            try:
                began.set()
                await asyncio.sleep(60)
            finally:
                stopped.set()

        received: list[dict[str, Any]] = []

        async def script(peer: Peer) -> None:
            await peer.accept()
            deadline_ms = 20 if how == "deadline" else 5000
            for _ in range(2):
                await peer.send("tool_call", callId="c1", name="work", args={}, deadlineMs=deadline_ms)
            await began.wait()
            if how == "cancelled":
                await peer.send("tool_cancelled", callId="c1", reason="cancelled")
                await peer.send("tool_cancelled", callId="c2", reason="cancelled")
            if how != "left":
                await stopped.wait()
            await peer.until(messages.Command)
            received.extend(peer.received)
            await peer.socket.close()

        async with asyncio.timeout(5):
            async with connected(script, tools={"work": work}) as client:
                await began.wait()
                if how != "left":
                    await stopped.wait()
                await client.command("go on")
                if how != "left":
                    assert len([message async for message in client]) >= 2
            assert stopped.is_set()
        if how != "left":
            assert [message["type"] for message in received] == ["auth", "command"], "no result"

    async def test_too_many_at_once(self) -> None:
        refused: asyncio.Future[ToolResult] = asyncio.get_running_loop().create_future()

        async def script(peer: Peer) -> None:
            await peer.accept()
            for number in range(MAX_CALLS + 1):
                await peer.send("tool_call", callId=f"c{number}", name="work", args={}, deadlineMs=5000)
            refused.set_result(await peer.until(ToolResult))

        async def work() -> None:
            await asyncio.sleep(60)

        async with connected(script, tools={"work": work}), asyncio.timeout(5):
            result = await refused
        assert result.call_id == f"c{MAX_CALLS}"
        assert "too much is to be done at once" in str(result.error)

    async def test_the_connection_ends_before_the_work(self) -> None:
        done = asyncio.Event()

        async def work() -> None:
            await gone.wait()
            done.set()

        gone = asyncio.Event()

        async def script(peer: Peer) -> None:
            await peer.accept()
            await peer.send("tool_call", callId="c1", name="work", args={}, deadlineMs=5000)
            await peer.socket.close()

        async with connected(script, tools={"work": work}) as client, asyncio.timeout(5):
            seen: list[ServerMessage] = [message async for message in client]
            gone.set()
            await done.wait()
            await asyncio.sleep(0)
        assert len(seen) == 1
