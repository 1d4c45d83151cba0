"""The TypeScript client in Node, with a real gateway: what goes, what comes, and what survives."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from antiphon.auth import AuthConfig, mint
from antiphon.session import Limits
from clients.typescript import Closed, TypeScriptCall, typescript_call
from fake_gemini import ANSWER, Conversation
from freezing_relay import FreezingRelay, freezing_relay
from gateway.running import Gateway, running_gateway
from gateway.test_push_to_talk import Patient
from gateway.test_resume import LONG, tells
from gateway.test_rotation import MARGIN_MS, heard, numbered
from gateway.test_tools import Caller, configured

pytestmark = pytest.mark.node

CHUNK_MS: Final = 100


@asynccontextmanager
async def calling(gateway: Gateway, **options: Any) -> AsyncIterator[TypeScriptCall]:
    """A call that is connected."""
    async with typescript_call(gateway.url, gateway.token(), **options) as call:
        await call.do("connect")
        yield call
        await call.do("disconnect")


@asynccontextmanager
async def relayed(gateway: Gateway, **options: Any) -> AsyncIterator[tuple[TypeScriptCall, FreezingRelay]]:
    """A call that is connected over a network of ours."""
    async with freezing_relay() as relay:
        relay.target = f"127.0.0.1:{gateway.port}"
        url = f"ws://127.0.0.1:{relay.port}/ws"
        async with typescript_call(url, gateway.token(), **options) as call:
            await call.do("connect")
            yield call, relay
            await call.do("disconnect")


# ---- a conversation


@pytest.mark.parametrize(
    "options", [{}, {"sockets": "node"}, {"base": True}, {"base": True, "sockets": "node"}]
)
async def test_speech_is_heard_and_answered(gateway: Gateway, options: dict[str, Any]) -> None:
    """Over the runtime's own WebSocket and over ours, in a session of either kind; every sample both ways."""
    async with calling(gateway, **options) as call:
        for chunk in range(20):
            await call.send_audio(numbered(chunk))
        await call.do("endAudio")
        await call.until("transcript", role="user", text="hello there", isFinal=True)
        await call.until("response", status="completed")
        assert call.audio == ANSWER
        assert heard(gateway) == (list(range(20 * 1600)), 0)
        assert gateway.upstream.conversations[0].ended == 1
        turns = await call.do("turns")
        assert [(turn["role"], turn["text"], turn["isFinal"]) for turn in turns] == [
            ("user", "hello there", True),
            ("model", "General greeting.", True),
        ]
        assert call.of("connected")[0]["userId"] == "alice"


@pytest.mark.parametrize("base", [False, True])
async def test_a_call_that_is_hurried_though_it_stands(gateway: Gateway, base: bool) -> None:
    """As when a page is seen again: it asks whether anybody is there, by what its session has for that."""
    async with calling(gateway, base=base) as call:
        await call.do("reconnectNow")
        await call.do("sendText", "hello")
        await call.until("response", status="completed")
        assert call.of("error") == []
        assert len(call.of("connected")) == 1


async def test_a_typed_turn_and_what_it_cost(gateway: Gateway) -> None:
    async with calling(gateway) as call:
        await call.do("sendText", "hello", {"page": 3})
        await call.until("transcript", role="user", text="hello", typed=True)
        metrics = (await call.until("turn"))["metrics"]
        await call.until("response", status="completed")
        await call.until("usage")
        assert gateway.upstream.conversations[0].texts[0].startswith("hello")
        assert metrics["origin"] == "typed"
        attributed = sum(hop["ms"] for hop in metrics["hops"])
        assert attributed + metrics["unattributedMs"] == pytest.approx(metrics["totalMs"])
        assert all(hop["ms"] >= 0 for hop in metrics["hops"])


async def test_all_that_was_said_is_heard_though_the_call_is_ended_at_once(gateway: Gateway) -> None:
    async with typescript_call(gateway.url, gateway.token()) as call:
        await call.do("connect")
        for chunk in range(40):
            call.begin("sendAudio", base64.b64encode(numbered(chunk)).decode(), 16_000)
        await call.do("disconnect")
        assert (await call.until("closed")).get("error") is None
        async with asyncio.timeout(10):
            while not (gateway.upstream.conversations and gateway.upstream.conversations[0].ended):
                await asyncio.sleep(0.01)
        assert heard(gateway)[0] == list(range(40 * 1600))


async def test_one_call_after_the_other(gateway: Gateway) -> None:
    async with typescript_call(gateway.url, gateway.token()) as call:
        for _ in range(2):
            await call.do("connect")
            await call.do("sendText", "hello")
            await call.until("response", status="completed")
            await call.do("disconnect")
            await call.until("closed")
        ids = [event["sessionId"] for event in call.of("connected")]
        assert len(set(ids)) == 2
        with pytest.raises(Closed) as closed:
            await call.do("sendText", "hello")
        assert closed.value.error["code"] == "CALL_CLOSED"


async def test_push_to_talk() -> None:
    model = Patient()
    async with running_gateway(model) as gateway, calling(gateway, pushToTalk=True) as call:
        for _ in range(2):
            await call.do("startTalking")
            await call.send_audio(numbered(0))
            await call.do("stopTalking")
            await call.until("response", status="completed")
        assert [what for what in model.told if what != "audio"] == ["start", "end", "start", "end"]


async def test_a_press_before_there_is_a_session() -> None:
    """It is told first, and what is said meanwhile is in it."""
    model = Patient()
    async with running_gateway(model) as gateway, freezing_relay() as relay:
        relay.target = f"127.0.0.1:{gateway.port}"
        relay.freeze()
        url = f"ws://127.0.0.1:{relay.port}/ws"
        async with typescript_call(url, gateway.token(), pushToTalk=True) as call:
            connecting = call.begin("connect")
            await call.do("startTalking")
            await call.send_audio(numbered(0))
            relay.thaw()
            await connecting
            await call.send_audio(numbered(1))
            await call.do("stopTalking")
            await call.until("response", status="completed")
            assert model.told == ["start", "audio", "audio", "end"]
            assert model.automatic == [False]
            assert call.of("error") == []
            await call.do("disconnect")


async def test_a_press_over_a_restart_of_the_gateway() -> None:
    """Held, released or pressed while it is away: the other one hears an activity with all that was said."""
    first, second = Patient(), Patient()
    for held in ("throughout", "until it is away", "since it is away"):
        async with (
            running_gateway(first) as gateway,
            running_gateway(second) as another,
            freezing_relay() as relay,
        ):
            second.told.clear()
            relay.target = f"127.0.0.1:{gateway.port}"
            url = f"ws://127.0.0.1:{relay.port}/ws"
            async with typescript_call(url, gateway.token(), pushToTalk=True) as call:
                await call.do("connect")
                if held != "since it is away":
                    await call.do("startTalking")
                    await call.send_audio(numbered(0))
                relay.target = f"127.0.0.1:{another.port}"
                relay.freeze()
                relay.reset()
                await call.until("state", state="reconnecting")
                if held == "since it is away":
                    await call.do("startTalking")
                await call.send_audio(numbered(1))
                if held == "until it is away":
                    await call.do("stopTalking")
                relay.thaw()
                await call.until("connected", recovered=False)
                if held != "until it is away":
                    await call.send_audio(numbered(2))
                    await call.do("stopTalking")
                await call.until("response", status="completed")
                assert (second.told[0], second.told[-1]) == ("start", "end"), held
                assert (second.told.count("start"), second.told.count("end")) == (1, 1), held
                assert call.of("error") == []
                await call.do("disconnect")


async def test_an_interruption() -> None:
    async with running_gateway(tells) as gateway, calling(gateway, playbackBufferMs=250) as call:
        await call.do("sendText", "tell")
        await call.until("audio")
        await call.do("interrupt")
        cut = await call.until("interrupted")
        assert (cut["reason"], cut["responseId"]) == ("client", "r1")
        await call.until("response", status="interrupted")
        assert 0 < len(call.audio) < len(LONG)


async def test_tools(tmp_path: Path) -> None:
    """By a function, by hand, by a function that fails; and one that nobody wants any more."""
    model = Caller()
    tools = configured(tmp_path, '{ by = "client", deadline_s = 20 }')
    async with running_gateway(model, configured=tools) as gateway, calling(gateway) as call:
        await call.do("registerTool", "order", {"cups": 2})
        await call.do("sendText", "order tea")
        called = await call.until("toolCall")
        assert (called["name"], called["args"], called["deadlineMs"]) == ("order", {"item": "tea"}, 20_000)
        await call.until("toolDone", callId="c1")
        await call.until("response", status="completed")
        await call.do("failingTool", "order", "The kitchen is closed.")
        await call.do("sendText", "order tea")
        await call.until("toolDone", callId="c2", error="The kitchen is closed.")
        await call.until("response", status="completed")
        assert model.results[0] == {"c1": {"cups": 2}}
        assert model.results[1] == {"c2": {"error": "The kitchen is closed."}}


async def test_what_is_too_large_is_refused_here_and_ends_nothing(tmp_path: Path) -> None:
    """The gateway would close the connection for it, and not for a while."""
    model = Caller()
    tools = configured(tmp_path, '{ by = "client", deadline_s = 20 }')
    async with running_gateway(model, configured=tools) as gateway, calling(gateway) as call:
        for text in ("x" * 65_536, "\u00e4" * 33_000):
            with pytest.raises(Closed) as refused:
                await call.do("sendText", text)
            assert refused.value.error["code"] == "PROTOCOL_TOO_BIG"
        await call.do("registerTool", "order", "x" * 70_000)
        await call.do("sendText", "order tea")
        done = await call.until("toolDone", callId="c1")
        assert "more than the gateway takes" in done["error"]
        await call.until("response", status="completed")
        assert len(call.of("connected")) == 1


async def test_a_tool_call_is_answered_by_hand_or_taken_back(tmp_path: Path) -> None:
    model = Caller()
    tools = configured(tmp_path, '{ by = "client", deadline_s = 20 }')
    async with running_gateway(model, configured=tools) as gateway, calling(gateway, tools={}) as call:
        await call.do("sendText", "order tea")
        await call.until("toolCall")
        await call.do("respond", "c1", None)
        await call.until("response", status="completed")
        assert model.results[0] == {"c1": {"output": None}}
        await call.do("sendText", "order tea")
        await call.until("toolCall")
        model.cancel.set()
        await call.until("toolCancelled", callId="c2", reason="cancelled")
        await call.do("respond", "c2", {"late": True})  # of no use to anybody: it is not sent
        await call.do("sendText", "order tea")
        await call.until("toolCall")
        assert call.of("error") == []


# ---- what survives


@pytest.mark.parametrize("sockets", ["runtime", "node"])
async def test_a_cut_in_mid_sentence(sockets: str) -> None:
    async with running_gateway() as gateway, relayed(gateway, sockets=sockets) as (call, relay):
        for chunk in range(30):
            if chunk in (7, 19):
                relay.reset()
            await call.send_audio(numbered(chunk))
            await asyncio.sleep(0.03)
        await call.do("endAudio")
        await call.until("response", status="completed")
        numbers, doubled = heard(gateway)
        assert (numbers, doubled) == (list(range(30 * 1600)), 0)
        back = [event for event in call.of("connected") if event["recovered"]]
        assert len(back) == 2
        assert not any(event["lossy"] for event in back)
        assert len({event["sessionId"] for event in call.of("connected")}) == 1
        assert len(gateway.upstream.conversations) == 1


async def test_cuts_in_mid_answer() -> None:
    async with running_gateway(tells) as gateway, relayed(gateway, playbackBufferMs=250) as (call, relay):
        await call.do("sendText", "tell")
        await call.until("response", status="started")
        for _ in range(8):
            await asyncio.sleep(0.15)
            relay.reset()
            await call.until("connected", recovered=True)
        await call.until("response", status="completed")
        assert call.audio == LONG


async def test_what_is_said_without_a_connection_is_heard_after_it(gateway: Gateway) -> None:
    async with relayed(gateway) as (call, relay):
        await call.send_audio(numbered(0))
        relay.freeze()  # so that whoever comes back waits
        relay.reset()
        await call.until("reconnecting")
        for chunk in range(1, 40):
            await call.send_audio(numbered(chunk))
        await call.do("sendText", "hello")
        relay.thaw()
        await call.do("endAudio")
        await call.until("response", status="completed")
        assert heard(gateway) == (list(range(40 * 1600)), 0)
        assert call.of("audioDropped") == []


async def test_more_than_may_wait_is_dropped_from_its_beginning_and_told(gateway: Gateway) -> None:
    async with relayed(gateway, maxBacklogMs=1000) as (call, relay):
        await call.send_audio(numbered(0))
        relay.freeze()
        relay.reset()
        await call.until("reconnecting")
        for chunk in range(1, 40):
            await call.send_audio(numbered(chunk))
        relay.thaw()
        await call.do("endAudio")
        await call.until("response", status="completed")
        dropped_ms = sum(event["ms"] for event in call.of("audioDropped"))
        everything = bytes(gateway.upstream.conversations[0].heard)
        assert len(everything) == (4000 - dropped_ms) * 32
        assert 2900 <= dropped_ms <= 3000
        assert everything.endswith(numbered(39))
        assert call.of("error") == [], "no gap in the sequence"


@pytest.mark.slow
async def test_a_connection_that_is_only_mute_is_given_up(gateway: Gateway) -> None:
    """Nothing breaks, nothing comes: a ping that stays unanswered tells."""
    async with relayed(gateway) as (call, relay):
        await call.send_audio(numbered(0))
        await call.until("connected")
        relay.freeze()
        await call.send_audio(numbered(1))
        lost = await call.until("reconnecting", timeout_s=40)
        assert lost["attempt"] == 1
        relay.reset()
        relay.thaw()
        await call.until("connected", recovered=True, timeout_s=40)
        await call.do("endAudio")
        await call.until("response", status="completed")
        assert heard(gateway)[0] == list(range(2 * 1600))
        await call.do("disconnect")


async def test_another_gateway_that_knows_nothing_hears_what_was_not_safe() -> None:
    """A node is killed and its sessions with it: a new one begins by itself, and the sentence goes on."""
    async with freezing_relay() as relay, running_gateway() as first:
        relay.target = f"127.0.0.1:{first.port}"
        url = f"ws://127.0.0.1:{relay.port}/ws"
        async with typescript_call(url, first.token()) as call:
            await call.do("connect")
            await call.do("sendText", "hello")
            await call.until("response", status="completed")
            for chunk in range(5):
                await call.send_audio(numbered(chunk))
            async with running_gateway() as second:
                relay.target = f"127.0.0.1:{second.port}"
                relay.reset()
                back = await call.until("connected", lossy=True)
                assert back["recovered"] is False
                for chunk in range(5, 10):
                    await call.send_audio(numbered(chunk))
                await call.do("endAudio")
                await call.until("response", status="completed")
                said = bytes(second.upstream.conversations[0].heard)
                whole = b"".join(numbered(chunk) for chunk in range(10))
                assert whole.endswith(said)
                assert len(said) >= 5 * len(numbered(0))
                assert second.upstream.conversations[0].texts == [], "what was typed was answered already"
                await call.do("disconnect")


# ---- tokens


async def test_a_token_is_renewed_before_it_expires(gateway: Gateway) -> None:
    tokens = [gateway.token(ttl_s=3), gateway.token(ttl_s=60)]
    async with typescript_call(gateway.url, tokens=tokens) as call:
        await call.do("connect")
        await asyncio.sleep(3.5)
        await call.do("sendText", "hello")
        await call.until("response", status="completed")
        assert call.asked == ["connect", "expiring"]
        assert call.of("reconnecting") == []
        await call.do("disconnect")


async def test_a_token_that_expired_is_replaced_and_the_session_goes_on(gateway: Gateway) -> None:
    """As after a sleep, in which no timer ran: here the renewal is what does not come in time."""
    tokens = [gateway.token(ttl_s=2), "", gateway.token(ttl_s=60)]
    async with typescript_call(gateway.url, tokens=tokens) as call:
        await call.do("connect")
        back = await call.until("connected", recovered=True)
        assert back["lossy"] is False
        await call.do("sendText", "hello")
        await call.until("response", status="completed")
        assert call.asked[0] == "connect"
        assert call.asked[-1] == "expired"
        await call.do("disconnect")


async def test_a_fixed_token_that_expires_ends_the_call(gateway: Gateway) -> None:
    async with typescript_call(gateway.url, gateway.token(ttl_s=1.5)) as call:
        await call.do("connect")
        closed = await call.until("closed")
        assert closed["error"]["code"] == "AUTH_TOKEN_EXPIRED"
        assert "get a new one" in closed["error"]["message"]


# ---- what is refused


@pytest.mark.parametrize("sockets", ["runtime", "node"])
async def test_a_token_of_somebody_else(gateway: Gateway, sockets: str) -> None:
    forged = mint("another secret that is long enough, too", "alice", 60, time.time())
    async with typescript_call(gateway.url, forged, sockets=sockets) as call:
        with pytest.raises(Closed) as refused:
            await call.do("connect")
        assert refused.value.error["code"] == "AUTH_TOKEN_INVALID"
        assert refused.value.error["details"] == {"closeCode": 4401, "retryable": False}
        assert (await call.until("closed"))["error"]["code"] == "AUTH_TOKEN_INVALID"


@pytest.mark.parametrize("sockets", ["runtime", "node"])
async def test_nobody_there(sockets: str) -> None:
    async with typescript_call("ws://127.0.0.1:9/ws", "token", sockets=sockets) as call:
        with pytest.raises(Closed) as refused:
            await call.do("connect")
        assert refused.value.error["code"] == "CONNECT_FAILED"
        assert "ws://127.0.0.1:9/ws" in refused.value.error["message"]


async def test_a_server_that_says_nothing() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
        for sockets in ("runtime", "node"):
            async with typescript_call(url, "token", sockets=sockets, timeoutMs=300) as call:
                with pytest.raises(Closed) as refused:
                    await call.do("connect")
                assert refused.value.error["code"] == "CONNECT_TIMEOUT"


async def test_a_call_that_is_ended_before_it_is_connected(gateway: Gateway) -> None:
    """Whoever waits for it is told; and it can be made again."""
    async with freezing_relay() as relay:
        relay.target = f"127.0.0.1:{gateway.port}"
        relay.freeze()
        url = f"ws://127.0.0.1:{relay.port}/ws"
        for sockets in ("runtime", "node"):
            async with typescript_call(url, gateway.token(), sockets=sockets) as call:
                connecting, again = call.begin("connect"), call.begin("connect")
                await call.until("state", state="connecting")
                await asyncio.sleep(0.2)
                await call.do("disconnect")
                for attempt in (connecting, again):
                    with pytest.raises(Closed) as ended:
                        await attempt
                    assert ended.value.error["code"] == "CALL_CLOSED"
                await call.until("closed")
                relay.thaw()
                await call.do("connect")
                await call.do("sendText", "hello")
                await call.until("response", status="completed")
                await call.do("disconnect")
                relay.freeze()


async def test_no_token_to_be_had(gateway: Gateway) -> None:
    async with typescript_call(gateway.url, tokens=[]) as call:
        with pytest.raises(Closed) as refused:
            await call.do("connect")
        assert refused.value.error["code"] == "TOKEN_UNAVAILABLE"
        assert "there are no more" in refused.value.error["message"]


async def test_another_user_ends_the_call(gateway: Gateway) -> None:
    async with typescript_call(gateway.url, gateway.token()) as call:
        await call.do("connect")
        await call.do("renew", gateway.token(user="bob"))
        closed = await call.until("closed")
        assert closed["error"]["code"] == "AUTH_USER_CHANGED"


async def test_no_microphone_outside_of_browsers(gateway: Gateway) -> None:
    async with typescript_call(gateway.url, gateway.token(), microphone=True) as call:
        with pytest.raises(Closed) as refused:
            await call.do("connect")
        assert refused.value.error["kind"] == "unsupported"
        await call.until("closed")


# ---- the model


async def test_a_rotation_is_told() -> None:
    async def leaves_once(conversation: Conversation) -> None:
        await conversation.begin()
        await conversation.receive()
        await conversation.send(go_away={"time_left": {"seconds": 1}})
        await conversation.until_gone()

    async with running_gateway(leaves_once) as gateway, calling(gateway) as call:
        await call.send_audio(numbered(0))
        await call.until("rotation", stage="rotating", reason="go_away")
        done = await call.until("rotation", stage="rotated")
        assert done["lostAudioMs"] == 0
        assert done["replayedAudioMs"] <= MARGIN_MS


# ---- what is provoked


async def test_what_is_provoked_is_survived() -> None:
    """A gateway in development takes the model's connection away, and the token: the call goes on."""
    async with (
        running_gateway(limits=Limits(provocations=True)) as gateway,
        typescript_call(gateway.url, tokens=[gateway.token(), gateway.token()]) as call,
    ):
        await call.do("connect")
        await call.do("sendText", "hello")
        await call.until("response", status="completed")
        await call.send_audio(numbered(0))
        await call.do("provoke", "rotation")
        await call.until("rotation", stage="rotated")
        await call.do("provoke", "token_expiry")
        back = await call.until("connected", recovered=True)
        assert back["lossy"] is False
        await call.send_audio(numbered(1))
        await call.do("endAudio")
        await call.until("response", status="completed")
        assert heard(gateway)[0] == list(range(2 * 1600))
        await call.do("disconnect")


# ---- what an application may do


async def test_more_audio_at_once_than_a_message_may_hold_is_sent_in_pieces(gateway: Gateway) -> None:
    async with calling(gateway) as call:
        await call.send_audio(b"".join(map(numbered, range(30))))
        await call.send_audio(b"")
        await call.do("endAudio")
        await call.until("response", status="completed")
        assert heard(gateway) == (list(range(30 * 1600)), 0)


async def test_another_rate_is_another_stream(gateway: Gateway) -> None:
    async with calling(gateway) as call:
        await call.send_audio(numbered(0))
        await call.send_audio(bytes(2 * 4800), 48_000)
        await call.do("endAudio")
        await call.until("response", status="completed")
        assert call.of("error") == []
        assert gateway.upstream.conversations[-1].ended == 2
        for rate_hz in (0, -1, 7999, 96_000):
            with pytest.raises(Closed, match="kHz"):
                await call.send_audio(b"\0\0", rate_hz)


async def test_the_token_is_asked_for_with_every_call_and_again_where_it_is_no_good(
    gateway: Gateway,
) -> None:
    tokens = ["no.good.token", *(gateway.token() for _ in range(2))]
    async with typescript_call(gateway.url, tokens=tokens) as call:
        with pytest.raises(Closed) as refused:
            await call.do("connect")
        assert refused.value.error["code"] == "AUTH_TOKEN_INVALID"
        for _ in range(2):
            await call.do("connect")
            await call.do("disconnect")
        assert call.asked == ["connect"] * 3


async def test_a_gateway_that_comes_back_with_another_secret(gateway: Gateway) -> None:
    """As in development, where each start has its own: the source has a token for it."""
    async with freezing_relay() as relay, running_gateway(auth=AuthConfig(secret="another " * 8)) as another:
        relay.target = f"127.0.0.1:{gateway.port}"
        tokens = [gateway.token(), mint("another " * 8, "alice", 60, time.time())]
        async with typescript_call(f"ws://127.0.0.1:{relay.port}/ws", tokens=tokens) as call:
            await call.do("connect")
            relay.target = f"127.0.0.1:{another.port}"
            relay.reset()
            await call.until("connected", recovered=False, lossy=True)
            await call.do("sendText", "hello")
            await call.until("response", status="completed")
            assert call.asked == ["connect", "expired"]
            await call.do("disconnect")


async def test_where_nothing_was_recognised_nobody_thinks_for_long(gateway: Gateway) -> None:
    async def deaf(conversation: Conversation) -> None:
        await conversation.begin()
        await conversation.until_gone()

    async with running_gateway(deaf) as deaf_gateway, calling(deaf_gateway) as call:
        await call.send_audio(bytes(32_000))
        await call.do("endAudio")
        await call.until("agentState", state="thinking")
        await call.until("agentState", state="idle", timeout_s=8)


async def test_a_call_that_is_ended_as_soon_as_it_is_begun(gateway: Gateway) -> None:
    """The first time, and when it is called again; and begun while it ends."""
    async with typescript_call(gateway.url, gateway.token()) as call:
        for _ in range(2):
            connecting = call.begin("connect")
            await call.do("disconnect")
            with pytest.raises(Closed) as closed:
                await connecting
            assert closed.value.error["code"] == "CALL_CLOSED"
            assert await call.do("get", "state") == "closed"
        await call.do("connect")
        told = [call.begin(name) for name in ("disconnect", "connect", "disconnect")]  # the last word counts
        await told[2]
        with pytest.raises(Closed):
            await told[1]
        assert await call.do("get", "state") == "closed"
        for _ in range(2):
            connecting = call.begin("connect")
            ending = call.begin("disconnect")
            again = call.begin("connect")
            with pytest.raises(Closed):
                await connecting
            await ending
            await again
            assert await call.do("get", "state") == "connected"
            await call.do("sendText", "hello")
            await call.until("response", status="completed")
            await call.do("disconnect")


async def test_a_source_of_tokens_that_does_not_answer(gateway: Gateway) -> None:
    async with typescript_call(gateway.url, tokens="never", timeoutMs=300) as call:
        with pytest.raises(Closed) as late:
            await call.do("connect")
        assert late.value.error["code"] == "CONNECT_TIMEOUT"
        connecting = call.begin("connect")
        await call.do("disconnect")
        with pytest.raises(Closed):
            await connecting
