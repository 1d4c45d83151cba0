"""A client that is gone comes back to its session: nothing is lost, and nothing comes twice."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from antiphon import extension
from antiphon.session import Limits
from fake_gemini import ANSWER, Conversation
from gateway.extended import ExtendedTalker
from gateway.running import Gateway, Reachable, running_gateway

PCM = bytes(range(256)) * 40  # 320 ms


class Returning(ExtendedTalker):
    """A client that counts what it is sent, as the protocol says, and keeps what it needs to resume."""

    def __init__(self, socket: ClientConnection, before: Returning | None = None) -> None:
        super().__init__(socket)
        self.received: int = before.received if before else 0
        self.session_id: str = before.session_id if before else ""
        self.resume_token: str = before.resume_token if before else ""
        self.got: list[dict[str, Any]] = before.got if before else []
        if before:
            self.grammar = before.grammar

    async def take(self) -> dict[str, Any]:
        message = await super().take()
        if message["type"] not in ("pong", "resumed"):
            self.received += 1
            self.got.append(message)
        match message["type"]:
            case "auth_success":
                self.session_id = message["sessionId"]
            case "session_info" | "resumed":
                self.resume_token = message.get("resumeToken", self.resume_token)
        return message

    async def resume(self, token: str, **changed: Any) -> dict[str, Any]:
        fields = {
            "token": token,
            "sessionId": self.session_id,
            "resumeToken": self.resume_token,
            "received": self.received,
        }
        await self.send("resume", **(fields | changed))
        return await self.take()

    def cut(self) -> None:
        """Lose the connection, as in a tunnel."""
        self.socket.transport.abort()


@asynccontextmanager
async def connected(gateway: Reachable, before: Returning | None = None) -> AsyncIterator[Returning]:
    async with connect(
        gateway.url, subprotocols=[Subprotocol(extension.SUBPROTOCOL)], close_timeout=0.1
    ) as socket:
        yield Returning(socket, before)


@pytest.mark.parametrize("acked", [True, False])
async def test_a_cut_in_mid_sentence(acked: bool) -> None:
    async with running_gateway() as gateway:
        async with connected(gateway) as first:
            await first.auth(gateway.token())
            await first.start()
            await first.chunk(PCM)
            await first.until("audio_ack") if acked else None
            first.cut()
        async with connected(gateway, first) as second:
            resumed = await second.resume(gateway.token())
            assert (resumed["type"], resumed["lossy"]) == ("resumed", False), resumed
            assert resumed["nextSequence"] == max(0, resumed["received"] - 1)
            if not resumed["received"]:
                await second.start()
            second.sequence = resumed["nextSequence"]
            await second.chunk(PCM)
            await second.end()
            await second.until("response_done")
        heard = bytes(gateway.upstream.conversations[0].heard)
        assert heard == PCM * (1 + (resumed["nextSequence"] == 1))


LONG = bytes(range(256)) * 750  # 4 s


async def tells(conversation: Conversation) -> None:
    """Tell a long story to whoever asks."""
    await conversation.begin()
    while True:
        if (await conversation.receive()).realtime_input.text:
            await conversation.say("A long story.", LONG)
            await conversation.end_turn()


def sound(messages: list[dict[str, Any]]) -> bytes:
    return b"".join(base64.b64decode(m["data"]) for m in messages if m["type"] == "audio_response")


async def test_a_cut_in_mid_answer() -> None:
    async with running_gateway(tells) as gateway:
        async with connected(gateway) as first:
            await first.auth(gateway.token())
            await first.send("command", command="tell")
            for _ in range(3):
                await first.until("audio_response")
            first.cut()
        await asyncio.sleep(0.5)
        async with connected(gateway, first) as second:
            resumed = await second.resume(gateway.token())
            assert resumed["lossy"] is False
            await second.until("response_done")
            assert sound(second.got) == LONG
            assert second.got[-1]["status"] == "completed"
        assert len(gateway.upstream.conversations) == 1, "the model noticed nothing"


@pytest.mark.slow
async def test_many_cuts_in_one_answer() -> None:
    async with running_gateway(tells) as gateway:
        async with connected(gateway) as last:
            await last.auth(gateway.token())
            await last.send("command", command="tell")
            await last.until("response_started")
            last.cut()
        for _ in range(12):
            async with connected(gateway, last) as last:
                assert (await last.resume(gateway.token()))["lossy"] is False
                try:
                    async with asyncio.timeout(0.15):
                        await last.until("response_done")
                except TimeoutError:
                    last.cut()
        async with connected(gateway, last) as last:
            await last.resume(gateway.token())
            while not last.got or last.got[-1]["type"] != "response_done":
                await last.receive()
        assert sound(last.got) == LONG


async def test_a_token_is_good_once() -> None:
    async with running_gateway() as gateway, connected(gateway) as first:
        await first.auth(gateway.token())
        spent = first.resume_token
        first.cut()
        async with connected(gateway, first) as second:
            assert (await second.resume(gateway.token()))["resumeToken"] != spent
            async with connected(gateway, first) as thief:
                refused = await thief.resume(gateway.token(), resumeToken=spent)
                assert refused["code"] == "SESSION_RESUME_REFUSED"
            second.cut()
        async with connected(gateway, second) as third:
            assert (await third.resume(gateway.token(), resumeToken="made up"))["type"] == "error"
            assert (await third.resume(gateway.token()))["type"] == "resumed"


async def attached(gateway: Gateway, expected: bool) -> None:
    """Wait until the client of the only session is there, or is not."""
    async with asyncio.timeout(5):
        while gateway.host.sessions.all[0].session.attached is not expected:
            await asyncio.sleep(0.01)


async def test_a_lost_answer_to_a_resume_spends_no_session() -> None:
    async with running_gateway() as gateway, connected(gateway) as first:
        await first.auth(gateway.token())
        first.cut()
        async with connected(gateway, first) as second:
            fields = {"token": gateway.token(), "sessionId": first.session_id, "received": first.received}
            await second.send("resume", resumeToken=first.resume_token, **fields)
            await attached(gateway, True)
            second.cut()  # and has not seen the next token
        await attached(gateway, False)
        async with connected(gateway, first) as third:
            assert (await third.resume(gateway.token()))["type"] == "resumed"


async def test_nobody_elses_session() -> None:
    async with running_gateway() as gateway, connected(gateway) as first:
        await first.auth(gateway.token())
        first.cut()
        async with connected(gateway, first) as other:
            refused = await other.resume(gateway.token("bob"))
            assert (refused["code"], refused["details"]["fatal"]) == ("SESSION_RESUME_REFUSED", False)
            refused = await other.resume("no token")
            assert refused["code"] == "AUTH_TOKEN_INVALID"
        async with connected(gateway, first) as second:
            assert (await second.resume(gateway.token()))["type"] == "resumed"


async def test_who_cannot_resume_may_begin_anew() -> None:
    async with running_gateway() as gateway, connected(gateway) as talker:
        talker.session_id, talker.resume_token = "unknown", "unknown"
        assert (await talker.resume(gateway.token()))["code"] == "SESSION_RESUME_REFUSED"
        await talker.auth(gateway.token())
        await talker.send("command", command="hello")
        await talker.until("response_done")


@pytest.mark.slow
async def test_a_second_connection_takes_over() -> None:
    async with running_gateway(tells) as gateway, connected(gateway) as first:
        await first.auth(gateway.token())
        await first.send("command", command="tell")
        await first.until("audio_response")
        received = first.received
        async with connected(gateway, first) as second:
            await second.resume(gateway.token(), received=received)
            error = (await first.until("error"))[-1]
            assert (error["code"], error["details"]["retryable"]) == ("SESSION_TAKEN_OVER", False)
            with pytest.raises(ConnectionClosed) as closed:
                while True:
                    await first.socket.recv()
            assert closed.value.rcvd
            assert closed.value.rcvd.code == 4409
            await second.until("response_done")


async def test_a_session_waits_only_so_long() -> None:
    async with running_gateway(limits=Limits(resume_s=0.3)) as gateway, connected(gateway) as first:
        assert (await first.auth(gateway.token()))["limits"]["resumeMs"] == 300
        first.cut()
        await asyncio.sleep(0.5)
        assert not len(gateway.host.sessions)
        async with connected(gateway, first) as second:
            assert (await second.resume(gateway.token()))["code"] == "SESSION_RESUME_REFUSED"


async def test_the_model_is_left_when_the_client_has_left() -> None:
    async with running_gateway() as gateway:
        async with connected(gateway) as first:
            await first.auth(gateway.token())
            await first.send("command", command="hello")
            await first.until("response_done")
        await gateway.upstream.idle()
        async with connected(gateway, first) as second:
            await second.resume(gateway.token())
            await second.send("command", command="again")
            messages = await second.until("response_done")
            assert "session_rotated" in {m["type"] for m in messages}


@pytest.mark.own_socket
@pytest.mark.slow
async def test_a_client_that_reads_too_slowly_is_cut_and_resumes() -> None:
    limits = Limits(unread_s=0.5)
    async with running_gateway(tells, limits=limits) as gateway, connected(gateway) as first:
        await first.auth(gateway.token())
        await first.hello(playbackBufferMs=30_000)
        first.socket.transport.pause_reading()
        for _ in range(12):
            await first.send("command", command="tell")
            await asyncio.sleep(0.05)
        async with asyncio.timeout(10):
            while gateway.host.sessions.all[0].session.attached:
                await asyncio.sleep(0.05)
        first.cut()
        async with connected(gateway, first) as second:
            assert (await second.resume(gateway.token()))["lossy"] is False
            await second.until("response_done", status="completed", within_s=20)


async def test_a_token_that_expires_ends_a_connection_not_a_session() -> None:
    async with running_gateway() as gateway, connected(gateway) as first:
        await first.auth(gateway.token(ttl_s=1))
        assert (await first.until("error"))[-1]["code"] == "AUTH_TOKEN_EXPIRED"
        async with connected(gateway, first) as second:
            assert (await second.resume(gateway.token()))["type"] == "resumed"


async def test_a_client_tests_itself_with_what_it_provokes() -> None:
    async with running_gateway(limits=Limits(provocations=True)) as gateway, connected(gateway) as first:
        assert "provoke" in (await first.auth(gateway.token()))["features"]
        await first.answered()
        await first.send("provoke", what="rotation")
        assert (await first.until("session_rotated"))[-1]["reason"] == "go_away"
        assert len(gateway.upstream.conversations) == 2
        await first.answered()
        await first.send("provoke", what="token_expiry")
        assert (await first.until("error"))[-1]["code"] == "AUTH_TOKEN_EXPIRED"
        with pytest.raises(ConnectionClosed):
            await first.receive()
        assert first.socket.close_code == 4440
        async with connected(gateway, first) as second:
            assert (await second.resume(gateway.token()))["lossy"] is False
            await second.answered()


async def test_where_it_is_not_allowed_nothing_is_provoked(gateway: Gateway) -> None:
    async with connected(gateway) as talker:
        assert "provoke" not in (await talker.auth(gateway.token()))["features"]
        for what in ("rotation", "token_expiry"):
            await talker.send("provoke", what=what)
            await talker.refused("PROTOCOL_PROVOKE_REFUSED")
        await talker.answered()


async def test_a_tool_is_answered_after_the_cut() -> None:
    async def calls(conversation: Conversation) -> None:
        await conversation.begin()
        await conversation.receive()
        call = {"id": "c1", "name": "next", "args": {}}
        await conversation.send(tool_call={"function_calls": [call]})
        while not conversation.results:
            await conversation.receive()
        await conversation.say("Done.", ANSWER)
        await conversation.end_turn()
        await conversation.until_gone()

    async with running_gateway(calls) as gateway, connected(gateway) as first:
        await first.auth(gateway.token())
        await first.hello(features=["tools"])
        await first.send("command", command="next")
        await first.until("tool_call")
        first.cut()
        async with connected(gateway, first) as second:
            await second.resume(gateway.token())
            await second.send("tool_result", callId="c1", result="turned")
            await second.until("response_done")
            assert dict(gateway.upstream.conversations[0].results[0].response) == {"output": "turned"}


@pytest.mark.slow
async def test_audio_that_comes_too_fast_is_read_slowly_and_told() -> None:
    async with running_gateway(audio_speed=4.0) as gateway, connected(gateway) as talker:
        await talker.auth(gateway.token())
        await talker.start()
        loop = asyncio.get_running_loop()
        begin = loop.time()
        sending = asyncio.create_task(flood(talker, 36))
        assert (await talker.until("error"))[-1]["code"] == "AUDIO_TOO_FAST"
        await talker.until("response_done", within_s=20)
        await sending
        assert loop.time() - begin > 3.0
        assert len(gateway.upstream.conversations[0].heard) == 36 * 32_000


async def flood(talker: Returning, seconds: int) -> None:
    for _ in range(seconds):
        await talker.chunk(bytes(32_000))
    await talker.end()
