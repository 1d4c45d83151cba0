"""A model that fails, at every point: the conversation goes on, or ends with a word."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from websockets.exceptions import ConnectionClosed

from antiphon.session import Limits
from fake_gemini import Conversation, Script, attentive
from gateway.running import Gateway, running_gateway
from gateway.talker import Talker, talking

Code = grpc.StatusCode
PCM = bytes(32_000)

STATUSES = {
    Code.OK: ("UPSTREAM_LOST", 1011),
    Code.CANCELLED: ("UPSTREAM_LOST", 1011),
    Code.ABORTED: ("UPSTREAM_LOST", 1011),
    Code.UNAVAILABLE: ("UPSTREAM_LOST", 1011),
    Code.DEADLINE_EXCEEDED: ("UPSTREAM_TIMEOUT", 1011),
    Code.RESOURCE_EXHAUSTED: ("UPSTREAM_QUOTA", 4429),
    Code.UNAUTHENTICATED: ("UPSTREAM_UNAUTHORIZED", 1011),
    Code.PERMISSION_DENIED: ("UPSTREAM_UNAUTHORIZED", 1011),
    Code.INVALID_ARGUMENT: ("UPSTREAM_REFUSED", 1011),
    Code.FAILED_PRECONDITION: ("UPSTREAM_REFUSED", 1011),
    Code.OUT_OF_RANGE: ("UPSTREAM_REFUSED", 1011),
    Code.ALREADY_EXISTS: ("UPSTREAM_REFUSED", 1011),
    Code.NOT_FOUND: ("UPSTREAM_UNSUPPORTED", 1011),
    Code.UNIMPLEMENTED: ("UPSTREAM_UNSUPPORTED", 1011),
    Code.INTERNAL: ("UPSTREAM_INTERNAL", 1011),
    Code.UNKNOWN: ("UPSTREAM_INTERNAL", 1011),
    Code.DATA_LOSS: ("UPSTREAM_INTERNAL", 1011),
}
RETRIED = (
    Code.OK,
    Code.CANCELLED,
    Code.ABORTED,
    Code.UNAVAILABLE,
    Code.DEADLINE_EXCEEDED,
    Code.INTERNAL,
    Code.UNKNOWN,
    Code.DATA_LOSS,
)
"""What is tried again during set-up."""

REFUSED = [code for code, (name, _) in STATUSES.items() if name == "UPSTREAM_REFUSED"]

Point = Callable[[Conversation], Awaitable[None]]


async def at_once(conversation: Conversation) -> None:
    pass


async def after_setup(conversation: Conversation) -> None:
    await conversation.begin()


async def during_audio(conversation: Conversation) -> None:
    await conversation.begin()
    await conversation.receive()


async def before_the_answer(conversation: Conversation) -> None:
    await conversation.begin()
    await conversation.until_audio_end()


async def during_the_answer(conversation: Conversation) -> None:
    await before_the_answer(conversation)
    await conversation.hear("hello")
    await conversation.say("A long answer.", bytes(480_000))


POINTS = [after_setup, during_audio, before_the_answer, during_the_answer]


def ending(point: Point, code: grpc.StatusCode, details: str = "the engine room is on fire") -> Script:
    """Return a script that ends at a point with a status, and works from the second conversation on."""
    used = False

    async def script(conversation: Conversation) -> None:
        nonlocal used
        if used:
            await attentive(conversation)
            return
        used = True
        await point(conversation)
        if code is not Code.OK:
            await conversation.fail(code, details)

    return script


async def works(gateway: Gateway) -> None:
    """Prove that the next session works."""
    async with talking(gateway, "the next") as talker:
        await talker.answered()
    await gateway.deserted()


async def speaks(talker: Talker) -> None:
    """Speak until the end, or until the connection is closed."""
    await talker.speak(PCM, 3200)


# ---- each status at each point


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("code", STATUSES, ids=lambda code: str(code.name))
@pytest.mark.parametrize("point", POINTS, ids=lambda point: str(point.__name__))
async def test_a_conversation_that_breaks_goes_on(point: Point, code: grpc.StatusCode) -> None:
    async with running_gateway(ending(point, code)) as gateway:
        async with talking(gateway) as talker:
            await speaks(talker)
            messages = await talker.until("audio_response")
            if point is during_the_answer:
                await talker.send("command", command="Are you there?")
                messages += await talker.until("recognition_result", isFinal=True)
            assert "error" not in {message["type"] for message in messages}
        assert len(gateway.upstream.conversations) == 2
        again = gateway.upstream.conversations[1]
        if code in REFUSED:
            assert len(again.heard) <= len(PCM), "what it took offence at is not said again"
        elif point is after_setup or point is during_audio:
            assert again.heard.endswith(PCM[-3200:])
        await works(gateway)


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("code", STATUSES, ids=lambda code: str(code.name))
async def test_a_conversation_that_always_breaks_is_told(code: grpc.StatusCode) -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.begin()
        await conversation.receive()
        if code is not Code.OK:
            await conversation.fail(code, "the engine room is on fire")

    expected, close = STATUSES[code]
    async with running_gateway(script) as gateway:
        async with talking(gateway) as talker:
            await talker.start()
            while gateway.upstream.most_open == 0:
                await talker.during(0.01)
            speaking = asyncio.create_task(chatter(talker))
            error = await talker.closed(expected, close)
            assert "fire" not in str(error), "the service's own words are not for clients"
            speaking.cancel()
            await asyncio.wait([speaking])
        assert len(gateway.upstream.conversations) == 5
        gateway.upstream.script = attentive
        await works(gateway)


async def chatter(talker: Talker) -> None:
    """Go on speaking until the connection is closed."""
    try:
        while True:
            await talker.chunk(PCM[:3200])
            await asyncio.sleep(0.02)
    except ConnectionClosed:
        return


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("code", STATUSES, ids=lambda code: str(code.name))
async def test_a_setup_that_fails_is_told_or_tried_again(code: grpc.StatusCode) -> None:
    async with running_gateway(ending(at_once, code)) as gateway:
        async with talking(gateway) as talker:
            await speaks(talker)
            if code in RETRIED:
                await talker.until("audio_response")
                assert gateway.upstream.conversations[-1].heard == PCM, (
                    "what waited is not lost by another try"
                )
            else:
                await talker.closed(*STATUSES[code])
            assert len(gateway.upstream.conversations) == (2 if code in RETRIED else 1)
        await works(gateway)


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("code", RETRIED, ids=lambda code: str(code.name))
async def test_three_tries_are_enough(code: grpc.StatusCode) -> None:
    async def script(conversation: Conversation) -> None:
        if code is not Code.OK:
            await conversation.fail(code)

    async with running_gateway(script) as gateway:
        async with talking(gateway) as talker:
            await talker.start()
            await talker.closed("UPSTREAM_UNAVAILABLE", 1011)
        assert len(gateway.upstream.conversations) == 3
        gateway.upstream.script = attentive
        await works(gateway)


@pytest.mark.usefixtures("transport")
async def test_two_failures_are_mended_unnoticed() -> None:
    async def script(conversation: Conversation) -> None:
        if len(gateway.upstream.conversations) < 3:
            await conversation.fail(Code.UNAVAILABLE)
        await attentive(conversation)

    async with running_gateway(script) as gateway, talking(gateway) as talker:
        await talker.speak(PCM)
        messages = await talker.until("audio_response")
        assert "error" not in {message["type"] for message in messages}
        assert gateway.upstream.conversations[2].heard == PCM


@pytest.mark.usefixtures("transport")
async def test_a_setup_that_hangs_is_tried_again_and_given_up() -> None:
    async def script(conversation: Conversation) -> None:
        await conversation.until_gone()

    async with running_gateway(script, setup_timeout_s=0.2) as gateway:
        async with talking(gateway) as talker:
            await talker.start()
            await talker.closed("UPSTREAM_UNAVAILABLE", 1011)
        assert len(gateway.upstream.conversations) == 3
        gateway.upstream.script = attentive
        await works(gateway)


@pytest.mark.usefixtures("transport")
async def test_a_setup_that_hangs_once_is_mended() -> None:
    async def script(conversation: Conversation) -> None:
        if len(gateway.upstream.conversations) == 1:
            await conversation.until_gone()
        else:
            await attentive(conversation)

    async with running_gateway(script, setup_timeout_s=0.2) as gateway, talking(gateway) as talker:
        await talker.speak(PCM)
        await talker.until("audio_response")


# ---- what the service says beside the status


def with_detail(
    code: grpc.StatusCode, detail: error_details_pb2.ErrorInfo | error_details_pb2.RetryInfo
) -> Script:
    async def script(conversation: Conversation) -> None:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status = status_pb2.Status(code=code.value[0], details=[packed]).SerializeToString()
        conversation.context.set_trailing_metadata((("grpc-status-details-bin", status),))
        await conversation.fail(code)

    return script


@pytest.mark.parametrize(
    ("seconds", "told_ms"), [(7, 7_000), (0, 30_000), (-5, 30_000), (1 << 60, 86_400_000)]
)
async def test_how_long_to_wait_for_quota_is_told(seconds: int, told_ms: int) -> None:
    info = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=seconds))
    script = with_detail(Code.RESOURCE_EXHAUSTED, info)
    async with running_gateway(script) as gateway, talking(gateway) as talker:
        await talker.start()
        error = await talker.closed("UPSTREAM_QUOTA", 4429)
        assert error["details"]["retryAfterMs"] == told_ms


async def test_a_key_that_is_not_valid_is_the_operators_affair() -> None:
    script = with_detail(Code.INVALID_ARGUMENT, error_details_pb2.ErrorInfo(reason="API_KEY_INVALID"))
    async with running_gateway(script) as gateway, talking(gateway) as talker:
        await talker.start()
        await talker.closed("UPSTREAM_UNAUTHORIZED", 1011)


async def test_an_engine_that_is_full_is_no_quota() -> None:
    script = with_detail(Code.RESOURCE_EXHAUSTED, error_details_pb2.ErrorInfo(reason="ENGINE_BUSY"))
    async with running_gateway(script) as gateway, talking(gateway) as talker:
        await talker.start()
        error = await talker.closed("UPSTREAM_BUSY", 1013)
        assert error["details"]["retryAfterMs"] > 0


# ---- the server dies


@pytest.mark.usefixtures("transport")
@pytest.mark.parametrize("point", POINTS, ids=lambda point: str(point.__name__))
async def test_a_server_that_dies_is_missed_until_it_is_back(point: Point) -> None:
    reached = asyncio.Event()

    async def script(conversation: Conversation) -> None:
        await point(conversation)
        reached.set()
        await conversation.until_gone()

    async with running_gateway(script) as gateway:
        async with talking(gateway) as talker, talking(gateway, "bob") as waiting:
            await speaks(talker)
            await reached.wait()
            await gateway.upstream.stop()
            await talker.during(0.3)
            gateway.upstream.script = attentive
            await gateway.upstream.start(int(gateway.upstream.target.rpartition(":")[2]))
            await until_ready(gateway)
            await waiting.answered()
            await talker.send("command", command="Are you there?")
            messages = await talker.until("recognition_result", isFinal=True, within_s=15)
            assert "error" not in {message["type"] for message in messages}
        await works(gateway)


async def until_ready(gateway: Gateway) -> None:
    async with asyncio.timeout(10):
        while not gateway.gemini.ready:
            await asyncio.sleep(0.01)


async def test_no_server_at_all(gateway: Gateway) -> None:
    await gateway.upstream.stop()
    async with talking(gateway) as talker:
        await talker.speak(PCM)
        await talker.closed("UPSTREAM_UNAVAILABLE", 1011)


async def test_a_server_that_is_started_again_is_waited_for_where_that_is_wanted() -> None:
    async with running_gateway(wait_for_ready=True) as gateway:
        await until_ready(gateway)
        await gateway.upstream.stop()
        async with talking(gateway) as talker:
            await talker.speak(PCM)
            await asyncio.sleep(0.3)
            await gateway.upstream.start(int(gateway.upstream.target.rpartition(":")[2]))
            await talker.until("audio_response")


async def test_an_address_where_no_gemini_is() -> None:
    async with (
        running_gateway() as other,
        running_gateway(target=f"127.0.0.1:{other.port}") as gateway,
        talking(gateway) as talker,
    ):
        await talker.start()
        await talker.closed("UPSTREAM_UNAVAILABLE", 1011)


# ---- limits of a session


async def test_an_idle_session_is_ended() -> None:
    async with running_gateway(limits=Limits(idle_timeout_s=0.5)) as gateway, talking(gateway) as talker:
        await talker.answered()
        for _ in range(4):
            await talker.during(0.2)
            await talker.send("command", command="still here")
        await talker.closed("SESSION_IDLE", 4408, within_s=3)


async def test_pings_and_nonsense_do_not_keep_a_session() -> None:
    async with running_gateway(limits=Limits(idle_timeout_s=0.5)) as gateway, talking(gateway) as talker:
        for _ in range(3):
            await talker.socket.ping()
            await talker.socket.send("nonsense")
            await asyncio.sleep(0.1)
        await talker.closed("SESSION_IDLE", 4408, within_s=0.6)


async def test_the_longest_session() -> None:
    async with running_gateway(limits=Limits(max_duration_s=0.7)) as gateway, talking(gateway) as talker:
        await talker.start()
        for _ in range(4):
            await talker.chunk(bytes(3200))
            await asyncio.sleep(0.1)
        await talker.closed("SESSION_MAX_DURATION", 4441, within_s=1)


async def test_a_server_that_stops_tells_everybody(gateway: Gateway) -> None:
    async with (
        talking(gateway) as talker,
        talking(gateway, "bob") as speaking,
        talking(gateway, "eve") as idle,
    ):
        await speaking.start()
        await talker.answered()
        stopping = asyncio.create_task(gateway.server.stop())
        for each in (talker, speaking, idle):
            error = await each.closed("SERVER_DRAINING", 1001)
            assert error["details"]["retryable"] is True
        await stopping
    await gateway.deserted()
