"""The client of Gemini by itself: the same over gRPC and over the WebSocket, and what only that says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest

from antiphon import live
from antiphon.errors import ErrorCode, GatewayError
from antiphon.gemini.client import Gemini, explain
from antiphon.gemini.profiles import Voice
from antiphon.gemini.stream import ModelStream
from antiphon.gemini.upstream import TransportName, Upstream
from antiphon.live import Setup
from fake_gemini import ANSWER, Conversation, attentive, fake_gemini
from gateway.upstream_client import client, fails, until, watched
from grpc_client import CLIENT

Code = grpc.StatusCode
BOTH: list[TransportName] = ["grpc", "websocket"]


# ---- the same over both


@pytest.mark.parametrize("transport", BOTH)
async def test_a_conversation(transport: TransportName) -> None:
    async with client(attentive, transport) as (talker, model):
        async with talker.connect(Setup("en-US")) as stream:
            await stream.send(live.Audio(b"\1\2" * 1600))
            await stream.send(live.AudioEnd())
            events = await until(stream, live.TurnEnded)
            assert talker.connections == 1
        await model.idle()
        assert events == [
            *(live.Heard(" hello"), live.Heard(" there"), live.Said("General greeting.")),
            *(live.Spoke(ANSWER), live.Generated(), live.TurnEnded()),
        ]
        [conversation] = model.conversations
        assert conversation.heard == b"\1\2" * 1600
        assert conversation.metadata["x-goog-api-key"] == "the-key"


@asynccontextmanager
async def distant(target: str) -> AsyncIterator[str]:
    """Pass on to a server, half a second later; yields where."""
    host, _, port = target.partition(":")
    relays: set[asyncio.Task[Any]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                sink.write(data)
        sink.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            relays.add(task)
        writers.append(writer)
        await asyncio.sleep(0.5)
        there, back = await asyncio.open_connection(host, int(port))
        writers.append(back)
        await asyncio.gather(pass_on(reader, back), pass_on(there, writer))

    server = await asyncio.start_server(relay, "127.0.0.1")
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.gather(*relays)
        for writer in writers:
            with suppress(ConnectionError):
                await writer.wait_closed()
        await server.wait_closed()


@pytest.mark.parametrize("transport", BOTH)
async def test_a_server_that_is_far_away(transport: TransportName) -> None:
    """Three round trips of TCP, TLS and HTTP/2 take longer than any wait between two attempts."""
    async with fake_gemini(attentive, serving="both") as model, distant(model.target) as target:
        talker = Gemini(Upstream(target, tls=False, transport=transport, tries=1, client=CLIENT))
        async with talker.connect(Setup("en-US")) as stream:
            await stream.send(live.Text("hello"))
            await until(stream, live.TurnEnded)
        await talker.aclose()


@pytest.mark.parametrize("transport", BOTH)
async def test_whatever_is_said_arrives_in_order(transport: TransportName) -> None:
    received: list[Any] = []

    async def script(conversation: Conversation) -> None:
        await conversation.begin()
        while True:
            received.append(await conversation.receive())
            if conversation.results:
                await conversation.end_turn()

    setup = Setup("en-US", "Be brief.", (live.Function("next", "The next."),), "h", push_to_talk=True)
    async with client(script, transport) as (talker, model), talker.connect(setup) as stream:
        for item in (
            *(live.ActivityStart(), live.Audio(b"\1\2"), live.ActivityEnd(), live.Text("größer")),
            *(live.Interrupt(), live.ToolResult("7", "next", {"output": {"a": [1, None]}})),
        ):
            await stream.send(item)
        await until(stream, live.TurnEnded)
    realtime = [message.realtime_input for message in received]
    assert realtime[0].HasField("activity_start")
    assert realtime[1].audio.data == b"\1\2"
    assert realtime[2].HasField("activity_end")
    assert realtime[3].text == "größer"
    assert received[4].WhichOneof("message_type") == "client_content"
    (result,) = received[5].tool_response.function_responses
    assert dict(result.response["output"]) == {"a": [1, None]}
    sent = model.conversations[0].setup
    assert sent.realtime_input_config.automatic_activity_detection.disabled
    assert sent.session_resumption.handle == "h"
    assert sent.tools[0].function_declarations[0].behavior == 1


@pytest.mark.parametrize("transport", BOTH)
async def test_a_model_that_cannot_be_interrupted_hears_nothing_of_it(transport: TransportName) -> None:
    voice = Voice("gemini-3.1-flash-live-preview")
    async with (
        client(attentive, transport, voice=voice) as (talker, model),
        talker.connect(Setup("en-US")) as stream,
    ):
        await stream.send(live.Interrupt())
        await stream.send(live.Text("hi"))
        await until(stream, live.TurnEnded)
        assert model.conversations[0].texts == ["hi"]


@pytest.mark.parametrize("transport", BOTH)
async def test_the_events_of_a_connection(transport: TransportName) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.receive()
        await conversation.send(session_resumption_update={"new_handle": "too early"})
        await conversation.send(setup_complete={})
        await conversation.send(session_resumption_update={"new_handle": "h", "resumable": True})
        await conversation.send(go_away={"time_left": {"seconds": 50, "nanos": 500_000_000}})
        calls = [{"id": "1", "name": "next", "args": {"n": 2, "deep": {"a": [True, None]}}}]
        await conversation.send(tool_call={"function_calls": calls})
        await conversation.send(tool_call_cancellation={"ids": ["1"]})
        usage = {"prompt_token_count": 1, "response_token_count": 2, "total_token_count": 3}
        await conversation.send(server_content={"turn_complete": True}, usage_metadata=usage)
        await conversation.until_gone()

    async with client(script, transport) as (talker, _), talker.connect(Setup("en-US")) as stream:
        assert await until(stream, live.TurnEnded) == [
            live.HandleChanged("h"),
            live.GoingAway(50.5),
            live.Called("1", "next", {"n": 2.0, "deep": {"a": [True, None]}}),
            live.Cancelled(("1",)),
            live.Metered(1, 2, 3),
            live.TurnEnded(),
        ]


@pytest.mark.parametrize("transport", BOTH)
async def test_what_was_said_before_the_end_is_heard(transport: TransportName) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.begin()
        for number in range(20):
            await conversation.say(str(number), bytes(2))
        await conversation.fail(Code.INTERNAL)

    said: list[str] = []
    async with client(script, transport) as (talker, _):
        with pytest.raises(GatewayError) as caught:
            async with talker.connect(Setup("en-US")) as stream:
                await asyncio.sleep(0.1)
                async for event in stream:
                    if isinstance(event, live.Said):
                        said.append(event.text)  # noqa: PERF401 (an error comes after them)
        assert caught.value.code is ErrorCode.UPSTREAM_INTERNAL
    assert said == [str(number) for number in range(20)]


@pytest.mark.parametrize("transport", BOTH)
async def test_a_service_that_talks_too_much_is_held_back(transport: TransportName) -> None:
    sent = 0

    async def script(conversation: Conversation) -> None:
        nonlocal sent
        await conversation.begin()
        while True:
            await conversation.say("", bytes(960_000))
            sent += 960_000

    async with client(script, transport) as (talker, model):
        async with talker.connect(Setup("en-US")) as stream:
            await until(stream, live.Spoke)
            before = -1
            while before < sent:
                before = sent
                await asyncio.sleep(0.3)
            assert sent < 40_000_000
            await until(stream, live.Spoke)
        await model.idle()


@pytest.mark.parametrize("transport", BOTH)
async def test_a_service_that_does_not_read_holds_back_whoever_speaks(transport: TransportName) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.begin()
        await asyncio.Event().wait()

    said = 0

    async def speak(stream: ModelStream) -> None:
        nonlocal said
        while True:
            await stream.send(live.Audio(bytes(64_000)))
            said += 1
            await asyncio.sleep(0)

    async with client(script, transport) as (talker, model):
        async with talker.connect(Setup("en-US")) as stream:
            speaking = asyncio.create_task(speak(stream))
            before = -1
            while before < said:
                before = said
                await asyncio.sleep(0.3)
            assert 0 < said < 500
            speaking.cancel()
            await asyncio.wait([speaking])
        await model.idle()


@pytest.mark.parametrize("transport", BOTH)
async def test_whoever_waits_for_an_answer_can_be_stopped(transport: TransportName) -> None:
    async with client(attentive, transport) as (talker, model):
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(fails(talker))
            while not (model.conversations and model.conversations[0].setup):
                await asyncio.sleep(0.01)
            waiting.cancel()
        await model.idle()
        assert talker.connections == (1 if transport == "grpc" else 0), "the channel stays, a socket does not"


@pytest.mark.parametrize("transport", BOTH)
async def test_an_upstream_is_watched(transport: TransportName) -> None:
    async with client(attentive, transport) as (talker, _):
        assert talker.ready is False
        assert await watched(talker) is True


# ---- what only the WebSocket says


async def test_json_that_the_protobuf_does_not_know() -> None:
    said = [
        {"brandNew": {"a": 1}},
        {"voiceActivity": {"voiceActivityType": "ACTIVITY_START", "audioOffset": "0.25s"}},
        {"serverContent": {"inputTranscription": {"text": "hi", "finished": True}, "brandNew": 1}},
        {"serverContent": {"turnComplete": True, "turnCompleteReason": "NEW"}},
    ]

    async def script(conversation: Conversation) -> None:
        await conversation.begin()
        for message in said:
            await conversation.send_raw(json.dumps(message).encode())
        await conversation.until_gone()

    async with client(script, "websocket") as (talker, _), talker.connect(Setup("en-US")) as stream:
        assert await until(stream, live.TurnEnded) == [
            live.VoiceActivity(True, 250.0),
            live.Heard("hi", final=True),
            live.TurnEnded(),
        ]


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (400, ErrorCode.UPSTREAM_REFUSED, "HTTP 400"),
        (401, ErrorCode.UPSTREAM_UNAUTHORIZED, "HTTP 401"),
        (403, ErrorCode.UPSTREAM_UNAUTHORIZED, "HTTP 403"),
        (404, ErrorCode.UPSTREAM_UNSUPPORTED, "HTTP 404"),
        (429, ErrorCode.UPSTREAM_QUOTA, "HTTP 429"),
        (500, ErrorCode.UPSTREAM_UNAVAILABLE, "HTTP 500"),
        (503, ErrorCode.UPSTREAM_UNAVAILABLE, "HTTP 503"),
    ],
)
async def test_a_handshake_that_is_refused(status: int, code: ErrorCode, told: str) -> None:
    async with client(attentive, "websocket", tries=2) as (talker, model):
        model.refuses_with = status
        error = await fails(talker)
        assert error.code is code
        assert explain(error) == told
        assert error.details == ({"retryAfterMs": 7000} if status == 429 else {})
        model.refuses_with = None
        async with talker.connect(Setup("en-US")):
            assert talker.connections == 1


async def test_a_quota_without_a_time() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.begin()
        await conversation.fail(Code.RESOURCE_EXHAUSTED)

    async with client(script, "websocket") as (talker, _):
        error = await fails(talker)
        assert (error.code, error.details) == (ErrorCode.UPSTREAM_QUOTA, {"retryAfterMs": 30_000})
        assert explain(error) == "closed with 1011: You exceeded your current quota."


async def test_a_connection_that_breaks() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.begin()
        await model.stop()

    async with client(script, "websocket") as (talker, model):
        error = await fails(talker)
        assert (error.code, explain(error)) == (ErrorCode.UPSTREAM_LOST, "the connection broke")
        error = await fails(talker)
        assert error.code is ErrorCode.UPSTREAM_UNAVAILABLE, "nobody is there any more"


async def test_a_service_that_says_it_is_over_is_not_waited_for() -> None:
    over = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        await conversation.begin()
        await conversation.context.hang_up(1011, over)

    async with client(script, "websocket") as (talker, model):
        assert (await fails(talker)).code is ErrorCode.UPSTREAM_INTERNAL
        over.set()
        await model.idle()


async def test_whoever_leaves_says_so() -> None:
    async with client(attentive, "websocket") as (talker, model):
        async with talker.connect(Setup("en-US")):
            pass
        assert await model.conversations[0].context.left_with() == 1000


@pytest.mark.parametrize("frame", [b"{", b"[]", b'{"goAway":{"timeLeft":"soon"}}'])
@pytest.mark.parametrize("when", ["set-up", "conversation"])
async def test_a_frame_that_is_no_message(frame: bytes, when: str) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.receive()
        if when == "conversation":
            await conversation.send(setup_complete={})
        await conversation.send_raw(frame)
        await conversation.until_gone()

    async with client(script, "websocket") as (talker, _):
        error = await fails(talker)
        code = "UPSTREAM_INTERNAL" if when == "conversation" else "UPSTREAM_UNAVAILABLE"
        assert error.code == code


async def test_an_address_that_speaks_something_else() -> None:
    async with (
        fake_gemini(attentive) as other,
        client(attentive, "websocket", target=other.target) as (talker, _),
    ):
        assert (await fails(talker)).code is ErrorCode.UPSTREAM_UNAVAILABLE


async def test_a_socket_that_nobody_listens_at_is_not_ready() -> None:
    async with client(attentive, "websocket", target="127.0.0.1:1") as (talker, _):
        watch = asyncio.create_task(talker.watch())
        await asyncio.sleep(0.1)
        assert not talker.ready
        watch.cancel()
        await asyncio.wait([watch])
